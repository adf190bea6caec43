//! What a file must withstand: other connections, other programs, damage, and a sudden end.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;
use tierkeep_core::bson::{Bson, doc, raw::RawDocumentBuf, rawdoc};
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::store::{
    Change, Class, CollectionLayout, Fence, Find, Guard, IndexLayout, Inserted, Layout, Put, Query,
    Store, StoreError, Verdict, Written,
};
use tierkeep_core::user::Section;
use tierkeep_core::version::{Version, Window};
use tierkeep_sqlite::SqliteStore;
use tierkeep_testkit::ManualClock;
use tierkeep_testkit::documents::{hostile_documents, native_user};

use crate::opened;

pub(crate) const USERS: &str = "internal_users";

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

pub(crate) async fn all(store: &dyn Store) -> Vec<RawDocumentBuf> {
    let found = store.find(USERS, &Find::new(Query::All)).await;
    found.expect("find succeeds")
}

pub(crate) fn users() -> Layout {
    let users = CollectionLayout {
        name: USERS.to_owned(),
        indexes: vec![IndexLayout::over(&["metadata.staged_at", "_id"])],
        keeps_out: None,
    };
    Layout {
        collections: vec![users],
    }
}

fn refused(path: &Path) -> StoreError {
    let clock = Arc::new(ManualClock::default());
    SqliteStore::open(path, Role::RaseenTempUser, clock).expect_err("it is refused")
}

pub(crate) fn section(op: &str) -> (Guard, Change) {
    let guard = Guard::Live {
        window: Window::between(Version::FIRST, Version::new(1_000).expect("above 0")),
        unless_op: op.to_owned(),
    };
    let change = Change::Section {
        section: Section::parse("scan_cache").expect("a name"),
        value: Some(rawdoc! { "by": op }),
        op: op.to_owned(),
    };
    (guard, change)
}

#[tokio::test]
async fn two_stores_on_one_file_see_each_others_writes() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let (one, two) = (opened(&path), opened(&path));
    let user = native_user(1, 1);
    assert_eq!(all(&*two).await, []);
    assert_eq!(
        one.insert(USERS, &[user.build()]).await.unwrap(),
        [Inserted::Stored]
    );
    assert_eq!(all(&*two).await, [user.build()]);

    let (guard, change) = section("op");
    let written = two
        .write(USERS, &user.id().into(), &guard, &change)
        .await
        .unwrap();
    assert_eq!(Written::Applied(all(&*one).await.remove(0)), written);
    let again = one.write(USERS, &user.id().into(), &guard, &change).await;
    assert_eq!(again.unwrap(), Written::Unmatched);
}

#[tokio::test]
async fn a_reopened_file_holds_what_was_stored() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let (_, documents): (Vec<_>, Vec<_>) = hostile_documents().into_iter().unzip();
    let before = {
        let store = opened(&path);
        store.insert(USERS, &documents).await.unwrap();
        all(&*store).await
    };
    let store = opened(&path);
    assert!(all(&*store).await == before);
    assert_eq!(
        store.count(USERS, &Query::All).await.unwrap(),
        documents.len() as u64
    );
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_files_at_once() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = opened(&path);
    let mut acknowledged = Vec::new();
    for n in 0..20 {
        let user = native_user(n, 1).build();
        store
            .insert(USERS, std::slice::from_ref(&user))
            .await
            .unwrap();
        acknowledged.push(user);
    }
    let gone = Fence::Version {
        version: Version::FIRST,
        ids: vec![document::id(&acknowledged.remove(0))],
    };
    assert_eq!(store.delete(USERS, &[gone]).await.unwrap(), 1);

    // The files as a power loss at this moment would leave them: nothing was closed or checkpointed.
    let lost = directory.path().join("lost");
    fs::create_dir(&lost).unwrap();
    for name in ["a.db", "a.db-wal"] {
        fs::copy(directory.path().join(name), lost.join(name)).unwrap();
    }
    drop(store);
    assert_eq!(all(&*opened(&lost.join("a.db"))).await, acknowledged);
}

