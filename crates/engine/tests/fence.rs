//! The fence of an erasure: above the ledger and every copy, also after a loss or a restore, and never above a document
//! that was created after the erasure.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::document::{self, State};
use tierkeep_core::store::{Change, Guard, Query};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_engine::{DumpService, ImportOptions, NoProgress, Upkeep, UsersError};
use tierkeep_testkit::documents::native_user;
use tierkeep_testkit::fault::{Fault, Moment};

use crate::world::{Backend, DAY, HOUR, World};

const GRACE: Duration = Duration::from_hours(24);

fn external() -> UserId {
    UserId::external("srie06").unwrap()
}

/// Erased, and the tombstones are gone.
async fn erased(world: &World, user: &UserId) {
    assert_eq!(world.erasure().erase(user).await.unwrap().pending, []);
    world.clock.advance(GRACE + HOUR);
    world.erasure().remove_tombstones(GRACE).await.unwrap();
}

async fn remove(world: &World, role: Role, collection: &str, id: &str) {
    let (id, any) = (Bson::String(id.to_owned()), Guard::Fields(doc! {}));
    let store = world.store(role);
    store
        .write(collection, &id, &any, &Change::Remove)
        .await
        .unwrap();
}

/// What a repeated request finds: done, nothing live anywhere, and a later sign-up above it all.
async fn is_erased(world: &World, user: &UserId) {
    let erased = world.erasure().erase(user).await.unwrap();
    assert_eq!(erased.pending, []);
    assert_eq!(world.users.read(user).await, Ok(None));
    for role in [
        Role::ExternalUsers,
        Role::RaseenTempUser,
        Role::RaseenMainUser,
        Role::SrieMainUser,
    ] {
        let copy = world.copy(role, user).await;
        let is_live = |copy: &RawDocumentBuf| document::state(copy) != Some(State::Erased);
        assert!(!copy.as_ref().is_some_and(is_live), "{role}: {copy:?}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_made_while_the_ledger_was_away_is_erased(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world.put(&external(), 1).await.unwrap();
    erased(&world, &external()).await;
    world.faults.set_down(Role::EvaluationAudit, true);
    world.put(&external(), 2).await.unwrap();
    world.faults.heal();
    is_erased(&world, &external()).await;
    let again = world.put(&external(), 3).await.unwrap();
    assert!(again.created && again.version > Version::of_erasure(2).unwrap());
}

/// The next write or read after the ledger's return raises it, so that no import takes it for what was erased.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_made_while_the_ledger_was_away_is_raised_above_its_fence(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(true, false)] by_a_write: bool,
) {
    let world = World::new(backend).await;
    world.put(&external(), 1).await.unwrap();
    erased(&world, &external()).await;
    world.faults.set_down(Role::EvaluationAudit, true);
    world.put(&external(), 2).await.unwrap();
    world.faults.heal();
    if by_a_write {
        let receipt = world.put(&external(), 3).await.unwrap();
        let stored = world.copy(Role::ExternalUsers, &external()).await.unwrap();
        assert_eq!(document::version(&stored), Some(receipt.version));
    } else {
        world.users.read(&external()).await.unwrap().unwrap();
    }
    let stored = world.copy(Role::ExternalUsers, &external()).await.unwrap();
    assert!(document::version(&stored) > Version::of_erasure(1));

    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("dump");
    let dumps = DumpService::new(world.reopened().await);
    dumps.export(&place, false, &NoProgress).await.unwrap();
    let users = Role::ExternalUsers.users().unwrap();
    remove(&world, Role::ExternalUsers, users, external().as_str()).await;
    dumps
        .import(&place, &ImportOptions::default(), &NoProgress)
        .await
        .unwrap();
    assert!(world.users.read(&external()).await.unwrap().is_some());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn copies_put_back_below_the_fence_are_erased_again(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, DAY + HOUR).await;
    world.migrate().await.unwrap();
    let main = world.copy(Role::RaseenMainUser, &user).await.unwrap();
    erased(&world, &user).await;
    world.plant(Role::RaseenMainUser, main.clone()).await;
    world.plant(Role::SrieMainUser, main).await;
    is_erased(&world, &user).await;
}

/// The ledger comes from a copy that is older than two erasures of the user.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_put_back_from_an_older_copy_hides_nothing(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(true, false)] is_external: bool,
) {
    let world = World::new(backend).await;
    let user = if is_external {
        external()
    } else {
        crate::world::user(1)
    };
    for n in 0..2 {
        world.put(&user, n).await.unwrap();
        world.erasure().erase(&user).await.unwrap();
    }
    let newest = world.put(&user, 9).await.unwrap();
    assert_eq!(newest.version.epoch(), 2);
    for entry in world
        .everything(Role::EvaluationAudit, collection::ERASURES)
        .await
    {
        let id = entry.get_str("_id").unwrap().to_owned();
        remove(&world, Role::EvaluationAudit, collection::ERASURES, &id).await;
    }
    is_erased(&world, &user).await;
    assert_eq!(world.put(&user, 1).await.unwrap().version.epoch(), 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_live_copy_exactly_at_a_fence_is_erased(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::RaseenTempUser, Role::RaseenMainUser, Role::SrieMainUser)] role: Role,
    #[values(1, 2)] epoch: i64,
) {
    let world = World::new(backend).await;
    let user = crate::world::user(1);
    let fence = Version::of_erasure(epoch).unwrap();
    world.plant(role, native_user(1, fence.get()).build()).await;
    is_erased(&world, &user).await;
}

