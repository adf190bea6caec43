//! [`MongoStore`]: the methods of [`Store`], each as commands of `query` and their replies.
//!
//! Says at which database and operation a command failed, and leaves repeating to the caller, who knows
//! whole guarded steps. Where to look: `reading` and `writing` (documents), `indexes` (which one a page is read by),
//! `collections`, `facts`, `wire` (how a command travels), `reply` (what an answer says).

mod collections;
mod facts;
mod faults;
mod indexes;
mod reading;
pub(crate) mod reply;
mod sharding;
pub(crate) mod wire;
mod writing;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document};
use mongodb::{Client, Database};
use tierkeep_core::db::Role;
use tierkeep_core::store::{
    Change, Fence, Find, ForeignShardKey, FoundCollection, FoundIndex, Guard, Hello, Inserted,
    Layout, Put, Query, Result, Store, StoreError, Whereabouts, Written,
};

use crate::error::Failure;
use crate::query;
use crate::sight::Sight;
use indexes::IndexNames;

pub use facts::{Deviation, ServerFacts, Topology};

/// How long an ordinary command may take, network and all.
const LIMIT: Duration = Duration::from_secs(15);
/// How much longer than the server the client waits, where the server has a longer limit.
const GRACE: Duration = Duration::from_secs(5);

/// One logical database on a MongoDB server.
#[derive(Clone)]
pub struct MongoStore {
    role: Role,
    database: Database,
    /// The cluster's time of the last write that this store made, seconds above increments; 0 before it.
    seen: Arc<AtomicU64>,
    /// How often the client has given its connections up.
    cleared: Arc<AtomicU64>,
    /// Which servers the client did not reach, and why.
    sight: Sight,
    /// Whether a router has answered.
    is_routed: Arc<AtomicBool>,
    /// The server process that was last asked what it is, and its product where it is not MongoDB.
    known: Arc<Mutex<Option<Known>>>,
    index_names: IndexNames,
}

/// A server process, as it names itself, and what it is.
#[derive(Clone, Debug)]
struct Known {
    process: String,
    imitator: Option<&'static str>,
}

impl MongoStore {
    /// The store of `role` in `database` on the server that `client` speaks to. Clones of one client share
    /// their connections.
    pub fn with_client(client: &Client, database: &str, role: Role) -> Self {
        Self {
            role,
            database: client.database(database),
            seen: Arc::default(),
            cleared: Arc::default(),
            sight: Sight::default(),
            is_routed: Arc::default(),
            known: Arc::default(),
            index_names: IndexNames::default(),
        }
    }

    /// The same, where `cleared` counts how often the client has given its connections up.
    pub(crate) fn counting(self, cleared: Arc<AtomicU64>) -> Self {
        Self { cleared, ..self }
    }

    /// The same, where `sight` tells which servers the client did not reach.
    pub(crate) fn seeing(self, sight: Sight) -> Self {
        Self { sight, ..self }
    }

    /// The name of the database on its server.
    pub fn database_name(&self) -> &str {
        self.database.name()
    }

    /// Another database on the same server.
    fn beside(&self, database: &str) -> Self {
        Self {
            database: self.database.client().database(database),
            index_names: IndexNames::default(),
            ..self.clone()
        }
    }

    /// Says at which operation of this database a command failed.
    fn at(&self, operation: &'static str) -> impl Fn(Failure) -> StoreError + Copy + use<> {
        let role = self.role;
        move |failure| failure.at(role, operation)
    }
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStore")
            .field("role", &self.role)
            .field("database", &self.database.name())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MongoStore {
    fn role(&self) -> Role {
        self.role
    }

    fn times_reached(&self) -> u64 {
        self.cleared.load(Ordering::Acquire)
    }

    fn whereabouts(&self) -> Vec<Whereabouts> {
        self.sight.whereabouts()
    }

    fn is_sharded(&self) -> bool {
        self.is_routed.load(Ordering::Acquire)
    }

    async fn shards_away(&self) -> Result<Vec<String>> {
        let away = self.unreached_shards().await;
        away.map_err(self.at("shards_away"))
    }

    async fn hello(&self) -> Result<Hello> {
        let at = self.at("hello");
        let reply = self.send(query::hello(), LIMIT).await.map_err(at)?;
        self.is_routed
            .store(reply::is_of_router(&reply), Ordering::Release);
        let mut hello = reply::hello(&reply, self.database.name()).map_err(at)?;
        let imitator = self.imitator(&reply, &hello.server.process).await;
        hello.imitator = imitator.map_err(at)?;
        Ok(hello)
    }

    async fn prepare(&self, layout: &Layout) -> Result<()> {
        self.create_missing(layout)
            .await
            .map_err(self.at("prepare"))
    }

    async fn indexes(&self) -> Result<Vec<FoundIndex>> {
        let listed = self.list_indexes_of_all().await;
        listed.map_err(self.at("indexes"))
    }

    async fn foreign_shard_keys(&self) -> Result<Vec<ForeignShardKey>> {
        let keys = self.sharded_otherwise().await;
        keys.map_err(self.at("foreign_shard_keys"))
    }

    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        let listed = self.list_collections_with_options().await;
        listed.map_err(self.at("collections"))
    }

    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>> {
        let page = self.find_page(collection, find).await;
        page.map_err(self.at("find"))
    }

    async fn count(&self, collection: &str, query: &Query) -> Result<u64> {
        let count = self.count_all(collection, query).await;
        count.map_err(self.at("count"))
    }

    async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let outcomes = self.insert_all(collection, documents).await;
        outcomes.map_err(self.at("insert"))
    }

    async fn append(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let outcomes = self.append_all(collection, documents).await;
        outcomes.map_err(self.at("append"))
    }

    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        let outcomes = self.put_all(collection, documents).await;
        outcomes.map_err(self.at("put_newer"))
    }

    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written> {
        let written = self.write_one(collection, id, guard, change).await;
        written.map_err(self.at("write"))
    }

    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64> {
        let deleted = self.delete_fenced(collection, fences).await;
        deleted.map_err(self.at("delete"))
    }

    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64> {
        let amended = self.matched(query::amend(collection, ids, when, set)).await;
        amended.map_err(self.at("amend"))
    }
}
