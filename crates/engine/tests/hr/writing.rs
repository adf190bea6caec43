//! Writes of records, one at a time and many at once.

use bson::doc;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::document;
use tierkeep_core::hr::BackupStatus;
use tierkeep_core::version::Version;
use tierkeep_engine::{Condition, HrError};
use tierkeep_testkit::fault::{Fault, Moment};

use super::{MAIN, SRIE, all, candidates, check_equal, content, id, put, read, records, remove};
use crate::world::{Backend, World};

fn version(number: i64) -> Version {
    Version::new(number).unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_in_main_and_in_the_backup_when_it_is_answered(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let first = put(&world, "c1", 1).await;
    assert!(first.created);
    assert_eq!(document::version(&first.record), Some(version(1)));
    assert_eq!(
        BackupStatus::of(&first.record),
        Some(BackupStatus::Completed)
    );
    assert_eq!(all(&world, MAIN).await, [first.record]);
    check_equal(&world).await;

    let second = put(&world, "c1", 2).await;
    assert!(!second.created);
    assert_eq!(document::version(&second.record), Some(version(2)));
    check_equal(&world).await;

    let patch = bson::raw::RawDocumentBuf::try_from(&doc! { "more": { "a": 1 }, "n": 3 }).unwrap();
    let patched = records(&world)
        .patch(
            &candidates(),
            &id("c1"),
            &patch,
            Condition::Version(version(2)),
        )
        .await
        .unwrap();
    assert_eq!(patched.record.get_i32("n").unwrap(), 3);
    check_equal(&world).await;

    let gone = remove(&world, "c1").await;
    assert_eq!(document::version(&gone.record), Some(version(4)));
    assert_eq!(read(&world, "c1").await, None);
    check_equal(&world).await;

    let again = put(&world, "c1", 5).await;
    assert!(again.created);
    assert_eq!(document::version(&again.record), Some(version(5)));
    assert_eq!(all(&world, SRIE).await, [again.record]);
    check_equal(&world).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn conditions_decide_and_nothing_changes_where_they_fail(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let records = records(&world);
    let collection = candidates();
    let put = async |condition| {
        let content = content(&doc! { "n": 1 });
        records
            .put(&collection, &id("c1"), content, condition)
            .await
    };
    let none = HrError::Mismatch { current: None };
    for condition in [Condition::Exists, Condition::Version(version(1))] {
        assert_eq!(put(condition).await.unwrap_err(), none);
        let removed = records.remove(&collection, &id("c1"), condition).await;
        assert_eq!(removed.unwrap_err(), none);
    }
    let removed = records
        .remove(&collection, &id("c1"), Condition::None)
        .await;
    assert_eq!(removed.unwrap_err(), HrError::NotFound);
    assert!(all(&world, MAIN).await.is_empty());

    assert!(put(Condition::Absent).await.unwrap().created);
    let one = HrError::Mismatch {
        current: Some(version(1)),
    };
    assert_eq!(put(Condition::Absent).await.unwrap_err(), one);
    assert_eq!(put(Condition::Version(version(2))).await.unwrap_err(), one);
    put(Condition::Version(version(1))).await.unwrap();
    put(Condition::Exists).await.unwrap();
    records
        .remove(&collection, &id("c1"), Condition::Version(version(3)))
        .await
        .unwrap();
    let removed = records
        .remove(&collection, &id("c1"), Condition::None)
        .await;
    assert_eq!(removed.unwrap_err(), HrError::NotFound);
    assert_eq!(put(Condition::Exists).await.unwrap_err(), none);
    assert!(put(Condition::Absent).await.unwrap().created);
    check_equal(&world).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_after_a_lost_answer_is_one_write(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for (round, operation) in (0..).zip(["insert", "write", "write"]) {
        world
            .faults
            .plan(Fault::nth(1, Moment::After).of(operation).to(MAIN));
        let receipt = put(&world, "c1", round).await;
        world.faults.heal();
        let expected = version(i64::from(round) + 1);
        assert_eq!(document::version(&receipt.record), Some(expected));
    }
    world
        .faults
        .plan(Fault::nth(1, Moment::After).of("write").to(MAIN));
    let gone = remove(&world, "c1").await;
    world.faults.heal();
    assert_eq!(document::version(&gone.record), Some(version(4)));
    check_equal(&world).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn writes_at_once_all_count_and_none_is_lost(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let records = records(&world);
        writers.spawn(async move {
            let patch = bson::raw::RawDocumentBuf::try_from(&doc! { format!("w{n}"): n }).unwrap();
            let receipt = records
                .patch(&candidates(), &id("c1"), &patch, Condition::None)
                .await;
            document::version(&receipt.unwrap().record).unwrap().get()
        });
    }
    let mut versions = writers.join_all().await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=8).collect::<Vec<_>>());
    super::reconcile(&world).await;
    let [record] = &all(&world, MAIN).await[..] else {
        panic!("one record")
    };
    for n in 0..8 {
        assert_eq!(record.get_i32(format!("w{n}")).unwrap(), n);
    }
    assert_eq!(records(&world).pending().await.unwrap(), 0);
    assert_eq!(all(&world, MAIN).await, all(&world, SRIE).await);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_another_program_wrote_is_adopted_by_being_changed(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let foreign = bson::rawdoc! { "_id": "c1", "n": 1, "created_at": "2024-01-01" };
    for role in [MAIN, SRIE] {
        let store = world.store(role);
        let one = std::slice::from_ref(&foreign);
        store.insert(candidates().as_str(), one).await.unwrap();
    }
    assert_eq!(read(&world, "c1").await, Some(1));
    let receipt = records(&world)
        .patch(
            &candidates(),
            &id("c1"),
            &bson::rawdoc! { "x": 1 },
            Condition::None,
        )
        .await
        .unwrap();
    assert_eq!(document::version(&receipt.record), Some(version(1)));
    super::reconcile(&world).await;
    check_equal(&world).await;
}

/// The tombstone of the first record is gone: versions continue above it, so a condition on an old version never holds
/// again.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_removed_record_are_never_used_again(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    super::put(&world, "c1", 1).await;
    let first_life = super::put(&world, "c1", 2).await;
    let seen = document::version(&first_life.record).unwrap();
    let removed = super::remove(&world, "c1").await;
    world.clock.advance(2 * super::GRACE);
    assert_eq!(super::reconciler(&world).remove_tombstones().await, Ok(1));
    assert_eq!(super::all(&world, super::MAIN).await, []);

    // Under another id too, and in another process.
    for under in ["c1", "c2"] {
        let created = super::put(&world, under, 10).await;
        assert!(created.created);
        assert!(document::version(&created.record) > document::version(&removed.record));
    }
    super::put(&world, "c1", 11).await;
    let late = super::records(&world)
        .put(
            &super::candidates(),
            &super::id("c1"),
            super::content(&doc! { "n": 3 }),
            Condition::Version(seen),
        )
        .await;
    assert!(matches!(late, Err(HrError::Mismatch { .. })), "{late:?}");
    assert_eq!(super::read(&world, "c1").await, Some(11));
}
