//! The answers to callers while a database is unreachable, and how its return is noticed.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use tierkeep_core::breaker::BreakerState;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Class, Query};
use tierkeep_core::user::UserId;
use tierkeep_engine::{
    AlertKind, Alerts, Condition, GuardSettings, MoveOutcome, Upkeep, UsersError,
};
use tierkeep_testkit::documents::native_user;
use tierkeep_testkit::fault::{Fault, Moment};
use tokio::time::{Instant, sleep};

use crate::world::{Backend, DAY, HOUR, World, section};

const MAIN: Role = Role::RaseenMainUser;
/// How often a service asks each database how it is.
const PULSE: Duration = Duration::from_secs(2);

async fn guarded() -> World {
    let world = World::new(Backend::Memory).await;
    world
        .engine
        .databases()
        .guard_calls(GuardSettings::default());
    world
}

fn user() -> UserId {
    UserId::internal("507f1f77bcf86cd799439011").unwrap()
}

impl World {
    fn state(&self, role: Role) -> BreakerState {
        self.engine.databases().breaker(role).unwrap()
    }

    async fn call(&self, role: Role) -> Result<u64, Class> {
        let store = self.engine.databases().store(role).unwrap();
        let counted = store.count("internal_users", &Query::All).await;
        counted.map_err(|error| error.class)
    }

    /// How many calls a database has had.
    fn calls_to(&self, role: Role) -> usize {
        let calls = self.faults.calls().into_iter();
        calls.filter(|call| call.database == role).count()
    }

