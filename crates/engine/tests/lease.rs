//! Several movers: the lease only saves work; safety does not depend on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Bson, DateTime, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::Store;
use tierkeep_engine::{
    ConnectionManager, Engine, LeaseObserver, MigrationService, NoProgress, Purpose, Randomness,
    RunOptions, Worker,
};
use tierkeep_testkit::Faults;
use tierkeep_testkit::documents::SeedUser;
use tierkeep_testkit::fault::{Fault, Moment};
use tokio_util::sync::CancellationToken;

use crate::world::{Backend, DAY, HOUR, NO_RETRIES, World};

/// Another process on the same databases, with faults of its own.
async fn another(world: &World, faults: &Faults) -> MigrationService {
    let stores = world.stores.values();
    let stores = stores.map(|store| faults.over(Arc::clone(store)) as Arc<dyn Store>);
    let databases = ConnectionManager::new(stores, Arc::clone(&world.clock) as Arc<dyn Clock>);
    let engine = Engine::new(databases.unwrap());
    engine
        .databases()
        .open(NO_RETRIES, Purpose::Work)
        .await
        .unwrap();
    MigrationService::new(Arc::new(engine), world.settings)
}

async fn fence(service: &MigrationService) -> Option<i64> {
    let claim = service.claim(&mut LeaseObserver::default()).await.unwrap();
    claim.map(|claim| claim.fence())
}

/// Shifts the end of the claim as if the database's clock had been set by as much the other way.
async fn shift_expiry(world: &World, by: impl Fn(DateTime) -> DateTime) {
    let lease = lease(world).await;
    let at = by(*lease.get_datetime("expires_at").unwrap());
    let ids = [Bson::String("mover".into())];
    let set = doc! { "expires_at": at };
    let audit = world.store(Role::EvaluationAudit);
    audit
        .amend(collection::LEASES, &ids, &doc! {}, &set)
        .await
        .unwrap();
}

