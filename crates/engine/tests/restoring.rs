//! Restoring documents from srie to main, and replicating main to srie.

use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::compare::vouched;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, Edit, Location, State};
use tierkeep_core::user::UserId;
use tierkeep_engine::{
    BackedUp, Backup, Condition, Restoration, RestoreOptions, RestoreScope, Restored,
};
use tierkeep_testkit::documents::SeedUser;
use tokio_util::sync::CancellationToken;

use crate::comparing::{LOOK, moved, put_record, recorded, tamper, verify};
use crate::scale::calls;
use crate::world::{Backend, DAY, HOUR, World, content, section, user};

const MAIN: Role = Role::RaseenMainUser;
const SRIE: Role = Role::SrieMainUser;

pub const ALL: RestoreOptions = RestoreOptions {
    whom: RestoreScope::All,
    dry_run: false,
};

pub async fn restore(world: &World, options: &RestoreOptions) -> Restored {
    let restoration = Restoration::new(Arc::clone(&world.engine));
    let stop = CancellationToken::new();
    restoration.run(options, &|_| (), &stop).await.unwrap()
}

async fn back_up(world: &World) -> BackedUp {
    let backup = Backup::new(Arc::clone(&world.engine));
    let stop = CancellationToken::new();
    backup.run(&|_| (), &stop).await.unwrap()
}

/// Main as it is after it was lost: nothing, no stamp either.
async fn lose_main(world: &World) {
    for document in world.all(MAIN).await {
        let user = UserId::parse(document::user_id(&document).unwrap()).unwrap();
        tamper(world, MAIN, &user, None).await;
    }
    let any = tierkeep_core::store::Guard::Fields(doc! {});
    let id = Bson::String("tierkeep".into());
    let remove = tierkeep_core::store::Change::Remove;
    let stamps = tierkeep_core::db::collection::IDENTITY;
    let main = world.store(MAIN);
    main.write(stamps, &id, &any, &remove).await.unwrap();
}

