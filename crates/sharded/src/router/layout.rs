//! Databases, collections and indexes; how collections are sharded, and where their chunks are.

use std::collections::BTreeSet;
use std::io;
use std::sync::PoisonError;

use bson::raw::{RawBson, RawDocument, RawDocumentBuf, cstr};
use bson::rawdoc;
use tokio::sync::Mutex;

use super::{
    Key, NAMESPACE_NOT_FOUND, PAUSE, REFRESHES, Router, is_stale, majority, no_primary, refusal,
    target,
};
use crate::node;
use crate::routing::Placement;

/// How many chunks a collection is cut into on each shard.
const CHUNKS_EACH: usize = 2;
/// How often a move is tried while a shard is busy with another.
const BUSY_FOR: u32 = 600;

/// The collections that need no look whether they are to be sharded. The lock is held while one is sharded.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<BTreeSet<String>>);

impl Router {
    pub(super) async fn create(
        &self,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        if self.shard_when_new(database, &target(command)).await? {
            return Ok(rawdoc! { "ok": 1.0 });
        }
        self.on_primary(database, &target(command), command, true)
            .await
    }

    pub(super) async fn create_indexes(
        &self,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        let collection = target(command);
        self.shard_when_new(database, &collection).await?;
        let answers = self.to_owners(database, &collection, command, true).await?;
        Ok(match answers {
            Ok(answers) => answers.into_iter().next().map_or_else(
                || refusal(NAMESPACE_NOT_FOUND, "no shard holds the collection"),
                |(_, answer)| answer,
            ),
            Err(refused) => refused,
        })
    }

    pub(super) async fn change_options(
        &self,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        let changed = node::renamed(command, "_shardsvrCollMod");
        self.on_primary(database, &target(command), &changed, false)
            .await
    }

    pub(super) async fn drop_collection(
        &self,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        let dropped = node::renamed(command, "_shardsvrDropCollection");
        let collection = target(command);
        let answer = self.on_primary(database, &collection, &dropped, false);
        let answer = answer.await?;
        let mut known = self.known.0.lock().await;
        known.remove(&format!("{database}.{collection}"));
        Ok(answer)
    }

    pub(super) async fn drop_database(&self, database: &str) -> io::Result<RawDocumentBuf> {
        let command = rawdoc! { "_shardsvrDropDatabase": 1, "writeConcern": majority() };
        let answer = self.on_primary(database, "", &command, false).await?;
        let mut known = self.known.0.lock().await;
        known.retain(|namespace| !namespace.starts_with(&format!("{database}.")));
        if node::code(&answer) == NAMESPACE_NOT_FOUND {
            return Ok(rawdoc! { "ok": 1.0 });
        }
        Ok(answer)
    }

    pub(super) async fn list_collections(
        &self,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        // A shard's own cursor: all that it has comes at once.
        let mut listed = node::without(command, &["cursor"]);
        listed.append(cstr!("cursor"), rawdoc! { "batchSize": 10_000 });
        let answer = self.on_primary(database, "", &listed, false).await?;
        if node::code(&answer) == NAMESPACE_NOT_FOUND {
            let ns = format!("{database}.$cmd.listCollections");
            return Ok(
                rawdoc! { "cursor": { "id": 0_i64, "ns": ns, "firstBatch": [] }, "ok": 1.0 },
            );
        }
        Ok(answer)
    }