async fn lease(world: &World) -> bson::Document {
    let all = world
        .everything(Role::EvaluationAudit, collection::LEASES)
        .await;
    assert_eq!(all.len(), 1);
    bson::Document::try_from(all[0].clone()).unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_movers_one_holds_the_lease_and_the_fence_never_falls(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let mut last = 0;
    for _ in 0..3 {
        let service = world.service();
        let mut tries = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let service = service.clone();
            tries.spawn(async move { service.claim(&mut LeaseObserver::default()).await.unwrap() });
        }
        let mut held: Vec<_> = tries.join_all().await.into_iter().flatten().collect();
        let claim = held.pop().unwrap();
        assert!(held.is_empty(), "one holds it");
        assert!(claim.fence() > last);
        last = claim.fence();
        assert!(claim.renew().await.unwrap());
        assert_eq!(fence(&service).await, None, "it is held");
        claim.release().await;
        assert_eq!(lease(&world).await.get_i64("fence").unwrap(), last);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_holders_claim_lapses_and_the_dead_find_it_gone(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let service = world.service();
    let dead = service.claim(&mut LeaseObserver::default()).await.unwrap();
    let dead = dead.unwrap();
    assert_eq!(fence(&service).await, None);
    let ten_seconds = Duration::from_secs(10);
    shift_expiry(&world, |at| clock::before(at, ten_seconds)).await;
    let next = service.claim(&mut LeaseObserver::default()).await.unwrap();
    let next = next.unwrap();
    assert_eq!(next.fence(), dead.fence() + 1);
    assert!(!dead.renew().await.unwrap(), "it is another's now");
    dead.release().await;
    assert!(next.renew().await.unwrap(), "which the dead leave alone");
    // A clock that was a day ahead when the claim was made.
    shift_expiry(&world, |at| clock::after(at, DAY)).await;
    assert_eq!(fence(&service).await, Some(next.fence() + 1));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_lease_does_not_stop_the_mover(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let odd = bson::rawdoc! { "_id": "mover", "fence": "none" };
    let audit = world.store(Role::EvaluationAudit);
    audit.insert(collection::LEASES, &[odd]).await.unwrap();
    assert!(fence(&world.service()).await.is_some());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_leaves_the_work_to_the_holder_and_a_run_by_hand_works_beside_it(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for n in 0..9 {
        world.staged(n, DAY + HOUR).await;
    }
    let (service, stop) = (world.service(), CancellationToken::new());
    let holder = service.claim(&mut LeaseObserver::default()).await.unwrap();
    let turn = service
        .run_with_lease(&mut LeaseObserver::default(), &stop)
        .await
        .unwrap();
    assert_eq!(turn, None);
    assert_eq!(world.all(Role::RaseenTempUser).await.len(), 9);
    let by_hand = service
        .run_beside_others(RunOptions::default(), &NoProgress, &stop)
        .await
        .unwrap();
    assert_eq!(by_hand.moved, 9);
    assert!(holder.unwrap().renew().await.unwrap());

    world.staged(9, DAY + HOUR).await;
    shift_expiry(&world, |at| clock::before(at, DAY)).await;
    let turn = service
        .run_with_lease(&mut LeaseObserver::default(), &stop)
        .await;
    assert_eq!(turn.unwrap().unwrap().moved, 1);
    assert!(
        fence(&service).await.is_some(),
        "a turn that is over gives the lease back"
    );
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_needs_no_lease(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.staged(1, DAY + HOUR).await;
    let dry = RunOptions {
        dry_run: true,
        ..RunOptions::default()
    };
    let stop = CancellationToken::new();
    let service = world.service();
    let run = service.run_beside_others(dry, &NoProgress, &stop);
    assert_eq!(run.await.unwrap().due, 1);
    assert!(
        world
            .everything(Role::EvaluationAudit, collection::LEASES)
            .await
            .is_empty(),
        "a dry run writes nothing"
    );
    world.faults.plan(
        Fault::nth(1, Moment::Before)
            .to(Role::EvaluationAudit)
            .of("insert")
            .times(4),
    );
    let run = service.run_beside_others(RunOptions::default(), &NoProgress, &stop);
    assert_eq!(run.await.unwrap().moved, 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_is_stopped_between_two_steps_and_goes_on_later_does_no_harm(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut at = 1;
    loop {
        let mut world = World::new(backend).await;
        world.settings.batches_in_flight = 1;
        for n in 0..5 {
            world.staged(n, DAY + HOUR).await;
        }
        let faults = Faults::new();
        let frozen = another(&world, &faults).await;
        let hold = faults.hold(Fault::nth(at, Moment::Before));
        let run = tokio::spawn(async move {
            let stop = CancellationToken::new();
            frozen
                .run_with_lease(&mut LeaseObserver::default(), &stop)
                .await
        });
        let whole = tokio::select! {
            () = hold.reached() => false,
            () = async { while !run.is_finished() { tokio::task::yield_now().await } } => true,
        };
        if whole {
            assert!(at > 15, "a run has so many steps: {at}");
            break;
        }
        // A minute later: its claim has lapsed, another takes over and finishes, and a user comes back.
        world.clock.advance(Duration::from_mins(1));
        if !world
            .everything(Role::EvaluationAudit, collection::LEASES)
            .await
            .is_empty()
            && lease(&world).await.get_datetime("expires_at").is_ok()
        {
            shift_expiry(&world, |at| clock::before(at, Duration::from_mins(1))).await;
        }
        let stop = CancellationToken::new();
        let turn = world
            .service()
            .run_with_lease(&mut LeaseObserver::default(), &stop)
            .await
            .unwrap();
        assert!(turn.is_some(), "the claim has lapsed: {at}");
        assert!(world.all(Role::RaseenTempUser).await.is_empty(), "{at}");
        let back = crate::world::user(1);
        let patch = bson::raw::RawDocumentBuf::try_from(&doc! { "back": true }).unwrap();
        let none = tierkeep_engine::Condition::None;
        let section = crate::world::section();
        let written = world.users.patch(&back, &section, &patch, none).await;
        assert_eq!(written.unwrap().version.get(), 2);
        world.check_invariants().await;

        hold.release();
        run.await.unwrap().unwrap();
        world.check_invariants().await;
        let temp = world.all(Role::RaseenTempUser).await;
        assert_eq!(temp.len(), 1, "the newer version stays in temp: {at}");
        assert_eq!(world.all(Role::RaseenMainUser).await.len(), 5, "{at}");
        world.date_back(&back, DAY + HOUR).await;
        assert_eq!(world.migrate().await.unwrap().moved, 1, "{at}");
        world.check_invariants().await;
        at += if backend == Backend::Memory { 1 } else { 3 };
    }
}

/// Draws ids by chance, and always this fraction.
#[derive(Debug)]
struct Drawn(f64);

impl Randomness for Drawn {
    fn unique(&self) -> [u8; 12] {
        bson::oid::ObjectId::new().bytes()
    }

    fn fraction(&self) -> f64 {
        self.0
    }
}

async fn wait(world: &World, fraction: f64) -> Duration {
    let stores = world.stores.values().cloned();
    let databases = ConnectionManager::new(stores, Arc::clone(&world.clock) as Arc<dyn Clock>);
    let databases = databases
        .unwrap()
        .with_randomness(Arc::new(Drawn(fraction)));
    let engine = Engine::new(databases);
    engine
        .databases()
        .open(NO_RETRIES, Purpose::Work)
        .await
        .unwrap();
    let service = MigrationService::new(Arc::new(engine), world.settings);
    let worker = Worker::new(service, 10 * HOUR);
    worker.next_look(Instant::now().into()).await
}

fn assert_about(actual: Duration, minutes: u64) {
    let off = actual.abs_diff(Duration::from_mins(minutes));
    assert!(
        off < Duration::from_mins(1),
        "{actual:?}, not {minutes} min"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_looks_about_every_interval_and_at_most_one_after_a_document_came_due(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.staged(1, DAY + HOUR).await;
    world.staged(2, Duration::from_hours(22)).await;
    assert_about(wait(&world, 0.0).await, 9 * 60);
    assert_about(wait(&world, 0.5).await, 10 * 60);
    assert_about(wait(&world, 0.999_999).await, 11 * 60);
    // Due in half an hour: a service must look at most ten hours after that.
    world.staged(3, Duration::from_mins(23 * 60 + 30)).await;
    assert_about(wait(&world, 0.999_999).await, 10 * 60 + 30);
    assert_about(wait(&world, 0.6).await, 10 * 60 + 12);
    let old = world.ago(DAY).await;
    world
        .plant(Role::RaseenTempUser, SeedUser::new(90, old).build())
        .await;
    world.migrate().await.unwrap();
    let soon = world.ago(Duration::from_hours(22)).await;
    world
        .plant(Role::RaseenTempUser, SeedUser::new(91, soon).build())
        .await;
    assert_about(wait(&world, 0.999_999).await, 10 * 60 + 30);
    let temp = world.store(Role::RaseenTempUser);
    let id = Bson::String(crate::world::user(3).to_string());
    let ids = [id];
    let set = doc! { "metadata.state": "erased" };
    temp.amend("internal_users", &ids, &doc! {}, &set)
        .await
        .unwrap();
    // What another program wrote may come due at any moment.
    assert_about(wait(&world, 0.999_999).await, 10 * 60);
}
