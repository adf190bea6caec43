//! The seven databases on a sharded cluster, under their usual names, sharded by the commands of the operators' page.

use bson::{Document, rawdoc};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_sharded::ShardedCluster;

use super::program::{Backend, Deployment};

const PAGE: &str = include_str!("../../../../docs/operations/topologies.md");

/// The arguments of the calls of this function of the shell on the page.
fn calls(function: &str) -> Vec<&'static str> {
    let begin = format!("sh.{function}(");
    let calls = PAGE.lines().filter_map(|line| {
        let arguments = line.strip_prefix(&begin)?;
        arguments.strip_suffix(')')
    });
    calls.collect()
}

fn unquoted(text: &str) -> &str {
    let text = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    text.expect("a name in quotes")
}

/// The collections that the page shards, in full.
pub fn namespaces() -> Vec<String> {
    let namespace = |arguments: &str| {
        let (namespace, key) = arguments.split_once(", ").unwrap();
        assert_eq!(key, r#"{ _id: "hashed" }"#);
        unquoted(namespace).to_owned()
    };
    calls("shardCollection")
        .into_iter()
        .map(namespace)
        .collect()
}

/// Does what the page says before `tierkeep init`.
pub async fn shard_as_documented(cluster: &ShardedCluster) {
    let databases = calls("enableSharding").into_iter().map(unquoted);
    let mut commands: Vec<_> = databases
        .map(|database| rawdoc! { "enableSharding": database })
        .collect();
    let key = rawdoc! { "_id": "hashed" };
    let sharded = namespaces().into_iter().map(|namespace| {
        rawdoc! { "shardCollection": namespace, "key": key.clone() }
    });
    commands.extend(sharded);
    assert_eq!(commands.len(), 10);
    for command in commands {
        let answer = cluster.ask("admin", &command).await.unwrap();
        let answer = Document::try_from(&*answer).unwrap();
        assert_eq!(
            answer.get_f64("ok").ok(),
            Some(1.0),
            "{command:?}: {answer}"
        );
    }
}

/// A deployment whose databases all lie behind the router.
pub fn behind(cluster: &ShardedCluster) -> Deployment {
    let mut deployment = Deployment::new(Backend::Mongo);
    for role in Role::ALL {
        deployment.environment.remove(role.url_variable());
    }
    deployment.with(
        "TIERKEEP_CLUSTER_URL",
        &cluster.url("", "heartbeatFrequencyMS=500"),
    )
}