#[tokio::test]
async fn a_torn_end_of_the_log_loses_nothing_that_came_before() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = opened(&path);
    let user = native_user(1, 1).build();
    store
        .insert(USERS, std::slice::from_ref(&user))
        .await
        .unwrap();
    let log = directory.path().join("a.db-wal");
    let acknowledged = fs::metadata(&log).unwrap().len();
    store
        .insert(USERS, &[native_user(2, 1).build()])
        .await
        .unwrap();

    let lost = directory.path().join("lost");
    fs::create_dir(&lost).unwrap();
    fs::copy(&path, lost.join("a.db")).unwrap();
    let mut torn = fs::read(&log).unwrap();
    assert!(torn.len() as u64 > acknowledged);
    torn.truncate(torn.len() - 100);
    fs::write(lost.join("a.db-wal"), torn).unwrap();
    drop(store);
    assert_eq!(all(&*opened(&lost.join("a.db"))).await, [user]);
}

const MEBIBYTE: usize = 1024 * 1024;

/// A file into which `mebibytes` were written in one transaction, and how long its files are.
async fn filled(mebibytes: usize) -> (TempDir, Arc<dyn Store>, impl Fn(&str) -> usize) {
    let directory = directory();
    let store = opened(&directory.path().join("a.db"));
    let content = "x".repeat(MEBIBYTE);
    let large =
        (0..mebibytes).map(|n| rawdoc! { "_id": format!("{n:04}"), "content": content.as_str() });
    let large: Vec<_> = large.collect();
    let inserted = store.insert(USERS, &large).await;
    inserted.expect("insert succeeds");
    let path = directory.path().to_owned();
    let length = move |name: &str| {
        let file = fs::metadata(path.join(name)).expect("the file is there");
        usize::try_from(file.len()).expect("it is small")
    };
    (directory, store, length)
}

