//! Pausing and resuming the mover, and retrying failed moves.

use std::sync::Arc;

use rstest::rstest;
use tierkeep_core::bson::{self, raw::RawDocumentBuf};
use tierkeep_core::db::{Role, collection};
use tierkeep_core::document;
use tierkeep_core::store::{CollectionLayout, IndexLayout, Inserted, Layout};
use tierkeep_core::user::UserId;
use tierkeep_engine::{AlertKind, Alerts, Failed, MigrationService, Progress, RunOptions, Summary};
use tokio_util::sync::CancellationToken;

use crate::world::{Backend, DAY, HOUR, World, user};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn while_paused_nothing_moves_and_dry_runs_still_count(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for n in 0..9 {
        world.staged(n, DAY + HOUR).await;
    }
    assert!(world.service().pause().await.unwrap());
    assert!(!world.service().pause().await.unwrap(), "already paused");
    let before = world.all(Role::RaseenTempUser).await;
    let (_, elsewhere) = world.restarted().await;
    let stop = CancellationToken::new();
    for service in [world.service(), elsewhere] {
        let run = service
            .migrate_expired_data(RunOptions::default(), &tierkeep_engine::NoProgress, &stop)
            .await
            .unwrap();
        assert_eq!((run.paused, run.moved, run.failed), (true, 0, 0));
        service
            .backup_to_srie(RunOptions::default(), &stop)
            .await
            .unwrap();
        service
            .cleanup_temp_data(RunOptions::default(), &stop)
            .await
            .unwrap();
    }
    assert_eq!(world.all(Role::RaseenTempUser).await, before);
    assert!(world.all(Role::SrieMainUser).await.is_empty());
    assert!(world.records().await.is_empty());
    let dry = RunOptions {
        dry_run: true,
        ..RunOptions::default()
    };
    let dry = world.migrate_with(dry).await.unwrap();
    assert_eq!((dry.due, dry.paused), (9, false));
    assert!(world.inspector().status(HOUR).await.paused == Some(true));

    assert!(world.service().resume().await.unwrap());
    assert!(
        !world.service().resume().await.unwrap(),
        "it was going already"
    );
    let run = world.migrate().await.unwrap();
    assert_eq!((run.moved, run.paused), (9, false));
    world.check_invariants().await;
}

/// Pauses the movement after the first batch.
struct PauseAfterOne(MigrationService);