    /// From the shard that owns the lowest documents, as `mongos` does it: one that has given all away need not have the
    /// newest indexes.
    pub(super) async fn list_indexes(
        &self,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        let mut listed = node::without(command, &["cursor"]);
        listed.append(cstr!("cursor"), rawdoc! { "batchSize": 10_000 });
        let collection = target(command);
        for _ in 0..REFRESHES {
            let Some(placement) = self.placement(database, &collection, false).await? else {
                break;
            };
            let owner = placement.first_owner();
            let Some(node) = self.reachable(owner).await? else {
                return Ok(no_primary(owner));
            };
            let versioned = placement.versioned(&listed, owner);
            let answer = node.ask(database, &versioned).await?;
            if !is_stale(&answer) {
                return Ok(answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(refusal(
            NAMESPACE_NOT_FOUND,
            "no shard holds the collection",
        ))
    }

    /// Sends a command to the shard that holds what is not sharded.
    async fn on_primary(
        &self,
        database: &str,
        collection: &str,
        command: &RawDocument,
        makes: bool,
    ) -> io::Result<RawDocumentBuf> {
        let Some(placement) = self.placement(database, collection, makes).await? else {
            return Ok(refusal(NAMESPACE_NOT_FOUND, "the database does not exist"));
        };
        let Some(node) = self.reachable(&placement.primary).await? else {
            return Ok(no_primary(&placement.primary));
        };
        let mut versioned = command.to_owned();
        versioned.append(cstr!("databaseVersion"), placement.database);
        node.ask(database, &versioned).await
    }

    pub(super) async fn enable_sharding(&self, database: &str) -> io::Result<RawDocumentBuf> {
        self.placement(database, "", true).await?;
        Ok(rawdoc! { "ok": 1.0 })
    }

    /// `shardCollection: "database.collection", key: {…}`. As `mongos` does it, a collection that is there needs an
    /// index on the key, and starts as one chunk.
    pub(super) async fn shard_collection(
        &self,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        let namespace = target(command);
        let Some((database, collection)) = namespace.split_once('.') else {
            return Ok(refusal(73, "no namespace"));
        };
        let key = command.get_document("key").map_err(io::Error::other)?;
        let is_hashed = key
            .iter()
            .map_while(Result::ok)
            .any(|(_, value)| value.as_str() == Some("hashed"));
        let mut sharded =
            rawdoc! { "_shardsvrCreateCollection": collection, "shardKey": key.to_owned() };
        if is_hashed {
            let holds = self.is_there(database, collection).await?;
            if holds {
                self.index_hashed(database, collection, key).await?;
            } else {
                let chunks = i64::try_from(self.shards.len() * CHUNKS_EACH).unwrap_or(2);
                sharded.append(cstr!("numInitialChunks"), chunks);
            }
        }
        sharded.append(cstr!("writeConcern"), majority());
        self.on_primary(database, collection, &sharded, true).await
    }

    async fn is_there(&self, database: &str, collection: &str) -> io::Result<bool> {
        let listed = rawdoc! { "listCollections": 1, "filter": { "name": collection } };
        let listed = self.list_collections(database, &listed).await?;
        Ok(!node::first_batch(&listed).is_empty())
    }

    async fn index_hashed(
        &self,
        database: &str,
        collection: &str,
        key: &RawDocument,
    ) -> io::Result<()> {
        let index = rawdoc! {
            "createIndexes": collection,
            "indexes": [{ "key": key.to_owned(), "name": "hashed_shard_key" }],
            "writeConcern": majority(),
        };
        let made = self.to_owners(database, collection, &index, true).await?;
        made.map(drop)
            .map_err(|refused| io::Error::other(format!("{refused:?}")))
    }

    /// Shards a collection that is about to come into being, where new ones are to be sharded. Whether it did.
    pub(super) async fn shard_when_new(
        &self,
        database: &str,
        collection: &str,
    ) -> io::Result<bool> {
        let Some(key) = self.key_of_new(database, collection) else {
            return Ok(false);
        };
        let namespace = format!("{database}.{collection}");
        let mut known = self.known.0.lock().await;
        if known.contains(&namespace) {
            return Ok(false);
        }
        let is_new = !self.is_there(database, collection).await?;
        if is_new {
            self.shard_by(&namespace, &key).await?;
        }
        known.insert(namespace);
        Ok(is_new)
    }

    fn key_of_new(&self, database: &str, collection: &str) -> Option<Key> {
        let rules = self.settings.shards_new.read();
        let rules = rules.unwrap_or_else(PoisonError::into_inner);
        let rule = rules
            .iter()
            .find(|rule| database.starts_with(rule.databases))?;
        let is_excepted = rule.except.iter().any(|name| name == collection);
        (!is_excepted).then(|| rule.key.clone())
    }

    async fn shard_by(&self, namespace: &str, key: &Key) -> io::Result<()> {
        let done = |answer: RawDocumentBuf| {
            let failed = || io::Error::other(format!("{namespace}: {answer:?}"));
            node::is_ok(&answer).then_some(()).ok_or_else(failed)
        };
        let sharded = async |key: RawDocumentBuf| {
            let command = rawdoc! { "shardCollection": namespace, "key": key };
            done(self.shard_collection(&command).await?)
        };
        let cut = match key {
            Key::HashedId => return sharded(rawdoc! { "_id": "hashed" }).await,
            Key::Id(cut) => RawBson::try_from(cut.clone()).map_err(io::Error::other)?,
        };
        sharded(rawdoc! { "_id": 1 }).await?;
        let Some(second) = self.shards.keys().nth(1) else {
            return Ok(());
        };
        let min = rawdoc! { "_id": cut };
        let max = rawdoc! { "_id": RawBson::MaxKey };
        let moved = move_range(namespace, min, Some(max), second);
        done(self.move_when_idle(&moved).await?)
    }

    /// `moveChunk: "database.collection", bounds: [min, max], to: shard`.
    pub(super) async fn move_chunk(&self, command: &RawDocument) -> io::Result<RawDocumentBuf> {
        let bounds = command.get_array("bounds").map_err(io::Error::other)?;
        let mut bounds = bounds.into_iter().filter_map(|bound| {
            let bound = bound.ok()?.as_document()?;
            Some(bound.to_owned())
        });
        let (Some(min), Some(max)) = (bounds.next(), bounds.next()) else {
            return Ok(refusal(9, "moveChunk needs two bounds here"));
        };
        let to = command.get_str("to").map_err(io::Error::other)?;
        self.move_when_idle(&move_range(&target(command), min, Some(max), to))
            .await
    }

    /// A shard gives and takes one chunk at a time: while it is busy with another, this waits.
    async fn move_when_idle(&self, moved: &RawDocument) -> io::Result<RawDocumentBuf> {
        const CONFLICTING_OPERATION: i32 = 117;
        let mut answer = self.config.ask("admin", moved).await?;
        for _ in 0..BUSY_FOR {
            if node::code(&answer) != CONFLICTING_OPERATION {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            answer = self.config.ask("admin", moved).await?;
        }
        Ok(answer)
    }

    /// `split: "database.collection", middle: {…}`.
    pub(super) async fn split(&self, command: &RawDocument) -> io::Result<RawDocumentBuf> {
        let namespace = target(command);
        let (database, collection) = namespace.split_once('.').unwrap_or_default();
        let middle = command.get_document("middle").map_err(io::Error::other)?;
        let placement = Placement::read(&self.config, database, collection).await?;
        let Some(sharded) = placement.and_then(|placement| placement.sharded) else {
            return Ok(refusal(118, "the collection is not sharded"));
        };
        let key = middle.iter().next().and_then(Result::ok);
        let key = key.and_then(|(_, value)| bson::Bson::try_from(value).ok());
        let Some(owner) = key.and_then(|key| sharded.owner(&key).map(ToOwned::to_owned)) else {
            return Ok(refusal(9, "the middle is not a shard key"));
        };
        let Some(node) = self.reachable(&owner).await? else {
            return Ok(no_primary(&owner));
        };
        let Some(cut) = sharded.cut(&namespace, middle, &owner) else {
            return Ok(refusal(9, "the middle is not a shard key"));
        };
        node.ask("admin", &cut).await
    }
}

/// Asks the config server to move what lies from `min` to `max`.
pub(crate) fn move_range(
    namespace: &str,
    min: RawDocumentBuf,
    max: Option<RawDocumentBuf>,
    to: &str,
) -> RawDocumentBuf {
    let mut moved = rawdoc! { "_configsvrMoveRange": namespace, "toShard": to, "min": min };
    if let Some(max) = max {
        moved.append(cstr!("max"), max);
    }
    moved.append(cstr!("writeConcern"), majority());
    moved
}
