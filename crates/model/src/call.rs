//! Calls of a store as data: the request, the answer, and how a call is performed.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};

use bson::raw::RawDocumentBuf;
use bson::{Bson, Document};
use futures_util::FutureExt as _;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{
    Change, Class, Fence, Find, Guard, Hello, Inserted, Put, Query, Store, StoreError, Written,
};
use tierkeep_testkit::MemoryStore;

/// What is asked of a database.
#[derive(Clone, PartialEq, Debug)]
pub enum Operation {
    /// [`Store::hello`].
    Hello,
    /// [`Store::find`].
    Find(Find),
    /// [`Store::count`].
    Count(Query),
    /// [`Store::insert`].
    Insert(Vec<RawDocumentBuf>),
    /// [`Store::put_newer`].
    PutNewer(Vec<RawDocumentBuf>),
    /// [`Store::write`].
    Write(Bson, Guard, Change),
    /// [`Store::delete`].
    Delete(Vec<Fence>),
    /// [`Store::amend`].
    Amend(Vec<Bson>, Document, Document),
}

/// One call to one database.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// The database.
    pub role: Role,
    /// The collection; empty where none is meant.
    pub collection: String,
    /// What is asked.
    pub operation: Operation,
}

/// What came back.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// To [`Operation::Hello`].
    Hello(Hello),
    /// To [`Operation::Find`].
    Found(Vec<RawDocumentBuf>),
    /// To [`Operation::Count`], [`Operation::Delete`] and [`Operation::Amend`].
    Number(u64),
    /// To [`Operation::Insert`].
    Inserted(Vec<Inserted>),
    /// To [`Operation::PutNewer`].
    Put(Vec<Put>),
    /// To [`Operation::Write`].
    Written(Written),
}

/// A reply, or that there was none.
pub type Answer = Result<Reply, StoreError>;

impl Call {
    /// Carries the call out, at once: a store in memory never waits.
    ///
    /// # Errors
    /// Whatever the store answers.
    pub fn perform(&self, store: &MemoryStore) -> Answer {
        self.asked(store)
            .now_or_never()
            .expect("a store in memory answers at once")
    }

    async fn asked(&self, store: &MemoryStore) -> Answer {
        let collection = &self.collection;
        Ok(match &self.operation {
            Operation::Hello => Reply::Hello(store.hello().await?),
            Operation::Find(find) => Reply::Found(store.find(collection, find).await?),
            Operation::Count(query) => Reply::Number(store.count(collection, query).await?),
            Operation::Insert(documents) => {
                Reply::Inserted(store.insert(collection, documents).await?)
            }
            Operation::PutNewer(documents) => {
                Reply::Put(store.put_newer(collection, documents).await?)
            }
            Operation::Write(id, guard, change) => {
                Reply::Written(store.write(collection, id, guard, change).await?)
            }
            Operation::Delete(fences) => Reply::Number(store.delete(collection, fences).await?),
            Operation::Amend(ids, when, set) => {
                Reply::Number(store.amend(collection, ids, when, set).await?)
            }
        })
    }

    /// Whether the call can change anything.
    pub fn is_write(&self) -> bool {
        match self.operation {
            Operation::Hello | Operation::Find(_) | Operation::Count(_) => false,
            Operation::Insert(_)
            | Operation::PutNewer(_)
            | Operation::Write(..)
            | Operation::Delete(_)
            | Operation::Amend(..) => true,
        }
    }

    /// The first half of a call over several documents, as it is left when the connection breaks within it.
    pub fn half(&self) -> Option<Self> {
        let first = |documents: &[RawDocumentBuf]| documents[..documents.len() / 2].to_vec();
        let operation = match &self.operation {
            Operation::Insert(documents) if documents.len() > 1 => {
                Operation::Insert(first(documents))
            }
            Operation::PutNewer(documents) if documents.len() > 1 => {
                Operation::PutNewer(first(documents))
            }
            Operation::Delete(fences) if fences.iter().map(Fence::documents).sum::<usize>() > 1 => {
                Operation::Delete(Fence::first_half(fences))
            }
            Operation::Amend(ids, when, set) if ids.len() > 1 => {
                let ids = ids[..ids.len() / 2].to_vec();
                Operation::Amend(ids, when.clone(), set.clone())
            }
            Operation::Hello
            | Operation::Find(_)
            | Operation::Count(_)
            | Operation::Insert(_)
            | Operation::PutNewer(_)
            | Operation::Write(..)
            | Operation::Delete(_)
            | Operation::Amend(..) => return None,
        };
        Some(Self {
            operation,
            ..self.clone()
        })
    }

    /// The error of a call that got no answer.
    pub fn unanswered(&self, class: Class) -> StoreError {
        StoreError {
            database: self.role,
            operation: self.name(),
            class,
            code: 0,
        }
    }

    /// The method's name.
    pub fn name(&self) -> &'static str {
        match self.operation {
            Operation::Hello => "hello",
            Operation::Find(_) => "find",
            Operation::Count(_) => "count",
            Operation::Insert(_) => "insert",
            Operation::PutNewer(_) => "put_newer",
            Operation::Write(..) => "write",
            Operation::Delete(_) => "delete",
            Operation::Amend(..) => "amend",
        }
    }
}

/// A number that stands for `value`, by its `Debug` form.
pub fn digest(value: &impl fmt::Debug) -> u64 {
    struct Feed(DefaultHasher);
    impl fmt::Write for Feed {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            text.hash(&mut self.0);
            Ok(())
        }
    }
    let mut feed = Feed(DefaultHasher::new());
    write!(feed, "{value:?}").expect("a hasher takes everything");
    feed.0.finish()
}
