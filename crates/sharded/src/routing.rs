//! Where documents belong: the config server's tables, read by the router for the commands that it sends to a shard
//! itself.

use std::io;

use bson::oid::ObjectId;
use bson::raw::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf, cstr};
use bson::{Bson, Timestamp, rawdoc};
use tierkeep_core::store::id_order;

use crate::node::{Node, first_batch};

/// The version of a collection that is not sharded.
const UNSHARDED: Timestamp = Timestamp {
    time: 0,
    increment: 0,
};

/// Where a collection lies.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    /// The shard that holds what is not sharded.
    pub(crate) primary: String,
    /// Its database's version.
    pub(crate) database: RawDocumentBuf,
    /// `None` where the collection is not sharded.
    pub(crate) sharded: Option<Sharded>,
}

/// How a collection is sharded.
#[derive(Clone, Debug)]
pub(crate) struct Sharded {
    epoch: ObjectId,
    timestamp: Timestamp,
    key: RawDocumentBuf,
    /// In order of where they begin.
    pub(crate) chunks: Vec<Chunk>,
}

/// A range of shard keys.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    begins: Vec<u8>,
    pub(crate) min: RawDocumentBuf,
    pub(crate) max: RawDocumentBuf,
    pub(crate) shard: String,
    version: Timestamp,
}

/// What a collection is sharded by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyKind {
    /// By `_id`.
    Id,
    /// By the hash of `_id`.
    HashedId,
    /// By something else.
    Other,
}

impl Sharded {
    pub(crate) fn kind(&self) -> KeyKind {
        let mut fields = self.key.iter().map_while(Result::ok);
        match (fields.next(), fields.next()) {
            (Some((name, RawBsonRef::String("hashed"))), None) if name == "_id" => {
                KeyKind::HashedId
            }
            (Some((name, _)), None) if name == "_id" => KeyKind::Id,
            _ => KeyKind::Other,
        }
    }

    /// The shard that owns documents with this shard key.
    pub(crate) fn owner(&self, key: &Bson) -> Option<&str> {
        let key = id_order(key);
        let after = self.chunks.partition_point(|chunk| chunk.begins <= key);
        let chunk = self.chunks.get(after.checked_sub(1)?)?;
        Some(&chunk.shard)
    }

    /// The shards that own any documents, each once.
    pub(crate) fn owners(&self) -> Vec<String> {
        let mut owners: Vec<String> = self.chunks.iter().map(|it| it.shard.clone()).collect();
        owners.sort();
        owners.dedup();
        owners
    }

    /// The command that cuts the chunk with `middle` in it there; for the shard that owns it.
    pub(crate) fn cut(
        &self,
        namespace: &str,
        middle: &RawDocument,
        owner: &str,
    ) -> Option<RawDocumentBuf> {
        let key = middle.iter().next()?.ok()?.1;
        let key = id_order(&Bson::try_from(key).ok()?);
        let after = self.chunks.partition_point(|chunk| chunk.begins <= key);
        let chunk = self.chunks.get(after.checked_sub(1)?)?;
        Some(rawdoc! {
            "splitChunk": namespace,
            "keyPattern": self.key.clone(),
            "epoch": self.epoch,
            "timestamp": self.timestamp,
            "min": chunk.min.clone(),
            "max": chunk.max.clone(),
            "splitKeys": [middle.to_owned()],
            "from": owner,
        })
    }

    /// The version that a command to `shard` names.
    fn version(&self, shard: &str) -> RawDocumentBuf {
        let own = self.chunks.iter().filter(|chunk| chunk.shard == shard);
        let newest = own.map(|chunk| chunk.version).max().unwrap_or(UNSHARDED);
        rawdoc! { "e": self.epoch, "t": self.timestamp, "v": newest }
    }
}

impl Placement {
    /// The shards that hold the collection.
    pub(crate) fn owners(&self) -> Vec<String> {
        match &self.sharded {
            Some(sharded) => sharded.owners(),
            None => vec![self.primary.clone()],
        }
    }

    /// The shard that holds the collection's lowest documents.
    pub(crate) fn first_owner(&self) -> &str {
        let sharded = self.sharded.as_ref();
        let first = sharded.and_then(|sharded| sharded.chunks.first());
        first.map_or(&self.primary, |chunk| &chunk.shard)
    }

