//! Importing HR records that were composed elsewhere.

use std::sync::Arc;

use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::hr::Arrival;
use tierkeep_core::legacy::record;
use tierkeep_engine::{Compared, Import, ImportOutcome};

use super::{all, candidates, check_equal, put, read, reconcile, remove};
use crate::scale::calls;
use crate::world::{Backend, World};

/// The record that a document of the predecessor becomes.
fn arrival(under: &str, n: i32) -> Arrival {
    let at = bson::DateTime::from_millis(1_700_000_000_000);
    let document = bson::rawdoc! { "_id": under, "n": n, "created_at": at };
    record(&document).unwrap().arrival
}

async fn take(world: &World, arrivals: &[Arrival]) -> Vec<ImportOutcome> {
    let intake = Import::new(world.reopened().await, world.settings);
    intake.take_hr(&candidates(), arrivals).await.unwrap()
}

async fn compared(world: &World, arrivals: &[Arrival]) -> Vec<Compared> {
    let intake = Import::new(Arc::clone(&world.engine), world.settings);
    intake.compare_hr(&candidates(), arrivals).await.unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn records_cut_off_after_every_call_end_in_both_databases(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    for at in calls(backend) {
        let world = World::new(backend).await;
        take(&world, &[arrival("again", 1)]).await;
        put(&world, "own", 9).await;
        let arrivals = [arrival("new", 2), arrival("again", 2), arrival("own", 2)];
        world.faults.crash_after(at);
        let intake = Import::new(Arc::clone(&world.engine), world.settings);
        let crashed = intake.take_hr(&candidates(), &arrivals).await.is_err();
        world.faults.heal();
        let taken = take(&world, &arrivals).await;
        let is_there = |taken: &ImportOutcome| {
            matches!(
                taken,
                ImportOutcome::Stored | ImportOutcome::Replaced | ImportOutcome::Same
            )
        };
        assert!(
            taken[..2].iter().all(is_there),
            "after call {at}: {taken:?}"
        );
        assert_eq!(taken[2], ImportOutcome::Own, "after call {at}");
        check_equal(&world).await;
        for (under, n) in [("new", 2), ("again", 2), ("own", 9)] {
            assert_eq!(
                read(&world, under).await,
                Some(n),
                "{under} after call {at}"
            );
        }
        let expected = [Compared::Equal, Compared::Equal, Compared::Own];
        assert_eq!(compared(&world, &arrivals).await, expected);
        let again = take(&world, &arrivals).await;
        assert_eq!(
            again,
            [ImportOutcome::Same, ImportOutcome::Same, ImportOutcome::Own]
        );
        if !crashed {
            assert!(at > 5, "only {at} calls");
            break;
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_changed_or_deleted_since_are_left_alone(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let first = [arrival("changed", 1), arrival("deleted", 1)];
    assert_eq!(
        take(&world, &first).await,
        [ImportOutcome::Stored, ImportOutcome::Stored]
    );
    put(&world, "changed", 7).await;
    remove(&world, "deleted").await;
    reconcile(&world).await;
    for n in 1..3 {
        let arrivals = [arrival("changed", n), arrival("deleted", n)];
        let taken = take(&world, &arrivals).await;
        // A record that a caller has written is no longer replaced by the import.
        assert_eq!(taken, [ImportOutcome::Own, ImportOutcome::Erased]);
        let found = compared(&world, &arrivals).await;
        assert_eq!(found, [Compared::Own, Compared::Erased]);
    }
    assert_eq!(read(&world, "changed").await, Some(7));
    assert_eq!(read(&world, "deleted").await, None);
    check_equal(&world).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_over_records_writes_nothing(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let intake = Import::new(Arc::clone(&world.engine), world.settings).dry();
    let arrivals = [arrival("new", 1)];
    let taken = intake.take_hr(&candidates(), &arrivals).await.unwrap();
    assert_eq!(taken, [ImportOutcome::Stored]);
    assert!(all(&world, super::MAIN).await.is_empty());
    assert_eq!(compared(&world, &arrivals).await, [Compared::Missing]);
}
