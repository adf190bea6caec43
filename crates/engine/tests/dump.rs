//! Dumps on every backend: writes during an export, and what an import may change.

use std::collections::BTreeSet;
use std::pin::pin;

use rstest::rstest;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_engine::{DumpService, ImportOptions, NoProgress};

use tierkeep_testkit::documents::seed_user;
use tierkeep_testkit::fault::{Fault, Moment};

use super::world::{Backend, DAY, HOUR, World};

#[rstest]
#[tokio::test]
async fn a_document_that_moves_during_an_export_is_in_it(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::RaseenTempUser, Role::RaseenMainUser, Role::SrieMainUser)] before: Role,
) {
    let world = World::new(backend).await;
    for n in 0..10 {
        world.staged(n, DAY).await;
    }
    let hold = world
        .faults
        .hold(Fault::nth(2, Moment::Before).to(before).of("find"));
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("dump");
    let service = DumpService::new(world.reopened().await);
    let export = tokio::spawn(async move { service.export(&place, false, &NoProgress).await });
    // The stamp has been read, and the users have not.
    hold.reached().await;
    assert_eq!(world.migrate().await.unwrap().moved, 10);
    hold.release();
    export.await.unwrap().unwrap();
    let mut users = BTreeSet::new();
    for role in ["raseen_temp_user", "raseen_main_user"] {
        let file = dir
            .path()
            .join("dump")
            .join(role)
            .join("internal_users.bson");
        for document in documents(&std::fs::read(file).unwrap()) {
            users.insert(document::user_id(&document).unwrap().to_owned());
        }
    }
    assert_eq!(users.len(), 10);
}

fn dry_run() -> ImportOptions {
    ImportOptions {
        dry_run: true,
        ..ImportOptions::default()
    }
}

/// The documents of a file, cut by the lengths that they begin with.
fn documents(mut bytes: &[u8]) -> Vec<tierkeep_core::bson::raw::RawDocumentBuf> {
    let mut documents = Vec::new();
    while let Some(length) = bytes.first_chunk::<4>() {
        let length = usize::try_from(i32::from_le_bytes(*length)).unwrap();
        let document = bytes[..length].to_vec();
        documents.push(tierkeep_core::bson::raw::RawDocumentBuf::from_bytes(document).unwrap());
        bytes = &bytes[length..];
    }
    documents
}

#[rstest]
#[tokio::test]
async fn hr_records_go_with_a_dump_and_newer_ones_stay(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let record = |id: &str, version: i64, state: &str| {
        tierkeep_core::bson::rawdoc! {
            "_id": id, "score": version,
            "metadata": { "version": version, "backup_status": "completed", "state": state },
        }
    };
    let roles = [Role::RaseenMainHr, Role::SrieMainHr];
    let stored = [
        record("a", 1, "live"),
        record("b", 2, "erased"),
        record("c", 3, "live"),
    ];
    let source = World::new(backend).await;
    for role in roles {
        let store = source.store(role);
        store.insert("hr_reports", &stored).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("dump");
    let service = DumpService::new(source.reopened().await);
    service.export(&place, true, &NoProgress).await.unwrap();

    let target = World::new(backend).await;
    let there = [record("b", 1, "live"), record("c", 4, "live")];
    target
        .store(Role::RaseenMainHr)
        .insert("hr_reports", &there)
        .await
        .unwrap();
    let service = DumpService::new(target.reopened().await);
    let dry = service
        .import(&place, &dry_run(), &NoProgress)
        .await
        .unwrap();
    let imported = service
        .import(&place, &ImportOptions::default(), &NoProgress)
        .await
        .unwrap();
    assert_eq!((dry.imported, imported.imported), (5, 5));
    assert_eq!((imported.newer_kept, imported.refused), (1, 0));
    let main = target.everything(Role::RaseenMainHr, "hr_reports").await;
    assert_eq!(
        main,
        [stored[0].clone(), stored[1].clone(), there[1].clone()]
    );
    let srie = target.everything(Role::SrieMainHr, "hr_reports").await;
    assert_eq!(srie, stored);
    let again = service
        .import(&place, &ImportOptions::default(), &NoProgress)
        .await
        .unwrap();
    assert_eq!(
        (again.imported, again.unchanged, again.newer_kept),
        (0, 5, 1)
    );
}

#[rstest]
#[tokio::test]
async fn what_moves_while_it_is_imported_is_not_refused(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::RaseenTempUser, Role::RaseenMainUser)] looking_at: Role,
) {
    for nth in 1.. {
        let world = World::new(backend).await;
        for n in 0..3 {
            world.staged(n, DAY).await;
        }
        // Of other programs.
        let old = world.ago(DAY + HOUR).await;
        let foreign = [3, 4].map(|n| seed_user(n, old));
        let temp = world.store(Role::RaseenTempUser);
        temp.insert("internal_users", &foreign).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("dump");
        let service = DumpService::new(world.reopened().await);
        service.export(&place, false, &NoProgress).await.unwrap();
        let look = Fault::nth(nth, Moment::Before).to(looking_at).of("find");
        let hold = world.faults.hold(look);
        let all = ImportOptions::default();
        let mut import = pin!(service.import(&place, &all, &NoProgress));
        tokio::select! {
            () = hold.reached() => {}
            imported = &mut import => {
                assert_eq!(imported.unwrap().refused, 0);
                assert!(nth > 1, "no call looks at {looking_at}");
                break;
            }
        }
        assert_eq!(world.migrate().await.unwrap().moved, 5);
        hold.release();
        let imported = import.await.unwrap();
        assert_eq!(imported.refused, 0, "{nth}: {imported:?}");
        let main = world
            .everything(Role::RaseenMainUser, "internal_users")
            .await;
        assert_eq!(main.len(), 5, "{nth}");
    }
}