    /// The command with the versions by which `shard` sees whether the sender knows where documents belong.
    pub(crate) fn versioned(&self, command: &RawDocument, shard: &str) -> RawDocumentBuf {
        let mut versioned = command.to_owned();
        if let Some(sharded) = &self.sharded {
            versioned.append(cstr!("shardVersion"), sharded.version(shard));
        } else {
            let version =
                rawdoc! { "e": ObjectId::from_bytes([0; 12]), "t": UNSHARDED, "v": UNSHARDED };
            versioned.append(cstr!("shardVersion"), version);
            versioned.append(cstr!("databaseVersion"), self.database.clone());
        }
        versioned
    }

    /// What the config server says of a collection; `None` where its database does not exist.
    pub(crate) async fn read(
        config: &Node,
        database: &str,
        collection: &str,
    ) -> io::Result<Option<Self>> {
        let found = find(config, "databases", rawdoc! { "_id": database }).await?;
        let Some(found) = found.into_iter().next() else {
            return Ok(None);
        };
        let version = found.get_document("version").map_err(io::Error::other)?;
        Ok(Some(Self {
            primary: text(&found, "primary")?,
            database: version.to_owned(),
            sharded: sharded(config, &format!("{database}.{collection}")).await?,
        }))
    }
}

async fn sharded(config: &Node, namespace: &str) -> io::Result<Option<Sharded>> {
    let found = find(config, "collections", rawdoc! { "_id": namespace }).await?;
    let Some(found) = found.into_iter().next() else {
        return Ok(None);
    };
    let missing = io::Error::other;
    let uuid = found.get_binary("uuid").map_err(missing)?.to_binary();
    let chunks = find(config, "chunks", rawdoc! { "uuid": uuid }).await?;
    let chunks = chunks.iter().map(|chunk| Chunk::of(chunk));
    let mut chunks = chunks.collect::<io::Result<Vec<_>>>()?;
    chunks.sort_by(|one, other| one.begins.cmp(&other.begins));
    Ok(Some(Sharded {
        epoch: found.get_object_id("lastmodEpoch").map_err(missing)?,
        timestamp: found.get_timestamp("timestamp").map_err(missing)?,
        key: found.get_document("key").map_err(missing)?.to_owned(),
        chunks,
    }))
}

impl Chunk {
    fn of(found: &RawDocument) -> io::Result<Self> {
        let min = found.get_document("min").map_err(io::Error::other)?;
        let max = found.get_document("max").map_err(io::Error::other)?;
        let begins = min.iter().map_while(Result::ok).next();
        let begins = begins.and_then(|(_, value)| Bson::try_from(value).ok());
        Ok(Self {
            begins: id_order(&begins.unwrap_or(Bson::MinKey)),
            min: min.to_owned(),
            max: max.to_owned(),
            shard: text(found, "shard")?,
            version: found.get_timestamp("lastmod").map_err(io::Error::other)?,
        })
    }
}

/// Documents of one of the config server's collections.
pub(crate) async fn find(
    config: &Node,
    collection: &str,
    filter: RawDocumentBuf,
) -> io::Result<Vec<RawDocumentBuf>> {
    let command = rawdoc! {
        "find": collection,
        "filter": filter,
        "batchSize": 10_000,
        "readConcern": { "level": "majority" },
    };
    Ok(first_batch(&config.ask("config", &command).await?))
}

fn text(document: &RawDocument, name: &str) -> io::Result<String> {
    let text = document.get_str(name).map_err(io::Error::other)?;
    Ok(text.to_owned())
}

/// The server's hash of a shard key.
pub(crate) async fn hash(node: &Node, key: &Bson) -> io::Result<Bson> {
    let key = RawBson::try_from(key.clone()).map_err(io::Error::other)?;
    let command = rawdoc! {
        "aggregate": 1,
        "pipeline": [
            { "$documents": [{ "key": { "$literal": key } }] },
            { "$project": { "hash": { "$toHashedIndexKey": "$key" } } },
        ],
        "cursor": {},
    };
    let answer = node.ask("admin", &command).await?;
    let hashed = first_batch(&answer).pop();
    let hashed = hashed.and_then(|hashed| hashed.get_i64("hash").ok());
    let hashed = hashed.ok_or_else(|| io::Error::other("the server does not hash a shard key"))?;
    Ok(Bson::Int64(hashed))
}
