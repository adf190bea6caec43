//! Other programs write documents in temp at any time, without incrementing their versions.

use bson::{Bson, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, Edit};
use tierkeep_core::store::{Change, Guard};
use tierkeep_core::user::UserId;
use tierkeep_testkit::fault::{Fault, Moment};

use crate::world::{Backend, DAY, HOUR, World};

async fn world(backend: Backend) -> World {
    let mut world = World::new(backend).await;
    world.settings.foreign_writers = true;
    world
}

/// What another program does: it changes the content and nothing else.
async fn scribble(world: &World, user: &UserId) {
    let stored = world.copy(Role::RaseenTempUser, user).await.unwrap();
    let changed = Edit::new().set("scribbled", true).apply(&stored);
    let id = Bson::String(user.to_string());
    let store = world.store(Role::RaseenTempUser);
    let change = Change::Replace(changed);
    let any = Guard::Fields(doc! {});
    store
        .write("internal_users", &id, &any, &change)
        .await
        .unwrap();
}

async fn assert_scribble_is_kept(world: &World, user: &UserId) {
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        let copy = world.copy(role, user).await.unwrap();
        assert!(
            copy.get_bool("scribbled").unwrap_or(false),
            "lost in {role}"
        );
        assert_eq!(document::version(&copy).unwrap().get(), 2);
    }
    assert!(world.copy(Role::RaseenTempUser, user).await.is_none());
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn unchanged_documents_move(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = world(backend).await;
    for n in 0..20 {
        world.staged(n, DAY + HOUR).await;
    }
    assert_eq!(world.migrate().await.unwrap().moved, 20);
    assert!(world.all(Role::RaseenTempUser).await.is_empty());
    world.check_invariants().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_change_under_the_same_version_while_the_document_moves_is_kept(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = world(backend).await;
    let user = world.staged(1, DAY + HOUR).await;
    // Both copies are written and about to be read back.
    let read_back = Fault::nth(1, Moment::Before)
        .of("find")
        .to(Role::SrieMainUser);
    let hold = world.faults.hold(read_back);
    let run = world.migrate_meanwhile();
    hold.reached().await;
    scribble(&world, &user).await;
    hold.release();
    assert_eq!(run.await.unwrap().unwrap().moved, 1);
    assert_scribble_is_kept(&world, &user).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_change_after_a_mover_crashed_is_kept(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = world(backend).await;
    let user = world.staged(1, DAY + HOUR).await;
    let cut = Fault::nth(1, Moment::Before)
        .of("find")
        .to(Role::SrieMainUser);
    world.faults.plan(cut.times(1_000));
    world.migrate().await.unwrap_err();
    world.faults.heal();
    assert!(world.copy(Role::RaseenMainUser, &user).await.is_some());
    scribble(&world, &user).await;
    let summary = world.migrate().await.unwrap();
    assert_eq!((summary.moved, summary.quarantined), (1, 0));
    assert_scribble_is_kept(&world, &user).await;
}