    /// Lets the breaker of a database open.
    async fn lose(&self, role: Role) {
        self.faults.set_down(role, true);
        while self.state(role) != BreakerState::Open {
            self.call(role).await.unwrap_err();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_three_calls_in_vain_a_database_is_left_alone_and_callers_wait_for_nothing() {
    let world = guarded().await;
    world.faults.set_down(MAIN, true);
    for _ in 0..3 {
        assert_eq!(world.state(MAIN), BreakerState::Closed);
        world.call(MAIN).await.unwrap_err();
    }
    assert_eq!(world.state(MAIN), BreakerState::Open);
    let (before, began) = (world.calls_to(MAIN), Instant::now());
    let written = world
        .users
        .put(&user(), &section(), bson::rawdoc! {}, Condition::None)
        .await;
    let refused = written.unwrap_err();
    assert!(
        matches!(&refused, UsersError::Unavailable(error) if error.database == MAIN),
        "{refused:?}"
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
    // One hello at most, to find out whether it is back.
    assert!(world.calls_to(MAIN) <= before + 1);
    for role in Role::ALL {
        let open = world.state(role) != BreakerState::Closed;
        assert_eq!(open, role == MAIN, "{role}");
    }
}

#[rstest]
#[case(Class::Timeout, true)]
#[case(Class::Refused, true)]
#[case(Class::NoServer, true)]
#[case(Class::Transition, false)]
#[case(Class::Auth, false)]
#[case(Class::Unauthorized, false)]
#[case(Class::DiskFull, false)]
#[case(Class::Busy, false)]
#[case(Class::Unacknowledged, false)]
#[case(Class::Corrupt, false)]
#[case(Class::Identity, false)]
#[case(Class::Other, false)]
#[tokio::test(start_paused = true)]
async fn what_a_database_answers_is_no_reason_to_leave_it_alone(
    #[case] class: Class,
    #[case] opens: bool,
) {
    let world = guarded().await;
    let fault = Fault::nth(1, Moment::Before)
        .to(MAIN)
        .of("count")
        .class(class, 7)
        .times(50);
    world.faults.plan(fault);
    let mut failed = Vec::new();
    for _ in 0..20 {
        failed.push(world.call(MAIN).await.unwrap_err());
    }
    assert_eq!(failed[0], class);
    assert_eq!(world.state(MAIN) != BreakerState::Closed, opens);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_back_is_used_again_within_ten_seconds() {
    let world = guarded().await;
    world.lose(MAIN).await;
    let store = world.engine.databases().store(MAIN).unwrap();
    for _ in 0..60 {
        sleep(PULSE).await;
        store.hello().await.unwrap_err();
    }
    // Not even once in a pulse, once waits have doubled.
    assert!(world.engine.databases().connect_retries().of(MAIN) <= 60);
    world.faults.heal();
    let back = Instant::now();
    while world.state(MAIN) != BreakerState::Closed {
        sleep(PULSE).await;
        store.hello().await.ok();
    }
    assert!(
        back.elapsed() <= Duration::from_secs(10),
        "{:?}",
        back.elapsed()
    );
    world.call(MAIN).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_finds_out_as_well_whether_a_database_is_back() {
    let world = guarded().await;
    world.lose(MAIN).await;
    world.faults.heal();
    sleep(Duration::from_secs(4)).await;
    assert_eq!(world.call(MAIN).await, Ok(0));
    assert_eq!(world.state(MAIN), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn one_caller_at_a_time_probes_and_the_others_do_not_wait() {
    let world = guarded().await;
    world.lose(MAIN).await;
    world.faults.heal();
    sleep(Duration::from_secs(4)).await;
    let hold = world
        .faults
        .hold(Fault::nth(1, Moment::Before).to(MAIN).of("hello"));
    let store = world.engine.databases().store(MAIN).unwrap();
    let looks = tokio::spawn(async move { store.hello().await });
    hold.reached().await;
    assert_eq!(world.state(MAIN), BreakerState::HalfOpen);
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(world.call(MAIN).await, Err(Class::NoServer));
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    hold.release();
    looks.await.unwrap().unwrap();
    assert_eq!(world.call(MAIN).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_look_that_is_given_up_is_made_again() {
    let world = guarded().await;
    world.lose(MAIN).await;
    world.faults.heal();
    sleep(Duration::from_secs(4)).await;
    let hold = world
        .faults
        .hold(Fault::nth(1, Moment::Before).to(MAIN).of("hello"));
    let store = world.engine.databases().store(MAIN).unwrap();
    let looks = tokio::spawn(async move { store.hello().await });
    hold.reached().await;
    looks.abort();
    assert!(looks.await.unwrap_err().is_cancelled());
    assert_eq!(world.state(MAIN), BreakerState::Open);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(world.call(MAIN).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_ends_after_a_minute() {
    let world = guarded().await;
    let hold = world
        .faults
        .hold(Fault::nth(1, Moment::Before).to(MAIN).of("find"));
    let began = Instant::now();
    let read = world.users.read(&user()).await;
    // The read is repeated, or served from the backup: the caller gets an answer.
    assert!(began.elapsed() >= Duration::from_mins(1), "{read:?}");
    assert!(began.elapsed() < Duration::from_mins(2), "{read:?}");
    hold.release();
}

#[tokio::test(start_paused = true)]
async fn while_srie_is_away_writes_go_on_at_once_and_moves_wait() {
    let world = guarded().await;
    let old = world.ago(DAY + HOUR).await;
    world
        .plant(Role::RaseenTempUser, native_user(1, 1).dated(old).build())
        .await;
    world.lose(Role::SrieMainUser).await;
    let began = Instant::now();
    let written = world
        .users
        .put(&user(), &section(), bson::rawdoc! {}, Condition::None)
        .await;
    assert!(written.unwrap().created);
    assert_eq!(began.elapsed(), Duration::ZERO);
    let stopped = world.migrate().await.unwrap_err();
    assert_eq!(stopped.error.database, Role::SrieMainUser);
    assert_eq!((stopped.summary.moved, stopped.summary.failed), (0, 0));
    world.faults.heal();
    sleep(Duration::from_secs(4)).await;
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    let tally = world.engine.moves();
    assert_eq!(tally.of(MoveOutcome::Moved), 1);
    assert_eq!(tally.of(MoveOutcome::Failed), 0);
    world.check_invariants().await;
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_alerted_and_resolved_when_no_process_reports_it() {
    let world = guarded().await;
    let alerts = Alerts::new(Arc::clone(&world.engine));
    let open = async || {
        let open = alerts.open(&mut None).await.unwrap();
        let named = open.into_iter().map(|alert| (alert.kind, alert.subject));
        named.collect::<Vec<_>>()
    };
    let mut upkeep = Upkeep::new(Arc::clone(&world.engine), DAY);
    world.lose(Role::SrieMainHr).await;
    let named = vec![(AlertKind::BreakerOpen, "srie_main_hr".to_owned())];
    let watch = world.watch();
    for _ in 0..2 {
        watch.tell_of_databases().await;
        upkeep.round(Duration::ZERO).await;
        assert_eq!(open().await, named);
    }
    // Another process can reach it, and reads in the alert that this one cannot.
    let mut elsewhere = Upkeep::new(world.reopened().await, DAY);
    elsewhere.round(Duration::ZERO).await;
    assert_eq!(open().await, named);
    world.clock.advance(Duration::from_mins(2));
    elsewhere.round(Duration::ZERO).await;
    assert_eq!(open().await, vec![]);
    // This one says so again.
    watch.tell_of_databases().await;
    assert_eq!(open().await, named);
    world.faults.heal();
    sleep(Duration::from_secs(4)).await;
    world.call(Role::SrieMainHr).await.unwrap();
    world.clock.advance(Duration::from_mins(2));
    upkeep.round(Duration::ZERO).await;
    assert_eq!(open().await, vec![]);
}