async fn stamp(world: &World) -> Option<RawDocumentBuf> {
    let stamps = tierkeep_core::db::collection::IDENTITY;
    world.everything(MAIN, stamps).await.pop()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_main_that_was_lost_comes_back_byte_for_byte_under_a_running_service(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 12).await;
    let erased = user(3);
    world.erasure().erase(&erased).await.unwrap();
    let before: Vec<RawDocumentBuf> = world
        .all(MAIN)
        .await
        .into_iter()
        .filter(|document| document::state(document) == Some(State::Live))
        .collect();
    let deployment = stamp(&world).await.unwrap();
    lose_main(&world).await;

    let dry = restore(
        &world,
        &RestoreOptions {
            dry_run: true,
            ..ALL
        },
    )
    .await;
    assert_eq!(
        (dry.checked, dry.restored, dry.erased),
        (12, 11, 1),
        "{dry:?}"
    );
    assert!(world.all(MAIN).await.is_empty() && stamp(&world).await.is_none());

    let restored = restore(&world, &ALL).await;
    assert_eq!(
        (restored.restored, restored.failed()),
        (11, 0),
        "{restored:?}"
    );
    assert_eq!(world.all(MAIN).await, before);
    let stamped = stamp(&world).await.unwrap();
    let of = |stamp: &RawDocumentBuf| stamp.get_str("deployment").unwrap().to_owned();
    assert_eq!(of(&stamped), of(&deployment));
    assert!(world.users.read(&erased).await.unwrap().is_none());
    let again = restore(&world, &ALL).await;
    assert_eq!((again.restored, again.unchanged), (0, 11));
    assert_eq!(verify(&world, &LOOK).await.left(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_overwrites_nothing_newer_and_restores_no_erased_user(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 6).await;
    let old = world.all(SRIE).await;
    // Newer in main than in srie, older in main, in temp, erased with its tombstones gone, corrupt, contradicted.
    world.staged(0, DAY + HOUR).await;
    world.migrate().await.unwrap();
    tamper(&world, SRIE, &user(0), Some(old[0].clone())).await;
    let newer = world.copy(MAIN, &user(0)).await;
    world.staged(1, DAY + HOUR).await;
    world.migrate().await.unwrap();
    tamper(&world, MAIN, &user(1), Some(old[1].clone())).await;
    world.staged(2, HOUR).await;
    tamper(&world, MAIN, &user(2), None).await;
    world.erasure().erase(&user(3)).await.unwrap();
    let grace = std::time::Duration::ZERO;
    world.erasure().remove_tombstones(grace).await.unwrap();
    world.plant(SRIE, old[3].clone()).await;
    let corrupt = Edit::new().set("scan_cache", content(9, 9)).apply(&old[4]);
    tamper(&world, SRIE, &user(4), Some(corrupt)).await;
    tamper(&world, MAIN, &user(4), None).await;
    let other = vouched(&Edit::new().set("scan_cache", content(9, 9)).apply(&old[5]));
    tamper(&world, MAIN, &user(5), Some(other.clone())).await;

    let restored = restore(&world, &ALL).await;
    let expected = Restored {
        checked: 6,
        restored: 2,
        newer_in_main: 1,
        shadowed: 1,
        erased: 1,
        corrupt: 1,
        conflicts: 1,
        complete: true,
        problems: restored.problems.clone(),
        elapsed_ms: restored.elapsed_ms,
        ..Restored::default()
    };
    assert_eq!(restored, expected);
    let listed: Vec<&str> = restored.problems.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(listed, [user(5).as_str(), user(4).as_str()]);
    assert_eq!(world.copy(MAIN, &user(0)).await, newer);
    assert_eq!(
        world.copy(MAIN, &user(1)).await,
        world.copy(SRIE, &user(1)).await
    );
    assert_eq!(world.copy(MAIN, &user(2)).await, Some(old[2].clone()));
    assert_eq!(world.copy(MAIN, &user(3)).await, None);
    assert_eq!(world.copy(MAIN, &user(4)).await, None);
    assert_eq!(world.copy(MAIN, &user(5)).await, Some(other));
    let read = world.users.read(&user(2)).await.unwrap().unwrap();
    assert_eq!(
        document::version(&read.document).unwrap().get(),
        2,
        "temp counts"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn single_users_come_back_and_who_is_not_there_is_missing(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 5).await;
    let at = world.ago(DAY).await;
    let seed = SeedUser::new(40, at).at(Location::Main).build();
    world.plant(SRIE, seed).await;
    lose_main(&world).await;
    let some = RestoreOptions {
        whom: RestoreScope::Users([1, 40, 3, 99].map(user).to_vec()),
        dry_run: false,
    };
    let restored = restore(&world, &some).await;
    assert_eq!(
        (restored.restored, restored.missing, restored.failed()),
        (3, 1, 1),
        "{restored:?}"
    );
    assert_eq!(restored.problems[0].id, user(99).as_str());
    assert_eq!(world.all(MAIN).await.len(), 3);
    let adopted = world.copy(MAIN, &user(40)).await.unwrap();
    assert!(document::is_native(&adopted));
    assert_eq!(world.copy(SRIE, &user(40)).await, Some(adopted));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_cut_off_anywhere_is_taken_up_by_the_next(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    for at in calls(backend) {
        let world = World::new(backend).await;
        let before = lost(&world).await;
        world.faults.crash_after(at);
        let restoration = Restoration::new(Arc::clone(&world.engine));
        let run = restoration
            .run(&ALL, &|_| (), &CancellationToken::new())
            .await;
        let crashed = world.faults.has_crashed() && run.is_err();
        world.faults.heal();
        restore(&world, &ALL).await;
        assert_came_back(&world, &before, &format!("crash after call {at}")).await;
        if !crashed {
            assert!(at > 12, "only {at} calls");
            break;
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_a_restore_twice_is_once(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    use tierkeep_testkit::fault::{Fault, Moment};
    for operation in ["insert", "put_newer", "write", "amend", "find"] {
        let world = World::new(backend).await;
        let before = lost(&world).await;
        for nth in (1..200).step_by(2) {
            let fault = Fault::nth(nth, Moment::After).of(operation);
            world.faults.plan(fault);
        }
        let restoration = Restoration::new(Arc::clone(&world.engine));
        restoration
            .run(&ALL, &|_| (), &CancellationToken::new())
            .await
            .ok();
        world.faults.heal();
        restore(&world, &ALL).await;
        assert_came_back(&world, &before, operation).await;
    }
}

/// Main lost except for an older copy; srie with content of an erased user and a document of another program.
async fn lost(world: &World) -> Vec<RawDocumentBuf> {
    moved(world, 4).await;
    let old = world.all(SRIE).await;
    world.staged(1, DAY + HOUR).await;
    world.migrate().await.unwrap();
    world.erasure().erase(&user(2)).await.unwrap();
    let grace = std::time::Duration::ZERO;
    world.erasure().remove_tombstones(grace).await.unwrap();
    let before = world.all(MAIN).await;
    lose_main(world).await;
    world.plant(MAIN, old[1].clone()).await;
    world.plant(SRIE, old[2].clone()).await;
    let at = world.ago(DAY).await;
    let seed = SeedUser::new(40, at).at(Location::Main).build();
    world.plant(SRIE, seed).await;
    before
}

async fn assert_came_back(world: &World, before: &[RawDocumentBuf], when: &str) {
    let main = world.all(MAIN).await;
    assert_eq!(main.len(), 4, "{when}");
    for document in before {
        assert!(
            main.contains(document),
            "{when}: {document:?} did not come back"
        );
    }
    assert!(
        world.users.read(&user(2)).await.unwrap().is_none(),
        "{when}"
    );
    let adopted = world.copy(MAIN, &user(40)).await.unwrap();
    assert_eq!(world.copy(SRIE, &user(40)).await, Some(adopted), "{when}");
}

/// A user who is erased after a restore has read and before it has written stays erased.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_beside_a_restore_wins(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(true, false)] tombstones_are_gone: bool,
) {
    use tierkeep_testkit::fault::{Fault, Moment};
    let world = Arc::new(World::new(backend).await);
    moved(&world, 2).await;
    lose_main(&world).await;
    let write = Fault::nth(2, Moment::Before).of("insert").to(MAIN);
    let hold = world.faults.hold(write);
    let restoring = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { restore(&world, &ALL).await })
    };
    hold.reached().await;
    world.erasure().erase(&user(1)).await.unwrap();
    if tombstones_are_gone {
        let grace = std::time::Duration::ZERO;
        world.erasure().remove_tombstones(grace).await.unwrap();
    }
    hold.release();
    let restored = restoring.await.unwrap();
    assert_eq!((restored.restored, restored.erased), (1, 1), "{restored:?}");
    assert!(world.users.read(&user(1)).await.unwrap().is_none());
    let found = verify(&world, &LOOK).await;
    assert_eq!((found.matched, found.left()), (1, 0), "{found:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_replicates_what_has_none_and_notes_it(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    moved(&world, 5).await;
    let main = world.all(MAIN).await;
    tamper(&world, SRIE, &user(0), None).await;
    let pending = Edit::new()
        .set_meta("backup_status", "pending")
        .apply(&main[1]);
    tamper(&world, MAIN, &user(1), Some(pending.clone())).await;
    tamper(
        &world,
        MAIN,
        &user(2),
        Some(
            Edit::new()
                .set_meta("backup_status", "pending")
                .apply(&main[2]),
        ),
    )
    .await;
    tamper(&world, SRIE, &user(2), None).await;
    let at = world.ago(DAY).await;
    let seed = SeedUser::new(40, at).at(Location::Main).build();
    world.plant(MAIN, seed).await;

    let done = back_up(&world).await;
    assert_eq!(
        (done.checked, done.unchanged, done.failed()),
        (6, 2, 0),
        "{done:?}"
    );
    assert_eq!(done.backed_up, 4);
    for (main, srie) in world.all(MAIN).await.iter().zip(world.all(SRIE).await) {
        assert_eq!(*main, srie);
        assert_eq!(document::backup_status(main), Some("completed"));
    }
    let again = back_up(&world).await;
    assert_eq!((again.backed_up, again.unchanged), (0, 6));

    world
        .users
        .put(&user(3), &section(), content(3, 3), Condition::None)
        .await
        .unwrap();
    assert_eq!(back_up(&world).await.unchanged, 6, "temp is the mover's");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_cut_off_anywhere_is_taken_up_by_the_next(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    for at in calls(backend) {
        let world = World::new(backend).await;
        moved(&world, 3).await;
        let main = world.all(MAIN).await;
        let pending = Edit::new()
            .set_meta("backup_status", "pending")
            .apply(&main[1]);
        tamper(&world, MAIN, &user(1), Some(pending)).await;
        tamper(&world, SRIE, &user(0), None).await;
        tamper(&world, SRIE, &user(1), None).await;
        world.faults.crash_after(at);
        let backup = Backup::new(Arc::clone(&world.engine));
        let run = backup.run(&|_| (), &CancellationToken::new()).await;
        let crashed = world.faults.has_crashed() && run.is_err();
        world.faults.heal();
        back_up(&world).await;
        assert_eq!(world.all(MAIN).await, main, "crash after call {at}");
        assert_eq!(world.all(SRIE).await, main, "crash after call {at}");
        if !crashed {
            assert!(at > 8, "only {at} calls");
            break;
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn hr_records_come_back_and_are_backed_up_too(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let (main, srie) = (Role::RaseenMainHr, Role::SrieMainHr);
    let records = recorded(&world, 4).await;
    for n in [0, 2] {
        put_record(&world, main, n, None).await;
        put_record(&world, srie, n + 1, None).await;
    }
    let restored = restore(&world, &ALL).await;
    assert_eq!(
        (restored.checked, restored.restored),
        (2, 2),
        "{restored:?}"
    );
    assert_eq!(world.everything(main, "hr_candidates").await, records);
    let done = back_up(&world).await;
    assert_eq!((done.backed_up, done.unchanged), (2, 2), "{done:?}");
    assert_eq!(world.everything(srie, "hr_candidates").await, records);
}
