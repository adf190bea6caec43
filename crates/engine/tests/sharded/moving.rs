//! Moves while chunks move: nothing is lost or duplicated, after whichever call the mover is cut off.

use std::collections::BTreeMap;

use bson::raw::RawDocumentBuf;
use bson::rawdoc;
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::digest::Digest;
use tierkeep_core::document;
use tierkeep_core::store::Query;
use tierkeep_engine::{MoverSettings, NoProgress, RunOptions};
use tierkeep_sharded::ShardedCluster;
use tokio_util::sync::CancellationToken;

use super::{cluster, database, namespaces, plant_due, world};
use crate::scale;
use crate::world::World;

const MOVED: u32 = 2_000;
const TEMP: Role = Role::RaseenTempUser;

/// Every user once in main and once in srie with the content that it had, none in temp, every record completed.
async fn assert_moved(world: &World, planted: &[RawDocumentBuf], at: &str) {
    let left = world.all(TEMP).await;
    assert!(left.is_empty(), "{at}: {} are left in temp", left.len());
    let wanted: BTreeMap<&str, Digest> = planted
        .iter()
        .map(|user| (document::user_id(user).unwrap(), Digest::of(user)))
        .collect();
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        let copies = world.all(role).await;
        let found: BTreeMap<&str, Digest> = copies
            .iter()
            .map(|copy| (document::user_id(copy).unwrap(), Digest::of(copy)))
            .collect();
        assert_eq!(copies.len(), found.len(), "{at}: a user twice in {role}");
        assert!(found == wanted, "{at}: {} in {role}", found.len());
        let count = world.store(role).count("internal_users", &Query::All);
        assert_eq!(count.await.unwrap(), u64::from(MOVED), "{at}: {role}");
    }
    let records = world.records().await;
    assert_eq!(records.len(), planted.len(), "{at}: records");
    for record in records {
        assert_eq!(record.get_str("status").unwrap(), "completed", "{at}");
    }
}

/// Empties the collections that a move fills. No chunks move in the meantime.
async fn empty(world: &World, cluster: &ShardedCluster) {
    for (role, collection) in [
        (Role::RaseenMainUser, "internal_users"),
        (Role::SrieMainUser, "internal_users"),
        (Role::EvaluationAudit, collection::MIGRATION_RECORDS),
    ] {
        let database = database(&**world.store(role)).await;
        let delete = rawdoc! {
            "delete": collection,
            "deletes": [{ "q": {}, "limit": 0 }],
            "writeConcern": { "w": "majority" },
        };
        cluster.ask(&database, &delete).await.unwrap();
        let left = world.everything(role, collection).await;
        assert!(left.is_empty(), "{database}.{collection} is not empty");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_crashes_at_every_step_converges_while_chunks_move() {
    let cluster = cluster();
    let mut world = world(cluster).await;
    world.settings.batch_documents = MoverSettings::default().batch_documents;
    let namespaces = namespaces(world.stores.values()).await;
    let (mut crashes, mut chunks) = (0, 0);
    for at in 0.. {
        let planted = plant_due(&world, MOVED).await;
        let shuffle = cluster.shuffle(namespaces.clone());
        world.faults.crash_after(at);
        let run = world.migrate().await;
        let crashed = world.faults.has_crashed() && run.is_err();
        world.faults.heal();
        world.clock.advance(std::time::Duration::from_secs(6));
        let (_, service) = world.restarted().await;
        let stop = CancellationToken::new();
        let again = service.migrate_expired_data(RunOptions::default(), &NoProgress, &stop);
        again.await.unwrap();
        assert_moved(&world, &planted, &format!("crash after call {at}")).await;
        chunks += shuffle.stop().await;
        if !crashed {
            break;
        }
        crashes += 1;
        empty(&world, cluster).await;
    }
    println!("{crashes} crashes, {chunks} chunks moved");
    assert!(crashes > 5, "only {crashes} crash points were reached");
    assert!(chunks > 0, "no chunk moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_scans_lose_their_sort_leaves_due_documents_behind() {
    let cluster = cluster();
    let mut world = world(cluster).await;
    world.settings.batch_documents = 100;
    plant_due(&world, 3_000).await;
    let temp = database(&**world.store(TEMP)).await;
    cluster.drop_sorts(&temp);
    let summary = world.migrate().await.unwrap();
    assert!(summary.moved < 3_000, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_documents_move_while_chunks_move() {
    // A tenth of them unless everything is tried.
    let users = if scale::is_full() { 20_000 } else { 2_000 };
    let cluster = cluster();
    let mut world = world(cluster).await;
    world.settings.batch_documents = MoverSettings::default().batch_documents;
    plant_due(&world, users).await;
    let shuffle = cluster.shuffle(namespaces(world.stores.values()).await);
    // Shards that clean up take no chunk for a while, and the move may be over before the first.
    for _ in 0..600 {
        if shuffle.moved() > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let summary = world.migrate().await.unwrap();
    let chunks = shuffle.stop().await;
    println!("{summary:?}, {chunks} chunks moved");
    assert!(chunks > 0);
    for (role, expected) in [
        (TEMP, 0),
        (Role::RaseenMainUser, users),
        (Role::SrieMainUser, users),
    ] {
        let ids = world.all(role).await.len();
        assert_eq!(ids, usize::try_from(expected).unwrap(), "{role}");
        let count = world.store(role).count("internal_users", &Query::All);
        assert_eq!(count.await.unwrap(), u64::from(expected), "{role}");
    }
    assert_eq!(summary.moved, u64::from(users));
}
