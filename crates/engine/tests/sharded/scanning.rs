//! Exports, comparisons and restores during chunk moves: complete, and a document that is on two shards for a while
//! counts once.

use std::collections::BTreeSet;
use std::path::Path;

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Change, Guard};
use tierkeep_engine::{DumpService, NoProgress};
use tierkeep_testkit::documents::native_user;

use super::{cluster, database, namespaces, plant_due, world};
use crate::comparing::{LOOK, verify};
use crate::restoring::{ALL, restore};
use crate::scale;
use crate::world::{DAY, World};

const EXTERNAL: Role = Role::ExternalUsers;

/// Stores external users; answers how many.
async fn externals(world: &World, users: u32) -> usize {
    let documents: Vec<_> = (0..users)
        .map(|n| {
            let user = native_user(n, 1).build();
            let id = format!("external_u{n}");
            tierkeep_core::document::Edit::new()
                .set("_id", id.as_str())
                .set("user_id", id.as_str())
                .apply(&user)
        })
        .collect();
    let store = world.store(EXTERNAL);
    store.insert("external_users", &documents).await.unwrap();
    documents.len()
}

/// How many documents a dump's file holds, and of how many users.
fn exported(dump: &Path, role: Role) -> (usize, usize) {
    let file = format!("{}.bson", role.users().unwrap());
    let bytes = std::fs::read(dump.join(role.name()).join(file)).unwrap();
    let mut rest = &bytes[..];
    let (mut documents, mut ids) = (0, BTreeSet::new());
    while let Some(length) = rest.first_chunk::<4>() {
        let length = usize::try_from(i32::from_le_bytes(*length)).unwrap();
        let document = RawDocumentBuf::from_bytes(rest[..length].to_vec()).unwrap();
        ids.insert(document.get_str("_id").unwrap().to_owned());
        documents += 1;
        rest = &rest[length..];
    }
    (documents, ids.len())
}

async fn export(world: &World) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("dump");
    let service = DumpService::new(world.reopened().await);
    service.export(&place, false, &NoProgress).await.unwrap();
    exported(&place, EXTERNAL)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_beside_chunk_moves_holds_every_user_once() {
    let cluster = cluster();
    let world = world(cluster).await;
    let stored = externals(&world, 3_000).await;
    let shuffle = cluster.shuffle(namespaces(world.stores.values()).await);
    let mut rounds = 0;
    while shuffle.moved() < if scale::is_full() { 100 } else { 5 } {
        assert_eq!(export(&world).await, (stored, stored));
        rounds += 1;
    }
    println!("{rounds} exports, {} chunks moved", shuffle.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_whose_scans_lose_their_sort_misses_users() {
    let cluster = cluster();
    let world = world(cluster).await;
    let stored = externals(&world, 3_000).await;
    cluster.drop_sorts(&database(&**world.store(EXTERNAL)).await);
    let (documents, users) = export(&world).await;
    assert!(
        users < stored,
        "{documents} documents of {users} of {stored} users"
    );
}

/// Users who were moved, in main and srie.
async fn moved(world: &mut World, users: u32) {
    world.settings.batch_documents = 1_000;
    plant_due(world, users).await;
    assert_eq!(world.migrate().await.unwrap().moved, u64::from(users));
}

/// Takes every other user out of main.
async fn halve_main(world: &World) {
    for document in world.all(Role::RaseenMainUser).await.iter().step_by(2) {
        let id = Bson::String(document.get_str("_id").unwrap().to_owned());
        let any = Guard::Fields(doc! {});
        let main = world.store(Role::RaseenMainUser);
        let removed = main.write("internal_users", &id, &any, &Change::Remove);
        removed.await.unwrap();
    }
    // What has just come is no difference yet.
    world.clock.advance(DAY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_and_a_restore_whose_scans_lose_their_sort_go_wrong() {
    let cluster = cluster();
    let mut world = world(cluster).await;
    moved(&mut world, 3_000).await;
    halve_main(&world).await;
    cluster.drop_sorts(&database(&**world.store(Role::SrieMainUser)).await);
    let verified = verify(&world, &LOOK).await;
    let counted = (verified.checked, verified.matched, verified.missing_in_main);
    assert_ne!(counted, (3_000, 1_500, 1_500));
    let restored = restore(&world, &ALL).await;
    assert!(restored.restored < 1_500, "{restored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn main_is_compared_and_restored_beside_chunk_moves() {
    let users = if scale::is_full() { 10_000 } else { 1_500 };
    let cluster = cluster();
    let mut world = world(cluster).await;
    moved(&mut world, users).await;
    let shuffle = cluster.shuffle(namespaces(world.stores.values()).await);
    let same = verify(&world, &LOOK).await;
    assert_eq!(same.left(), 0, "{same:?}");
    halve_main(&world).await;
    let restored = restore(&world, &ALL).await;
    assert_eq!(
        restored.restored,
        u64::from(users).div_ceil(2),
        "{restored:?}"
    );
    let same = verify(&world, &LOOK).await;
    assert_eq!(same.left(), 0, "{same:?}");
    let main = world.all(Role::RaseenMainUser).await;
    assert_eq!(main.len(), usize::try_from(users).unwrap());
    println!("{} chunks moved", shuffle.stop().await);
}
