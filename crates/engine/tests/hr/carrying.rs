//! Repair, restore and backup of HR records: cut off after every call, with every answer lost, and
//! while callers write them.

use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::document::Edit;
use tierkeep_engine::{Backup, Restoration, Verification};
use tierkeep_testkit::fault::{Fault, Moment};
use tokio_util::sync::CancellationToken;

use super::{MAIN, SRIE, all, check_equal, put, read, reconcile, records};
use crate::comparing::{LOOK, REPAIR, one_byte, put_record, record, recorded, verify};
use crate::restoring::{ALL, restore};
use crate::world::{Backend, World};

/// What carries records between main and srie.
#[derive(Clone, Copy, Debug)]
enum Work {
    Repair,
    Restore,
    Backup,
}

impl Work {
    /// Does it; answers whether it came to its end.
    async fn attempt(self, world: &World) -> bool {
        let engine = Arc::clone(&world.engine);
        let stop = CancellationToken::new();
        match self {
            Self::Repair => {
                let work = Verification::new(engine);
                work.run(&REPAIR, &|_| (), &stop).await.is_ok()
            }
            Self::Restore => {
                let work = Restoration::new(engine);
                work.run(&ALL, &|_| (), &stop).await.is_ok()
            }
            Self::Backup => Backup::new(engine).run(&|_| (), &stop).await.is_ok(),
        }
    }

    async fn done(self, world: &World) {
        assert!(self.attempt(world).await, "{self:?}");
    }

    /// What there is to do, and nothing else; answers what both sides must hold in the end.
    async fn plant(self, world: &World) -> Vec<RawDocumentBuf> {
        for role in [MAIN, SRIE] {
            for n in 0..all(world, role).await.len() {
                put_record(world, role, u32::try_from(n).unwrap(), None).await;
            }
        }
        let mut expected = recorded(world, 7).await;
        match self {
            Self::Repair => {
                put_record(world, SRIE, 0, None).await;
                put_record(world, MAIN, 1, None).await;
                put_record(world, MAIN, 2, Some(record(2, 5, 2))).await;
                put_record(world, SRIE, 3, Some(record(3, 5, 3))).await;
                put_record(world, SRIE, 4, Some(one_byte(&expected[4]))).await;
                put_record(world, MAIN, 5, Some(one_byte(&expected[5]))).await;
                for n in [2, 3] {
                    expected[n as usize] = record(n, 5, i32::try_from(n).unwrap());
                }
            }
            Self::Restore => {
                put_record(world, MAIN, 0, None).await;
                put_record(world, MAIN, 1, None).await;
                for n in [2, 3] {
                    let newer = record(n, 5, i32::try_from(n).unwrap());
                    put_record(world, SRIE, n, Some(newer.clone())).await;
                    expected[n as usize] = newer;
                }
            }
            Self::Backup => {
                put_record(world, SRIE, 0, None).await;
                put_record(world, MAIN, 1, Some(record(1, 5, 1))).await;
                expected[1] = record(1, 5, 1);
                let pending = Edit::new().set_meta("backup_status", "pending");
                for n in [2, 3] {
                    let marked = pending.apply(&expected[n as usize]);
                    put_record(world, MAIN, n, Some(marked)).await;
                }
                put_record(world, SRIE, 3, None).await;
            }
        }
        expected
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn work_on_hr_records_that_is_cut_off_after_any_call_is_finished_by_the_next(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Work::Repair, Work::Restore, Work::Backup)] work: Work,
) {
    let world = World::new(backend).await;
    for at in 0.. {
        let expected = work.plant(&world).await;
        world.faults.crash_after(at);
        let ended = work.attempt(&world).await;
        let crashed = world.faults.has_crashed() && !ended;
        world.faults.heal();
        work.done(&world).await;
        assert_eq!(all(&world, MAIN).await, expected, "crash after call {at}");
        assert_eq!(all(&world, SRIE).await, expected, "crash after call {at}");
        if !crashed {
            assert!(at > 12, "only {at} crash points were reached");
            break;
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_work_on_hr_records_twice_is_once(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Work::Repair, Work::Restore, Work::Backup)] work: Work,
) {
    let world = World::new(backend).await;
    for operation in ["insert", "write", "amend", "find"] {
        let expected = work.plant(&world).await;
        for nth in (1..200).step_by(2) {
            let lost = Fault::nth(nth, Moment::After).of(operation);
            world.faults.plan(lost);
        }
        work.attempt(&world).await;
        world.faults.heal();
        work.done(&world).await;
        assert_eq!(all(&world, MAIN).await, expected, "{operation}");
        assert_eq!(all(&world, SRIE).await, expected, "{operation}");
    }
}

/// A restore has read the copy in srie, and is about to insert it into main, when a caller writes the record.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_beside_a_restore_is_not_replaced_by_what_the_backup_held(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(true, false)] main_has_an_older_one: bool,
    #[values(true, false)] srie_is_quick: bool,
) {
    let world = Arc::new(World::new(backend).await);
    recorded(&world, 1).await;
    put_record(&world, SRIE, 0, Some(record(0, 5, 0))).await;
    let mut operation = "write";
    if !main_has_an_older_one {
        put_record(&world, MAIN, 0, None).await;
        operation = "insert";
    }
    let call = Fault::nth(1, Moment::Before).of(operation).to(MAIN);
    let hold = world.faults.hold(call);
    let restoring = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { restore(&world, &ALL).await })
    };
    hold.reached().await;
    world.faults.set_down(SRIE, !srie_is_quick);
    put(&world, "r0000", 9).await;
    world.faults.set_down(SRIE, false);
    hold.release();
    let restored = restoring.await.unwrap();
    assert_eq!(restored.failed(), 0, "{restored:?}");
    assert_eq!(read(&world, "r0000").await, Some(9));
    reconcile(&world).await;
    check_equal(&world).await;
    assert_eq!(read(&world, "r0000").await, Some(9));
}

/// A record in main that is older by its version and was acknowledged last, since srie was away: no restore and no
/// repair takes it away, and delivery puts it above what srie holds.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_in_main_is_never_replaced_by_what_the_backup_holds(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Work::Repair, Work::Restore)] work: Work,
) {
    let world = World::new(backend).await;
    recorded(&world, 1).await;
    put_record(&world, SRIE, 0, Some(record(0, 5, 0))).await;
    world.faults.set_down(SRIE, true);
    put(&world, "r0000", 9).await;
    world.faults.heal();
    assert_eq!(records(&world).pending().await.unwrap(), 1);
    work.done(&world).await;
    assert_eq!(read(&world, "r0000").await, Some(9), "{work:?}");
    assert_eq!(reconcile(&world).await.delivered, 1);
    check_equal(&world).await;
    assert_eq!(read(&world, "r0000").await, Some(9));
}

/// A deletion that has not been delivered to srie is not undone by the copy in srie.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_stands_against_every_kind_of_work(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Work::Repair, Work::Restore, Work::Backup)] work: Work,
) {
    let world = World::new(backend).await;
    put(&world, "a", 1).await;
    world.faults.set_down(SRIE, true);
    super::remove(&world, "a").await;
    world.faults.heal();
    work.done(&world).await;
    assert_eq!(read(&world, "a").await, None, "{work:?}");
    reconcile(&world).await;
    check_equal(&world).await;
    assert_eq!(read(&world, "a").await, None, "{work:?}");
    assert_eq!(verify(&world, &LOOK).await.left(), 0);
}
