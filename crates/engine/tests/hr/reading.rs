//! Reads of records and of whole collections.

use rstest::rstest;
use tierkeep_core::hr::HrId;
use tierkeep_engine::HrError;

use super::{MAIN, SRIE, candidates, id, put, read, records, remove};
use crate::world::{Backend, World};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_backup_answers_while_main_is_away_and_nothing_is_taken_for_absent(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    put(&world, "c1", 1).await;
    let records = records(&world);
    let (collection, known, unknown) = (candidates(), id("c1"), id("c2"));
    assert_eq!(records.read(&collection, &unknown).await.unwrap(), None);
    world.faults.set_down(MAIN, true);
    let found = records.read(&collection, &known).await.unwrap().unwrap();
    assert_eq!(
        (found.source, found.record.get_i32("n").unwrap()),
        (SRIE, 1)
    );
    let error = records.read(&collection, &unknown).await.unwrap_err();
    assert!(
        matches!(&error, HrError::Unavailable(away) if away.database == MAIN),
        "{error}"
    );
    let page = records.list(&collection, None, 10).await.unwrap();
    assert_eq!((page.source, page.records.len()), (SRIE, 1));
    world.faults.set_down(SRIE, true);
    assert!(records.read(&collection, &known).await.is_err());
    assert!(records.list(&collection, None, 10).await.is_err());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_through_every_record_once_and_passes_over_deletions(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for n in 0..13 {
        put(&world, &format!("c{n:02}"), n).await;
    }
    for n in [0, 3, 4, 5, 12] {
        remove(&world, &format!("c{n:02}")).await;
    }
    let records = records(&world);
    for limit in [1, 2, 3, 8, 100] {
        let mut seen = Vec::new();
        let mut after: Option<HrId> = None;
        loop {
            let page = records
                .list(&candidates(), after.as_ref(), limit)
                .await
                .unwrap();
            assert!(page.records.len() <= limit);
            seen.extend(page.records.iter().map(|one| one.get_i32("n").unwrap()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, [1, 2, 6, 7, 8, 9, 10, 11], "{limit}");
    }
    assert_eq!(read(&world, "c03").await, None);
}
