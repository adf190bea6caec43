//! Proves again that a database is the one it was configured as, whenever another server may answer for it.
//!
//! What was proven at the opening holds as long as one server process answers. After a call that did not reach the
//! database, or where its client has reconnected to a server, the server says hello before the next call goes through.
//! Another process must show the stamp of this role and deployment. What does not is out of service: nothing is read from
//! it or written to it until an admission has compared all of it. Until the first admission, and where no watch was asked
//! for, every call goes through.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document};
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::{
    Change, Class, Damage, Fence, Find, ForeignShardKey, FoundCollection, FoundIndex, Guard, Hello,
    Inserted, Layout, Put, Query, Result, Store, StoreError, Whereabouts, Written,
};
use tracing::{error, info};

use crate::databases::error::ConnectError;
use crate::databases::stamp::{self, Stamp};

/// What is known of all seven.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    /// The deployment that they belong to, once that is known.
    pub(crate) deployment: OnceLock<String>,
    /// What the server of each admitted database said last.
    hellos: Mutex<BTreeMap<Role, Hello>>,
    is_watched: AtomicBool,
}

impl Identities {
    /// From now on doubt is looked into.
    pub(crate) fn watch(&self) {
        self.is_watched.store(true, Ordering::Release);
    }

    pub(crate) fn hellos(&self) -> MutexGuard<'_, BTreeMap<Role, Hello>> {
        self.hellos.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of one database.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Standing {
    /// It was not admitted yet.
    Unproven,
    /// It is the one it was configured as.
    Proven,
    /// Another server may answer for it.
    Doubtful,
    /// It is another one, for this reason.
    Wrong(String),
}

/// A store whose server is looked at again.
#[derive(Debug)]
pub(crate) struct IdentityWatch {
    inner: Arc<dyn Store>,
    identities: Arc<Identities>,
    standing: Mutex<Standing>,
    /// How often the client had reconnected to a server when that was looked at last.
    reached: AtomicU64,
    /// One caller at a time looks into a doubt.
    turn: tokio::sync::Mutex<()>,
}

impl IdentityWatch {
    pub(crate) fn new(inner: Arc<dyn Store>, identities: Arc<Identities>) -> Self {
        Self {
            inner,
            identities,
            standing: Mutex::new(Standing::Unproven),
            reached: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Why it is out of service.
    pub(crate) fn wrong(&self) -> Option<String> {
        match &*self.standing() {
            Standing::Wrong(why) => Some(why.clone()),
            Standing::Unproven | Standing::Proven | Standing::Doubtful => None,
        }
    }

    /// Every check of an admission has passed, and it writes next.
    pub(crate) fn clear(&self) {
        let mut standing = self.standing();
        if matches!(*standing, Standing::Wrong(_)) {
            *standing = Standing::Unproven;
        }
    }

    /// It was admitted.
    pub(crate) fn prove(&self) {
        *self.standing() = Standing::Proven;
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubt(&self) {
        let is_watched = self.identities.is_watched.load(Ordering::Acquire);
        let mut standing = self.standing();
        if is_watched && *standing == Standing::Proven {
            *standing = Standing::Doubtful;
        }
    }

    fn refusal(&self, operation: &'static str) -> StoreError {
        StoreError {
            database: self.inner.role(),
            operation,
            class: Class::Identity,
            code: 0,
        }
    }

    /// Makes a call, once there is no doubt whose it is.
    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.settle(operation).await?;
        self.look(call).await
    }

    /// Makes a call that an admission needs to find out whether the database is the right one.
    async fn look<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let mut doubt = DoubtOnDrop {
            watch: self,
            is_due: true,
        };
        let answer = call.await;
        // After an error that says that the server was not reached, another may be behind the address.
        doubt.is_due = matches!(&answer, Err(error) if may_be_another(error.class));
        answer
    }

    async fn settle(&self, operation: &'static str) -> Result<()> {
        let reached = self.inner.times_reached();
        if self.reached.swap(reached, Ordering::AcqRel) != reached {
            self.doubt();
        }
        if let Some(settled) = self.settled(operation) {
            return settled;
        }
        let _turn = self.turn.lock().await;
        if let Some(settled) = self.settled(operation) {
            return settled;
        }
        let hello = self.inner.hello().await?;
        self.compare(hello, operation).await
    }

    /// `None` while there is doubt.
    fn settled(&self, operation: &'static str) -> Option<Result<()>> {
        match &*self.standing() {
            Standing::Unproven | Standing::Proven => Some(Ok(())),
            Standing::Wrong(_) => Some(Err(self.refusal(operation))),
            Standing::Doubtful => None,
        }
    }

    /// Whether `hello` comes from the process that was admitted.
    fn is_known(&self, hello: &Hello) -> bool {
        let hellos = self.identities.hellos();
        hellos.get(&self.inner.role()).is_some_and(|known| {
            !known.server.process.is_empty()
                && known.server == hello.server
                && known.database == hello.database
        })
    }

    /// Resolves a doubt.
    async fn compare(&self, hello: Hello, operation: &'static str) -> Result<()> {
        let role = self.inner.role();
        if !self.is_known(&hello) {
            let stamp = stamp::read(self.inner.as_ref()).await?;
            if let Some(why) = self.difference(&hello, stamp) {
                error!(
                    user_type = %role.user_type(),
                    database = %role,
                    "the database is out of service: {why}",
                );
                *self.standing() = Standing::Wrong(why);
                return Err(self.refusal(operation));
            }
            info!(
                user_type = %role.user_type(),
                database = %role,
                "a different server process answers for the database, with the right stamp",
            );
            self.identities.hellos().insert(role, hello);
        }
        *self.standing() = Standing::Proven;
        Ok(())
    }

    /// Why what answers is not this database.
    fn difference(&self, hello: &Hello, stamp: Option<Stamp>) -> Option<String> {
        let role = self.inner.role();
        let hellos = self.identities.hellos();
        let same = hellos
            .iter()
            .find(|(other, known)| **other != role && known.is_same_database(hello));
        if let Some((other, _)) = same {
            let wrong = ConnectError::SameDatabase {
                first: *other,
                second: role,
                database: hello.database.clone(),
            };
            return Some(wrong.to_string());
        }
        let deployment = self.identities.deployment.get();
        let Some(stamp) = stamp else {
            // A command that only reads may have opened databases that were never stamped.
            return deployment.map(|_| {
                format!(
                    "the database of {} has no stamp any more: it is a different database, or it was emptied",
                    role.url_variable()
                )
            });
        };
        let found = stamp.deployment;
        match deployment {
            _ if stamp.role != role.name() => {
                let found = stamp.role;
                Some(ConnectError::StampedAsOther { role, found }.to_string())
            }
            Some(expected) if *expected != found => {
                let expected = expected.clone();
                let wrong = ConnectError::OtherDeployment {
                    role,
                    found,
                    expected,
                };
                Some(wrong.to_string())
            }
            Some(_) | None => None,
        }
    }
}

/// A call at work. One that is given up says as little as one that failed.
struct DoubtOnDrop<'a> {
    watch: &'a IdentityWatch,
    is_due: bool,
}

impl Drop for DoubtOnDrop<'_> {
    fn drop(&mut self) {
        if self.is_due {
            self.watch.doubt();
        }
    }
}

