//! Writes and deliveries while the backup is unavailable, and after it is back.

use std::sync::Arc;
use std::time::Duration;

use bson::doc;
use futures_util::future::join_all;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::document::{self, Edit};
use tierkeep_core::hr::{BackupStatus, Content};
use tierkeep_core::store::{Change, Written};
use tierkeep_core::store::{CollectionLayout, Fence, Guard, IndexLayout, Layout};
use tierkeep_core::version::Version;
use tierkeep_engine::{AlertKind, Alerts, Condition};

use super::{
    GRACE, MAIN, SRIE, all, candidates, check_equal, content, id, put, read, reconcile, reconciler,
    records, remove,
};
use crate::world::{Backend, World};

fn pending(receipt: &tierkeep_engine::HrReceipt) -> bool {
    BackupStatus::of(&receipt.record) == Some(BackupStatus::Pending)
}

async fn open_alerts(world: &World) -> Vec<(AlertKind, String)> {
    let alerts = Alerts::new(Arc::clone(&world.engine));
    let open = alerts.open(&mut None).await.unwrap();
    open.into_iter()
        .map(|one| (one.kind, one.subject))
        .collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_the_backup_is_away_is_pending_and_delivered_later(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    put(&world, "a", 1).await;
    put(&world, "b", 1).await;
    world.faults.set_down(SRIE, true);
    assert!(pending(&put(&world, "a", 2).await));
    assert!(pending(&put(&world, "a", 3).await));
    assert!(pending(&remove(&world, "b").await));
    assert!(pending(&put(&world, "c", 1).await));
    assert_eq!(records(&world).pending().await.unwrap(), 3);
    let mut reconciler = reconciler(&world);
    assert!(reconciler.round().await.is_err());
    assert_eq!(open_alerts(&world).await, []);
    world.clock.advance(Duration::from_mins(11));
    assert!(reconciler.round().await.is_err());
    let alert = (AlertKind::BackupLag, "srie_main_hr".to_owned());
    assert_eq!(open_alerts(&world).await, [alert]);
    world.faults.heal();
    assert_eq!(reconciler.round().await.unwrap().delivered, 3);
    assert_eq!(open_alerts(&world).await, []);
    check_equal(&world).await;
    assert_eq!(read(&world, "a").await, Some(3));
    assert_eq!(read(&world, "b").await, None);
    assert_eq!(reconciler.round().await.unwrap().delivered, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_backup_refuses_keeps_no_other_from_being_delivered(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let layout = Layout {
        collections: vec![CollectionLayout {
            name: candidates().as_str().into(),
            indexes: vec![IndexLayout::over(&["n"]).unique()],
            keeps_out: None,
        }],
    };
    world.store(SRIE).prepare(&layout).await.unwrap();
    let squatter = bson::rawdoc! { "_id": "squatter", "n": 7 };
    let store = world.store(SRIE);
    store
        .insert(candidates().as_str(), &[squatter])
        .await
        .unwrap();
    assert!(pending(&put(&world, "bad", 7).await));
    world.faults.set_down(SRIE, true);
    put(&world, "zzz", 1).await;
    world.faults.heal();
    let mut reconciler = reconciler(&world);
    let done = reconciler.round().await.unwrap();
    assert_eq!((done.delivered, done.held), (1, 1));
    let calls = world.faults.count_of("insert");
    let done = reconciler.round().await.unwrap();
    assert_eq!((done.delivered, done.held), (0, 1));
    assert_eq!(world.faults.count_of("insert"), calls, "it is parked");

    let gone = Guard::Fields(doc! {});
    let any = &bson::Bson::String("squatter".into());
    store
        .write(candidates().as_str(), any, &gone, &Change::Remove)
        .await
        .unwrap();
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(reconciler.round().await.unwrap().delivered, 1);
    check_equal(&world).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_does_not_match_its_own_digest_never_leaves_main(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    put(&world, "a", 1).await;
    let before = all(&world, SRIE).await;
    world.faults.set_down(SRIE, true);
    let written = put(&world, "a", 2).await.record;
    world.faults.heal();
    let damaged = Edit::new().set("n", 3).apply(&written);
    let store = world.store(MAIN);
    let (any, change) = (Guard::Fields(doc! {}), Change::Replace(damaged));
    let id = document::id(&written);
    let done = store
        .write(candidates().as_str(), &id, &any, &change)
        .await
        .unwrap();
    assert!(matches!(done, Written::Applied(_)));
    let done = reconcile(&world).await;
    assert_eq!((done.delivered, done.held), (0, 1));
    assert_eq!(all(&world, SRIE).await, before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_record_created_while_the_backup_was_away_ends_above_what_the_backup_holds(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(1, 2, 5)] held: i32,
) {
    let world = World::new(backend).await;
    for n in 1..=held {
        put(&world, "a", n).await;
    }
    // Main is lost, and the backup away.
    let main = world.store(MAIN);
    let version = Version::new(i64::from(held)).unwrap();
    let fence = Fence::Version {
        version,
        ids: vec!["a".into()],
    };
    assert_eq!(
        main.delete(candidates().as_str(), &[fence]).await.unwrap(),
        1
    );
    world.faults.set_down(SRIE, true);
    put(&world, "a", 77).await;
    world.faults.heal();
    reconcile(&world).await;
    check_equal(&world).await;
    assert_eq!(read(&world, "a").await, Some(77));
    assert!(document::version(&all(&world, SRIE).await[0]) > Some(version));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_backup_holds_is_what_a_write_goes_on_from(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    put(&world, "a", 1).await;
    let fence = Fence::Version {
        version: Version::FIRST,
        ids: vec!["a".into()],
    };
    world
        .store(MAIN)
        .delete(candidates().as_str(), &[fence])
        .await
        .unwrap();
    let patch = bson::raw::RawDocumentBuf::try_from(&doc! { "more": true }).unwrap();
    let receipt = records(&world)
        .patch(
            &candidates(),
            &id("a"),
            &patch,
            Condition::Version(Version::FIRST),
        )
        .await
        .unwrap();
    assert!(!receipt.created);
    let expected = content(&doc! { "n": 1, "more": true });
    assert_eq!(Content::of(&receipt.record), expected);
    check_equal(&world).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn tombstones_go_when_their_grace_is_over_and_never_while_they_are_pending(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    put(&world, "a", 1).await;
    put(&world, "b", 1).await;
    put(&world, "keep", 1).await;
    remove(&world, "a").await;
    world.faults.set_down(SRIE, true);
    remove(&world, "b").await;
    world.clock.advance(GRACE / 2);
    assert_eq!(reconciler(&world).remove_tombstones().await.unwrap(), 0);
    world.clock.advance(GRACE);
    assert!(reconciler(&world).remove_tombstones().await.is_err());
    assert_eq!(all(&world, MAIN).await.len(), 3, "srie first");
    world.faults.heal();
    assert_eq!(reconciler(&world).remove_tombstones().await.unwrap(), 1);
    assert_eq!(all(&world, MAIN).await.len(), 2);
    let done = reconcile(&world).await;
    assert_eq!(done.delivered, 1);
    reconciler(&world).remove_tombstones().await.unwrap();
    assert_eq!(all(&world, MAIN).await.len(), 1);
    check_equal(&world).await;
    assert_eq!(read(&world, "keep").await, Some(1));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_late_delivery_of_an_older_version_is_taken_back(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(true, false)] tombstone_gone: bool,
) {
    let world = World::new(backend).await;
    world.faults.set_down(SRIE, true);
    put(&world, "a", 1).await;
    world.faults.heal();
    // Stopped just before it stores the first version in srie.
    let late = tierkeep_testkit::fault::Fault::nth(1, tierkeep_testkit::fault::Moment::Before);
    let hold = world.faults.hold(late.of("insert").to(SRIE));
    let engine = world.reopened().await;
    let stopped = tokio::spawn(async move {
        let mut late = tierkeep_engine::Reconciler::new(engine, Duration::from_secs(5), GRACE);
        late.round().await
    });
    hold.reached().await;
    remove(&world, "a").await;
    world.clock.advance(GRACE + GRACE);
    if tombstone_gone {
        assert_eq!(reconciler(&world).remove_tombstones().await.unwrap(), 1);
    }
    hold.release();
    stopped.await.unwrap().unwrap();
    reconcile(&world).await;
    check_equal(&world).await;
    assert_eq!(read(&world, "a").await, None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_who_reconcile_at_once_deliver_everything(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.faults.set_down(SRIE, true);
    // At once: each waits for what is away.
    let written = (0..60).map(async |n| {
        put(&world, &format!("r{n}"), n).await;
        if n % 5 == 0 {
            remove(&world, &format!("r{n}")).await;
        }
    });
    join_all(written).await;
    world.faults.heal();
    let rounds = [world.reopened().await, world.reopened().await].map(|engine| {
        tokio::spawn(async move {
            let interval = Duration::from_secs(5);
            let mut one = tierkeep_engine::Reconciler::new(engine, interval, GRACE);
            one.round().await.unwrap()
        })
    });
    for n in 0..20 {
        put(&world, &format!("r{n}"), n + 100).await;
    }
    for round in rounds {
        assert_eq!(round.await.unwrap().held, 0);
    }
    reconcile(&world).await;
    check_equal(&world).await;
    assert_eq!(read(&world, "r3").await, Some(103));
    assert_eq!(read(&world, "r55").await, None);
}

/// The second acceptance line of HR records, the half of the clock: the backup is away for ten minutes of a time that
/// the test moves, the process is another one from the fifth minute on (other connections, another reconciler, nothing
/// remembered), and what was written meanwhile is delivered once.
///
/// The half of the real process, `kill -9` of `serve` on MongoDB while its backup is away, is
/// `everything_pending_is_delivered_once_after_an_outage_with_kills_in_between` in
/// `crates/tierkeep/tests/acceptance/hr.rs`; `crates/tierkeep/tests/acceptance/kill/records.rs` kills it at every call.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_without_the_backup_and_a_restart_in_between_are_made_up_for_once(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for under in ["kept", "changed", "gone"] {
        put(&world, under, 0).await;
    }
    let before = all(&world, SRIE).await;
    world.faults.set_down(SRIE, true);
    let mut process = Arc::clone(&world.engine);
    let mut one = reconciler(&world);
    for minute in 1..=10 {
        assert!(pending(&put(&world, "changed", minute).await));
        assert!(pending(&put(&world, &format!("new{minute}"), minute).await));
        if minute == 5 {
            assert!(pending(&remove(&world, "gone").await));
            process = world.reopened().await;
            let engine = Arc::clone(&process);
            one = tierkeep_engine::Reconciler::new(engine, Duration::from_secs(5), GRACE);
        }
        world.clock.advance(Duration::from_mins(1));
        assert!(one.round().await.is_err());
    }
    // Ten new ones, one that changed ten times, and a deletion.
    assert_eq!(records(&world).pending().await.unwrap(), 12);
    world.faults.set_down(SRIE, false);
    assert_eq!(all(&world, SRIE).await, before, "nothing came through");
    // What began without a database lets it in, as a service does every second.
    process.databases().heal().await;

    let writes = || {
        let calls = world.faults.calls().into_iter();
        let writes = calls
            .filter(|call| call.database == SRIE && ["insert", "write"].contains(&call.operation));
        writes.count()
    };
    let so_far = writes();
    assert_eq!(one.round().await.unwrap().delivered, 12);
    check_equal(&world).await;
    // One insert of a page, and a replacement of each that srie held before: nothing was sent twice.
    let sent = writes() - so_far;
    assert!(sent <= 2 + 2, "{sent} writes");
    assert_eq!(one.round().await.unwrap().delivered, 0);
    assert_eq!(writes() - so_far, sent, "delivered again");
    assert_eq!(read(&world, "changed").await, Some(10));
    assert_eq!(read(&world, "gone").await, None);
    assert_eq!(read(&world, "new7").await, Some(7));
    let changed = all(&world, SRIE).await;
    let changed = changed
        .iter()
        .find(|it| document::id(it) == "changed".into());
    let version = document::version(changed.unwrap()).unwrap();
    assert_eq!(version.get(), 11, "every write counts once");
    assert_eq!(open_alerts(&world).await, []);
}
