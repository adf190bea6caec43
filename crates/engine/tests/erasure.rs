//! Erasing users: erased content does not come back, also when a process crashes or a write is late.

use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::document::{self, State};
use tierkeep_core::store::{Change, Class, Guard};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_engine::{Condition, EraseError, ErasureService, NoProgress, RunOptions, UsersError};
use tierkeep_testkit::documents::SeedUser;
use tierkeep_testkit::fault::{Fault, Moment};
use tokio_util::sync::CancellationToken;

use crate::world::{self, Backend, DAY, HOUR, World, content, section};

const TIERS: [Role; 3] = [
    Role::RaseenTempUser,
    Role::RaseenMainUser,
    Role::SrieMainUser,
];
const GRACE: Duration = Duration::from_hours(720);

pub fn tombstone(epoch: i64) -> Version {
    Version::of_erasure(epoch).unwrap()
}

/// A user with one version in main and srie, and a newer one in temp.
pub async fn in_every_tier(world: &World, n: u32) -> UserId {
    let user = world.staged(n, DAY + HOUR).await;
    world.migrate().await.unwrap();
    put(world, &user, 1).await;
    user
}

pub async fn put(world: &World, user: &UserId, round: i32) -> Version {
    world.put(user, round).await.unwrap().version
}

pub async fn sees(world: &World, user: &UserId) -> Option<RawDocumentBuf> {
    world
        .users
        .read(user)
        .await
        .unwrap()
        .map(|found| found.document)
}

/// No copy anywhere holds content below the tombstone.
pub async fn assert_gone(world: &World, user: &UserId, epoch: i64) {
    for role in TIERS {
        for copy in world.all(role).await {
            let theirs = document::user_id(&copy) == Some(user.as_str());
            let old = document::version(&copy).is_none_or(|version| version < tombstone(epoch));
            let live = document::state(&copy) != Some(State::Erased);
            assert!(!(theirs && old && live), "{role} still holds {copy:?}");
        }
    }
}

