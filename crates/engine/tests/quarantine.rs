//! The quarantine: conflicts that last until an operator decides, and how the decision is carried out.

use std::path::Path;
use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, Edit, State};
use tierkeep_core::store::{Change, Guard};
use tierkeep_core::user::UserId;
use tierkeep_engine::{
    AlertKind, Alerts, AuditFilter, Keep, QuarantineError, QuarantineService, Upkeep,
};
use tierkeep_testkit::documents::{SeedUser, native_user};

use crate::world::{Backend, DAY, HOUR, World};

impl World {
    fn quarantine(&self) -> QuarantineService {
        QuarantineService::new(Arc::clone(&self.engine))
    }

    async fn is_alerted(&self, user: &UserId) -> bool {
        Upkeep::new(Arc::clone(&self.engine), DAY)
            .round(std::time::Duration::ZERO)
            .await;
        let alerts = Alerts::new(Arc::clone(&self.engine));
        let open = alerts.open(&mut None).await.unwrap();
        open.iter()
            .any(|alert| alert.kind == AlertKind::CopiesConflict && alert.subject == user.as_str())
    }

    /// Due, and looked at by a run.
    async fn run(&self, user: &UserId) {
        self.date_back(user, DAY + HOUR).await;
        self.migrate().await.unwrap();
    }
}

fn version_in(copy: Option<&RawDocumentBuf>) -> i64 {
    copy.and_then(|copy| document::version(copy))
        .map_or(0, tierkeep_core::version::Version::get)
}

/// How copies come to contradict each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    /// Temp was brought back from an older copy: main holds a higher version.
    Above,
    /// Main holds the version of temp with other content.
    Beside,
}

/// A user whose copies contradict each other, found by a run. Main and srie hold version 3.
async fn in_conflict(world: &World, origin: Origin) -> UserId {
    let user = world.staged(1, DAY + HOUR).await;
    let first = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    world.put(&user, 2).await.unwrap();
    world.put(&user, 3).await.unwrap();
    world.date_back(&user, DAY + HOUR).await;
    let third = world.copy(Role::RaseenTempUser, &user).await.unwrap();
    world.migrate().await.unwrap();
    let other = match origin {
        Origin::Above => first,
        Origin::Beside => Edit::new()
            .set("scan_cache", bson::rawdoc! { "other": true })
            .apply(&third),
    };
    world.plant(Role::RaseenTempUser, other).await;
    world.migrate().await.unwrap();
    assert!(world.is_alerted(&user).await, "{origin:?}");
    user
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_outlasts_every_later_write_and_main_keeps_what_it_holds(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Origin::Above, Origin::Beside)] origin: Origin,
) {
    let world = World::new(backend).await;
    let user = in_conflict(&world, origin).await;
    let main = world.copy(Role::RaseenMainUser, &user).await.unwrap();
    let srie = world.copy(Role::SrieMainUser, &user).await.unwrap();
    for n in 0..4 {
        world.put(&user, 100 + n).await.unwrap();
        world.run(&user).await;
    }
    let temp = world.copy(Role::RaseenTempUser, &user).await;
    assert!(version_in(temp.as_ref()) > version_in(Some(&main)));
    assert_eq!(world.copy(Role::RaseenMainUser, &user).await, Some(main));
    assert_eq!(world.copy(Role::SrieMainUser, &user).await, Some(srie));
    // A process that has just started knows as well.
    let (_, mover) = world.restarted().await;
    let options = tierkeep_engine::RunOptions::default();
    let stop = tokio_util::sync::CancellationToken::new();
    let run = mover.migrate_expired_data(options, &tierkeep_engine::NoProgress, &stop);
    let run = run.await.unwrap();
    assert_eq!((run.moved, run.quarantined), (0, 1));
    assert!(world.is_alerted(&user).await);
    let explained = world.inspector().explain(&user).await.unwrap();
    assert!(explained.next.contains("quarantined"), "{}", explained.next);
}