/// No epoch is left above it: its place is taken by a tombstone above which nothing can begin.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_version_near_the_last_is_erased_and_its_id_stays_closed(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(i64::MAX, i64::MAX - 5)] version: i64,
) {
    let world = World::new(backend).await;
    let user = crate::world::user(1);
    for role in [Role::RaseenTempUser, Role::SrieMainUser] {
        world.plant(role, native_user(1, version).build()).await;
    }
    is_erased(&world, &user).await;
    is_erased(&world, &user).await;
    let refused = world.put(&user, 1).await;
    assert!(
        matches!(refused, Err(UsersError::Quarantined(_))),
        "{refused:?}"
    );
}

/// What srie holds cannot be read when the fence is chosen, and lies above it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_could_not_be_read_is_erased_when_its_database_returns(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::RaseenTempUser, Role::RaseenMainUser, Role::SrieMainUser)] role: Role,
) {
    let world = World::new(backend).await;
    let user = crate::world::user(1);
    let above = Version::of_erasure(5).unwrap().next().unwrap();
    world.plant(role, native_user(1, above.get()).build()).await;
    world.faults.set_down(role, true);
    let erased = world.erasure().erase(&user).await.unwrap();
    assert_eq!(erased.pending, [role]);
    world.faults.heal();
    if role == Role::RaseenTempUser {
        // Before it was finished in the background: a new life waits for that, and is not taken for the old one.
        let new_life = world.put(&user, 7).await.unwrap();
        assert!(new_life.created);
        world.erasure().finish_pending().await.unwrap();
        let kept = world.users.read(&user).await.unwrap().unwrap();
        assert_eq!(kept.version(), Some(new_life.version));
    } else {
        assert_eq!(world.erasure().finish_pending().await, Ok(0));
        is_erased(&world, &user).await;
    }
}

/// A new life begins while srie is away with the erasure pending: it is left alone, and does not move there before.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_into_a_database_where_an_erasure_is_pending(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, DAY + HOUR).await;
    world.migrate().await.unwrap();
    let old = world.copy(Role::SrieMainUser, &user).await.unwrap();
    world.faults.set_down(Role::SrieMainUser, true);
    world.erasure().erase(&user).await.unwrap();
    let new_life = world.put(&user, 2).await.unwrap();
    world.faults.heal();
    // srie is back, and the erasure has not been brought to it yet.
    world.date_back(&user, DAY + HOUR).await;
    let summary = world.migrate().await.unwrap();
    assert_eq!((summary.moved, summary.deferred), (0, 1));
    assert_eq!(world.copy(Role::SrieMainUser, &user).await, Some(old));

    assert_eq!(world.erasure().finish_pending().await, Ok(0));
    world.clock.advance(HOUR);
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    let found = world.users.read(&user).await.unwrap().unwrap();
    assert_eq!(found.version(), Some(new_life.version));
    world.check_invariants().await;
}

/// Repeated while a database is away: the fence stays, and a life that began meanwhile is not part of it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_retried_erasure_keeps_its_fence(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, DAY + HOUR).await;
    world.migrate().await.unwrap();
    world.faults.set_down(Role::SrieMainUser, true);
    let first = world.erasure().erase(&user).await.unwrap();
    let again = world.erasure().erase(&user).await.unwrap();
    assert_eq!(again, first);
    world.put(&user, 2).await.unwrap();
    world.faults.heal();
    let mut upkeep = Upkeep::new(Arc::clone(&world.engine), GRACE);
    upkeep.round(Duration::ZERO).await;
    assert!(world.users.read(&user).await.unwrap().is_some());
}

