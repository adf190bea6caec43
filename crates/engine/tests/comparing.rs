//! Main against srie: each way in which a document and its backup can differ is found and repaired, and a document
//! that is being moved is not reported as a difference.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc, rawdoc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::compare::{Class, Side};
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Edit, Location};
use tierkeep_core::hr::{self, HrId};
use tierkeep_core::mover::main_form;
use tierkeep_core::store::{Change, Guard, Written};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_engine::{Condition, Verification, Verified, VerifyOptions};
use tierkeep_testkit::documents::{SeedUser, native_user};
use tierkeep_testkit::invariants;
use tokio_util::sync::CancellationToken;

use crate::scale::calls;
use crate::world::{Backend, DAY, HOUR, World, content, section, user};

const MAIN: Role = Role::RaseenMainUser;
const SRIE: Role = Role::SrieMainUser;

pub const LOOK: VerifyOptions = VerifyOptions {
    quick: false,
    repair: false,
    prefer: None,
    sample: None,
};
pub const REPAIR: VerifyOptions = VerifyOptions {
    quick: false,
    repair: true,
    prefer: None,
    sample: None,
};

pub async fn verify(world: &World, options: &VerifyOptions) -> Verified {
    let verification = Verification::new(Arc::clone(&world.engine));
    let stop = CancellationToken::new();
    verification.run(options, &|_| (), &stop).await.unwrap()
}

/// Users 0 to `n`, moved.
pub async fn moved(world: &World, n: u32) {
    for n in 0..n {
        world.staged(n, DAY + HOUR).await;
    }
    let summary = world.migrate().await.unwrap();
    assert_eq!(summary.moved, u64::from(n));
}

/// Replaces the copy of `user` by another document, or by nothing.
pub async fn tamper(world: &World, role: Role, user: &UserId, by: Option<RawDocumentBuf>) {
    let change = by.map_or(Change::Remove, Change::Replace);
    let id = Bson::String(user.to_string());
    let any = Guard::Fields(doc! {});
    let written = world
        .store(role)
        .write("internal_users", &id, &any, &change)
        .await
        .unwrap();
    assert!(matches!(written, Written::Applied(_)));
}

pub async fn held(world: &World, role: Role, user: &UserId) -> RawDocumentBuf {
    world.copy(role, user).await.unwrap()
}

/// One byte deep inside, under the claims of before.
pub fn one_byte(document: &RawDocumentBuf) -> RawDocumentBuf {
    let mut bytes = document.clone().into_bytes();
    let at = bytes.windows(4).position(|four| four == b"xxxx").unwrap();
    bytes[at + 2] = b'y';
    RawDocumentBuf::from_bytes(bytes).unwrap()
}

/// The int64 `z` as an int32.
fn other_type(document: &RawDocumentBuf) -> RawDocumentBuf {
    let cache = document.get_document("scan_cache").unwrap();
    let z = i32::try_from(cache.get_i64("z").unwrap()).unwrap();
    let cache = Edit::new().set("z", z).apply(cache);
    Edit::new().set("scan_cache", cache).apply(document)
}

/// The keys of `scan_cache` the other way round.
fn other_order(document: &RawDocumentBuf) -> RawDocumentBuf {
    let cache = document.get_document("scan_cache").unwrap();
    let mut keys: Vec<_> = cache.iter().map(Result::unwrap).collect();
    keys.reverse();
    let mut turned = RawDocumentBuf::new();
    for (key, value) in keys {
        turned.append(key, value);
    }
    Edit::new().set("scan_cache", turned).apply(document)
}

/// Another content of the same version that vouches for itself.
fn other_content(document: &RawDocumentBuf) -> RawDocumentBuf {
    let other = Edit::new().set("scan_cache", rawdoc! { "other": true });
    let other = other.apply(document);
    main_form(&other, &Digest::of(&other))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_system_has_no_differences(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 9).await;
    let erased = user(3);
    world.erasure().erase(&erased).await.unwrap();
    world.staged(20, HOUR).await;
    let found = verify(&world, &LOOK).await;
    assert_eq!((found.checked, found.matched), (8, 8), "{found:?}");
    assert_eq!(found.left(), 0);
    assert!(found.complete && found.findings.is_empty());
}

