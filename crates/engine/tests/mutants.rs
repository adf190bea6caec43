//! Guards disabled one at a time: the damage shows in the databases.

use bson::doc;
use bson::raw::RawDocumentBuf;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, State};
use tierkeep_core::store::{Change, Guard};
use tierkeep_engine::Mutant;
use tierkeep_testkit::documents::native_user;
use tierkeep_testkit::fault::{Fault, Moment};

use crate::world::{Backend, DAY, HOUR, World};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_move_without_a_record_leaves_no_trace_of_itself(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let whole = World::new(backend).await;
    let lacking = World::lacking(backend, Mutant::MoveWithoutRecord).await;
    for (world, records) in [(whole, 1), (lacking, 0)] {
        world.staged(1, DAY).await;
        // A crash between the deletion from temp and the completed record, which the intent comes before.
        let completed = Fault::nth(records + 1, Moment::Before)
            .of("insert")
            .to(Role::EvaluationAudit);
        let hold = world.faults.hold(completed);
        let mover = world.migrate_meanwhile();
        hold.reached().await;
        mover.abort();
        assert_eq!(world.all(Role::RaseenTempUser).await, []);
        assert_eq!(world.records().await.len() as u64, records);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_main_without_its_guard_falls_behind_a_newer_copy(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let whole = World::new(backend).await;
    let lacking = World::lacking(backend, Mutant::UnguardedWriteToMain).await;
    for (world, falls) in [(whole, false), (lacking, true)] {
        world.staged(1, DAY).await;
        let newer = tierkeep_testkit::documents::native_user(1, 9)
            .at(tierkeep_core::document::Location::Main)
            .build();
        world.plant(Role::RaseenMainUser, newer.clone()).await;
        world.migrate().await.unwrap();
        let main = world.all(Role::RaseenMainUser).await;
        assert_eq!(main != [newer], falls);
    }
}

/// A mover that had read its document before the user was erased continues after the tombstones are removed.
async fn erased_under_a_mover(world: &World) -> Vec<RawDocumentBuf> {
    let user = world.staged(1, DAY).await;
    let copy = Fault::nth(1, Moment::Before)
        .of("insert")
        .to(Role::SrieMainUser);
    let hold = world.faults.hold(copy);
    let late = world.migrate_meanwhile();
    hold.reached().await;
    world.erasure().erase(&user).await.unwrap();
    world.clock.advance(DAY);
    world.erasure().remove_tombstones(HOUR).await.unwrap();
    hold.release();
    late.await.unwrap().unwrap();
    let mut live = world.all(Role::RaseenMainUser).await;
    live.extend(world.all(Role::SrieMainUser).await);
    live.retain(|copy| document::state(copy) == Some(State::Live));
    live
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_does_not_look_into_the_ledger_brings_content_back(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let whole = World::new(backend).await;
    assert_eq!(erased_under_a_mover(&whole).await, []);
    let lacking = World::lacking(backend, Mutant::NoLedgerAfterWriting).await;
    assert_eq!(erased_under_a_mover(&lacking).await.len(), 2);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn without_a_tombstone_in_temp_what_main_still_holds_shows_through(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let whole = World::new(backend).await;
    let lacking = World::lacking(backend, Mutant::ErasureWithoutTombstones).await;
    for (world, visible) in [(whole, false), (lacking, true)] {
        let user = world.staged(1, DAY).await;
        world.migrate().await.unwrap();
        world.faults.set_down(Role::RaseenMainUser, true);
        world.erasure().erase(&user).await.unwrap();
        world.faults.heal();
        // Another process, which cannot ask the ledger: all it has is what the databases hold.
        let (users, _mover) = world.restarted().await;
        world.faults.set_down(Role::EvaluationAudit, true);
        let found = users.read(&user).await.unwrap();
        assert_eq!(found.is_some(), visible);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_without_its_guard_buries_a_newer_life(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let whole = World::new(backend).await;
    let lacking = World::lacking(backend, Mutant::UnguardedTombstones).await;
    for (world, buried) in [(whole, false), (lacking, true)] {
        let user = world.staged(1, DAY).await;
        world.migrate().await.unwrap();
        // srie can be read, and takes no tombstone.
        let refused = Fault::nth(1, Moment::Before)
            .of("put_newer")
            .to(Role::SrieMainUser);
        world.faults.plan(refused.times(50));
        let erased = world.erasure().erase(&user).await.unwrap();
        assert_eq!(erased.pending, [Role::SrieMainUser]);
        world.faults.heal();
        // A newer life is there before the erasure is finished.
        let newer = native_user(1, (1 << 40) + 1).build();
        let (id, any) = (document::id(&newer), Guard::Fields(doc! {}));
        let srie = world.store(Role::SrieMainUser);
        srie.write("internal_users", &id, &any, &Change::Replace(newer))
            .await
            .unwrap();
        world.erasure().finish_pending().await.unwrap();
        let backup = world.copy(Role::SrieMainUser, &user).await.unwrap();
        assert_eq!(document::state(&backup) == Some(State::Erased), buried);
    }
}
