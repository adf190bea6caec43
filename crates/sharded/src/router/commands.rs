//! Which command goes where.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bson::raw::{RawArrayBuf, RawDocument, RawDocumentBuf};
use bson::rawdoc;

use super::{COMMAND_NOT_FOUND, Router, addressed, as_of_the_cluster, refusal, target};
use crate::node;

/// How the routing code calls what it routes.
fn cluster_form(name: &str) -> Option<&'static str> {
    match name {
        "find" => Some("clusterFind"),
        "insert" => Some("clusterInsert"),
        "update" => Some("clusterUpdate"),
        "delete" => Some("clusterDelete"),
        "aggregate" => Some("clusterAggregate"),
        _ => None,
    }
}

impl Router {
    /// The answer to a command.
    pub(super) async fn answer(
        self: &Arc<Self>,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        let Some((name, database)) = addressed(command) else {
            return Ok(refusal(COMMAND_NOT_FOUND, "an empty command"));
        };
        let database = database.as_str();
        // What belongs to the connection between the driver and a router means nothing to a shard.
        let command = &node::without(command, &["$db", "$readPreference", "txnNumber"]);
        if let Some(cluster) = cluster_form(&name) {
            return self.routed(&name, cluster, database, command).await;
        }
        match name.as_str() {
            "hello" | "isMaster" | "ismaster" => self.hello(command).await,
            "ping" | "endSessions" | "abortTransaction" => Ok(rawdoc! { "ok": 1.0 }),
            "getMore" => self.get_more(database, command).await,
            "killCursors" => Ok(self.kill_cursors(database, command)),
            "findAndModify" | "findandmodify" => self.find_and_modify(database, command).await,
            "explain" => self.explain(database, command).await,
            "create" => self.create(database, command).await,
            "createIndexes" => self.create_indexes(database, command).await,
            "collMod" => self.change_options(database, command).await,
            "drop" => self.drop_collection(database, command).await,
            "dropDatabase" => self.drop_database(database).await,
            "listCollections" => self.list_collections(database, command).await,
            "listIndexes" => self.list_indexes(database, command).await,
            "enableSharding" => self.enable_sharding(&target(command)).await,
            "shardCollection" => self.shard_collection(command).await,
            "split" => self.split(command).await,
            "moveChunk" => self.move_chunk(command).await,
            "configureFailPoint" => self.everywhere(database, command).await,
            _ => self.elsewhere(database, command).await,
        }
    }

    /// Sends a command under its other name to a shard that routes it.
    async fn routed(
        &self,
        name: &str,
        cluster: &str,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        let makes = ["insert", "update"].contains(&name);
        if makes {
            self.shard_when_new(database, &target(command)).await?;
        }
        let mut command = node::renamed(command, cluster);
        let is_scan = name == "find" && matches!(command.get("hint"), Ok(Some(_)));
        if is_scan && self.drops_sorts(database) {
            command = node::without(&command, &["sort"]);
        }
        let (shard, node) = self.coordinator().await?;
        let answer = node.ask(database, &command).await?;
        self.cursors.note(&answer, shard, None);
        let writes = makes || name == "delete";
        Ok(if writes {
            as_of_the_cluster(answer)
        } else {
            answer
        })
    }

    /// What a router says of itself: as one of MongoDB 6.0, also while no server of the cluster answers.
    async fn hello(&self, command: &RawDocument) -> io::Result<RawDocumentBuf> {
        if let Ok(wait) = command.get_i64("maxAwaitTimeMS").or_else(|_| {
            let wait = command.get_i32("maxAwaitTimeMS");
            wait.map(i64::from)
        }) && command.get_document("topologyVersion").is_ok()
        {
            // Nothing about a router ever changes.
            let wait = Duration::from_millis(wait.try_into().unwrap_or_default());
            tokio::time::sleep(wait).await;
        }
        Ok(rawdoc! {
            "helloOk": true,
            "isWritablePrimary": true,
            "ismaster": true,
            "msg": "isdbgrid",
            "topologyVersion": { "processId": self.process, "counter": 0_i64 },
            "maxBsonObjectSize": 16 * 1024 * 1024,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "localTime": now(),
            "logicalSessionTimeoutMinutes": 30,
            "minWireVersion": 0,
            "maxWireVersion": 17,
            "readOnly": false,
            "ok": 1.0,
        })
    }

    /// The plans of all shards, in the form in which `mongos` gives them.
    async fn explain(&self, database: &str, command: &RawDocument) -> io::Result<RawDocumentBuf> {
        let explained = command.get_document("explain").map_err(io::Error::other)?;
        let collection = target(explained);
        let answers = self.to_owners(database, &collection, command, false);
        let answers = match answers.await? {
            Ok(answers) => answers,
            Err(refused) => return Ok(refused),
        };
        let stage = if answers.len() == 1 {
            "SINGLE_SHARD"
        } else {
            "SHARD_MERGE"
        };
        let mut shards = RawArrayBuf::new();
        for (shard, answer) in answers {
            let mut plan = rawdoc! { "shardName": shard };
            let planner = answer.get_document("queryPlanner");
            for (name, value) in planner.into_iter().flatten().map_while(Result::ok) {
                plan.append(name, value);
            }
            shards.push(plan);
        }
        Ok(rawdoc! {
            "queryPlanner": {
                "mongosPlannerVersion": 1,
                "winningPlan": { "stage": stage, "shards": shards },
            },
            "ok": 1.0,
        })
    }

    /// Sends a command to every shard.
    async fn everywhere(
        &self,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        let mut last = rawdoc! { "ok": 1.0 };
        for node in self.shards.values() {
            last = node.ask(database, command).await?;
        }
        Ok(last)
    }

    /// Sends what any server can answer to one that routes.
    async fn elsewhere(&self, database: &str, command: &RawDocument) -> io::Result<RawDocumentBuf> {
        let (_, node) = self.coordinator().await?;
        node.ask(database, command).await
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server tells the time of its own machine"
)]
fn now() -> bson::DateTime {
    bson::DateTime::now()
}