async fn entries(world: &World) -> Vec<RawDocumentBuf> {
    world
        .everything(Role::EvaluationAudit, collection::ERASURES)
        .await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_erased_user_is_gone_and_a_new_life_starts_above(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let other = in_every_tier(&world, 2).await;
    let user = in_every_tier(&world, 1).await;
    let erased = world.erasure().erase(&user).await.unwrap();
    assert_eq!((erased.epoch, erased.pending.len()), (1, 0));
    assert_gone(&world, &user, 1).await;
    assert!(sees(&world, &user).await.is_none());
    assert!(sees(&world, &other).await.is_some());
    for role in TIERS {
        let stone = world.copy(role, &user).await.unwrap();
        assert_eq!(document::version(&stone), Some(tombstone(1)));
        assert!(stone.get("scan_cache").unwrap().is_none());
    }
    // Nothing is left, so erasing again is no new erasure.
    assert_eq!(world.erasure().erase(&user).await.unwrap().epoch, 1);

    let version = put(&world, &user, 5).await;
    assert_eq!(Some(version), tombstone(1).next());
    world.date_back(&user, DAY + HOUR).await;
    world.date_back(&other, DAY + HOUR).await;
    assert_eq!(world.migrate().await.unwrap().moved, 2);
    let moved = world.copy(Role::SrieMainUser, &user).await.unwrap();
    assert_eq!(document::version(&moved), Some(version));
    assert_eq!(world.erasure().erase(&user).await.unwrap().epoch, 2);
    assert_gone(&world, &user, 2).await;
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_of_a_database_that_is_away_is_finished_when_it_is_back(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::RaseenTempUser, Role::RaseenMainUser, Role::SrieMainUser)] away: Role,
) {
    let world = World::new(backend).await;
    let user = in_every_tier(&world, 1).await;
    world.faults.set_down(away, true);
    let erased = world.erasure().erase(&user).await.unwrap();
    assert_eq!(erased.pending, [away]);
    assert_eq!(world.erasure().finish_pending().await.unwrap(), 1);
    if away == Role::SrieMainUser {
        assert!(sees(&world, &user).await.is_none());
        assert_eq!(Some(put(&world, &user, 5).await), tombstone(1).next());
    }
    world.faults.heal();
    let visible = sees(&world, &user).await;
    assert_eq!(visible.is_some(), away == Role::SrieMainUser);
    assert_eq!(world.erasure().finish_pending().await.unwrap(), 0);
    assert_gone(&world, &user, 1).await;
    let visible = sees(&world, &user).await;
    assert_eq!(visible.is_some(), away == Role::SrieMainUser);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn while_a_new_life_begins_the_old_one_stays_hidden(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = in_every_tier(&world, 1).await;
    world.faults.set_down(Role::RaseenMainUser, true);
    world.erasure().erase(&user).await.unwrap();
    world.faults.heal();
    // Main still holds the old life. A new one enters temp over the tombstone and stops half way: the calls before are
    // the erasure's, which is pending, an attempt in place and the entry.
    let confirmation = Fault::nth(4, Moment::Before)
        .of("write")
        .to(Role::RaseenTempUser);
    world.faults.plan(confirmation.times(1_000));
    world.put(&user, 5).await.unwrap_err();
    world.faults.heal();
    let entry = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    assert_eq!(document::state(&entry), Some(State::Entering), "{entry:?}");
    assert!(sees(&world, &user).await.is_none());
    // And while main is away, srie's copy is no answer either.
    world.faults.set_down(Role::RaseenMainUser, true);
    assert!(matches!(
        world.users.read(&user).await,
        Err(UsersError::Unavailable(_))
    ));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn without_its_ledger_nothing_is_erased(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = in_every_tier(&world, 1).await;
    world.faults.set_down(Role::EvaluationAudit, true);
    let refused = world.erasure().erase(&user).await;
    assert!(matches!(refused, Err(EraseError::Unavailable(_))));
    world.faults.heal();
    assert!(sees(&world, &user).await.is_some());
    assert_eq!(world.erasure().finish_pending().await.unwrap(), 0);
    assert!(sees(&world, &user).await.is_some());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_cut_off_at_any_step_is_finished_or_never_was(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut crashes = 0;
    for at in 0.. {
        let world = World::new(backend).await;
        let user = in_every_tier(&world, 1).await;
        world.faults.crash_after(at);
        let run = world.erasure().erase(&user).await;
        world.faults.heal();
        world.erasure().finish_pending().await.unwrap();
        if entries(&world).await.is_empty() {
            assert!(run.is_err());
            assert!(sees(&world, &user).await.is_some());
        } else {
            assert_gone(&world, &user, 1).await;
            assert!(sees(&world, &user).await.is_none());
        }
        if run.is_ok_and(|erased| erased.pending.is_empty()) {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 8, "only {crashes} crash points were reached");
}

/// Two weeks in a debugger: a mover that read its batch before the erasure writes it after the tombstones
/// are gone.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_stood_still_longer_than_the_tombstones_brings_nothing_back(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, DAY + HOUR).await;
    let first_copy = Fault::nth(1, Moment::Before)
        .of("insert")
        .to(Role::SrieMainUser);
    let hold = world.faults.hold(first_copy);
    let late = world.migrate_meanwhile();
    hold.reached().await;
    let erasure = world.erasure();
    assert_eq!(erasure.erase(&user).await.unwrap().pending, []);
    world.clock.advance(GRACE + HOUR);
    assert_eq!(erasure.remove_tombstones(GRACE).await.unwrap(), 1);
    for role in TIERS {
        assert!(world.all(role).await.is_empty(), "{role}");
    }
    hold.release();
    let summary = late.await.unwrap().unwrap();
    assert_eq!(summary.moved, 0);
    assert_gone(&world, &user, 1).await;
    assert!(sees(&world, &user).await.is_none());
    let records = world.records().await;
    assert_eq!(records[0].get_str("status").unwrap(), "completed");
}

/// The same mover is killed after it wrote.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_late_mover_left_behind_is_buried_by_the_next_run(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, DAY + HOUR).await;
    let first_copy = Fault::nth(1, Moment::Before)
        .of("insert")
        .to(Role::SrieMainUser);
    let hold = world.faults.hold(first_copy);
    let late = world.migrate_meanwhile();
    hold.reached().await;
    world.erasure().erase(&user).await.unwrap();
    world.clock.advance(GRACE + HOUR);
    world.erasure().remove_tombstones(GRACE).await.unwrap();
    // The copy to srie goes through, and then nothing.
    world.faults.crash_after(1);
    hold.release();
    late.await.unwrap().unwrap_err();
    world.faults.heal();
    let copy = world.copy(Role::SrieMainUser, &user).await.unwrap();
    assert_eq!(document::state(&copy), Some(State::Live));
    world.migrate().await.unwrap();
    assert_gone(&world, &user, 1).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_stood_still_longer_than_the_tombstones_brings_nothing_back(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, DAY + HOUR).await;
    world.migrate().await.unwrap();
    // The writer has read main and is about to copy it up into temp.
    let entry = Fault::nth(1, Moment::Before)
        .of("insert")
        .to(Role::RaseenTempUser);
    let hold = world.faults.hold(entry);
    let (users, _) = world.restarted().await;
    let late = tokio::spawn({
        let user = user.clone();
        async move {
            let patch = bson::raw::RawDocumentBuf::try_from(&doc! { "patched": true }).unwrap();
            users
                .patch(&user, &section(), &patch, Condition::None)
                .await
        }
    });
    hold.reached().await;
    world.erasure().erase(&user).await.unwrap();
    world.clock.advance(GRACE + HOUR);
    world.erasure().remove_tombstones(GRACE).await.unwrap();
    hold.release();
    // It starts over, and what it starts is a new life.
    let version = late.await.unwrap().unwrap().version;
    assert_eq!(Some(version), tombstone(1).next());
    let found = sees(&world, &user).await.unwrap();
    let cache = found.get_document("scan_cache").unwrap();
    assert!(cache.get_bool("patched").unwrap());
    assert!(
        cache.get("z").unwrap().is_none(),
        "the old life shows through"
    );
    assert_gone(&world, &user, 1).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_eraser_that_stood_still_past_the_grace_takes_its_tombstones_back(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = in_every_tier(&world, 1).await;
    let stone = Fault::nth(1, Moment::Before)
        .of("put_newer")
        .to(Role::RaseenTempUser);
    let hold = world.faults.hold(stone);
    let late = tokio::spawn({
        let (erasure, user) = (world.erasure(), user.clone());
        async move { erasure.erase(&user).await }
    });
    hold.reached().await;
    let erasure = world.erasure();
    assert_eq!(erasure.finish_pending().await.unwrap(), 0);
    world.clock.advance(GRACE + HOUR);
    assert_eq!(erasure.remove_tombstones(GRACE).await.unwrap(), 1);
    hold.release();
    assert_eq!(late.await.unwrap().unwrap().pending, []);
    for role in TIERS {
        assert_eq!(world.all(role).await, [], "{role}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn tombstones_go_after_their_grace_and_the_ledger_stays(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = in_every_tier(&world, 1).await;
    let erasure = world.erasure();
    erasure.erase(&user).await.unwrap();
    world.clock.advance(GRACE / 2);
    assert_eq!(erasure.remove_tombstones(GRACE).await.unwrap(), 0);
    world.clock.advance(GRACE);
    world.faults.set_down(Role::SrieMainUser, true);
    erasure.remove_tombstones(GRACE).await.unwrap_err();
    world.faults.heal();
    assert_eq!(erasure.remove_tombstones(GRACE).await.unwrap(), 1);
    assert_eq!(erasure.remove_tombstones(GRACE).await.unwrap(), 0);
    for role in TIERS {
        assert!(world.all(role).await.is_empty(), "{role}");
    }
    let entries = entries(&world).await;
    assert_eq!(entries.len(), 1);
    assert!(!format!("{entries:?}").contains(user.as_str()));
    assert_eq!(Some(put(&world, &user, 5).await), tombstone(1).next());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_other_programs_stored_of_the_user_is_erased_too(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let seed = SeedUser::new(1, world.ago(HOUR).await);
    let user = UserId::parse(&seed.user_id()).unwrap();
    for role in TIERS {
        world.plant(role, seed.build()).await;
    }
    world.erasure().erase(&user).await.unwrap();
    assert_gone(&world, &user, 1).await;
    assert!(sees(&world, &user).await.is_none());
    // What another program writes afterwards is a new life.
    world
        .plant(
            Role::RaseenTempUser,
            SeedUser::new(1, world.ago(2 * DAY).await).build(),
        )
        .await;
    assert_eq!(world.migrate().await.unwrap().moved, 1);
    let moved = world.copy(Role::RaseenMainUser, &user).await.unwrap();
    assert_eq!(document::version(&moved), tombstone(1).next());
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_external_user_is_erased_from_external_users(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = UserId::external("Reader").unwrap();
    put(&world, &user, 1).await;
    let erased = world.erasure().erase(&user).await.unwrap();
    assert_eq!((erased.epoch, erased.pending.len()), (1, 0));
    assert!(sees(&world, &user).await.is_none());
    assert_eq!(Some(put(&world, &user, 5).await), tombstone(1).next());
    world.erasure().erase(&user).await.unwrap();
    world.clock.advance(GRACE + HOUR);
    assert_eq!(world.erasure().remove_tombstones(GRACE).await.unwrap(), 1);
    assert_eq!(Some(put(&world, &user, 6).await), tombstone(2).next());
}

async fn lose_the_key(world: &World) {
    let audit = world.store(Role::EvaluationAudit);
    let key = Bson::String("erasure_key".to_owned());
    let guard = Guard::Fields(doc! { "kind": "erasure_key" });
    audit
        .write(collection::CONTROL, &key, &guard, &Change::Remove)
        .await
        .unwrap();
}

/// A ledger without its key answers with an error, and the operation that asked it stops.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_rests_on_a_ledger_that_lost_its_key(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = in_every_tier(&world, 1).await;
    world.erasure().erase(&user).await.unwrap();
    let due = world.staged(2, DAY + HOUR).await;
    lose_the_key(&world).await;
    let (users, mover) = world.restarted().await;
    let stop = CancellationToken::new();
    let run = mover.migrate_expired_data(RunOptions::default(), &NoProgress, &stop);
    assert_eq!(run.await.unwrap_err().error.class, Class::Corrupt);
    assert!(world.copy(Role::RaseenTempUser, &due).await.is_some());
    let new = [world::user(3), UserId::external("reader").unwrap()];
    for new in new {
        let section = section();
        let put = users.put(&new, &section, content(3, 0), Condition::None);
        match put.await {
            Err(UsersError::Unavailable(error)) => assert_eq!(error.class, Class::Corrupt),
            other => panic!("{new}: {other:?}"),
        }
        assert!(users.read(&new).await.unwrap().is_none());
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_lost_its_key_is_an_error_and_no_clean_slate(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = in_every_tier(&world, 1).await;
    world.erasure().erase(&user).await.unwrap();
    lose_the_key(&world).await;
    let other = ErasureService::new(world.reopened().await);
    assert!(matches!(
        other.erase(&user).await,
        Err(EraseError::Unavailable(_))
    ));
}

/// A mover that runs before the erasure has reached temp finds a tombstone in main.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_above_what_moves_is_no_contradiction(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = in_every_tier(&world, 1).await;
    world.date_back(&user, DAY + HOUR).await;
    world.faults.set_down(Role::RaseenTempUser, true);
    world.erasure().erase(&user).await.unwrap();
    world.faults.heal();
    let summary = world.migrate().await.unwrap();
    assert_eq!((summary.moved, summary.quarantined), (0, 0));
    assert_gone(&world, &user, 1).await;
    assert!(sees(&world, &user).await.is_none());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn tombstones_that_are_put_again_go_after_another_grace(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(false, true)] cut_off: bool,
) {
    let world = World::new(backend).await;
    let user = world.staged(1, DAY + HOUR).await;
    let copy = Fault::nth(1, Moment::Before)
        .of("insert")
        .to(Role::RaseenMainUser);
    let hold = world.faults.hold(copy);
    let late = world.migrate_meanwhile();
    hold.reached().await;
    world.erasure().erase(&user).await.unwrap();
    world.clock.advance(GRACE);
    assert_eq!(world.erasure().remove_tombstones(GRACE).await.unwrap(), 1);
    if cut_off {
        // The next run finds its record.
        late.abort();
        late.await.unwrap_err();
        world.migrate().await.unwrap();
    } else {
        hold.release();
        late.await.unwrap().unwrap();
    }
    for role in TIERS {
        let stone = world.copy(role, &user).await.unwrap();
        assert_eq!(document::state(&stone), Some(State::Erased));
    }
    assert_eq!(world.erasure().remove_tombstones(GRACE).await.unwrap(), 0);
    world.clock.advance(GRACE);
    assert_eq!(world.erasure().remove_tombstones(GRACE).await.unwrap(), 1);
    for role in TIERS {
        assert_eq!(world.copy(role, &user).await, None);
    }
    let entries = entries(&world).await;
    assert_eq!(entries[0].get_str("stage").unwrap(), "closed");
    assert!(entries[0].get_str("user_id").is_err());
}
