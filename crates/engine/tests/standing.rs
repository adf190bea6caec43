//! The status of the mover, as operators see it.

use std::time::Duration;

use bson::raw::RawDocumentBuf;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::Edit;
use tierkeep_core::store::Inserted;
use tierkeep_engine::{
    Failed, LeaseObserver, MoverPhase, NoProgress, Progress, RunOptions, Status, Summary,
};
use tierkeep_testkit::documents::{SeedUser, native_user};
use tokio_util::sync::CancellationToken;

use crate::world::{Backend, DAY, HOUR, World, user};

async fn status(world: &World) -> Status {
    world.inspector().status(HOUR).await
}

async fn phase(world: &World) -> MoverPhase {
    status(world).await.mover.phase
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_phase_says_what_the_mover_is_doing(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    assert_eq!(phase(&world).await, MoverPhase::Idle);
    world.staged(1, DAY + HOUR).await;
    assert_eq!(phase(&world).await, MoverPhase::Waiting);
    world.staged(2, DAY + 3 * HOUR).await;
    assert_eq!(phase(&world).await, MoverPhase::Stuck);

    let service = world.service();
    let claim = service.claim(&mut LeaseObserver::default()).await.unwrap();
    let claim = claim.unwrap();
    let moving = status(&world).await;
    assert_eq!(moving.mover.phase, MoverPhase::Moving);
    assert_eq!(moving.mover.holder.as_ref().unwrap().fence, claim.fence());
    let summary = Summary {
        run_id: "a run".into(),
        moved: 7,
        ..Summary::default()
    };
    claim.report(&summary);
    claim.renew().await.unwrap();
    let run = status(&world).await.mover.holder.unwrap().run.unwrap();
    assert_eq!((run.run_id.as_str(), run.moved), ("a run", 7));
    assert!(run.per_second > 0.0);
    claim.renew().await.unwrap();
    assert_eq!(
        phase(&world).await,
        MoverPhase::Stuck,
        "a holder that gets nowhere"
    );
    claim.release().await;

    service.pause().await.unwrap();
    assert_eq!(phase(&world).await, MoverPhase::Paused);
    service.resume().await.unwrap();
    assert_eq!(world.migrate().await.unwrap().moved, 2);
    let idle = status(&world).await;
    assert_eq!(idle.mover.phase, MoverPhase::Idle);
    assert_eq!(idle.mover.holder, None);
}

/// A readable document of another program that is due, and behind it one whose `_id` is not UTF-8.
async fn unreadable_id_behind_a_readable_one(world: &World) -> bool {
    let old = world.ago(DAY + HOUR).await;
    world
        .plant(Role::RaseenTempUser, SeedUser::new(1, old).build())
        .await;
    let seed = SeedUser::new(2, old).build();
    let mut bytes = Edit::new().set("_id", "AAAA").apply(&seed).into_bytes();
    let at = bytes.windows(4).position(|bytes| bytes == b"AAAA").unwrap();
    bytes[at] = 0xff;
    let unreadable = [RawDocumentBuf::from_bytes(bytes).unwrap()];
    let store = &world.stores[&Role::RaseenTempUser];
    let inserted = store.insert("internal_users", &unreadable).await;
    inserted.is_ok_and(|inserted| inserted == [Inserted::Stored])
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_look_ends_where_the_last_document_has_an_id_that_cannot_be_read(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let is_stored = unreadable_id_behind_a_readable_one(&world).await;
    assert_eq!(
        is_stored,
        backend == Backend::Mongo,
        "only MongoDB takes it"
    );
    let looks = async {
        assert!(status(&world).await.due >= Some(1));
        let inspector = world.inspector();
        assert!(inspector.due(&RunOptions::default()).await.unwrap() >= 1);
        inspector.waiting(HOUR).await.unwrap();
        inspector.simulate(DAY).await.unwrap();
        world.engine.databases().contents().await
    };
    let looked = tokio::time::timeout(Duration::from_mins(1), looks).await;
    assert_eq!(looked.expect("a look went round and round").len(), 7);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_only_its_own_faults_keep_is_no_sign_of_a_stuck_mover(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.staged(1, DAY + 9 * HOUR).await;
    world.obstruct(1).await;
    let odd = native_user(90, 1)
        .dated(world.ago(DAY + 9 * HOUR).await)
        .set("user_id", "nobody");
    world.plant(Role::RaseenTempUser, odd.build()).await;
    for _ in 0..4 {
        assert_eq!(world.migrate().await.unwrap().failed, 1);
    }
    // Until the last run that did something is long over.
    world.clock.advance(9 * HOUR);
    let kept = status(&world).await;
    // What is quarantined is not overdue: it does not move.
    assert_eq!(
        (kept.overdue, kept.failed, kept.quarantined),
        (Some(1), Some(1), Some(1))
    );
    assert_eq!(kept.mover.phase, MoverPhase::Waiting);
    world.service().retry(&Failed::All).await.unwrap();
    assert_eq!(phase(&world).await, MoverPhase::Stuck);
    world.clear(1).await;
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    assert_eq!(phase(&world).await, MoverPhase::Idle);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_stopped_the_last_run_is_remembered(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.staged(1, DAY + HOUR).await;
    assert_eq!(status(&world).await.mover.last_error, None);
    world.faults.set_down(Role::SrieMainUser, true);
    let stopped = world.migrate().await.unwrap_err();
    let error = status(&world).await.mover.last_error.unwrap();
    assert_eq!(error.database, "srie_main_user");
    assert_eq!(error.error, "refused");
    assert_eq!(error.run_id, stopped.summary.run_id);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_will_find_is_counted_before_it_starts(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for n in 0..9 {
        world.staged(n, DAY + HOUR).await;
    }
    world.staged(9, HOUR).await;
    let old = world.ago(DAY + HOUR).await;
    world
        .plant(Role::RaseenTempUser, SeedUser::new(90, old).build())
        .await;
    let inspector = world.inspector();
    let due = async |options: RunOptions| inspector.due(&options).await.unwrap();
    assert_eq!(due(RunOptions::default()).await, 10);
    let options = RunOptions {
        limit: Some(4),
        ..RunOptions::default()
    };
    assert_eq!(due(options).await, 4);
    let options = RunOptions {
        older_than: Some(Duration::ZERO),
        ..RunOptions::default()
    };
    assert_eq!(due(options).await, 11);
    let options = RunOptions {
        user: Some(user(1)),
        ..RunOptions::default()
    };
    assert_eq!(due(options).await, 1);
    let stop = CancellationToken::new();
    let run = world
        .service()
        .run_beside_others(RunOptions::default(), &NoProgress, &stop)
        .await;
    assert_eq!(run.unwrap().moved, 10);
}
