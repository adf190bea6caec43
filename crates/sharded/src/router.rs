//! A router that drivers take for `mongos`, over the routing code that a shard's own mongod carries.
//!
//! A mongod that runs as a shard knows the commands `clusterFind`, `clusterInsert` and their like: the routing library
//! of `mongos` itself. The router renames commands to those and sends them to one shard, which routes them. It routes
//! by itself, from the config server's tables, what has no such form: findAndModify (to the one owner, with the version
//! that it knows, again after a refusal as stale), indexes, collections, explain.
//!
//! What it cannot show: `mongos` itself, transactions, change streams, retryable writes, reads from secondaries, and more
//! than one router with caches of their own. A cursor that a client gives up is read to its end instead of being killed.

mod commands;
mod cursors;
mod layout;
mod modify;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf, cstr};
use bson::{Bson, Timestamp, rawdoc};
use tokio::net::{TcpListener, TcpStream};

pub(crate) use layout::move_range;

use crate::node::{self, Node};
use crate::routing::Placement;
use crate::wire;

/// A shard refused a command whose sender knows an older version of the collection or database.
const STALE_CONFIG: i32 = 13388;
const STALE_EPOCH: i32 = 150;
const STALE_DB_VERSION: i32 = 249;
const COMMAND_NOT_FOUND: i32 = 59;
const NAMESPACE_NOT_FOUND: i32 = 26;
/// A shard has no primary that can be reached.
pub(crate) const NO_PRIMARY: i32 = 133;
const HOST_UNREACHABLE: i32 = 6;
/// How often the tables are read again for one command.
const REFRESHES: u32 = 60;
const PAUSE: Duration = Duration::from_millis(50);
/// How long a primary is waited for; `mongos` waits as long.
const NO_PRIMARY_AFTER: Duration = Duration::from_secs(15);

/// How the router treats what it is sent.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// The databases whose scans lose their sort on the way, as if the store had not asked for one.
    pub(crate) unsorted: RwLock<BTreeSet<String>>,
    /// Which collections are sharded as they come into being, each rule for databases whose names begin alike.
    pub(crate) shards_new: RwLock<Vec<AutoShard>>,
}

/// Which new collections are sharded, and by what.
#[derive(Clone, Debug)]
pub struct AutoShard {
    /// Those of databases whose names begin like this.
    pub databases: &'static str,
    /// The names of those that are left as they are.
    pub except: Vec<String>,
    /// By what.
    pub key: Key,
}

/// What a new collection is sharded by.
#[derive(Clone, PartialEq, Debug)]
pub enum Key {
    /// The hash of `_id`, over all shards at once.
    HashedId,
    /// `_id`: what comes before this value lies on the first shard, the rest on the second.
    Id(Bson),
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) config: Node,
    pub(crate) shards: BTreeMap<String, Node>,
    pub(crate) settings: Arc<Settings>,
    cursors: cursors::Cursors,
    known: layout::Known,
    process: bson::oid::ObjectId,
}

impl Router {
    pub(crate) fn new(
        config: Node,
        shards: BTreeMap<String, Node>,
        settings: Arc<Settings>,
    ) -> Self {
        Self {
            config,
            shards,
            settings,
            cursors: cursors::Cursors::default(),
            known: layout::Known::default(),
            process: bson::oid::ObjectId::new(),
        }
    }

