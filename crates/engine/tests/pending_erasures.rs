//! Erasures that have not reached every database: content that awaits erasure belongs to no user, and requests of other
//! users continue.

use std::time::Duration;

use bson::doc;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::store::Class;
use tierkeep_core::user::UserId;
use tierkeep_engine::{Condition, Users, UsersError};
use tierkeep_testkit::fault::{Fault, Moment};
use tokio::time::Instant;

use crate::erasure::{assert_gone, in_every_tier, put, sees, tombstone};
use crate::world::{self, Backend, HOUR, World, content, section};

/// The database that was away is back, and no cleanup has run yet.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_only_waits_to_be_erased_is_neither_read_nor_written_to(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::RaseenTempUser, Role::ExternalUsers)] away: Role,
) {
    let world = World::new(backend).await;
    let user = if away == Role::ExternalUsers {
        UserId::external("reader").unwrap()
    } else {
        in_every_tier(&world, 1).await
    };
    let before = put(&world, &user, 1).await;
    // A process that has just learned that nothing is pending.
    let (others, _) = world.restarted().await;
    assert!(others.read(&user).await.unwrap().is_some());
    world.faults.set_down(away, true);
    let erased = world.erasure().erase(&user).await.unwrap();
    assert_eq!(erased.pending, [away]);
    world.faults.heal();
    let section = section();
    for users in [&world.users, &others] {
        assert!(users.read(&user).await.unwrap().is_none());
        let late = users.put(&user, &section, content(1, 9), Condition::Version(before));
        let late = late.await;
        assert!(matches!(late, Err(UsersError::Mismatch { .. })), "{late:?}");
    }
    let patch = bson::raw::RawDocumentBuf::try_from(&doc! { "patched": true }).unwrap();
    let patched = others.patch(&user, &section, &patch, Condition::None);
    let version = patched.await.unwrap().version;
    assert_eq!(Some(version), tombstone(1).next());
    assert_eq!(world.erasure().finish_pending().await.unwrap(), 0);
    let found = sees(&world, &user).await.unwrap();
    assert_eq!(document::version(&found), Some(version));
    let cache = found.get_document("scan_cache").unwrap();
    assert!(cache.get_bool("patched").unwrap());
    assert!(cache.get("z").unwrap().is_none(), "{found:?}");
    assert_gone(&world, &user, 1).await;
}

#[tokio::test(start_paused = true)]
async fn however_many_erasures_are_pending_none_shows_also_while_the_ledger_is_away() {
    let world = World::new(Backend::Memory).await;
    let all: Vec<UserId> = (1..=510).map(world::user).collect();
    let neighbour = world.staged(1_000, HOUR).await;
    for user in &all {
        put(&world, user, 1).await;
    }
    world.faults.set_down(Role::RaseenTempUser, true);
    for user in &all {
        world.erasure().erase(user).await.unwrap();
    }
    world.faults.heal();
    let (users, _) = world.restarted().await;
    for user in &all {
        assert!(users.read(user).await.unwrap().is_none(), "{user}");
    }
    assert!(users.read(&neighbour).await.unwrap().is_some());
    world.faults.set_down(Role::EvaluationAudit, true);
    tokio::time::advance(HOUR).await;
    let remembered = async |user| users.read(user).await.unwrap().is_none();
    let mut hidden = 0;
    for user in &all {
        hidden += usize::from(remembered(user).await);
    }
    assert!(hidden >= 500, "only {hidden}");
    assert!(users.read(&neighbour).await.unwrap().is_some());
}

/// A request of a user who has no pending erasure does not wait for an `evaluation_audit` that hangs, except for one
/// second when it begins to hang.
#[tokio::test(start_paused = true)]
async fn others_go_on_while_the_ledger_hangs_and_it_is_asked_again_once_it_answers() {
    const HUNG: u64 = 15;
    let world = World::new(Backend::Memory).await;
    let [user, gone] = [world.staged(1, HOUR).await, world.staged(2, HOUR).await];
    let public = UserId::external("reader").unwrap();
    put(&world, &public, 1).await;
    world.faults.set_down(Role::RaseenTempUser, true);
    world.erasure().erase(&gone).await.unwrap();
    world.faults.heal();
    let users = Users::new(world.reopened().await);
    for nth in 1..=HUNG {
        let call = Fault::nth(nth, Moment::Before).to(Role::EvaluationAudit);
        world.faults.hold(call.of("find"));
    }
    let begun = Instant::now();
    let section = section();
    for round in 0..20 {
        for whose in [&user, &public] {
            assert!(users.read(whose).await.unwrap().is_some());
            let value = content(1, round);
            let put = users.put(whose, &section, value, Condition::Exists);
            put.await.unwrap();
        }
        tokio::time::advance(Duration::from_millis(300)).await;
    }
    assert_eq!(begun.elapsed().as_secs(), 1 + 6);
    // A question is asked every five seconds at this pace, and fifteen of them hang: what is known is known again soon after.
    for _ in 0..75 {
        users.read(&gone).await.unwrap();
        tokio::time::advance(Duration::from_millis(1_300)).await;
    }
    assert!(users.read(&gone).await.unwrap().is_none());
    assert!(users.read(&user).await.unwrap().is_some());
}

/// A task asks beside the requests, and none of them waits, also when the ledger begins to hang.
#[tokio::test(start_paused = true)]
async fn no_request_waits_for_the_ledger_while_a_task_asks_it() {
    const PAUSE: Duration = Duration::from_millis(300);
    let world = World::new(Backend::Memory).await;
    let user = world.staged(1, HOUR).await;
    let users = Users::new(world.reopened().await);
    let asking = users.clone();
    let asking = tokio::spawn(async move { asking.watch_pending().await });
    tokio::time::sleep(PAUSE * 2).await;
    for nth in 1..=30 {
        let call = Fault::nth(nth, Moment::Before).to(Role::EvaluationAudit);
        world.faults.hold(call.of("find"));
    }
    let begun = Instant::now();
    for _ in 0..40 {
        assert!(users.read(&user).await.unwrap().is_some());
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!(begun.elapsed(), PAUSE * 40);
    asking.abort();
}

/// What this process knows may be long past: the user may be back through another program, which knows no versions.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_buries_nothing_on_hearsay(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = in_every_tier(&world, 1).await;
    world.faults.set_down(Role::RaseenTempUser, true);
    world.erasure().erase(&user).await.unwrap();
    world.faults.heal();
    let (users, _) = world.restarted().await;
    assert!(users.read(&user).await.unwrap().is_none());
    world.faults.set_down(Role::EvaluationAudit, true);
    let section = section();
    let value = content(1, 9);
    match users.put(&user, &section, value, Condition::None).await {
        Err(UsersError::Unavailable(error)) => {
            assert_eq!(error.database, Role::EvaluationAudit);
            assert_eq!(error.class, Class::Refused);
        }
        other => panic!("{other:?}"),
    }
    let kept = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    assert!(document::version(&kept) < Some(tombstone(1)), "{kept:?}");
    assert!(kept.get("scan_cache").unwrap().is_some());
}