/// The erasure is closed between the look into the ledger and the tombstone that is put back.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_entry_leaves_no_tombstone_that_stays(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = crate::world::user(1);
    world.put(&user, 1).await.unwrap();
    world.erasure().erase(&user).await.unwrap();
    // A new life enters, and its second look at main fails: the entry is withdrawn.
    let confirming = Fault::nth(2, Moment::Before)
        .of("find")
        .to(Role::RaseenMainUser);
    world.faults.plan(confirming.times(20));
    let tombstone = Fault::nth(2, Moment::Before)
        .of("write")
        .to(Role::RaseenTempUser);
    let hold = world.faults.hold(tombstone);
    let users = world.users.clone();
    let entering = tokio::spawn({
        let user = user.clone();
        async move {
            let (section, value) = (crate::world::section(), crate::world::content(1, 2));
            users
                .put(&user, &section, value, tierkeep_engine::Condition::None)
                .await
        }
    });
    hold.reached().await;
    world.faults.heal();
    world.clock.advance(GRACE + HOUR);
    world.erasure().remove_tombstones(GRACE).await.unwrap();
    hold.release();
    let _ = entering.await.unwrap();
    let temp = world.all(Role::RaseenTempUser).await;
    let is_tombstone = |document: &RawDocumentBuf| document::state(document) == Some(State::Erased);
    assert!(!temp.iter().any(is_tombstone), "{temp:?}");
}

/// A pause was given up and arrives after a resume.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_comes_late_undoes_no_resume(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    assert!(world.service().pause().await.unwrap());
    assert!(world.service().resume().await.unwrap());
    let amend = Fault::nth(1, Moment::Before)
        .of("amend")
        .to(Role::EvaluationAudit);
    let late = world.faults.delay(amend.clone());
    world.faults.plan(amend.times(50));
    assert!(world.service().pause().await.is_err());
    assert!(late.is_on_its_way());
    world.faults.heal();
    // The operator sees the error and makes sure that the mover continues.
    assert!(!world.service().resume().await.unwrap());
    late.arrive().await.unwrap();
    assert!(!world.service().is_paused().await.unwrap());
    assert_eq!(
        world
            .store(Role::EvaluationAudit)
            .count(collection::CONTROL, &Query::Equal(doc! { "_id": "mover" }))
            .await
            .unwrap(),
        1
    );
}

/// A note of progress comes late: what others have finished meanwhile is not pending again, and the life that began
/// there is left alone.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_late_note_makes_no_finished_database_pending_again(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = crate::world::user(1);
    world.put(&user, 1).await.unwrap();
    world.faults.set_down(Role::RaseenTempUser, true);
    // The eraser stops before it notes that temp is left to do.
    let first = Fault::nth(1, Moment::Before)
        .of("amend")
        .to(Role::EvaluationAudit);
    let hold = world.faults.hold(first);
    let erasure = world.erasure();
    let erasing = tokio::spawn({
        let user = user.clone();
        async move { erasure.erase(&user).await }
    });
    hold.reached().await;
    world.faults.set_down(Role::RaseenTempUser, false);
    // A process that asks the ledger now.
    let (users, _) = world.restarted().await;
    let (section, value) = (crate::world::section(), crate::world::content(1, 7));
    let new_life = users.put(&user, &section, value, tierkeep_engine::Condition::None);
    let new_life = new_life.await.unwrap();
    assert!(new_life.created);
    hold.release();
    erasing.await.unwrap().unwrap();
    for _ in 0..2 {
        world.erasure().finish_pending().await.unwrap();
    }
    let found = world.users.read(&user).await.unwrap().unwrap();
    assert_eq!(found.version(), Some(new_life.version));
}

/// What an erasure could not read in main or srie is the source of nothing.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_could_not_be_read_is_not_copied_up(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::RaseenMainUser, Role::SrieMainUser)] role: Role,
) {
    let world = World::new(backend).await;
    let user = crate::world::user(1);
    let above = Version::of_erasure(5).unwrap().next().unwrap();
    let old = native_user(1, above.get())
        .set(
            "analysis_progress",
            tierkeep_core::bson::rawdoc! { "old": true },
        )
        .build();
    world.plant(role, old).await;
    world.faults.set_down(role, true);
    world.erasure().erase(&user).await.unwrap();
    world.faults.heal();
    let new_life = world.put(&user, 7).await.unwrap();
    assert!(new_life.created);
    world.erasure().finish_pending().await.unwrap();
    let temp = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    assert!(temp.get("analysis_progress").unwrap().is_none());
}