#[rstest]
#[case::one_byte(one_byte, Class::CorruptSrie, Class::CorruptMain)]
#[case::other_type(other_type, Class::CorruptSrie, Class::CorruptMain)]
#[case::other_order(other_order, Class::CorruptSrie, Class::CorruptMain)]
#[case::other_content(other_content, Class::Undecided, Class::Undecided)]
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_changed_is_found_and_mended_where_digests_decide(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[case] change: fn(&RawDocumentBuf) -> RawDocumentBuf,
    #[case] in_srie: Class,
    #[case] in_main: Class,
) {
    for (role, class) in [(SRIE, in_srie), (MAIN, in_main)] {
        let world = World::new(backend).await;
        moved(&world, 5).await;
        let user = user(2);
        let sound = held(&world, role, &user).await;
        tamper(&world, role, &user, Some(change(&sound))).await;

        let found = verify(&world, &LOOK).await;
        let counts = (found.checked, found.matched, found.different);
        assert_eq!(counts, (5, 4, 1), "{found:?}");
        assert_eq!(found.findings[0].class, class);
        assert_eq!(found.findings[0].id, user.as_str());

        let mended = verify(&world, &REPAIR).await;
        if class == Class::Undecided {
            assert_eq!(mended.repaired, 0);
            assert_eq!(held(&world, role, &user).await, change(&sound));
            let prefer = if role == SRIE { Side::Main } else { Side::Srie };
            let decided = VerifyOptions {
                prefer: Some(prefer),
                ..REPAIR
            };
            assert_eq!(verify(&world, &decided).await.repaired, 1);
        } else {
            assert_eq!((mended.different, mended.repaired), (1, 1));
        }
        assert_eq!(held(&world, role, &user).await, sound);
        assert_eq!(verify(&world, &LOOK).await.matched, 5);
        world.check_invariants().await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_one_side_lacks_or_holds_older_is_brought_from_the_other(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 6).await;
    let newer = |n: u32| {
        let newer = native_user(n, 9).at(Location::Main).build();
        main_form(&newer, &Digest::of(&newer))
    };
    tamper(&world, SRIE, &user(0), None).await;
    tamper(&world, MAIN, &user(1), None).await;
    tamper(&world, MAIN, &user(2), Some(newer(2))).await;
    tamper(&world, SRIE, &user(3), Some(newer(3))).await;
    let main = world.all(MAIN).await;
    let srie = world.all(SRIE).await;

    let found = verify(&world, &LOOK).await;
    assert_eq!(
        (
            found.missing_in_backup,
            found.missing_in_main,
            found.different
        ),
        (1, 1, 2),
        "{found:?}"
    );
    assert_eq!((found.checked, found.matched, found.repaired), (6, 2, 0));
    let classes: Vec<Class> = found.findings.iter().map(|it| it.class).collect();
    let expected = [
        Class::MissingInSrie,
        Class::Orphan,
        Class::StaleInSrie,
        Class::SrieAhead,
    ];
    assert_eq!(classes, expected);
    assert_eq!(
        (world.all(MAIN).await, world.all(SRIE).await),
        (main.clone(), srie.clone())
    );

    let mended = verify(&world, &REPAIR).await;
    assert_eq!((mended.repaired, mended.left()), (4, 0), "{mended:?}");
    assert_eq!(held(&world, SRIE, &user(0)).await, main[0]);
    assert_eq!(held(&world, MAIN, &user(1)).await, srie[0]);
    assert_eq!(held(&world, SRIE, &user(2)).await, newer(2));
    assert_eq!(held(&world, MAIN, &user(3)).await, newer(3));
    assert_eq!(verify(&world, &REPAIR).await.matched, 6);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn content_of_an_erased_user_is_found_and_erased_again(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(true, false)] on_both: bool,
) {
    let world = World::new(backend).await;
    moved(&world, 3).await;
    let user = user(1);
    let before = held(&world, SRIE, &user).await;
    world.erasure().erase(&user).await.unwrap();
    let grace = std::time::Duration::ZERO;
    assert_eq!(world.erasure().remove_tombstones(grace).await.unwrap(), 1);
    world.plant(SRIE, before.clone()).await;
    if on_both {
        world.plant(MAIN, before).await;
    }
    let found = verify(&world, &LOOK).await;
    assert_eq!((found.checked, found.different), (3, 1), "{found:?}");
    assert_eq!(found.findings[0].class, Class::ErasedButPresent);
    assert_eq!(verify(&world, &REPAIR).await.repaired, 1);
    let after = verify(&world, &LOOK).await;
    assert_eq!((after.checked, after.matched), (2, 2));
    for role in [MAIN, SRIE] {
        let stone = held(&world, role, &user).await;
        assert_eq!(document::state(&stone), Some(document::State::Erased));
    }
    // The tombstones that were written again are removed again.
    assert_eq!(world.erasure().remove_tombstones(grace).await.unwrap(), 1);
    assert_eq!(world.copy(SRIE, &user).await, None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_a_database_has_not_heard_of_is_in_flight(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 2).await;
    world.faults.set_down(SRIE, true);
    world.erasure().erase(&user(1)).await.unwrap();
    world.faults.heal();
    let found = verify(&world, &REPAIR).await;
    assert_eq!(
        (found.matched, found.in_flight, found.left()),
        (1, 1, 0),
        "{found:?}"
    );
    world.erasure().finish_pending().await.unwrap();
    assert_eq!(verify(&world, &LOOK).await.checked, 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_was_cut_off_is_in_flight_while_temp_holds_it(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 2).await;
    world.staged(1, DAY + HOUR).await;
    world.staged(7, DAY + HOUR).await;
    world.faults.set_down(MAIN, true);
    world.migrate().await.unwrap_err();
    world.faults.heal();
    assert_eq!(world.all(SRIE).await.len(), 3);
    let found = verify(&world, &REPAIR).await;
    assert_eq!(
        (found.matched, found.in_flight, found.left()),
        (1, 2, 0),
        "{found:?}"
    );
    world.migrate().await.unwrap();
    assert_eq!(verify(&world, &LOOK).await.matched, 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_other_programs_are_compared_as_what_they_would_be_adopted_as(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 1).await;
    let at = world.ago(DAY).await;
    let seed = |n| SeedUser::new(n, at).at(Location::Main).build();
    let odd = |id: &str| rawdoc! { "_id": id, "something": "else" };
    for n in [50, 51] {
        world.plant(MAIN, seed(n)).await;
    }
    world.plant(SRIE, seed(50)).await;
    world.plant(SRIE, seed(52)).await;
    world.plant(MAIN, odd("both")).await;
    world.plant(SRIE, odd("both")).await;
    world.plant(SRIE, odd("one")).await;
    let found = verify(&world, &LOOK).await;
    assert_eq!((found.checked, found.matched), (6, 3), "{found:?}");
    assert_eq!(
        (
            found.missing_in_backup,
            found.missing_in_main,
            found.different
        ),
        (1, 1, 1)
    );
    let unreadable = found
        .findings
        .iter()
        .find(|it| it.class == Class::Unreadable);
    assert_eq!(unreadable.unwrap().id, "\"one\"");

    let mended = verify(&world, &REPAIR).await;
    assert_eq!((mended.repaired, mended.left()), (2, 1), "{mended:?}");
    for n in [51, 52] {
        let main = held(&world, MAIN, &user(n)).await;
        assert!(document::is_native(&main));
        assert_eq!(held(&world, SRIE, &user(n)).await, main);
    }
    assert_eq!(verify(&world, &LOOK).await.matched, 5);
}

/// Writers, movers and an eraser at work, and a verification beside them that never sees a difference.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_written_or_moved_is_taken_for_a_difference(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = Arc::new(World::new(backend).await);
    moved(&world, 24).await;
    let ended = Arc::new(AtomicBool::new(false));
    let mut at_work = Vec::new();
    for writer in 0..2 {
        let (world, ended) = (Arc::clone(&world), Arc::clone(&ended));
        at_work.push(tokio::spawn(async move {
            for round in 0.. {
                let who = user((round * 7 + writer) % 30);
                let value = content(round, 0);
                let users = &world.users;
                users
                    .put(&who, &section(), value, Condition::None)
                    .await
                    .unwrap();
                if who == user(11) {
                    world.erasure().erase(&who).await.unwrap();
                }
                if ended.load(Ordering::Relaxed) {
                    break;
                }
            }
        }));
    }
    for _ in 0..2 {
        let (world, ended) = (Arc::clone(&world), Arc::clone(&ended));
        at_work.push(tokio::spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                let now = tierkeep_engine::RunOptions {
                    older_than: Some(std::time::Duration::ZERO),
                    ..tierkeep_engine::RunOptions::default()
                };
                world.migrate_with(now).await.unwrap();
            }
        }));
    }
    let mut checked = 0;
    for _ in 0..15 {
        let found = verify(&world, &LOOK).await;
        assert_eq!(found.left(), 0, "{found:?}");
        assert_eq!(found.checked, found.matched + found.in_flight);
        checked += found.checked;
    }
    ended.store(true, Ordering::Relaxed);
    for task in at_work {
        task.await.unwrap();
    }
    assert!(checked > 15 * 20);
    let verdict = invariants::equal_versions_have_equal_digests(&[
        &world.all(MAIN).await,
        &world.all(SRIE).await,
    ]);
    verdict.unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_is_cut_off_anywhere_is_finished_by_the_next(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    for at in calls(backend) {
        let world = World::new(backend).await;
        damaged(&world).await;
        world.faults.crash_after(at);
        let verification = Verification::new(Arc::clone(&world.engine));
        let stop = CancellationToken::new();
        let run = verification.run(&REPAIR, &|_| (), &stop).await;
        let crashed = world.faults.has_crashed() && run.is_err();
        world.faults.heal();
        verify(&world, &REPAIR).await;
        assert_mended(&world, &format!("crash after call {at}")).await;
        if !crashed {
            assert!(at > 20, "only {at} calls");
            break;
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_a_repair_twice_is_once(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    use tierkeep_testkit::fault::{Fault, Moment};
    for operation in ["insert", "put_newer", "write", "amend", "find"] {
        let world = World::new(backend).await;
        damaged(&world).await;
        for nth in (1..200).step_by(2) {
            let fault = Fault::nth(nth, Moment::After).of(operation);
            world.faults.plan(fault);
        }
        verify(&world, &REPAIR).await;
        world.faults.heal();
        assert_mended(&world, operation).await;
    }
}

/// Something of every class that digests decide.
async fn damaged(world: &World) {
    moved(world, 6).await;
    let corrupt = one_byte(&held(world, SRIE, &user(0)).await);
    tamper(world, SRIE, &user(0), Some(corrupt)).await;
    let corrupt = one_byte(&held(world, MAIN, &user(1)).await);
    tamper(world, MAIN, &user(1), Some(corrupt)).await;
    tamper(world, SRIE, &user(2), None).await;
    tamper(world, MAIN, &user(3), None).await;
    let erased = held(world, SRIE, &user(4)).await;
    world.erasure().erase(&user(4)).await.unwrap();
    tamper(world, SRIE, &user(4), Some(erased)).await;
    let at = world.ago(DAY).await;
    let seed = SeedUser::new(60, at).at(Location::Main).build();
    world.plant(MAIN, seed).await;
}

async fn assert_mended(world: &World, when: &str) {
    let found = verify(world, &LOOK).await;
    assert_eq!((found.matched, found.left()), (6, 0), "{when}: {found:?}");
    for n in [0, 1, 2, 3, 5] {
        for role in [MAIN, SRIE] {
            let copy = held(world, role, &user(n)).await;
            let cache = copy.get_document("scan_cache").unwrap();
            assert_eq!(cache, content(n, 0).as_ref(), "{when}");
        }
    }
    let stone = held(world, SRIE, &user(4)).await;
    assert_eq!(document::state(&stone), Some(document::State::Erased));
    world.check_invariants().await;
}

const RECORDS: &str = "hr_candidates";

/// Records 0 to `n` of one version, in main and srie.
pub async fn recorded(world: &World, n: u32) -> Vec<RawDocumentBuf> {
    let records: Vec<RawDocumentBuf> = (0..n)
        .map(|n| record(n, 1, i32::try_from(n).unwrap()))
        .collect();
    for role in [Role::RaseenMainHr, Role::SrieMainHr] {
        world.store(role).insert(RECORDS, &records).await.unwrap();
    }
    records
}

pub fn record(n: u32, version: i64, content: i32) -> RawDocumentBuf {
    let id = HrId::parse(&format!("r{n:04}")).unwrap();
    let writing = hr::Writing {
        id: &id,
        before: None,
        version: Version::new(version).unwrap(),
        op: "op",
        at: bson::DateTime::from_millis(1_800_000_000_000),
    };
    let content = hr::Content::new(rawdoc! { "last_accessed": content, "text": "xxxx" }).unwrap();
    hr::as_backup(&writing.record(&content).unwrap())
}

pub async fn put_record(world: &World, role: Role, n: u32, by: Option<RawDocumentBuf>) {
    let change = by.map_or(Change::Remove, Change::Replace);
    let id = Bson::String(format!("r{n:04}"));
    let any = Guard::Fields(doc! {});
    let store = world.store(role);
    let written = store.write(RECORDS, &id, &any, &change).await.unwrap();
    assert!(matches!(written, Written::Applied(_)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn hr_records_are_compared_and_mended_too(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let records = recorded(&world, 9).await;
    let (main, srie) = (Role::RaseenMainHr, Role::SrieMainHr);
    put_record(&world, srie, 0, None).await;
    put_record(&world, main, 1, None).await;
    put_record(&world, main, 2, Some(record(2, 5, 2))).await;
    put_record(&world, srie, 3, Some(record(3, 5, 3))).await;
    put_record(&world, srie, 4, Some(one_byte(&records[4]))).await;
    let other = Edit::new().set("last_accessed", 77).apply(&records[5]);
    put_record(&world, main, 5, Some(other)).await;
    let pending = Edit::new().set_meta("backup_status", "pending");
    put_record(&world, main, 6, Some(pending.apply(&record(6, 2, 6)))).await;
    put_record(&world, srie, 7, Some(record(7, 1, 78))).await;

    let found = verify(&world, &LOOK).await;
    let counts = (found.checked, found.matched, found.in_flight);
    assert_eq!(counts, (9, 1, 1), "{found:?}");
    let classes: Vec<Class> = found.findings.iter().map(|it| it.class).collect();
    let expected = [
        Class::MissingInSrie,
        Class::Orphan,
        Class::StaleInSrie,
        Class::SrieAhead,
        Class::CorruptSrie,
        Class::CorruptMain,
        Class::Undecided,
    ];
    assert_eq!(classes, expected);
    assert!(found.findings.iter().all(|it| it.collection == RECORDS));
    let mended = verify(&world, &REPAIR).await;
    assert_eq!((mended.repaired, mended.left()), (6, 1), "{mended:?}");
    let mains = world.everything(main, RECORDS).await;
    for (n, copy) in world.everything(srie, RECORDS).await.iter().enumerate() {
        if n != 6 && n != 7 {
            assert_eq!(mains[n], *copy);
        }
    }
    assert_eq!(mains[4], records[4]);
    assert_eq!(mains[5], records[5]);
}
