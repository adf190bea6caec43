//! The [`Store`] on one file: one connection that writes, and as many that read as are needed at once.
//!
//! SQLite's calls block, so each runs on a thread for blocking work. A future that is dropped leaves its
//! call running to its end, which is one of the outcomes that L3 allows.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document};
use rusqlite::{Connection, TransactionBehavior};
use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::store::{
    Change, Damage, Fence, Find, FoundCollection, FoundIndex, Guard, Hello, Inserted, Layout, Put,
    Query, Result, ServerIdentity, Store, StoreError, Whereabouts, Written,
};

use crate::error::Failure;
use crate::presence::Presence;
use crate::table::{self, Table};
use crate::{connect, damage, index, query, write};

/// How many connections for reading are kept open while they are not in use.
const READERS_KEPT: usize = 8;

/// A logical database in one SQLite file.
#[derive(Clone, Debug)]
pub struct SqliteStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    role: Role,
    presence: Presence,
    clock: Arc<dyn Clock>,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl SqliteStore {
    /// Opens the file at `path` as the database of `role`; makes it, readable to its owner only, where
    /// there is none. The directory must exist. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// With an `operation` that says what is wrong: the file is not a database, belongs to another
    /// program, was made by a newer version, or cannot be opened or made.
    pub fn open(path: &Path, role: Role, clock: Arc<dyn Clock>) -> Result<Self> {
        let (presence, writer) = connect::file(path).map_err(|refusal| StoreError {
            database: role,
            operation: refusal.doing,
            class: refusal.class,
            code: refusal.code,
        })?;
        Ok(Self(Arc::new(Inner {
            role,
            presence,
            clock,
            writer: Mutex::new(writer),
            readers: Mutex::default(),
        })))
    }

    /// Runs `body` in a transaction of its own, beside which no other transaction writes.
    async fn writing<T: Send + 'static>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.blocking(operation, |inner| {
            let mut writer = lock(&inner.writer);
            inner.check_presence()?;
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let outcome = body(&transaction)?;
            // What was decided above is durable from here on, and not before.
            transaction.commit()?;
            inner.check_presence()?;
            Ok(outcome)
        })
        .await
    }

    /// Runs `body` on what `collection` holds at one moment; `None` where it does not exist.
    async fn reading<T: Default + Send + 'static>(
        &self,
        operation: &'static str,
        collection: &str,
        body: impl FnOnce(&Connection, &Table) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let collection = collection.to_owned();
        self.snapshot(operation, move |c| match Table::find(c, &collection)? {
            None => Ok(T::default()),
            Some(table) => body(c, &table),
        })
        .await
    }

    /// Runs `body` on what the file holds at one moment.
    async fn snapshot<T: Send + 'static>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.blocking(operation, move |inner| {
            let idle = lock(&inner.readers).pop();
            let mut reader = match idle {
                Some(reader) => reader,
                None => connect::reader(inner.presence.path())?,
            };
            let transaction = reader.transaction()?;
            let outcome = body(&transaction)?;
            transaction.commit()?;
            // A connection that was made meanwhile may be to another file, and is not kept then.
            inner.check_presence()?;
            let mut idle = lock(&inner.readers);
            if idle.len() < READERS_KEPT {
                idle.push(reader);
            }
            Ok(outcome)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        // What fails because the file is another one fails for that reason.
        let checked =
            move || work(&inner).or_else(|failure| inner.check_presence().and(Err(failure)));
        tokio::task::spawn_blocking(checked)
            .await
            .unwrap_or(Err(Failure::Lost))
            .map_err(|failure| failure.of(self.0.role, operation))
    }
}

impl Inner {
    /// Fails where the file that is open is no longer the one under its name.
    fn check_presence(&self) -> Result<(), Failure> {
        if self.presence.holds() {
            Ok(())
        } else {
            Err(Failure::Gone)
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A transaction that a panic cut short was rolled back when it was dropped.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Store for SqliteStore {
    fn role(&self) -> Role {
        self.0.role
    }

    fn whereabouts(&self) -> Vec<Whereabouts> {
        let path = self.0.presence.path();
        let gone = "the file was removed, renamed or replaced";
        vec![Whereabouts {
            place: path.display().to_string(),
            trouble: (!self.0.presence.holds()).then(|| gone.to_owned()),
        }]
    }

    async fn hello(&self) -> Result<Hello> {
        self.blocking("hello", |inner| {
            inner.check_presence()?;
            Ok(Hello {
                now: inner.clock.now(),
                server: ServerIdentity {
                    process: format!("sqlite:{}", inner.presence.path().display()),
                    ..ServerIdentity::default()
                },
                database: inner.role.name().to_owned(),
                imitator: None,
            })
        })
        .await
    }

    async fn prepare(&self, layout: &Layout) -> Result<()> {
        let layout = layout.clone();
        self.writing("prepare", move |c| write::prepare(c, &layout))
            .await
    }

    async fn indexes(&self) -> Result<Vec<FoundIndex>> {
        self.snapshot("indexes", |c| Ok(index::all(c)?)).await
    }

    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        self.snapshot("collections", |c| Ok(table::collections(c)?))
            .await
    }

    async fn damage(&self) -> Result<Vec<Damage>> {
        self.snapshot("damage", damage::find).await
    }

    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>> {
        let find = find.clone();
        self.reading("find", collection, move |c, table| {
            query::find(c, table, &find)
        })
        .await
    }

    async fn count(&self, collection: &str, query: &Query) -> Result<u64> {
        let query = query.clone();
        self.reading("count", collection, move |c, table| {
            query::count(c, table, &query)
        })
        .await
    }

    async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let (collection, documents) = (collection.to_owned(), documents.to_vec());
        self.writing("insert", move |c| write::insert(c, &collection, &documents))
            .await
    }

    async fn append(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let (collection, documents) = (collection.to_owned(), documents.to_vec());
        self.writing("append", move |c| write::append(c, &collection, &documents))
            .await
    }

    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let (collection, documents) = (collection.to_owned(), documents.to_vec());
        self.writing("put_newer", move |c| {
            write::put_newer(c, &collection, &documents)
        })
        .await
    }

    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written> {
        let (collection, id) = (collection.to_owned(), id.clone());
        let (guard, change) = (guard.clone(), change.clone());
        let clock = Arc::clone(&self.0.clock);
        self.writing("write", move |c| {
            write::write(c, &collection, &id, &guard, &change, clock.now())
        })
        .await
    }

    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64> {
        let (collection, fences) = (collection.to_owned(), fences.to_vec());
        self.writing("delete", move |c| write::delete(c, &collection, &fences))
            .await
    }

    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64> {
        let (collection, ids) = (collection.to_owned(), ids.to_vec());
        let (when, set) = (when.clone(), set.clone());
        self.writing("amend", move |c| {
            write::amend(c, &collection, &ids, &when, &set)
        })
        .await
    }
}