#[tokio::test]
async fn a_step_of_the_log_is_written_back_without_further_writes() {
    let (_directory, store, length) = filled(20).await;
    // Only the thread can fill the file.
    for _ in 0..3_000 {
        if length("a.db") >= 20 * MEBIBYTE {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(length("a.db") >= 20 * MEBIBYTE, "{}", length("a.db"));
    assert_eq!(store.count(USERS, &Query::All).await.unwrap(), 20);
}

#[tokio::test]
async fn a_full_log_is_written_back_by_its_writer_and_begun_anew_by_the_next() {
    let (_directory, store, length) = filled(70).await;
    assert!(length("a.db") >= 70 * MEBIBYTE, "{}", length("a.db"));
    assert!(length("a.db-wal") >= 70 * MEBIBYTE);
    let next = native_user(1, 1).build();
    store.insert(USERS, &[next]).await.unwrap();
    assert!(length("a.db-wal") <= 64 * MEBIBYTE);
    assert_eq!(store.count(USERS, &Query::All).await.unwrap(), 71);
}

#[tokio::test]
async fn one_file_is_one_database_whatever_path_led_to_it() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let one = opened(&path).hello().await.unwrap();
    let roundabout = directory.path().join(".").join("a.db");
    let two = opened(&roundabout).hello().await.unwrap();
    assert!(one.is_same_database(&two));
    assert_eq!(one.database, "raseen_temp_user");
    #[cfg(unix)]
    {
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(one.is_same_database(&opened(&link).hello().await.unwrap()));
    }
    let other = opened(&directory.path().join("b.db"));
    assert!(!one.is_same_database(&other.hello().await.unwrap()));
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = directory();
    let path = directory.path().join("a.db");
    for content in ["no", &"no database at all\n".repeat(1_000)] {
        fs::write(&path, content).unwrap();
        let error = refused(&path);
        assert_eq!((error.class, error.code), (Class::Corrupt, 26));
        assert_eq!(
            error.to_string(),
            "raseen_temp_user: opening a file that is not a database failed: corrupt (code 26)"
        );
        assert_eq!(error.verdict(), Verdict::Defer);
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let directory = directory();
    let setups = [
        "CREATE TABLE theirs (x)",
        "PRAGMA application_id = 7",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 7; CREATE TABLE theirs (x)",
    ];
    for (n, setup) in setups.into_iter().enumerate() {
        let path = directory.path().join(format!("{n}.db"));
        Connection::open(&path)
            .unwrap()
            .execute_batch(setup)
            .unwrap();
        let before = fs::read(&path).unwrap();
        let error = refused(&path);
        assert_eq!(error.class, Class::Corrupt, "{setup}");
        assert_eq!(
            error.operation, "opening a file that belongs to another program",
            "{setup}"
        );
        assert_eq!(fs::read(&path).unwrap(), before, "{setup}");
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let directory = directory();
    let path = directory.path().join("a.db");
    drop(opened(&path));
    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    let error = refused(&path);
    assert_eq!(error.operation, "opening a file of a newer version");
    assert_eq!((error.class, error.code), (Class::Other, 99));
}

#[test]
fn a_missing_directory_is_refused_and_not_made() {
    let directory = directory();
    let path = directory.path().join("none").join("a.db");
    let error = refused(&path);
    assert_eq!(error.class, Class::NoServer);
    assert_eq!(error.operation, "creating the file");
    assert!(!path.parent().unwrap().exists());
}

#[test]
fn a_directory_in_place_of_the_file_is_refused() {
    let directory = directory();
    assert_eq!(refused(directory.path()).class, Class::NoServer);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;

    let directory = directory();
    let store = opened(&directory.path().join("a.db"));
    store
        .insert(USERS, &[native_user(1, 1).build()])
        .await
        .unwrap();
    let mut files = 0;
    for file in fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
        files += 1;
    }
    assert_eq!(files, 3, "the database, its log and the log's index");
}

#[test]
fn a_file_that_many_open_at_once_is_set_up_once() {
    for _ in 0..5 {
        let directory = directory();
        let path = directory.path().join("a.db");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| opened(&path));
            }
        });
        drop(opened(&path));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_on_two_stores_wait_for_each_other() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let stores = [opened(&path), opened(&path)];
    let user = native_user(999, 1);
    stores[0].insert(USERS, &[user.build()]).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..16_u32 {
        let store = Arc::clone(&stores[n as usize % 2]);
        let id = Bson::from(user.id());
        writers.spawn(async move {
            for step in 0..10 {
                let (guard, change) = section(&format!("{n}-{step}"));
                let written = store.write(USERS, &id, &guard, &change).await.unwrap();
                assert!(matches!(written, Written::Applied(_)), "{written:?}");
                let new = native_user(n * 10 + step, 1).build();
                let inserted = store.insert(USERS, &[new]).await.unwrap();
                assert_eq!(inserted, [Inserted::Stored]);
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    for store in &stores {
        assert_eq!(store.count(USERS, &Query::All).await.unwrap(), 161);
        let ids = Query::Ids(vec![user.id().into()]);
        let stored = store.find(USERS, &Find::new(ids)).await.unwrap();
        assert_eq!(document::version(&stored[0]), Version::new(161));
    }
}

#[tokio::test]
async fn readers_do_not_wait_for_a_writer() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = opened(&path);
    let user = native_user(1, 1).build();
    store
        .insert(USERS, std::slice::from_ref(&user))
        .await
        .unwrap();
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("BEGIN IMMEDIATE; DELETE FROM documents_of_internal_users;")
        .unwrap();
    assert_eq!(all(&*store).await, [user]);
    assert_eq!(store.count(USERS, &Query::All).await.unwrap(), 1);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(all(&*store).await, []);
}

#[tokio::test]
async fn a_damaged_document_is_an_error_and_never_a_panic() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = opened(&path);
    let users = [native_user(1, 1), native_user(2, 1)];
    let documents = [users[0].build(), users[1].build()];
    store.insert(USERS, &documents).await.unwrap();
    let whole = documents[0].as_bytes();
    let mut broken_inside = whole.to_vec();
    broken_inside[4] = 0x42;
    let damages: [Vec<u8>; 5] = [
        Vec::new(),
        vec![1, 2, 3],
        whole[..whole.len() - 7].to_vec(),
        broken_inside,
        vec![0xff; 64],
    ];
    let other = Connection::open(&path).unwrap();
    for damage in damages {
        other
            .execute(
                "UPDATE documents_of_internal_users SET doc = ?1 WHERE user_id = ?2",
                rusqlite::params![damage, users[0].id()],
            )
            .unwrap();
        let id = Bson::from(users[0].id());
        let found = store.find(USERS, &Find::new(Query::All)).await;
        assert_eq!(found.unwrap_err().class, Class::Corrupt);
        let (guard, change) = section("op");
        let written = store.write(USERS, &id, &guard, &change).await;
        assert_eq!(written.unwrap_err().class, Class::Corrupt);
        let newer = native_user(1, 2).build();
        let put = store.put_newer(USERS, &[newer]).await;
        assert_eq!(put.unwrap_err().class, Class::Corrupt);
        let amended = store.amend(USERS, &[id], &doc! {}, &doc! { "x": 1 }).await;
        assert_eq!(amended.unwrap_err().class, Class::Corrupt);

        let sound = Find::new(Query::Ids(vec![users[1].id().into()]));
        assert_eq!(store.find(USERS, &sound).await.unwrap(), documents[1..]);
    }
}

#[tokio::test]
async fn collections_are_told_apart_by_every_letter() {
    let directory = directory();
    let store = opened(&directory.path().join("a.db"));
    let names = [
        "users",
        "Users",
        "users_",
        "us.ers",
        "u\"; DROP TABLE unique_keys; --",
        "sqlite_schema",
        "unique_keys",
        "مستخدم",
        "a b",
        "",
        "users$5f",
    ];
    for (n, name) in names.into_iter().enumerate() {
        let document = rawdoc! { "_id": "same", "n": i64::try_from(n).unwrap() };
        let inserted = store.insert(name, &[document]).await.unwrap();
        assert_eq!(inserted, [Inserted::Stored], "{name}");
    }
    for (n, name) in names.into_iter().enumerate() {
        let found = store.find(name, &Find::new(Query::All)).await.unwrap();
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(found[0].get_i64("n").unwrap(), i64::try_from(n).unwrap());
    }
    store
        .prepare(&Layout {
            collections: Vec::new(),
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_file_of_an_earlier_format_is_brought_up_to_this_one() {
    let without_checksums = "DROP TRIGGER unsummed_documents_of_internal_users;
        DROP TRIGGER unsummed_documents_of_others;
        ALTER TABLE documents_of_internal_users DROP COLUMN sum;
        ALTER TABLE documents_of_others DROP COLUMN sum;
        PRAGMA user_version = 2;";
    let without_status = "ALTER TABLE documents_of_internal_users DROP COLUMN backup_status;
        ALTER TABLE documents_of_others DROP COLUMN backup_status;
        PRAGMA user_version = 1;";
    for earlier in [
        without_checksums.to_owned(),
        format!("{without_checksums}{without_status}"),
    ] {
        let directory = directory();
        let path = directory.path().join("a.db");
        let store = opened(&path);
        let users: Vec<_> = (0..1_200).map(|n| native_user(n, 1).build()).collect();
        store.insert(USERS, &users).await.unwrap();
        let bare = rawdoc! { "_id": "bare" };
        store.insert("others", &[bare]).await.unwrap();
        drop(store);
        let other = Connection::open(&path).unwrap();
        other.execute_batch(&earlier).unwrap();

        let store = opened(&path);
        let first = Find::new(Query::All).limit(1_000);
        assert_eq!(store.find(USERS, &first).await.unwrap(), users[..1_000]);
        let pending = Query::Equal(doc! { "metadata.backup_status": "pending" });
        assert_eq!(store.count(USERS, &pending).await.unwrap(), 1_200);
        assert_eq!(store.count("others", &pending).await.unwrap(), 0);
        let again = native_user(2_000, 1).build();
        store.insert(USERS, &[again]).await.unwrap();
        assert_eq!(store.count(USERS, &pending).await.unwrap(), 1_201);
        let unsummed = "SELECT count(*) FROM documents_of_internal_users WHERE sum IS NULL";
        let unsummed: i64 = other.query_row(unsummed, [], |row| row.get(0)).unwrap();
        assert_eq!(unsummed, 0);
        assert_eq!(store.damage().await.unwrap(), []);
        drop(opened(&path));
    }
}

#[tokio::test]
async fn what_a_trigger_of_another_program_refuses_is_the_documents_own_fault() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = opened(&path);
    let [good, bad, last] = [1, 2, 3].map(|n| native_user(n, 2).build());
    store.prepare(&users()).await.unwrap();
    let user = document::user_id(&bad).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch(&format!(
            "CREATE TRIGGER t BEFORE INSERT ON documents_of_internal_users WHEN NEW.user_id = '{user}'
             BEGIN SELECT RAISE(ABORT, 'no'); END;"
        ))
        .unwrap();
    let batch = [good.clone(), bad, last.clone()];
    let inserted = store.insert(USERS, &batch).await.unwrap();
    let [
        Inserted::Stored,
        Inserted::Rejected(fault),
        Inserted::Stored,
    ] = &inserted[..]
    else {
        panic!("{inserted:?}");
    };
    assert_eq!(fault.code & 0xff, 19, "{fault:?}");
    let put = store.put_newer(USERS, &batch).await.unwrap();
    assert!(
        matches!(&put[..], [Put::Settled, Put::Rejected(_), Put::Settled]),
        "{put:?}"
    );
    assert_eq!(all(&*store).await, [good, last]);
}
