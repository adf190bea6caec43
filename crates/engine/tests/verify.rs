//! The copies that are read back before a document is deleted from temp.

use bson::raw::RawDocumentBuf;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Edit};
use tierkeep_core::mover::{Verify, main_form};
use tierkeep_core::user::UserId;

use crate::world::{Backend, DAY, HOUR, World};

/// A due document, and its copy planted in `role` with one byte of its content changed in storage: the
/// version and the digest that it claims are those of the document.
async fn with_a_corrupted_copy(world: &World, role: Role) -> (UserId, RawDocumentBuf) {
    let user = world.staged(1, DAY + HOUR).await;
    let temp = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    let sound = main_form(&temp, &Digest::of(&temp));
    let mut bytes = sound.clone().into_bytes();
    let at = bytes.windows(4).position(|four| four == b"xxxx").unwrap();
    bytes[at] = b'y';
    let corrupted = RawDocumentBuf::from_bytes(bytes).unwrap();
    assert_eq!(Digest::claimed_by(&corrupted), Some(Digest::of(&temp)));
    assert_ne!(Digest::of(&corrupted), Digest::of(&temp));
    world.plant(role, corrupted.clone()).await;
    (user, corrupted)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_corrupted_in_storage_keeps_its_document_in_temp(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::SrieMainUser, Role::RaseenMainUser)] role: Role,
) {
    let world = World::new(backend).await;
    let (user, corrupted) = with_a_corrupted_copy(&world, role).await;
    let temp = world.copy(Role::RaseenTempUser, &user).await;
    let other = world.staged(2, DAY + HOUR).await;
    let summary = world.migrate().await.unwrap();
    assert_eq!((summary.moved, summary.quarantined), (1, 1));
    assert_eq!(world.copy(Role::RaseenTempUser, &user).await, temp);
    assert_eq!(world.copy(role, &user).await, Some(corrupted));
    assert_eq!(world.copy(Role::RaseenTempUser, &other).await, None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn version_mode_takes_the_digest_that_a_copy_claims(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::SrieMainUser, Role::RaseenMainUser)] role: Role,
) {
    let mut world = World::new(backend).await;
    world.settings.verify = Verify::Version;
    let (user, _) = with_a_corrupted_copy(&world, role).await;
    let summary = world.migrate().await.unwrap();
    assert_eq!((summary.moved, summary.quarantined), (1, 0));
    assert_eq!(world.copy(Role::RaseenTempUser, &user).await, None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn version_mode_moves_what_is_due_and_nothing_that_a_copy_contradicts(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::SrieMainUser, Role::RaseenMainUser)] role: Role,
) {
    let mut world = World::new(backend).await;
    world.settings.verify = Verify::Version;
    for n in 0..20 {
        world.staged(n, DAY + HOUR).await;
    }
    let user = crate::world::user(7);
    let temp = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    let other = Edit::new().set("scan_cache", bson::rawdoc! { "other": 1 });
    let other = other.apply(&temp);
    world
        .plant(role, main_form(&other, &Digest::of(&other)))
        .await;
    let summary = world.migrate().await.unwrap();
    assert_eq!((summary.moved, summary.quarantined), (19, 1));
    assert_eq!(world.copy(Role::RaseenTempUser, &user).await, Some(temp));
    let copied = world.all(Role::SrieMainUser).await.len();
    assert!(copied >= 19);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn version_mode_computes_the_digest_of_a_copy_that_claims_none(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::SrieMainUser, Role::RaseenMainUser)] role: Role,
) {
    let mut world = World::new(backend).await;
    world.settings.verify = Verify::Version;
    let user = world.staged(1, DAY + HOUR).await;
    let temp = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    let unclaimed = main_form(&temp, &Digest::of(&temp));
    let unclaimed = document::without(&unclaimed, &[], &["digest"]);
    world.plant(role, unclaimed).await;
    let summary = world.migrate().await.unwrap();
    assert_eq!((summary.moved, summary.quarantined), (1, 0));
}