impl Progress for PauseAfterOne {
    fn report(&self, _: &Summary) {
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(self.0.pause())).unwrap();
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_progress_begins_no_batch_after_a_pause(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut world = World::new(backend).await;
    world.settings.batches_in_flight = 1;
    for n in 0..30 {
        world.staged(n, DAY + HOUR).await;
    }
    let (_, elsewhere) = world.restarted().await;
    let stop = CancellationToken::new();
    let run = world
        .service()
        .migrate_expired_data(RunOptions::default(), &PauseAfterOne(elsewhere), &stop)
        .await
        .unwrap();
    assert_eq!((run.moved, run.paused), (7, true));
    assert!(!stop.is_cancelled(), "the caller's token is the caller's");
    assert_eq!(world.all(Role::RaseenTempUser).await.len(), 23);
    world.check_invariants().await;
    world.service().resume().await.unwrap();
    assert_eq!(world.migrate().await.unwrap().moved, 23);
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_cannot_see_the_switch_begins_nothing(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.staged(1, DAY + HOUR).await;
    world.service().pause().await.unwrap();
    world.faults.set_down(Role::EvaluationAudit, true);
    let stopped = world.migrate().await.unwrap_err();
    assert_eq!(stopped.error.database, Role::EvaluationAudit);
    assert_eq!(world.all(Role::RaseenTempUser).await.len(), 1);
}

/// Two documents that srie refuses, given up after all their retries.
async fn failed(world: &World) {
    for n in 1..4 {
        world.staged(n, DAY + HOUR).await;
    }
    world.obstruct(1).await;
    world.obstruct(2).await;
    for _ in 0..4 {
        let run = world.migrate().await.unwrap();
        assert_eq!(run.failed, 2);
    }
    let run = world.migrate().await.unwrap();
    assert_eq!((run.failed, run.deferred), (0, 2), "given up");
    assert_eq!(world.inspector().status(HOUR).await.failed, Some(2));
}

async fn backup_status(world: &World, user: &UserId) -> (Option<String>, Option<i64>) {
    let document = world.copy(Role::RaseenTempUser, user).await.unwrap();
    (
        document::backup_status(&document).map(ToOwned::to_owned),
        document::version(&document).map(tierkeep_core::version::Version::get),
    )
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_move_stays_in_temp_until_it_is_tried_again(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    failed(&world).await;
    let (one, two) = (user(1), user(2));
    let failed_at_1 = (Some("failed".to_owned()), Some(1));
    assert_eq!(backup_status(&world, &one).await, failed_at_1);

    let retried = world.service().retry(&Failed::Of(one.clone())).await;
    assert_eq!(retried.unwrap().retried, 1);
    let pending_at_1 = (Some("pending".to_owned()), Some(1));
    assert_eq!(backup_status(&world, &one).await, pending_at_1);
    assert_eq!(backup_status(&world, &two).await, failed_at_1);
    let records = world.records().await;
    let record = |user: &UserId| {
        let found = records
            .iter()
            .find(|record| record.get_str("user_id").ok() == Some(user.as_str()));
        found.unwrap().clone()
    };
    assert_eq!(record(&one).get_str("status").unwrap(), "pending");
    assert_eq!(record(&one).get_i32("retry_count").unwrap(), 0);
    assert!(record(&one).get_datetime("next_attempt_at").is_err());
    assert!(record(&one).get_datetime("finished_at").is_err());
    assert_eq!(record(&two).get_str("status").unwrap(), "failed");

    world.clear(1).await;
    world.clear(2).await;
    assert_eq!(
        world.migrate().await.unwrap().moved,
        1,
        "the other waits for its own retry"
    );
    let all = world.service().retry(&Failed::All).await.unwrap();
    assert_eq!(all.retried, 1);
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    let none = world.service().retry(&Failed::All).await.unwrap();
    assert_eq!(none.retried, 0);
    assert_eq!(world.inspector().status(HOUR).await.failed, Some(0));
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_cut_off_is_finished_by_the_next(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    failed(&world).await;
    for calls in 0..8 {
        world.faults.crash_after(calls);
        world.service().retry(&Failed::All).await.ok();
        world.faults.heal();
        world.check_invariants().await;
    }
    world.service().retry(&Failed::All).await.unwrap();
    for user in [user(1), user(2)] {
        let pending_at_1 = (Some("pending".to_owned()), Some(1));
        assert_eq!(backup_status(&world, &user).await, pending_at_1);
    }
    world.clear(1).await;
    world.clear(2).await;
    assert_eq!(world.migrate().await.unwrap().moved, 2);
    world.check_invariants().await;
}

/// Lets `evaluation_audit` refuse a second document with this field's value.
async fn only_one(world: &World, collection: &str, field: &'static str, value: &str) {
    let unique = IndexLayout::over(&[field]).unique();
    let collection_layout = CollectionLayout {
        name: collection.to_owned(),
        indexes: vec![unique],
        keeps_out: None,
    };
    let layout = Layout {
        collections: vec![collection_layout],
    };
    let audit = world.store(Role::EvaluationAudit);
    audit.prepare(&layout).await.unwrap();
    let squatter = bson::doc! { "_id": "squatter", field: value };
    let squatter = [RawDocumentBuf::try_from(&squatter).unwrap()];
    let planted = audit.insert(collection, &squatter).await.unwrap();
    assert_eq!(planted, [Inserted::Stored]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_does_not_take_is_not_taken_for_kept(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    only_one(&world, collection::CONTROL, "kind", "mover").await;
    world.service().pause().await.unwrap_err();
    assert!(!world.service().is_paused().await.unwrap());

    only_one(&world, collection::ALERTS, "subject", "somebody").await;
    let alerts = Alerts::new(Arc::clone(&world.engine));
    let raised = alerts.raise(AlertKind::MigrationFailed, "somebody", "for a test");
    raised.await.unwrap_err();
}
