//! Index builds that `open` starts and that end early: their server dies, or an operator stops them.

use std::sync::Arc;

use bson::{Document, doc};
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::mover::main_form;
use tierkeep_core::store::{Inserted, Store};
use tierkeep_engine::{ConnectError, ConnectionManager, Purpose};
use tierkeep_testkit::ManualClock;
use tierkeep_testkit::documents::native_user;
use tokio::task::JoinHandle;

use super::row::Row;
use super::servers::{BUILD, ReplicaSet};
use super::{Clusters, clusters};
use crate::world::NO_RETRIES;

const INDEX: &str = "user_id_1__id_1";
/// Only over documents does a build take time.
const USERS: u32 = 20;

/// Stores of which main and srie hold documents and have no index.
async fn unindexed(clusters: &mut Clusters) -> Vec<Arc<dyn Store>> {
    let stores = clusters.stores("appName=row").await;
    let copies: Vec<_> = (0..USERS)
        .map(|n| {
            let document = native_user(300_000 + n, 1).build();
            main_form(&document, &Digest::of(&document))
        })
        .collect();
    for store in of_users(&stores) {
        let users = store.role().users().unwrap();
        let inserted = store.insert(users, &copies).await.unwrap();
        assert!(inserted.iter().all(|it| *it == Inserted::Stored));
    }
    stores
}

fn of_users(stores: &[Arc<dyn Store>]) -> impl Iterator<Item = &Arc<dyn Store>> {
    let of_users = |role| [Role::RaseenMainUser, Role::SrieMainUser].contains(&role);
    stores.iter().filter(move |store| of_users(store.role()))
}

/// A process that starts on these.
async fn starting(stores: &[Arc<dyn Store>]) -> JoinHandle<Result<(), ConnectError>> {
    let now = stores[0].hello().await.unwrap().now;
    let clock = Arc::new(ManualClock::new(now)) as Arc<dyn Clock>;
    let databases = ConnectionManager::new(stores.iter().cloned(), clock).unwrap();
    tokio::spawn(async move { databases.open(NO_RETRIES, Purpose::Work).await.map(drop) })
}

/// From now on index builds are held on the primary; returns how many were held before.
async fn hang(set: &ReplicaSet) -> i64 {
    let hang = doc! { "configureFailPoint": BUILD, "mode": "alwaysOn" };
    let reply = set.command(hang).await.unwrap();
    i64::from(reply.get_i32("count").unwrap())
}

async fn until_one_hangs(set: &ReplicaSet, before: i64) {
    let wait = doc! { "waitForFailPoint": BUILD, "timesEntered": before + 1, "maxTimeMS": 9_000 };
    set.command(wait).await.expect("no build stands still");
}

/// Each open build as the server lists it.
async fn builds(set: &ReplicaSet) -> Vec<Document> {
    let listed = doc! {
        "aggregate": 1,
        "pipeline": [
            { "$currentOp": { "allUsers": true } },
            { "$match": { "command.createIndexes": { "$exists": true }, "client": { "$exists": true } } },
        ],
        "cursor": {},
    };
    let listed = set.command(listed).await.unwrap();
    let cursor = listed.get_document("cursor").unwrap();
    let batch = cursor.get_array("firstBatch").unwrap().iter();
    batch
        .map(|operation| operation.as_document().unwrap().clone())
        .collect()
}

/// The next start builds what is missing; nothing is lost, and documents move as ever.
async fn is_whole_after_the_next_start(stores: Vec<Arc<dyn Store>>, at: &str) {
    let mut row = Row::of(Clusters::world_of(stores).await);
    for store in of_users(&row.world.stores.values().cloned().collect::<Vec<_>>()) {
        let role = store.role();
        let found = store.indexes().await.unwrap();
        let mut names = found
            .iter()
            .filter(|it| it.collection == role.users().unwrap());
        assert!(names.any(|it| it.name == INDEX), "{at}: {role}: {found:?}");
        let users = row.world.all(role).await.len();
        assert_eq!(users, usize::try_from(USERS).unwrap(), "{at}: {role}");
    }
    row.plant(2).await;
    assert_eq!(row.settle(at).await.moved, Row::due(2), "{at}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_server_dies_while_building_it_is_there_after_the_next_start() {
    let mut clusters = clusters().await;
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        let at = format!("the server of {role} died");
        let stores = unindexed(&mut clusters).await;
        let set = clusters.of(role);
        let before = hang(set).await;
        let start = starting(&stores).await;
        until_one_hangs(set, before).await;
        let primary = set.primary().await;
        set.kill(primary);
        clusters.heal().await;
        if let Err(error) = start.await.unwrap() {
            assert!(matches!(error, ConnectError::Store(_)), "{at}: {error}");
        }
        is_whole_after_the_next_start(stores, &at).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_building_is_stopped_is_there_after_the_next_start() {
    let mut clusters = clusters().await;
    let stores = unindexed(&mut clusters).await;
    let set = &clusters.main;
    let before = hang(set).await;
    let start = starting(&stores).await;
    until_one_hangs(set, before).await;
    let builds = builds(set).await;
    assert!(!builds.is_empty());
    for build in builds {
        let command = build.get_document("command").unwrap();
        let limit = command.get("maxTimeMS").and_then(bson::Bson::as_i64);
        let limit = limit.or_else(|| command.get_i32("maxTimeMS").ok().map(i64::from));
        assert!(
            limit.is_some_and(|limit| limit > 0),
            "it may hang for ever: {command}"
        );
        let stop = doc! { "killOp": 1, "op": build.get("opid").unwrap() };
        set.command(stop).await.unwrap();
    }
    clusters.heal().await;
    let error = start.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::Store(_)), "{error}");
    is_whole_after_the_next_start(stores, "somebody stopped the build").await;
}
