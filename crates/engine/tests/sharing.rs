//! Several runs at once: what one of them has announced is left to it, and shown as pending.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rstest::rstest;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::mover::Status;
use tierkeep_core::store::Store;
use tierkeep_core::user::UserId;
use tierkeep_engine::{
    AlertKind, ConnectionManager, Engine, MigrationService, MoveError, NoProgress, Purpose,
    RecordFilter, RunOptions, Summary,
};
use tierkeep_testkit::documents::SeedUser;
use tierkeep_testkit::fault::{Fault, Moment};
use tierkeep_testkit::{Faults, Hold};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{Backend, DAY, HOUR, NO_RETRIES, World, user};

const DOCUMENTS: u32 = 6;
const BATCH: usize = 3;

/// Documents that are due, of tierkeep's own form or as another program writes them.
async fn due(world: &mut World, foreign: bool) {
    world.settings.batch_documents = BATCH;
    world.settings.batches_in_flight = 1;
    for n in 1..=DOCUMENTS {
        if foreign {
            let seed = SeedUser::new(n, world.ago(DAY + HOUR).await).build();
            world.plant(Role::RaseenTempUser, seed).await;
        } else {
            world.staged(n, DAY + HOUR).await;
        }
    }
}

/// A run of another process, with faults of its own.
async fn run(world: &World, faults: &Faults) -> JoinHandle<Result<Summary, MoveError>> {
    let stores = world.stores.values();
    let stores = stores.map(|store| faults.over(Arc::clone(store)) as Arc<dyn Store>);
    let databases = ConnectionManager::new(stores, Arc::clone(&world.clock) as Arc<dyn Clock>);
    let engine = Engine::new(databases.unwrap());
    let databases = engine.databases();
    databases.open(NO_RETRIES, Purpose::Work).await.unwrap();
    let service = MigrationService::new(Arc::new(engine), world.settings);
    tokio::spawn(async move {
        let stop = CancellationToken::new();
        service
            .run_beside_others(RunOptions::default(), &NoProgress, &stop)
            .await
    })
}

/// A run of another process that stands still before its `nth` batch is copied, after its intent.
async fn held_at(
    world: &World,
    faults: &Faults,
    nth: u64,
) -> (Hold, JoinHandle<Result<Summary, MoveError>>) {
    let copy = Fault::nth(nth, Moment::Before)
        .of("insert")
        .to(Role::SrieMainUser);
    let hold = faults.hold(copy);
    let run = run(world, faults).await;
    hold.reached().await;
    (hold, run)
}

async fn intents(world: &World) -> usize {
    let intents = world.everything(Role::EvaluationAudit, collection::MIGRATION_INTENTS);
    intents.await.len()
}

