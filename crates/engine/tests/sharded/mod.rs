//! The engine on a cluster of two shards, behind a router for tests, while chunks move between the shards.

mod moving;
mod outage;
mod scanning;

use std::any::Any;
use std::sync::{Arc, OnceLock};

use bson::raw::RawDocumentBuf;
use bson::rawdoc;
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::{Find, Query, Store};
use tierkeep_engine::{ConnectionManager, Purpose};
use tierkeep_mongo::{MongoStore, Servers};
use tierkeep_sharded::ShardedCluster;
use tierkeep_testkit::ManualClock;
use tierkeep_testkit::documents::native_user;

use crate::world::{DAY, HOUR, NO_RETRIES, World};

/// The cluster of this test program; its processes end with it.
pub fn cluster() -> &'static Arc<ShardedCluster> {
    static CLUSTER: OnceLock<Arc<ShardedCluster>> = OnceLock::new();
    CLUSTER.get_or_init(|| Arc::new(ShardedCluster::start(2).unwrap()))
}

/// The collection of a role that is sharded, where one is.
fn sharded(role: Role) -> Option<&'static str> {
    match role {
        Role::ExternalUsers | Role::RaseenTempUser | Role::RaseenMainUser | Role::SrieMainUser => {
            role.users()
        }
        Role::EvaluationAudit => Some(collection::MIGRATION_RECORDS),
        Role::RaseenMainHr | Role::SrieMainHr => None,
    }
}

/// Sends a command to the router's `admin` database; it must be done.
async fn admin(cluster: &ShardedCluster, command: RawDocumentBuf) {
    let answer = cluster.ask("admin", &command).await.unwrap();
    let ok = answer.get_f64("ok").ok();
    assert_eq!(ok, Some(1.0), "{command:?}: {answer:?}");
}

/// The arguments of the calls of this function of the shell in the operators' page.
fn documented(function: &str) -> Vec<String> {
    const PAGE: &str = include_str!("../../../../docs/operations/topologies.md");
    let arguments = |line: &str| {
        let arguments = line.strip_prefix(&format!("sh.{function}("))?;
        Some(arguments.strip_suffix(')')?.to_owned())
    };
    PAGE.lines().filter_map(arguments).collect()
}

/// Shards what is to be sharded in this database of `role`, as the operators' page says, before anything is in it.
pub async fn shard(cluster: &ShardedCluster, role: Role, database: &str) {
    let enabled = documented("enableSharding");
    if enabled.contains(&format!("\"{role}\"")) {
        admin(cluster, rawdoc! { "enableSharding": database }).await;
    }
    let Some(collection) = sharded(role) else {
        return;
    };
    let call = format!("\"{role}.{collection}\", {{ _id: \"hashed\" }}");
    assert!(documented("shardCollection").contains(&call), "{call}");
    let namespace = format!("{database}.{collection}");
    let key = rawdoc! { "_id": "hashed" };
    let command = rawdoc! { "shardCollection": namespace, "key": key };
    admin(cluster, command).await;
}

type Stores = (
    Vec<Arc<dyn Store>>,
    Arc<ManualClock>,
    Box<dyn Any + Send + Sync>,
);

/// Seven fresh databases behind the router, with the user collections and the records sharded.
pub async fn stores(cluster: &ShardedCluster) -> Stores {
    let stores = unsharded_stores(cluster).await;
    for store in &stores.0 {
        shard(cluster, store.role(), &database(&**store).await).await;
    }
    stores
}

/// Seven fresh databases behind the router.
async fn unsharded_stores(cluster: &ShardedCluster) -> Stores {
    let unique = bson::oid::ObjectId::new().to_hex();
    let servers = Servers::new();
    let mut stores = Vec::new();
    for role in Role::ALL {
        let database = format!("s{unique}_{role}");
        let url = cluster.url(&database, "heartbeatFrequencyMS=500").into();
        let store: MongoStore = servers.connect(&url, role).await.unwrap();
        stores.push(Arc::new(store) as Arc<dyn Store>);
    }
    let now = stores[0].hello().await.unwrap().now;
    (stores, Arc::new(ManualClock::new(now)), Box::new(()))
}

pub async fn world(cluster: &ShardedCluster) -> World {
    let (stores, clock, guard) = stores(cluster).await;
    World::over(stores, clock, guard, None).await
}

async fn database(store: &dyn Store) -> String {
    store.hello().await.unwrap().database
}

/// The sharded collections behind these stores, in full.
pub async fn namespaces(stores: impl IntoIterator<Item = &Arc<dyn Store>>) -> Vec<String> {
    let mut namespaces = Vec::new();
    for store in stores {
        if let Some(collection) = sharded(store.role()) {
            namespaces.push(format!("{}.{collection}", database(&**store).await));
        }
    }
    namespaces
}

/// Plants these many due documents in temp.
async fn plant_due(world: &World, users: u32) -> Vec<RawDocumentBuf> {
    let staged_at = world.ago(DAY + HOUR).await;
    let due: Vec<_> = (0..users)
        .map(|n| native_user(n, 1).staged_at(staged_at).build())
        .collect();
    let temp = world.store(Role::RaseenTempUser);
    let stored = temp.insert("internal_users", &due).await.unwrap();
    assert_eq!(stored.len(), due.len());
    due
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_key_other_than_the_id_is_refused_at_start_with_its_remedy() {
    let cluster = cluster();
    for role in [
        Role::RaseenMainUser,
        Role::SrieMainHr,
        Role::EvaluationAudit,
    ] {
        let (stores, clock, _guard) = unsharded_stores(cluster).await;
        let store = stores.iter().find(|store| store.role() == role).unwrap();
        let database = database(&**store).await;
        let collection = sharded(role).unwrap_or("hr_candidates");
        let namespace = format!("{database}.{collection}");
        let key = rawdoc! { "user_id": 1 };
        let command = rawdoc! { "shardCollection": &*namespace, "key": key };
        admin(cluster, command).await;

        let databases = ConnectionManager::new(stores.clone(), clock).unwrap();
        let refused = databases.open(NO_RETRIES, Purpose::Work).await;

        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains(&format!("{role}.{collection}")),
            "{refused}"
        );
        let remedy = format!("reshardCollection: \"{namespace}\", key: {{ _id: \"hashed\" }}");
        assert!(refused.contains(&remedy), "{refused}");
        // Nothing was written.
        let stamp = Find::new(Query::All);
        let stamps = store.find(collection::IDENTITY, &stamp).await.unwrap();
        assert!(stamps.is_empty(), "{stamps:?}");
    }
}