    /// Answers connections until the runtime ends.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let router = Arc::clone(&self);
            tokio::spawn(async move { router.converse(stream).await.ok() });
        }
    }

    async fn converse(self: Arc<Self>, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        while let Some(message) = wire::read(&mut stream).await? {
            let answer = match self.answer(&message.body).await {
                Ok(answer) => answer,
                Err(error) => refusal(HOST_UNREACHABLE, &error.to_string()),
            };
            if message.wants_answer {
                wire::write(&mut stream, Some(&message), &answer).await?;
            }
        }
        Ok(())
    }

    /// The shard of this name.
    fn shard(&self, name: &str) -> io::Result<&Node> {
        let unknown = || io::Error::other(format!("there is no shard {name}"));
        self.shards.get(name).ok_or_else(unknown)
    }

    /// A shard that routes: the first that can be reached.
    async fn coordinator(&self) -> io::Result<(&str, &Node)> {
        for (name, node) in &self.shards {
            if node.is_reachable().await {
                return Ok((name, node));
            }
        }
        Err(io::Error::other("no shard can be reached"))
    }

    /// The shard of this name, once it can be reached.
    async fn reachable(&self, name: &str) -> io::Result<Option<&Node>> {
        let node = self.shard(name)?;
        let mut waited = Duration::ZERO;
        while !node.is_reachable().await {
            if waited >= NO_PRIMARY_AFTER {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
            waited += PAUSE;
        }
        Ok(Some(node))
    }

    /// Where a collection lies; its database is made where there is none and `makes` says so.
    async fn placement(
        &self,
        database: &str,
        collection: &str,
        makes: bool,
    ) -> io::Result<Option<Placement>> {
        let found = Placement::read(&self.config, database, collection).await?;
        if found.is_some() || !makes {
            return Ok(found);
        }
        let primary = self.shards.keys().next().cloned().unwrap_or_default();
        let command = rawdoc! {
            "_configsvrCreateDatabase": database,
            "primaryShardId": primary,
            "writeConcern": majority(),
        };
        let made = self.config.ask("admin", &command).await?;
        if !node::is_ok(&made) {
            return Err(io::Error::other(format!("{database}: {made:?}")));
        }
        Placement::read(&self.config, database, collection).await
    }

    /// Sends `command` to each shard that holds the collection, with the version that it should have; again with newer
    /// tables where one says that they are stale. The answers, in order of the shards' names; or the first refusal.
    async fn to_owners(
        &self,
        database: &str,
        collection: &str,
        command: &RawDocument,
        makes: bool,
    ) -> io::Result<Result<Vec<(String, RawDocumentBuf)>, RawDocumentBuf>> {
        for _ in 0..REFRESHES {
            let Some(placement) = self.placement(database, collection, makes).await? else {
                let absent = refusal(NAMESPACE_NOT_FOUND, "the database does not exist");
                return Ok(Err(absent));
            };
            let mut answers = Vec::new();
            for owner in placement.owners() {
                let Some(node) = self.reachable(&owner).await? else {
                    return Ok(Err(no_primary(&owner)));
                };
                let versioned = placement.versioned(command, &owner);
                answers.push((owner, node.ask(database, &versioned).await?));
            }
            match answers.iter().find(|(_, answer)| !node::is_ok(answer)) {
                None => return Ok(Ok(answers)),
                Some((_, refused)) if is_stale(refused) => tokio::time::sleep(PAUSE).await,
                Some((_, refused)) => return Ok(Err(refused.clone())),
            }
        }
        Ok(Err(refusal(STALE_CONFIG, "the tables are always stale")))
    }

    fn drops_sorts(&self, database: &str) -> bool {
        let unsorted = self.settings.unsorted.read();
        let unsorted = unsorted.unwrap_or_else(PoisonError::into_inner);
        unsorted.contains(database)
    }
}

fn is_stale(answer: &RawDocument) -> bool {
    [STALE_CONFIG, STALE_EPOCH, STALE_DB_VERSION].contains(&node::code(answer))
}

pub(crate) fn majority() -> RawDocumentBuf {
    rawdoc! { "w": "majority", "wtimeout": 30_000 }
}

fn no_primary(shard: &str) -> RawDocumentBuf {
    refusal(NO_PRIMARY, &format!("no primary of {shard} can be reached"))
}

fn refusal(code: i32, why: &str) -> RawDocumentBuf {
    rawdoc! { "ok": 0.0, "errmsg": why, "code": code }
}

/// The answer to a write, as of the newest time that the cluster knows: what the shard that routed it says of itself may
/// be earlier than the write on another shard.
fn as_of_the_cluster(answer: RawDocumentBuf) -> RawDocumentBuf {
    let time = answer.get_document("$clusterTime");
    let time = time.and_then(|time| time.get_timestamp("clusterTime"));
    match time {
        Ok(time) => at(&answer, time),
        Err(_) => answer,
    }
}

fn at(answer: &RawDocument, time: Timestamp) -> RawDocumentBuf {
    let mut dated = node::without(answer, &["operationTime"]);
    dated.append(cstr!("operationTime"), time);
    dated
}

/// A command's name and the database that it is for.
fn addressed(command: &RawDocument) -> Option<(String, String)> {
    let (name, _) = command.iter().next()?.ok()?;
    let database = command.get_str("$db").unwrap_or("admin");
    Some((name.as_str().to_owned(), database.to_owned()))
}

/// The collection that a command names first.
fn target(command: &RawDocument) -> String {
    let first = command.iter().next().and_then(Result::ok);
    let name = first.and_then(|(_, value)| value.as_str());
    name.unwrap_or_default().to_owned()
}