async fn is_settled(world: &World) {
    assert!(world.all(Role::RaseenTempUser).await.is_empty());
    assert_eq!(intents(world).await, 0);
    for record in world.records().await {
        assert_eq!(record.get_str("status").unwrap(), "completed");
    }
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_another_run_is_moving_is_left_to_it(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(false, true)] foreign: bool,
) {
    let mut world = World::new(backend).await;
    due(&mut world, foreign).await;
    let (hold, first) = held_at(&world, &Faults::new(), 1).await;
    let second = run(&world, &Faults::new()).await;
    let begun = Instant::now();
    while world.all(Role::RaseenTempUser).await.len() > BATCH {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Long enough for several passes, and for a sign of the first run.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!second.is_finished(), "it leaves nothing behind");
    assert_eq!(world.all(Role::SrieMainUser).await.len(), BATCH);
    hold.release();
    for run in [first, second] {
        let summary = run.await.unwrap().unwrap();
        assert_eq!(summary.moved, u64::try_from(BATCH).unwrap(), "{summary:?}");
        assert_eq!(summary.deferred, 0, "{summary:?}");
    }
    is_settled(&world).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_or_stalled_run_announced_is_open_to_others_within_ten_seconds(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(false, true)] dead: bool,
) {
    let mut world = World::new(backend).await;
    due(&mut world, false).await;
    let (hold, first) = held_at(&world, &Faults::new(), 1).await;
    if dead {
        first.abort();
    }
    let begun = Instant::now();
    let second = run(&world, &Faults::new()).await.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(second.moved, u64::from(DOCUMENTS), "{second:?}");
    if !dead {
        hold.release();
        first.await.unwrap().unwrap();
    }
    is_settled(&world).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_is_shown_as_pending_and_needs_no_record_of_its_own(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut world = World::new(backend).await;
    due(&mut world, false).await;
    let (hold, first) = held_at(&world, &Faults::new(), 1).await;
    let stored = world.everything(Role::EvaluationAudit, collection::MIGRATION_RECORDS);
    assert!(stored.await.is_empty());
    let inspector = world.inspector();
    let pending = |status| RecordFilter { status, user: None };
    for status in [None, Some(Status::Pending)] {
        let page = inspector
            .migrations(&pending(status), None, 2)
            .await
            .unwrap();
        assert_eq!(page.records.len(), 2);
        let next = inspector
            .migrations(&pending(status), page.next, 2)
            .await
            .unwrap();
        assert_eq!((next.records.len(), next.next), (1, None));
        assert!(page.records[1].migration_id > next.records[0].migration_id);
        assert!(next.records.iter().all(|record| record.status == "pending"));
    }
    let completed = pending(Some(Status::Completed));
    let page = inspector.migrations(&completed, None, 2).await.unwrap();
    assert_eq!(page.records, []);
    let records = world.records().await;
    let user = UserId::parse(records[0].get_str("user_id").unwrap()).unwrap();
    let explained = inspector.explain(&user).await.unwrap();
    let records = explained.records.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].status, "pending");
    let status = inspector.status(Duration::from_mins(1)).await;
    assert_eq!(status.backup_pending.user, Some(3));
    hold.release();
    first.await.unwrap().unwrap();
    let all = inspector
        .migrations(&RecordFilter::default(), None, 10)
        .await
        .unwrap();
    assert_eq!(all.records.len(), DOCUMENTS as usize);
    assert!(
        all.records
            .iter()
            .all(|record| record.status == "completed")
    );
    is_settled(&world).await;
}

/// The record of each move that a run could not finish is there when the run ends, and the next run completes it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_a_database_stops_leaves_records_in_place_of_its_intent(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut world = World::new(backend).await;
    due(&mut world, false).await;
    world.faults.set_down(Role::RaseenMainUser, true);
    world.migrate().await.unwrap_err();
    assert_eq!(intents(&world).await, 0);
    let records = world.everything(Role::EvaluationAudit, collection::MIGRATION_RECORDS);
    assert_eq!(records.await.len(), BATCH);
    world.faults.heal();
    world.migrate().await.unwrap();
    is_settled(&world).await;
}

/// Temp may have given a document up before its record is refused: then the intent stands in its place, and an alert says so.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_stored_leaves_the_intent_in_its_place(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut world = World::new(backend).await;
    due(&mut world, false).await;
    let user = user(1);
    world.faults.unsettle(Role::EvaluationAudit, user.as_str());
    let announced = async || {
        let records = world.everything(Role::EvaluationAudit, collection::MIGRATION_RECORDS);
        let stored = records.await.len();
        (stored, world.records().await.len())
    };
    for _ in 0..2 {
        let summary = world.migrate().await.unwrap();
        assert_eq!((summary.failed, summary.deferred), (0, 0), "{summary:?}");
        assert!(world.all(Role::RaseenTempUser).await.is_empty());
        assert_eq!(announced().await, (5, 6));
        world.check_invariants().await;
        let open = world.service().open_alerts().await.unwrap();
        assert_eq!(open.len(), 1, "{open:?}");
        assert_eq!(open[0].kind, AlertKind::MigrationIncident);
        assert_eq!(open[0].subject, user.as_str());
    }
    world.faults.heal();
    world.migrate().await.unwrap();
    assert_eq!(announced().await, (6, 6));
    is_settled(&world).await;
}

/// Only the batch whose record is refused keeps its intent.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_keeps_no_other_batch_s_intent(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut world = World::new(backend).await;
    due(&mut world, false).await;
    world.settings.batch_documents = 2;
    let faults = Faults::new();
    faults.unsettle(Role::EvaluationAudit, user(1).as_str());
    let (hold, run) = held_at(&world, &faults, 3).await;
    // That of the first batch, and that of the one which is held.
    assert_eq!(intents(&world).await, 2);
    faults.heal();
    hold.release();
    run.await.unwrap().unwrap();
    is_settled(&world).await;
}