fn file_of(directory: &Path) -> String {
    let mut files = std::fs::read_dir(directory).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    std::fs::read_to_string(file).unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_kept_copy_counts_above_all_others_once_they_are_in_a_file(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Origin::Above, Origin::Beside)] origin: Origin,
    #[values(Keep::Temp, Keep::Main, Keep::Srie)] keep: Keep,
) {
    let world = World::new(backend).await;
    let user = in_conflict(&world, origin).await;
    world.put(&user, 9).await.unwrap();
    let kept = world.copy(keep.role(), &user).await.unwrap();
    let highest = 4;
    let directory = tempfile::tempdir().unwrap();
    let quarantine = world.quarantine();
    let name = user.as_str().to_uppercase();
    let needed = quarantine.release(&name, None, directory.path(), "a test");
    assert!(matches!(
        needed.await.unwrap_err(),
        QuarantineError::ChoiceNeeded(..)
    ));
    let released = quarantine.release(&name, Some(keep), directory.path(), "a test");
    let released = released.await.unwrap();
    assert_eq!(released.kept, Some(keep.role()));
    let version = released.version.unwrap();
    assert!(version > 3 && version <= highest + 1, "{version}");
    let file: serde_json::Value = serde_json::from_str(&file_of(directory.path())).unwrap();
    assert_eq!(file["kept"], keep.role().name());
    assert_eq!(file["copies"].as_array().unwrap().len(), 3);
    assert_eq!(quarantine.list().await.unwrap(), []);
    assert!(!world.is_alerted(&user).await);
    let trail = world.engine.audit_trail();
    let entries = trail.page(&AuditFilter::default(), None, 100).await;
    assert!(format!("{:?}", entries.unwrap()).contains("quarantine release"));

    let content = |copy: &RawDocumentBuf| copy.get_document("scan_cache").unwrap().to_owned();
    let read = world.users.read(&user).await.unwrap().unwrap();
    assert_eq!(content(&read.document), content(&kept));
    world.run(&user).await;
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        let copy = world.copy(role, &user).await.unwrap();
        assert_eq!(version_in(Some(&copy)), version, "{role}");
        assert_eq!(content(&copy), content(&kept), "{role}");
    }
    assert_eq!(world.copy(Role::RaseenTempUser, &user).await, None);
    world.check_invariants().await;
    // The next write continues from that version.
    let next = world.put(&user, 10).await.unwrap();
    assert_eq!(next.version.get(), version + 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_cut_off_anywhere_is_finished_by_another(
    #[values(Keep::Temp, Keep::Main, Keep::Srie)] keep: Keep,
) {
    let mut crashes = 0;
    for at in 0.. {
        let world = World::new(Backend::Memory).await;
        let user = in_conflict(&world, Origin::Above).await;
        let kept = world.copy(keep.role(), &user).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        world.faults.crash_after(at);
        let quarantine = world.quarantine();
        let released = quarantine.release(user.as_str(), Some(keep), directory.path(), "a test");
        let crashed = released.await.is_err();
        world.faults.heal();
        let restarted = QuarantineService::new(world.reopened().await);
        // The mark is the last to go but one.
        if crashed && !restarted.list().await.unwrap().is_empty() {
            let again = restarted.release(user.as_str(), Some(keep), directory.path(), "a test");
            again.await.unwrap();
        }
        assert_eq!(restarted.list().await.unwrap(), [], "{at}");
        world.run(&user).await;
        for role in [Role::RaseenMainUser, Role::SrieMainUser] {
            let copy = world.copy(role, &user).await.unwrap();
            assert!(version_in(Some(&copy)) > 3, "{at}: {role}");
            assert_eq!(
                copy.get_document("scan_cache").unwrap(),
                kept.get_document("scan_cache").unwrap(),
                "{at}: {role}"
            );
        }
        assert_eq!(world.copy(Role::RaseenTempUser, &user).await, None, "{at}");
        assert!(!world.is_alerted(&user).await, "{at}");
        world.check_invariants().await;
        if !crashed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 8, "{crashes}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_rotted_or_is_not_there_is_not_kept(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = in_conflict(&world, Origin::Above).await;
    let id = Bson::String(user.to_string());
    let main = world.copy(Role::RaseenMainUser, &user).await.unwrap();
    let rotten = Edit::new().set("scan_cache", 7).apply(&main);
    let any = Guard::Fields(doc! {});
    let change = |document| Change::Replace(document);
    let store = world.store(Role::RaseenMainUser);
    store
        .write("internal_users", &id, &any, &change(rotten))
        .await
        .unwrap();
    let srie = world.store(Role::SrieMainUser);
    srie.write("internal_users", &id, &any, &Change::Remove)
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let quarantine = world.quarantine();
    for keep in [Keep::Main, Keep::Srie] {
        let released = quarantine.release(user.as_str(), Some(keep), directory.path(), "a test");
        let refused = released.await.unwrap_err();
        let QuarantineError::NotKept { role, .. } = refused else {
            panic!("{refused}");
        };
        assert_eq!(role, keep.role());
    }
    assert_eq!(quarantine.list().await.unwrap().len(), 1);
    assert!(
        std::fs::read_dir(directory.path())
            .unwrap()
            .next()
            .is_none()
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_ends_a_conflict_and_the_next_life_moves(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = in_conflict(&world, Origin::Above).await;
    world.erasure().erase(&user).await.unwrap();
    world.put(&user, 1).await.unwrap();
    world.run(&user).await;
    let temp = world.copy(Role::RaseenTempUser, &user).await;
    let state = temp.and_then(|temp| document::state(&temp));
    assert!(matches!(state, None | Some(State::Erased)), "{state:?}");
    let main = world.copy(Role::RaseenMainUser, &user).await.unwrap();
    assert_eq!(document::state(&main), Some(State::Live));
    assert!(world.users.read(&user).await.unwrap().is_some());
    assert_eq!(world.quarantine().list().await.unwrap(), []);
    assert!(!world.is_alerted(&user).await);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_quarantined_is_found_by_user_and_by_id_and_released_once_it_is_mended(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let old = world.ago(DAY + HOUR).await;
    let seed = SeedUser::new(1, old);
    let undated = Edit::new().unset("created_at").apply(&seed.build());
    let odd = native_user(2, 1)
        .dated(old)
        .set("user_id", "nobody")
        .build();
    for document in [&undated, &odd] {
        world.plant(Role::RaseenTempUser, document.clone()).await;
    }
    world.migrate().await.unwrap();
    let quarantine = world.quarantine();
    assert_eq!(quarantine.list().await.unwrap().len(), 2);
    let names = [
        seed.user_id().to_uppercase(),
        seed.user_id()["internal_".len()..].to_owned(),
        seed.id().to_hex(),
    ];
    for name in &names {
        let shown = quarantine.show(name).await.unwrap();
        assert_eq!(shown.entry.user_id, Some(seed.user_id()), "{name}");
        assert!(shown.entry.reason.contains("created_at"), "{shown:?}");
        assert_eq!(shown.copies.len(), 1);
        let document = &shown.copies[0].document;
        assert_eq!(document["scan_cache"]["github.com/a/b.rs"]["files"], 12);
    }
    let id = document::id(&odd);
    let shown = quarantine.show(id.as_str().unwrap()).await.unwrap();
    assert_eq!(shown.entry.user_id.as_deref(), Some("nobody"));
    let unknown = quarantine.show("somebody").await.unwrap_err();
    assert!(matches!(unknown, QuarantineError::Unknown(_)));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("all.json");
    let exported = quarantine.export(&file).await.unwrap();
    assert_eq!((exported.documents, exported.copies), (2, 2));
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(written.lines().count(), 2);
    quarantine.export(&file).await.unwrap_err();

    let none = quarantine.release(&names[0], Some(Keep::Main), directory.path(), "a test");
    assert!(matches!(
        none.await.unwrap_err(),
        QuarantineError::NoChoice(..)
    ));
    let released = quarantine.release(&names[0], None, directory.path(), "a test");
    let released = released.await.unwrap();
    assert_eq!(
        (released.kept, released.version, released.file),
        (None, None, None)
    );
    assert_eq!(quarantine.list().await.unwrap().len(), 1);
    // It is as it was.
    world.migrate().await.unwrap();
    assert_eq!(quarantine.list().await.unwrap().len(), 2);
}
