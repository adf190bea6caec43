//! Crashes: a write, and the delivery after it, are cut off after every single call to a database.

use bson::doc;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_engine::{Condition, HrError, HrRecords, Reconciler};
use tierkeep_testkit::fault::{Fault, Moment};

use super::{
    GRACE, SRIE, candidates, check_equal, content, id, put, read, reconcile, reconciler, records,
    remove,
};
use crate::scale::calls;
use crate::world::{Backend, World};

/// A record, a deletion, a second version and a second life, none of them in the backup.
async fn planted(world: &World) {
    put(world, "b", 1).await;
    put(world, "c", 1).await;
    put(world, "d", 1).await;
    remove(world, "d").await;
    world.faults.set_down(SRIE, true);
    put(world, "a", 1).await;
    put(world, "b", 2).await;
    remove(world, "c").await;
    put(world, "d", 2).await;
    put(world, "e", 1).await;
    remove(world, "e").await;
    world.faults.heal();
    assert_eq!(records(world).pending().await.unwrap(), 5);
}

async fn assert_delivered(world: &World, at: u64) {
    check_equal(world).await;
    let found = [
        ("a", Some(1)),
        ("b", Some(2)),
        ("c", None),
        ("d", Some(2)),
        ("e", None),
    ];
    for (under, n) in found {
        assert_eq!(
            read(world, under).await,
            n,
            "{under} after a crash at call {at}"
        );
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn delivery_cut_off_after_every_call_ends_the_same(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    for at in calls(backend) {
        let world = World::new(backend).await;
        planted(&world).await;
        world.faults.crash_after(at);
        let crashed = reconciler(&world).round().await.is_err();
        world.faults.heal();
        let engine = world.reopened().await;
        let mut after = Reconciler::new(engine, std::time::Duration::from_secs(5), GRACE);
        after.round().await.unwrap();
        assert_delivered(&world, at).await;
        if !crashed {
            assert!(at > 10, "only {at} calls");
            break;
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn delivery_in_which_every_answer_is_lost_once_delivers_once(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    for operation in ["insert", "write", "amend", "find"] {
        let world = World::new(backend).await;
        planted(&world).await;
        for nth in (1..100).step_by(2) {
            world
                .faults
                .plan(Fault::nth(nth, Moment::After).of(operation));
        }
        let mut reconciler = reconciler(&world);
        let mut rounds = 0;
        while reconciler.round().await.is_err() {
            rounds += 1;
            assert!(rounds < 60, "{operation}");
        }
        world.faults.heal();
        assert!(
            rounds > 0 || operation == "find",
            "{operation} was never lost"
        );
        reconcile(&world).await;
        assert_delivered(&world, 0).await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_cut_off_after_every_call_is_whole_or_nothing(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    for at in calls(backend) {
        let world = World::new(backend).await;
        put(&world, "old", 1).await;
        world.faults.crash_after(at);
        let records = records(&world);
        let new = records
            .put(
                &candidates(),
                &id("new"),
                content(&doc! { "n": 7 }),
                Condition::None,
            )
            .await;
        let old = records
            .patch(
                &candidates(),
                &id("old"),
                &bson::rawdoc! { "n": 2 },
                Condition::None,
            )
            .await;
        let gone = records
            .remove(&candidates(), &id("old"), Condition::None)
            .await;
        let crashed = world.faults.has_crashed();
        world.faults.heal();
        let after = HrRecords::new(world.reopened().await);
        let standing = async |under: &str| {
            let found = after.read(&candidates(), &id(under)).await.unwrap();
            found.map(|found| found.record.get_i32("n").unwrap())
        };
        match (&new, standing("new").await) {
            (Ok(_), found) => assert_eq!(found, Some(7), "acknowledged at {at}"),
            (Err(HrError::Unavailable(_)), found) => assert!(matches!(found, None | Some(7))),
            (Err(error), _) => panic!("{error} at {at}"),
        }
        match (&old, &gone, standing("old").await) {
            (_, Ok(_), found) => assert_eq!(found, None, "acknowledged at {at}"),
            (Ok(_), Err(_), found) => assert!(matches!(found, None | Some(2)), "{found:?} at {at}"),
            (Err(_), Err(_), found) => assert!(matches!(found, None | Some(1 | 2))),
        }
        reconcile(&world).await;
        check_equal(&world).await;
        if !crashed {
            assert!(at > 8, "only {at} calls");
            assert!(new.is_ok() && old.is_ok() && gone.is_ok());
            break;
        }
    }
}
