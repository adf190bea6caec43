//! Dumps as mongodump and file managers leave them, documents that claim one user, and every BSON type through a dump.

use std::collections::BTreeSet;
use std::path::Path;

use bson::raw::RawDocumentBuf;
use rstest::rstest;
use serde_json::Value;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{Edit, field};
use tierkeep_core::user::UserId;
use tierkeep_engine::{DumpError, DumpService, ImportOptions, MoverSettings, NoProgress};
use tierkeep_testkit::documents::{NativeUser, native_user, seed_user, typed_values};

use super::world::{Backend, World, section};

fn write(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn concatenated(documents: &[RawDocumentBuf]) -> Vec<u8> {
    let bytes = documents.iter().flat_map(|it| it.as_bytes().to_vec());
    bytes.collect()
}

#[rstest]
#[tokio::test]
async fn of_documents_that_claim_one_user_none_is_taken_in(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    // Beyond that many the two are in different pages of the import.
    #[values(0, 600)] between: u32,
) {
    let world = World::new(backend).await;
    let now = world.now().await;
    let first = seed_user(1, now);
    let second = Edit::new().set(field::ID, "another").apply(&first);
    let mut documents = vec![first];
    documents.extend((10..10 + between).map(|n| native_user(n, 1).build()));
    documents.extend([second, native_user(2, 1).build()]);
    let dir = tempfile::tempdir().unwrap();
    let file = "raseen_temp_user/internal_users.bson";
    write(dir.path(), file, &concatenated(&documents));
    let service = DumpService::new(world.reopened().await);
    let all = ImportOptions::default();
    let import = service.import(dir.path(), &all, &NoProgress);
    let imported = import.await.unwrap();
    let others = u64::from(between) + 1;
    assert_eq!((imported.imported, imported.refused), (others, 2));
    let [one, other] = imported.refusals.as_slice() else {
        panic!("{imported:?}");
    };
    assert_eq!(one.reason, other.reason);
    assert!(one.reason.contains("another"), "{}", one.reason);
    let temp = world.all(Role::RaseenTempUser).await;
    assert_eq!(u64::try_from(temp.len()).unwrap(), others);
}

#[rstest]
#[tokio::test]
async fn a_document_and_what_was_adopted_from_it_are_one_claim(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let foreign = seed_user(1, world.now().await);
    let from = tierkeep_core::digest::fingerprint(&foreign);
    let adopted = native_user(1, 1)
        .set_meta(field::ADOPTED_FROM, from)
        .build();
    let dir = tempfile::tempdir().unwrap();
    let documents = [foreign, adopted.clone()];
    let file = "raseen_temp_user/internal_users.bson";
    write(dir.path(), file, &concatenated(&documents));
    let service = DumpService::new(world.reopened().await);
    let all = ImportOptions::default();
    let import = service.import(dir.path(), &all, &NoProgress);
    let imported = import.await.unwrap();
    let outcomes = (imported.imported, imported.skipped, imported.refused);
    assert_eq!(outcomes, (1, 1, 0), "{imported:?}");
    assert_eq!(world.all(Role::RaseenTempUser).await, [adopted]);
}

/// What mongodump writes of a whole server, on a computer with file managers.
fn of_a_server(root: &Path) {
    let users = concatenated(&[native_user(1, 1).build()]);
    write(root, "raseen_main_user/internal_users.bson", &users);
    let view =
        br#"{"options":{"viewOn":"internal_users","pipeline":[]},"indexes":[],"type":"view"}"#;
    write(root, "raseen_main_user/by_name.metadata.json", view);
    write(root, "raseen_main_user/system.views.bson", b"");
    write(root, "raseen_main_user/.DS_Store", b"x");
    write(root, "admin/system.users.bson", b"");
    write(root, "admin/system.version.metadata.json", b"{}");
    write(root, "config/settings.bson", b"");
    write(root, "oplog.bson", b"");
    write(root, "prelude.json.gz", b"");
    write(root, "raseen_main_user/prelude.json", b"{}");
    write(root, "Thumbs.db", b"x");
    write(root, "desktop.ini", b"x");
    write(root, "._raseen_main_user", b"x");
}

#[rstest]
#[tokio::test]
async fn what_a_server_and_file_managers_add_to_a_dump_is_passed_over_and_named(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let dir = tempfile::tempdir().unwrap();
    of_a_server(dir.path());
    let service = DumpService::new(world.reopened().await);
    let all = ImportOptions::default();
    let import = service.import(dir.path(), &all, &NoProgress);
    let imported = import.await.unwrap();
    assert_eq!((imported.imported, imported.refused), (1, 0));
    let named: BTreeSet<&str> = imported.passed_over.iter().map(|it| &*it.path).collect();
    let expected = [
        "._raseen_main_user",
        "Thumbs.db",
        "admin",
        "config",
        "desktop.ini",
        "oplog.bson",
        "raseen_main_user/.DS_Store",
        "raseen_main_user/by_name.metadata.json",
        "raseen_main_user/system.views.bson",
    ];
    assert_eq!(named, BTreeSet::from(expected));
}

#[rstest]
#[tokio::test]
async fn other_databases_and_collections_are_refused_unless_databases_are_chosen(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let dir = tempfile::tempdir().unwrap();
    of_a_server(dir.path());
    write(dir.path(), "shop/orders.bson", b"");
    write(dir.path(), "raseen_main_user/notes.bson", b"");
    write(dir.path(), "srie_main_user/internal_users.bson", b"cut off");
    let service = DumpService::new(world.reopened().await);
    let all = ImportOptions::default();
    let refused = service.import(dir.path(), &all, &NoProgress).await;
    let Err(DumpError::Broken { problems, .. }) = refused else {
        panic!("{refused:?}");
    };
    let named: Vec<&str> = problems.iter().map(|it| &*it.path).collect();
    let bad = [
        "raseen_main_user/notes.bson",
        "shop",
        "srie_main_user/internal_users.bson",
    ];
    assert_eq!(named, bad);
    let choose = |name: &str| ImportOptions {
        databases: BTreeSet::from([name.to_owned()]),
        ..ImportOptions::default()
    };
    for unusable in ["shop", "nothing", "admin"] {
        let chosen = choose(unusable);
        let refused = service.import(dir.path(), &chosen, &NoProgress);
        let refused = refused.await.unwrap_err().to_string();
        assert!(refused.contains(unusable), "{refused}");
    }
    assert_eq!(world.all(Role::RaseenMainUser).await, []);
    let chosen = choose("raseen_main_user");
    let imported = service.import(dir.path(), &chosen, &NoProgress);
    let imported = imported.await.unwrap();
    assert_eq!((imported.imported, imported.refused), (1, 0));
    for left in [
        "raseen_main_user/notes.bson",
        "shop",
        "srie_main_user",
        "admin",
    ] {
        let is_named = imported.passed_over.iter().any(|it| it.path == left);
        assert!(is_named, "{left}: {imported:?}");
    }
}

#[rstest]
#[tokio::test]
async fn a_database_of_an_export_is_chosen_without_the_others(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let external = UserId::external("octocat").unwrap();
    world
        .plant(Role::ExternalUsers, NativeUser::new(&external, 1).build())
        .await;
    world
        .plant(Role::RaseenTempUser, native_user(1, 1).build())
        .await;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("dump");
    let service = DumpService::new(world.reopened().await);
    service.export(&place, false, &NoProgress).await.unwrap();
    // This file is not read.
    std::fs::remove_file(place.join("raseen_temp_user/internal_users.bson")).unwrap();
    let other = World::new(backend).await;
    let service = DumpService::new(other.reopened().await);
    let chosen = ImportOptions {
        databases: BTreeSet::from(["external_users".to_owned()]),
        ..ImportOptions::default()
    };
    let imported = service.import(&place, &chosen, &NoProgress).await.unwrap();
    assert_eq!((imported.imported, imported.refused), (1, 0));
    assert_eq!(other.all(Role::RaseenTempUser).await, []);
}

#[rstest]
#[tokio::test]
async fn every_bson_type_goes_through_a_dump_byte_for_byte(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    for (n, value) in (0..).zip(typed_values()) {
        // Within the section, and at the top, behind what tierkeep reads; what the SQLite store refuses there only within.
        let is_refused = value.name == "regular expression that is not UTF-8";
        let top: &[u8] = if is_refused && backend == Backend::Sqlite {
            &[0]
        } else {
            &value.section.as_bytes()[4..]
        };
        let user = native_user(n, 1)
            .set("scan_cache", value.section.clone())
            .build();
        let mut bytes = user.into_bytes();
        bytes.pop();
        bytes.extend_from_slice(top);
        let length = i32::try_from(bytes.len()).unwrap().to_le_bytes();
        bytes[..4].copy_from_slice(&length);
        let user = RawDocumentBuf::from_bytes(bytes).unwrap();
        world.plant(Role::RaseenTempUser, user).await;
    }
    let before = world.all(Role::RaseenTempUser).await;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("dump");
    let service = DumpService::new(world.reopened().await);
    service.export(&place, false, &NoProgress).await.unwrap();
    let other = World::new(backend).await;
    let service = DumpService::new(other.reopened().await);
    let all = ImportOptions::default();
    let imported = service.import(&place, &all, &NoProgress).await.unwrap();
    assert_eq!(imported.refused, 0, "{:?}", imported.refusals);
    assert_eq!(other.all(Role::RaseenTempUser).await, before);
}

#[rstest]
#[tokio::test]
async fn every_bson_type_is_in_a_person_s_copy_or_named_there(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let sections = [section()];
    let service = DumpService::new(world.reopened().await);
    let dir = tempfile::tempdir().unwrap();
    for (n, value) in (0..).zip(typed_values()) {
        let user = UserId::external(&format!("typed{n}")).unwrap();
        let document = NativeUser::new(&user, 1).set(section().as_str(), value.section.clone());
        world.plant(Role::ExternalUsers, document.build()).await;
        let place = dir.path().join(n.to_string());
        let settings = MoverSettings::default();
        let candidates = [user];
        let exported = service.export_user(&place, &candidates, &sections, settings);
        let exported = exported.await.unwrap();
        let copy: Value = serde_json::from_slice(&std::fs::read(exported.file).unwrap()).unwrap();
        let shown = copy["user"][section().as_str()].to_string();
        let named = copy["inexact"]["values"].as_array().unwrap();
        assert_eq!(
            exported.inexact > 0,
            value.inexact.is_some(),
            "{}",
            value.name
        );
        if let Some(reason) = value.inexact {
            assert_eq!(named[0]["reason"], reason.as_str(), "{}", value.name);
            let path = named[0]["path"].as_str().unwrap();
            assert!(path.starts_with("/user/scan_cache/v"), "{path}");
            continue;
        }
        let again = tierkeep_core::content::parse(shown.as_bytes()).unwrap();
        assert_eq!(again, value.section, "{}", value.name);
    }
}
