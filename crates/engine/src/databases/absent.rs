//! A database for which there is no store: every call fails with the reason.

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{
    Change, Fence, Find, ForeignShardKey, FoundCollection, FoundIndex, Guard, Hello, Inserted,
    Layout, Put, Query, Result, Store, StoreError, Whereabouts, Written,
};

use crate::databases::unreached::Unreached;

/// Takes the place of a database whose store cannot be opened, so that the others can still be examined.
#[derive(Clone, Debug)]
pub struct AbsentStore {
    error: StoreError,
    whereabouts: Whereabouts,
}

impl AbsentStore {
    /// The database of `error`, which is where `whereabouts` says.
    pub fn new(error: StoreError, whereabouts: Whereabouts) -> Self {
        Self { error, whereabouts }
    }

    /// The database as one that was not reached.
    pub fn unreached(&self) -> Unreached {
        Unreached::new(self, self.error.clone())
    }

    fn fail<T>(&self, operation: &'static str) -> Result<T> {
        Err(StoreError {
            operation,
            ..self.error.clone()
        })
    }
}

#[async_trait]
impl Store for AbsentStore {
    fn role(&self) -> Role {
        self.error.database
    }

    fn whereabouts(&self) -> Vec<Whereabouts> {
        vec![self.whereabouts.clone()]
    }

    async fn hello(&self) -> Result<Hello> {
        self.fail("hello")
    }

    async fn prepare(&self, _: &Layout) -> Result<()> {
        self.fail("prepare")
    }

    async fn indexes(&self) -> Result<Vec<FoundIndex>> {
        self.fail("indexes")
    }

    async fn foreign_shard_keys(&self) -> Result<Vec<ForeignShardKey>> {
        self.fail("foreign_shard_keys")
    }

    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        self.fail("collections")
    }

    async fn find(&self, _: &str, _: &Find) -> Result<Vec<RawDocumentBuf>> {
        self.fail("find")
    }

    async fn count(&self, _: &str, _: &Query) -> Result<u64> {
        self.fail("count")
    }

    async fn insert(&self, _: &str, _: &[RawDocumentBuf]) -> Result<Vec<Inserted>> {
        self.fail("insert")
    }

    async fn append(&self, _: &str, _: &[RawDocumentBuf]) -> Result<Vec<Inserted>> {
        self.fail("append")
    }

    async fn put_newer(&self, _: &str, _: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        self.fail("put_newer")
    }

    async fn write(&self, _: &str, _: &Bson, _: &Guard, _: &Change) -> Result<Written> {
        self.fail("write")
    }

    async fn delete(&self, _: &str, _: &[Fence]) -> Result<u64> {
        self.fail("delete")
    }

    async fn amend(&self, _: &str, _: &[Bson], _: &Document, _: &Document) -> Result<u64> {
        self.fail("amend")
    }
}
