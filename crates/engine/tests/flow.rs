//! The speed and the memory of the mover: its rate, the size of its batches, the bytes in flight, marks.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::raw::{RawBson, RawDocumentBuf, cstr};
use bson::{doc, rawdoc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, Edit};
use tierkeep_core::store::{Change, Guard};
use tierkeep_engine::{Progress, RunOptions, Summary};
use tierkeep_testkit::fault::{Call, Fault, Moment};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::world::{Backend, DAY, HOUR, World, user};

const SECOND: Duration = Duration::from_secs(1);

fn at_rate(rate: u32) -> RunOptions {
    RunOptions {
        max_rate: NonZeroU32::new(rate),
        ..RunOptions::default()
    }
}

/// How often documents were put into srie, its stamp not counted.
fn batches(world: &World) -> usize {
    let of_batch = |call: &&Call| call.database == Role::SrieMainUser && call.operation == "insert";
    world.faults.calls().iter().filter(of_batch).count() - 1
}

#[tokio::test(start_paused = true)]
async fn a_run_moves_no_more_in_a_second_than_its_rate() {
    let world = World::new(Backend::Memory).await;
    for n in 0..25 {
        world.staged(n, DAY + HOUR).await;
    }
    let begun = Instant::now();
    assert_eq!(world.migrate_with(at_rate(5)).await.unwrap().moved, 25);
    let took = begun.elapsed();
    // The first five at once, the last five after four seconds; the look for more comes a second later.
    assert!((4 * SECOND..=5 * SECOND).contains(&took), "{took:?}");
    assert_eq!(batches(&world), 5);
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_the_settings_holds_from_one_run_to_the_next() {
    let mut world = World::new(Backend::Memory).await;
    world.settings.max_rate = NonZeroU32::new(5);
    let service = world.service();
    let begun = Instant::now();
    for run in 0..3 {
        for n in 0..5 {
            world.staged(run * 5 + n, DAY + HOUR).await;
        }
        let stop = CancellationToken::new();
        let run = service.migrate_expired_data(
            RunOptions::default(),
            &tierkeep_engine::NoProgress,
            &stop,
        );
        assert_eq!(run.await.unwrap().moved, 5);
    }
    assert!(begun.elapsed() >= 2 * SECOND, "{:?}", begun.elapsed());
    assert!(world.all(Role::RaseenTempUser).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_its_rate_can_be_stopped() {
    let world = World::new(Backend::Memory).await;
    for n in 0..3 {
        world.staged(n, DAY + HOUR).await;
    }
    let stop = CancellationToken::new();
    let service = world.service();
    let run = service.migrate_expired_data(at_rate(1), &tierkeep_engine::NoProgress, &stop);
    let begun = Instant::now();
    let (summary, ()) = tokio::join!(run, async {
        tokio::time::sleep(SECOND / 2).await;
        stop.cancel();
    });
    assert_eq!(summary.unwrap().moved, 1);
    assert_eq!(begun.elapsed(), SECOND / 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_batch_makes_the_next_ones_smaller_and_wait() {
    let mut world = World::new(Backend::Memory).await;
    world.settings.batch_documents = 8;
    world.settings.batches_in_flight = 1;
    for n in 0..16 {
        world.staged(n, DAY + HOUR).await;
    }
    let insert = Fault::nth(1, Moment::Before)
        .to(Role::SrieMainUser)
        .of("insert");
    let hold = world.faults.hold(insert);
    let begun = Instant::now();
    let run = world.migrate_meanwhile();
    hold.reached().await;
    tokio::time::sleep(19 * SECOND).await;
    hold.release();
    assert_eq!(run.await.unwrap().unwrap().moved, 16);
    // Eight, four seconds too slow; after these four seconds four, then the rest.
    assert_eq!(batches(&world), 3);
    assert!(begun.elapsed() >= 23 * SECOND, "{:?}", begun.elapsed());
    world.check_invariants().await;
}

/// The number of documents in the first batch that reaches `hold`; then the rest moves.
async fn stopped_then_moved(world: &World, documents: u32) -> usize {
    let service = world.service();
    let none = CancellationToken::new();
    let run =
        || service.migrate_expired_data(RunOptions::default(), &tierkeep_engine::NoProgress, &none);
    world.faults.set_down(Role::SrieMainUser, true);
    run().await.unwrap_err();
    world.faults.set_down(Role::SrieMainUser, false);
    let before = batches(world);
    assert_eq!(run().await.unwrap().moved, u64::from(documents));
    batches(world) - before
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn after_a_batch_that_a_database_stopped_the_next_run_asks_less_of_it(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut world = World::new(backend).await;
    world.settings.batch_documents = 16;
    world.settings.batches_in_flight = 1;
    for n in 0..16 {
        world.staged(n, DAY + HOUR).await;
    }
    assert_eq!(stopped_then_moved(&world, 16).await, 2);
    assert!(world.all(Role::RaseenTempUser).await.is_empty());
    world.check_invariants().await;
}

/// Begins nothing more after the first batch.
struct StopAfterOne(CancellationToken);

impl Progress for StopAfterOne {
    fn report(&self, _: &Summary) {
        self.0.cancel();
    }
}

/// Which of [`user`] `0..count` are gone from temp.
async fn gone(world: &World, count: u32) -> Vec<u32> {
    let left = world.all(Role::RaseenTempUser).await;
    let left: BTreeSet<_> = left.iter().filter_map(|it| document::user_id(it)).collect();
    let is_gone = |n: &u32| !left.contains(user(*n).as_str());
    (0..count).filter(is_gone).collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_longest_moves_first_and_some_batches_of_it_in_the_order_of_their_ids(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut world = World::new(backend).await;
    world.settings.batch_documents = 2;
    world.settings.batches_in_flight = 1;
    for n in 0..40 {
        world.staged(n, DAY + HOUR * (n + 1)).await;
    }
    let stop = CancellationToken::new();
    let one = StopAfterOne(stop.clone());
    let service = world.service();
    let run = service.migrate_expired_data(RunOptions::default(), &one, &stop);
    assert_eq!(run.await.unwrap().moved, 2);
    // Those of four batches are the last eight; it begins with the oldest, the last, and goes on from the first.
    assert_eq!(gone(&world, 40).await, [32, 39]);
    let three = RunOptions {
        limit: Some(3),
        ..RunOptions::default()
    };
    assert_eq!(world.migrate_with(three).await.unwrap().moved, 3);
    assert_eq!(gone(&world, 40).await, [32, 36, 37, 38, 39]);
    assert_eq!(world.migrate().await.unwrap().moved, 35);
    world.check_invariants().await;
}

#[rstest]
#[case::one_by_one(1)]
#[case::all_that_fit(1 << 20)]
#[tokio::test(flavor = "multi_thread")]
async fn documents_removed_or_changed_after_the_scan_do_not_delay_others(
    #[case] batch_bytes: usize,
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut world = World::new(backend).await;
    world.settings.batch_documents = 2;
    world.settings.batch_bytes = batch_bytes;
    world.settings.batches_in_flight = 1;
    for n in 0..16 {
        world.staged(n, DAY + HOUR).await;
    }
    let insert = Fault::nth(1, Moment::Before)
        .to(Role::SrieMainUser)
        .of("insert");
    let hold = world.faults.hold(insert);
    let run = world.migrate_meanwhile();
    hold.reached().await;
    // Found due with the first batch, but not read yet: three are gone, of them both of a batch and the later one of
    // another; two are erased, one is young again, one has a section more.
    let temp = world.store(Role::RaseenTempUser);
    for n in [4, 5, 7] {
        let (id, any) = (user(n).as_str().into(), Guard::Fields(doc! {}));
        temp.write("internal_users", &id, &any, &Change::Remove)
            .await
            .unwrap();
    }
    for n in [10, 11] {
        world.erasure().erase(&user(n)).await.unwrap();
    }
    world.date_back(&user(13), HOUR).await;
    world.put(&user(14), 2).await.unwrap();
    hold.release();
    assert_eq!(run.await.unwrap().unwrap().moved, 10);
    assert!(world.copy(Role::RaseenTempUser, &user(13)).await.is_some());
    world.check_invariants().await;
}

#[rstest]
#[case::one_by_one(1)]
#[case::all_that_fit(1 << 20)]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_names_what_was_staged_each_is_looked_at(
    #[case] batch_bytes: usize,
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut world = World::new(backend).await;
    world.settings.batch_documents = 3;
    world.settings.batch_bytes = batch_bytes;
    // Objects are distinguished, and ordered, in more ways than one; they stand among the others, and before them all.
    let objects = [1, 2, 256].map(|n| RawBson::from(rawdoc! { "a": n }));
    let others = [7.into(), 7.5.into(), true.into()];
    let others = others.into_iter().chain([ObjectId::new().into()]);
    for (id, days) in objects
        .into_iter()
        .chain(others)
        .zip([1, 2, 3].into_iter().cycle())
    {
        let staged_at = world.ago(DAY * days + HOUR).await;
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("_id"), id);
        document.append(cstr!("metadata"), rawdoc! { "staged_at": staged_at });
        world.plant(Role::RaseenTempUser, document).await;
    }
    for n in 0..12 {
        world.staged(n, DAY * (1 + n % 3) + HOUR).await;
    }
    let run = world.migrate().await.unwrap();
    assert_eq!((run.moved, run.quarantined), (12, 7));
    assert_eq!(world.all(Role::RaseenTempUser).await.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn no_batch_begins_beside_one_whose_document_fills_the_memory_of_all() {
    let mut world = World::new(Backend::Memory).await;
    world.settings.batch_bytes = 10_000;
    world.settings.batches_in_flight = 3;
    for n in 0..4 {
        let user = world.staged(n, DAY + HOUR).await;
        let document = world.copy(Role::RaseenTempUser, &user).await.unwrap();
        let large = Edit::new()
            .set("filler", "x".repeat(25_000))
            .apply(&document);
        let (id, whatever) = (user.as_str().into(), Guard::Fields(doc! {}));
        let temp = world.store(Role::RaseenTempUser);
        let change = Change::Replace(large);
        temp.write("internal_users", &id, &whatever, &change)
            .await
            .unwrap();
    }
    let insert = Fault::nth(1, Moment::Before)
        .to(Role::SrieMainUser)
        .of("insert");
    let hold = world.faults.hold(insert);
    let run = world.migrate_meanwhile();
    hold.reached().await;
    // The paused clock advances once all tasks are waiting.
    tokio::time::sleep(SECOND).await;
    assert_eq!(batches(&world), 0, "another went past the one that is held");
    hold.release();
    assert_eq!(run.await.unwrap().unwrap().moved, 4);
    assert_eq!(batches(&world), 4);
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn more_quarantined_documents_than_a_page_holds_are_counted_left_alone_and_released(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    const BAD: usize = 520;
    let world = World::new(backend).await;
    let temp = world.store(Role::RaseenTempUser);
    // No user_id: what it is cannot be said.
    let bad: Vec<RawDocumentBuf> = (0..BAD)
        .map(|n| RawDocumentBuf::try_from(&doc! { "_id": format!("bad{n:04}"), "n": 1 }).unwrap())
        .collect();
    temp.insert("internal_users", &bad).await.unwrap();
    world.staged(1, DAY + HOUR).await;
    let first = world.migrate().await.unwrap();
    assert_eq!((first.moved, first.quarantined), (1, 520));
    let shown = world.inspector().quarantined(30).await.unwrap();
    assert_eq!(shown.len(), 30);
    // One document of the first page of marks and one of the last are corrected: they are released, and no others.
    let whatever = Guard::Fields(doc! {});
    for n in [3, BAD - 1] {
        let id = format!("bad{n:04}").into();
        temp.write("internal_users", &id, &whatever, &Change::Remove)
            .await
            .unwrap();
    }
    let writes = world.faults.count_of("insert");
    let second = world.migrate().await.unwrap();
    assert_eq!((second.moved, second.quarantined), (0, 518));
    assert_eq!(
        world.faults.count_of("insert"),
        writes,
        "a mark was made again"
    );
    assert_eq!(world.all(Role::RaseenTempUser).await.len(), BAD - 2);
}
