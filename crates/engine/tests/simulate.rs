//! The simulated moves.

use std::time::Duration;

use bson::{DateTime, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::Role;
use tierkeep_core::document::Edit;
use tierkeep_engine::{Amount, RunOptions, Simulation};
use tierkeep_testkit::documents::SeedUser;

use crate::world::{Backend, DAY, HOUR, World, user};

/// In temp for so long that a day is over in half an hour, in one and a half, in two and a half, in twenty.
const LATER: [Duration; 4] = [
    Duration::from_mins(23 * 60 + 30),
    Duration::from_mins(22 * 60 + 30),
    Duration::from_mins(21 * 60 + 30),
    Duration::from_hours(4),
];
/// As long, and an hour is left of the day.
const HOUR_LEFT: Duration = Duration::from_hours(23);

fn a_little_less(by: Duration) -> Duration {
    by.checked_sub(Duration::from_millis(1)).unwrap()
}

async fn simulated(world: &World, window: Duration) -> Simulation {
    world.inspector().simulate(window).await.unwrap()
}

/// How many documents move in each hour.
fn by_hour(simulation: &Simulation) -> Vec<u64> {
    let hours = simulation.hours.iter();
    hours.map(|hour| hour.amount.documents).collect()
}

async fn bytes_of(world: &World, users: &[u32]) -> u64 {
    let mut bytes = 0;
    for n in users {
        let document = world.copy(Role::RaseenTempUser, &user(*n)).await.unwrap();
        bytes += u64::try_from(document.as_bytes().len()).unwrap();
    }
    bytes
}

fn amount(documents: u64, bytes: u64) -> Amount {
    Amount { documents, bytes }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_document_is_counted_in_the_hour_in_which_it_comes_due(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.staged(1, DAY + HOUR).await;
    world.staged(2, DAY).await;
    world.staged(3, LATER[0]).await;
    world.staged(4, LATER[2]).await;
    world.staged(5, LATER[2]).await;
    world.staged(6, LATER[3]).await;
    let before = world.all(Role::RaseenTempUser).await;
    let simulation = simulated(&world, 3 * HOUR).await;
    assert_eq!(
        simulation.due_now,
        amount(2, bytes_of(&world, &[1, 2]).await)
    );
    assert_eq!(by_hour(&simulation), [1, 0, 2]);
    assert_eq!(
        simulation.hours[2].amount,
        amount(2, bytes_of(&world, &[4, 5]).await)
    );
    assert_eq!(
        simulation.total,
        amount(5, bytes_of(&world, &[1, 2, 3, 4, 5]).await)
    );
    assert_eq!(
        (&simulation.hours[0].from, &simulation.hours[2].to),
        (&simulation.from, &simulation.to)
    );
    let all = simulated(&world, DAY).await;
    assert_eq!(all.hours.len(), 24);
    assert_eq!(all.total.documents, 6);
    assert_eq!(world.all(Role::RaseenTempUser).await, before);
    assert!(world.records().await.is_empty());
    assert_eq!(world.migrate().await.unwrap().moved, 2);
    assert_eq!(simulated(&world, 3 * HOUR).await.due_now, Amount::default());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_begins_after_the_end_of_the_one_before(
    #[values(Backend::Memory, Backend::Sqlite)] backend: Backend,
) {
    let world = World::new(backend).await;
    // Only a stopped clock hits a boundary to the millisecond.
    world.staged(1, HOUR_LEFT).await;
    world.staged(2, a_little_less(HOUR_LEFT)).await;
    world.staged(3, LATER[1]).await;
    world.staged(4, a_little_less(LATER[1])).await;
    let simulation = simulated(&world, HOUR / 2 * 3).await;
    assert_eq!(by_hour(&simulation), [1, 2]);
    let now = world.now().await;
    assert_eq!(simulation.hours[0].to, rfc3339(clock::after(now, HOUR)));
    assert_eq!(simulation.hours[1].to, simulation.to);
    assert!(simulated(&world, Duration::ZERO).await.hours.is_empty());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_has_failed_or_cannot_move_is_told_apart(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut world = World::new(backend).await;
    for n in 1..=4 {
        world.staged(n, DAY + HOUR).await;
    }
    world.obstruct(1).await;
    for _ in 0..4 {
        let only = RunOptions {
            user: Some(user(1)),
            ..RunOptions::default()
        };
        world.migrate_with(only).await.unwrap();
    }
    world.obstruct(2).await;
    world.settings.retry_backoff = HOUR;
    let only = RunOptions {
        user: Some(user(2)),
        ..RunOptions::default()
    };
    assert_eq!(world.migrate_with(only).await.unwrap().failed, 1);
    let old = world.ago(DAY + HOUR).await;
    let nobody = SeedUser::new(90, old).build();
    let nobody = Edit::new().set("user_id", "nobody").apply(&nobody);
    world.plant(Role::RaseenTempUser, nobody).await;
    let later = world.ago(LATER[2]).await;
    let foreign = SeedUser::new(91, later).naive_dates().build();
    world.plant(Role::RaseenTempUser, foreign.clone()).await;

    world.service().pause().await.unwrap();
    let simulation = simulated(&world, 3 * HOUR).await;
    assert!(simulation.paused);
    let parts = |s: &Simulation| {
        (
            s.due_now.documents,
            s.parked.documents,
            s.failed.documents,
            s.quarantined.documents,
        )
    };
    assert_eq!(parts(&simulation), (2, 1, 1, 1));
    assert_eq!(simulation.failed.bytes, bytes_of(&world, &[1]).await);
    assert_eq!(simulation.parked.bytes, bytes_of(&world, &[2]).await);
    assert!(simulation.next_attempt_at.is_some());
    assert_eq!(
        simulation.hours[2].amount,
        amount(1, u64::try_from(foreign.as_bytes().len()).unwrap()),
        "what another program wrote counts by its own date"
    );
    assert_eq!(simulation.total.documents, 3);
    world.service().resume().await.unwrap();
    assert_eq!(world.migrate().await.unwrap().moved, 2);
    assert_eq!(
        parts(&simulated(&world, 3 * HOUR).await),
        (0, 1, 1, 1),
        "a mark changes nothing"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_window_reaches_over_many_pages(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let old = world.ago(LATER[0]).await;
    let documents: Vec<_> = (0..2_300_u32)
        .map(|n| {
            let native = tierkeep_testkit::documents::native_user(n, 1);
            native.dated(at(old, n)).build()
        })
        .collect();
    for some in documents.chunks(500) {
        let temp = world.store(Role::RaseenTempUser);
        temp.insert("internal_users", some).await.unwrap();
    }
    let simulation = simulated(&world, DAY).await;
    assert_eq!(by_hour(&simulation)[..2], [2_300, 0]);
    let bytes: usize = documents.iter().map(|d| d.as_bytes().len()).sum();
    assert_eq!(simulation.total.bytes, u64::try_from(bytes).unwrap());
    let set = doc! { "metadata.state": "erased" };
    let ids: Vec<_> = documents[..100]
        .iter()
        .map(|document| tierkeep_core::document::id(document))
        .collect();
    let temp = world.store(Role::RaseenTempUser);
    temp.amend("internal_users", &ids, &doc! {}, &set)
        .await
        .unwrap();
    assert_eq!(simulated(&world, DAY).await.total.documents, 2_200);
}

fn at(old: DateTime, n: u32) -> DateTime {
    clock::after(old, Duration::from_millis(u64::from(n / 10)))
}
