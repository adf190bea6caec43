//! Databases that hang: a caller does not wait long for a database that its request does not need.

use std::sync::Arc;
use std::time::Duration;

use tierkeep_core::db::Role;
use tierkeep_core::user::UserId;
use tierkeep_engine::Users;
use tierkeep_testkit::fault::{Fault, Moment};
use tokio::time::Instant;

use crate::world::{self, Backend, World};

/// All calls to this database hang from now on.
fn hang(world: &World, database: Role) {
    for nth in 1..100 {
        world
            .faults
            .hold(Fault::nth(nth, Moment::Before).to(database));
    }
}

#[tokio::test(start_paused = true)]
async fn first_writes_wait_a_second_for_a_backup_that_hangs_and_then_not_at_all() {
    let mut world = World::new(Backend::Memory).await;
    world.users = Users::new(Arc::clone(&world.engine));
    hang(&world, Role::SrieMainUser);
    let begun = Instant::now();
    for n in 1..=20 {
        assert!(world.put(&world::user(n), 1).await.unwrap().created);
    }
    assert_eq!(begun.elapsed().as_secs(), 1);
    tokio::time::advance(Duration::from_secs(5)).await;
    for n in 21..=40 {
        assert!(world.put(&world::user(n), 1).await.unwrap().created);
    }
    assert_eq!(begun.elapsed().as_secs(), 1 + 5 + 1);
}

#[tokio::test(start_paused = true)]
async fn public_sign_ups_wait_two_seconds_for_a_ledger_that_hangs_and_then_not_at_all() {
    let mut world = World::new(Backend::Memory).await;
    world.users = Users::new(Arc::clone(&world.engine));
    hang(&world, Role::EvaluationAudit);
    let begun = Instant::now();
    for n in 1..=20 {
        let user = UserId::external(&format!("reader{n}")).unwrap();
        assert!(world.put(&user, 1).await.unwrap().created);
    }
    // Once to learn what is pending, and once to learn where the life begins.
    assert_eq!(begun.elapsed().as_secs(), 2);
}