/// Whether a failure of this class leaves open which server the next call reaches.
fn may_be_another(class: Class) -> bool {
    match class {
        Class::Timeout
        | Class::Refused
        | Class::NoServer
        | Class::Transition
        | Class::NotPrimary
        | Class::Auth => true,
        Class::Unauthorized
        | Class::DiskFull
        | Class::Busy
        | Class::Unacknowledged
        | Class::Corrupt
        | Class::Identity
        | Class::Other => false,
    }
}

#[async_trait]
impl Store for IdentityWatch {
    fn role(&self) -> Role {
        self.inner.role()
    }

    fn times_reached(&self) -> u64 {
        self.inner.times_reached()
    }

    fn whereabouts(&self) -> Vec<Whereabouts> {
        self.inner.whereabouts()
    }

    fn is_sharded(&self) -> bool {
        self.inner.is_sharded()
    }

    async fn shards_away(&self) -> Result<Vec<String>> {
        self.look(self.inner.shards_away()).await
    }

    async fn hello(&self) -> Result<Hello> {
        let hello = self.look(self.inner.hello()).await?;
        if !self.is_known(&hello) {
            self.doubt();
        }
        if *self.standing() == Standing::Doubtful {
            self.compare(hello.clone(), "hello").await?;
        }
        Ok(hello)
    }

    async fn prepare(&self, layout: &Layout) -> Result<()> {
        self.call("prepare", self.inner.prepare(layout)).await
    }

    async fn indexes(&self) -> Result<Vec<FoundIndex>> {
        self.look(self.inner.indexes()).await
    }

    async fn foreign_shard_keys(&self) -> Result<Vec<ForeignShardKey>> {
        self.look(self.inner.foreign_shard_keys()).await
    }

    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        self.look(self.inner.collections()).await
    }

    async fn damage(&self) -> Result<Vec<Damage>> {
        self.call("damage", self.inner.damage()).await
    }

    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>> {
        let found = self.inner.find(collection, find);
        if collection == collection::IDENTITY {
            return self.look(found).await;
        }
        self.call("find", found).await
    }

    async fn count(&self, collection: &str, query: &Query) -> Result<u64> {
        let counted = self.inner.count(collection, query);
        self.call("count", counted).await
    }

    async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let inserted = self.inner.insert(collection, documents);
        self.call("insert", inserted).await
    }

    async fn append(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let appended = self.inner.append(collection, documents);
        self.call("append", appended).await
    }

    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        let put = self.inner.put_newer(collection, documents);
        self.call("put_newer", put).await
    }

    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written> {
        let written = self.inner.write(collection, id, guard, change);
        self.call("write", written).await
    }

    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64> {
        let deleted = self.inner.delete(collection, fences);
        self.call("delete", deleted).await
    }

    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64> {
        let amended = self.inner.amend(collection, ids, when, set);
        self.call("amend", amended).await
    }
}
