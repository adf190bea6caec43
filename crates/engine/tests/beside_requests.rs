//! A service moves documents without delaying the requests that it serves noticeably.

use std::time::Duration;

use tierkeep_core::db::Role;
use tierkeep_engine::{MoverSettings, Worker};
use tierkeep_testkit::fault::{Call, Fault, Moment};

use crate::world::{Backend, DAY, HOUR, World, user};

/// How often documents were put into srie, its stamp not counted.
fn batches(world: &World) -> usize {
    let of_batch = |call: &&Call| call.database == Role::SrieMainUser && call.operation == "insert";
    world.faults.calls().iter().filter(of_batch).count() - 1
}

/// 250 documents that are due.
async fn world() -> World {
    let mut world = World::new(Backend::Memory).await;
    world.settings = MoverSettings::default();
    for n in 0..250 {
        world.staged(n, DAY + HOUR).await;
    }
    world
}

#[tokio::test(start_paused = true)]
async fn a_service_of_which_nothing_is_asked_moves_in_full_batches() {
    let world = world().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let worker = Worker::new(world.service(), HOUR);
    let mut state = worker.state();
    let at_work = tokio::spawn(worker.run(stop.clone()));
    let done = state.wait_for(|state| state.last_run.is_some()).await;
    let moved = done.unwrap().last_run.as_ref().map(|run| run.moved);
    assert_eq!(moved, Some(250));
    assert_eq!(batches(&world), 1);
    stop.cancel();
    at_work.await.unwrap();
    world.check_invariants().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_moves_in_small_batches_one_at_a_time_so_that_requests_come_between() {
    let world = world().await;
    let insert = Fault::nth(1, Moment::Before)
        .to(Role::SrieMainUser)
        .of("insert");
    let hold = world.faults.hold(insert);
    let stop = tokio_util::sync::CancellationToken::new();
    world.users.read(&user(1_000)).await.unwrap();
    let worker = Worker::new(world.service(), HOUR);
    let mut state = worker.state();
    let at_work = tokio::spawn(worker.run(stop.clone()));
    hold.reached().await;
    // The paused clock advances once all tasks are waiting.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(batches(&world), 0, "another went past the one that is held");
    hold.release();
    let done = state.wait_for(|state| state.last_run.is_some()).await;
    let moved = done.unwrap().last_run.as_ref().map(|run| run.moved);
    assert_eq!(moved, Some(250));
    assert_eq!(batches(&world), 3);
    stop.cancel();
    at_work.await.unwrap();
    world.check_invariants().await;
}
