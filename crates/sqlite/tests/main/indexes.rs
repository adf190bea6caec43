//! Which index a query uses, and which index entries a write changes.

use rusqlite::Connection;
use tierkeep_core::bson::{Bson, DateTime, doc, rawdoc};
use tierkeep_core::document;
use tierkeep_core::store::{CollectionLayout, Find, IndexLayout, Query, Written};
use tierkeep_testkit::documents::native_user;

use crate::files::{USERS, all, directory, section, users};
use crate::opened;

/// The steps by which SQLite reads users' documents with what follows the table's name.
fn plan(connection: &Connection, rest: &str) -> Vec<String> {
    let sql = format!("EXPLAIN QUERY PLAN SELECT doc FROM documents_of_internal_users {rest}");
    let mut statement = connection.prepare(&sql).expect("SQLite plans it");
    let steps = statement
        .query_map([], |row| row.get(3))
        .expect("SQLite says the plan");
    steps.map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_table_has_the_indexes_that_its_layout_asks_for() {
    let directory = directory();
    let store = opened(&directory.path().join("a.db"));
    let mut layout = users();
    layout.collections.push(CollectionLayout {
        name: "records".to_owned(),
        indexes: vec![IndexLayout::over(&["status", "_id"]).above("completed")],
        keeps_out: None,
    });
    for _ in 0..2 {
        store.prepare(&layout).await.unwrap();
        let indexes = store.indexes().await.unwrap();
        let names: Vec<_> = indexes.iter().map(|index| index.name.as_str()).collect();
        let expected = [
            "sqlite_autoindex_documents_of_internal_users_1",
            "sqlite_autoindex_documents_of_records_1",
            "staged_of_internal_users",
            "status_of_records",
            "user_of_internal_users",
            "user_of_records",
        ];
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn records_of_every_status_are_found_and_only_those_not_completed_have_an_index_entry() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = opened(&path);
    let mut layout = users();
    layout.collections[0].indexes = vec![IndexLayout::over(&["status", "_id"]).above("completed")];
    store.prepare(&layout).await.unwrap();
    let statuses = ["completed", "pending", "aborted", "failed", "completed"];
    let records: Vec<_> = statuses
        .iter()
        .enumerate()
        .map(|(n, status)| rawdoc! { "_id": format!("{n}"), "status": *status })
        .collect();
    store.insert(USERS, &records).await.unwrap();
    let pending = doc! { "status": "pending" };
    let ended = doc! { "status": "completed" };
    store
        .amend(USERS, &["1".into()], &pending, &ended)
        .await
        .unwrap();

    let other = Connection::open(&path).unwrap();
    let entries = "SELECT count(*) FROM documents_of_internal_users
        INDEXED BY status_of_internal_users WHERE status > 'completed'";
    let entries: i64 = other.query_row(entries, [], |row| row.get(0)).unwrap();
    assert_eq!(entries, 1);
    // A file of an earlier version has an entry for every document.
    let full = "DROP INDEX status_of_internal_users;
        CREATE INDEX status_of_internal_users ON documents_of_internal_users (status, key)
        WHERE status IS NOT NULL;";
    for earlier in [false, true] {
        if earlier {
            other.execute_batch(full).unwrap();
        }
        let all = [
            ("completed", vec!["0", "1", "4"]),
            ("failed", vec!["3"]),
            ("aborted", vec!["2"]),
            ("pending", vec![]),
        ];
        for (status, expected) in all {
            let query = Query::Equal(doc! { "status": status });
            let found = store.find(USERS, &Find::new(query)).await.unwrap();
            let found: Vec<_> = found.iter().map(|it| it.get_str("_id").unwrap()).collect();
            assert_eq!(found, expected, "{status}, {earlier}");
        }
    }
}

#[tokio::test]
async fn the_places_of_what_is_staged_come_from_the_index_alone() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = opened(&path);
    store.prepare(&users()).await.unwrap();
    let users: Vec<_> = (0..9)
        .map(|n| {
            let staged_at = DateTime::from_millis(n.into());
            native_user(n, 1).staged_at(staged_at).build()
        })
        .collect();
    store.insert(USERS, &users).await.unwrap();
    // The documents themselves cannot be read.
    let other = Connection::open(&path).unwrap();
    other
        .execute("UPDATE documents_of_internal_users SET doc = x'00'", [])
        .unwrap();

    let staged = Find::new(Query::Staged(DateTime::from_millis(6)));
    let places = store
        .find(USERS, &staged.clone().sort_keys())
        .await
        .unwrap();
    let expected = users[..7].iter().map(|user| document::id(user));
    assert!(places.iter().map(|place| document::id(place)).eq(expected));
    assert!(store.find(USERS, &staged.head()).await.is_err());
}

#[tokio::test]
async fn a_user_is_found_whatever_the_id_and_only_other_ids_have_an_index_entry() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = opened(&path);
    store.prepare(&users()).await.unwrap();
    let documents = [
        rawdoc! { "_id": "a", "user_id": "a", "status": "own" },
        rawdoc! { "_id": "a1", "user_id": "a", "status": "other" },
        rawdoc! { "_id": 7, "user_id": "a", "status": "other" },
        rawdoc! { "_id": "b", "user_id": "c", "status": "other" },
        rawdoc! { "_id": "d" },
        rawdoc! { "_id": "é\0'", "user_id": "é\0'" },
    ];
    store.insert(USERS, &documents).await.unwrap();
    let other = Connection::open(&path).unwrap();
    let indexed = "SELECT count(*) FROM documents_of_internal_users
        INDEXED BY user_of_internal_users WHERE user_id IS NOT NULL";
    let under_another_id = "AND key <> CAST(x'05' || user_id AS BLOB)";
    let of = |which: &[usize]| {
        which
            .iter()
            .map(|it| documents[*it].clone())
            .collect::<Vec<_>>()
    };
    let by_user = |users: &[&str]| Query::Users(users.iter().map(ToString::to_string).collect());
    let both_ways = [
        (by_user(&["a"]), of(&[2, 0, 1])),
        (by_user(&["a", "b", "c", "d"]), of(&[2, 0, 1, 3])),
        (by_user(&["é\0'"]), of(&[5])),
        (Query::Equal(doc! { "user_id": "a" }), of(&[2, 0, 1])),
        (
            Query::Equal(doc! { "user_id": "a", "status": "other" }),
            of(&[2, 1]),
        ),
        (Query::Equal(doc! { "user_id": "b" }), of(&[])),
    ];
    let entries: i64 = other
        .query_row(&format!("{indexed} {under_another_id}"), [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(entries, 3);
    // SQLite refuses an index that lacks some of what is asked for.
    assert!(other.prepare(indexed).is_err());
    // A file of an earlier version has an entry for every document.
    let full = "DROP INDEX user_of_internal_users;
        CREATE INDEX user_of_internal_users ON documents_of_internal_users (user_id, key)
        WHERE user_id IS NOT NULL;";
    for earlier in [false, true] {
        if earlier {
            other.execute_batch(full).unwrap();
            assert!(other.prepare(indexed).is_ok());
        }
        for (query, expected) in &both_ways {
            let found = store.find(USERS, &Find::new(query.clone())).await.unwrap();
            assert_eq!(found, *expected, "{query:?}");
            let count = store.count(USERS, query).await.unwrap();
            assert_eq!(count, expected.len() as u64, "{query:?}");
        }
        let steps = plan(
            &other,
            "WHERE key > x'00'
            AND ((user_id = 'a' AND key = x'0561')
                OR (user_id = 'a' AND key <> CAST(x'05' || user_id AS BLOB)))
            AND +status = 'other' ORDER BY key",
        );
        assert!(steps.iter().all(|it| !it.starts_with("SCAN")), "{steps:?}");
        let goes_by = |index: &str| steps.iter().any(|step| step.contains(index));
        assert!(goes_by("user_of_internal_users"), "{steps:?}");
        assert!(earlier || goes_by("sqlite_autoindex"), "{steps:?}");
    }
}

#[tokio::test]
async fn a_write_sets_no_column_that_stays_as_it_was() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = opened(&path);
    let user = native_user(1, 1);
    store.insert(USERS, &[user.build()]).await.unwrap();
    // It fires where the column is set, also to the value that it has.
    let other = Connection::open(&path).unwrap();
    let refuse = |columns: &str| {
        format!(
            "CREATE TRIGGER t BEFORE UPDATE OF {columns} ON documents_of_internal_users
             BEGIN SELECT RAISE(ABORT, 'no'); END;"
        )
    };
    other
        .execute_batch(&refuse("user_id, staged_at, status"))
        .unwrap();
    let (guard, change) = section("op");
    let id = Bson::String(document::user_id(&user.build()).unwrap().to_owned());
    let written = store.write(USERS, &id, &guard, &change).await.unwrap();
    let Written::Applied(changed) = written else {
        panic!("{written:?}");
    };
    assert_eq!(all(&*store).await, [changed]);

    other
        .execute_batch(&format!("DROP TRIGGER t; {}", refuse("version")))
        .unwrap();
    let (guard, change) = section("other");
    let written = store.write(USERS, &id, &guard, &change).await.unwrap();
    assert!(matches!(written, Written::Rejected(_)), "{written:?}");
}
