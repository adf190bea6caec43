//! The janitor clears entries that are never confirmed.

use std::sync::Arc;

use rstest::rstest;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, State};
use tierkeep_core::version::Version;
use tierkeep_engine::{Condition, Janitor, SEEN_FOR};
use tierkeep_testkit::fault::{Fault, Moment};

use crate::world::{Backend, DAY, HOUR, World, content, section, user};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_seen_twice_a_minute_apart_is_cleared(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, DAY + HOUR).await;
    world.migrate().await.unwrap();
    let confirmation = Fault::nth(2, Moment::Before)
        .of("write")
        .to(Role::RaseenTempUser);
    world.faults.plan(confirmation.times(1_000));
    world.put(&user, 1).await.unwrap_err();
    world.faults.heal();
    let state = async || {
        let copy = world.copy(Role::RaseenTempUser, &user).await;
        copy.and_then(|copy| document::state(&copy))
    };
    assert_eq!(state().await, Some(State::Entering));

    let mut janitor = Janitor::new(Arc::clone(&world.engine));
    let start = HOUR;
    assert_eq!(janitor.round(start).await.unwrap(), 0);
    assert_eq!(janitor.round(start + SEEN_FOR / 2).await.unwrap(), 0);
    assert_eq!(state().await, Some(State::Entering));
    // Another janitor has not seen it yet.
    let mut other = Janitor::new(Arc::clone(&world.engine));
    assert_eq!(other.round(start + SEEN_FOR).await.unwrap(), 0);
    assert_eq!(janitor.round(start + SEEN_FOR).await.unwrap(), 1);
    assert_eq!(state().await, None);
    let found = world.users.read(&user).await.unwrap().unwrap();
    assert_eq!(found.source, Role::RaseenMainUser);
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_whose_entry_was_cleared_starts_over(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = user(1);
    let confirmation = Fault::nth(1, Moment::Before)
        .of("write")
        .to(Role::RaseenTempUser);
    let hold = world.faults.hold(confirmation);
    let (users, _) = world.restarted().await;
    let slow = tokio::spawn({
        let user = user.clone();
        async move {
            users
                .put(&user, &section(), content(1, 1), Condition::None)
                .await
        }
    });
    hold.reached().await;
    let mut janitor = Janitor::new(Arc::clone(&world.engine));
    janitor.round(HOUR).await.unwrap();
    assert_eq!(janitor.round(HOUR + SEEN_FOR).await.unwrap(), 1);
    hold.release();
    assert_eq!(slow.await.unwrap().unwrap().version, Version::FIRST);
    assert!(world.users.read(&user).await.unwrap().is_some());
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_tombstone_under_a_cleared_entry_comes_back(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, HOUR).await;
    world.erasure().erase(&user).await.unwrap();
    let confirmation = Fault::nth(3, Moment::Before)
        .of("write")
        .to(Role::RaseenTempUser);
    world.faults.plan(confirmation.times(1_000));
    world.put(&user, 1).await.unwrap_err();
    world.faults.heal();
    let entry = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    assert_eq!(document::state(&entry), Some(State::Entering));
    let mut janitor = Janitor::new(Arc::clone(&world.engine));
    janitor.round(HOUR).await.unwrap();
    assert_eq!(janitor.round(HOUR + SEEN_FOR).await.unwrap(), 1);
    let stone = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    assert_eq!(document::state(&stone), Some(State::Erased));
    assert_eq!(document::version(&stone), Version::of_erasure(1));
}
