//! Alerts are raised once, and resolved when their cause is gone.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::Location;
use tierkeep_core::store::{Change, Guard};
use tierkeep_engine::{Alert, AlertKind, Alerts, Failed, Keep, QuarantineService, Upkeep};
use tierkeep_testkit::documents::native_user;

use crate::world::{Backend, DAY, HOUR, World};

async fn open(world: &World) -> Vec<Alert> {
    let alerts = Alerts::new(Arc::clone(&world.engine));
    alerts.open(&mut None).await.unwrap()
}

async fn keep_up(world: &World) {
    let engine = Arc::clone(&world.engine);
    Upkeep::new(engine, DAY).round(Duration::ZERO).await;
}

/// A document whose move has used up its retries.
async fn given_up(world: &World) -> tierkeep_core::user::UserId {
    world.obstruct(1).await;
    let user = world.staged(1, DAY + HOUR).await;
    for _ in 0..4 {
        assert_eq!(world.migrate().await.unwrap().failed, 1);
    }
    assert_eq!(world.migrate().await.unwrap().failed, 0);
    user
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_failed_for_good_is_alerted_once_and_resolved_by_a_retry(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = given_up(&world).await;
    keep_up(&world).await;
    let alerts = open(&world).await;
    let [alert] = alerts.as_slice() else {
        panic!("{alerts:?}")
    };
    assert_eq!(alert.kind, AlertKind::MigrationFailed);
    assert_eq!((alert.subject.as_str(), alert.count), (user.as_str(), 1));
    let service = world.service();
    assert_eq!(service.retry(&Failed::All).await.unwrap().retried, 1);
    assert_eq!(open(&world).await, []);
    // Failing for good again is the same alert, raised again.
    for _ in 0..4 {
        world.migrate().await.unwrap();
    }
    assert_eq!(open(&world).await[0].count, 2);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_resolved_when_a_newer_version_has_moved(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = given_up(&world).await;
    world.clear(1).await;
    world.put(&user, 2).await.unwrap();
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    assert_eq!(open(&world).await.len(), 1);
    keep_up(&world).await;
    assert_eq!(open(&world).await, []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn copies_that_contradict_each_other_are_alerted_until_an_operator_decides(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, DAY + HOUR).await;
    let other = native_user(1, 1).at(Location::Main).build();
    world.plant(Role::RaseenMainUser, other).await;
    for _ in 0..2 {
        assert_eq!(world.migrate().await.unwrap().quarantined, 1);
        keep_up(&world).await;
    }
    let alerts = open(&world).await;
    let [alert] = alerts.as_slice() else {
        panic!("{alerts:?}")
    };
    assert_eq!(alert.kind, AlertKind::CopiesConflict);
    assert_eq!((alert.subject.as_str(), alert.count), (user.as_str(), 1));
    // A write gives temp the higher version, and decides nothing.
    world.put(&user, 2).await.unwrap();
    assert_eq!(world.migrate().await.unwrap().moved, 0);
    keep_up(&world).await;
    assert_eq!(open(&world).await.len(), 1);
    let place = tempfile::tempdir().unwrap();
    let quarantine = QuarantineService::new(Arc::clone(&world.engine));
    let released = quarantine.release(user.as_str(), Some(Keep::Temp), place.path(), "a test");
    released.await.unwrap();
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    keep_up(&world).await;
    assert_eq!(open(&world).await, []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_waits_for_a_day_is_alerted_until_it_is_done(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, HOUR).await;
    world.faults.set_down(Role::SrieMainUser, true);
    world.erasure().erase(&user).await.unwrap();
    keep_up(&world).await;
    assert_eq!(open(&world).await, []);
    world.clock.advance(DAY + HOUR);
    for _ in 0..2 {
        keep_up(&world).await;
        let alerts = open(&world).await;
        assert_eq!(
            (alerts[0].kind, alerts[0].count),
            (AlertKind::ErasurePending, 1)
        );
    }
    world.faults.heal();
    keep_up(&world).await;
    assert_eq!(open(&world).await, []);
    assert_eq!(world.erasure().finish_pending().await.unwrap(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_that_grows_is_alerted_until_it_is_empty(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    keep_up(&world).await;
    assert_eq!(open(&world).await, []);
    // The age of these documents is unknown.
    for n in 0..2 {
        let undated = bson::rawdoc! { "_id": n, "user_id": format!("internal_{n:024}") };
        world.plant(Role::RaseenTempUser, undated).await;
    }
    assert_eq!(world.migrate().await.unwrap().quarantined, 2);
    for _ in 0..2 {
        keep_up(&world).await;
        let alerts = open(&world).await;
        let [alert] = alerts.as_slice() else {
            panic!("{alerts:?}")
        };
        assert_eq!(
            (alert.kind, alert.subject.as_str(), alert.count),
            (AlertKind::QuarantineGrowth, "raseen_temp_user", 1)
        );
    }
    for n in 0..2 {
        let (id, any) = (Bson::Int32(n), Guard::Fields(doc! {}));
        let temp = world.store(Role::RaseenTempUser);
        temp.write("internal_users", &id, &any, &Change::Remove)
            .await
            .unwrap();
    }
    assert_eq!(world.migrate().await.unwrap().quarantined, 0);
    keep_up(&world).await;
    assert_eq!(open(&world).await, []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn records_go_when_they_are_completed_and_older_than_their_retention(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.staged(2, DAY + HOUR).await;
    let failed = given_up(&world).await;
    assert_eq!(world.records().await.len(), 2);
    let mut upkeep = Upkeep::new(Arc::clone(&world.engine), DAY);
    upkeep.round(Duration::ZERO).await;
    assert_eq!(world.records().await.len(), 2, "kept for ever unless told");
    let mut upkeep = upkeep.with_record_retention(Some(DAY));
    upkeep.round(Duration::ZERO).await;
    assert_eq!(world.records().await.len(), 2, "nothing is a day old");
    world.clock.advance(DAY + HOUR);
    upkeep.round(HOUR).await;
    let left = world.records().await;
    let [record] = left.as_slice() else {
        panic!("{left:?}")
    };
    assert_eq!(record.get_str("user_id").unwrap(), failed.as_str());
    assert_eq!(record.get_str("status").unwrap(), "failed");
}
