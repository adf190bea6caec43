//! Bits that a disk changes: each is an error, never a wrong or empty answer.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tierkeep_core::bson::Bson;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::store::{Class, Find, Query, Store, StoreError};
use tierkeep_sqlite::SqliteStore;
use tierkeep_testkit::ManualClock;
use tierkeep_testkit::documents::{hostile_documents, native_user};

use crate::files::{USERS, directory, section, users};
use crate::opened;

/// A closed file with these documents.
async fn filled(path: &Path, documents: &[RawDocumentBuf]) -> Vec<u8> {
    let store = opened(path);
    store.prepare(&users()).await.expect("prepare succeeds");
    let inserted = store.insert(USERS, documents).await;
    inserted.expect("insert succeeds");
    drop(store);
    // The last connection writes the log back.
    fs::read(path).expect("the file can be read")
}

fn place_of(bytes: &[u8], part: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(part.len()).enumerate();
    windows
        .filter(|(_, window)| *window == part)
        .map(|(at, _)| at)
        .collect()
}

fn by_id(user: &RawDocumentBuf) -> Find {
    Find::new(Query::Ids(vec![document::id(user)]))
}

fn by_user(user: &RawDocumentBuf) -> Find {
    let name = document::user_id(user).expect("a user");
    Find::new(Query::Users(vec![name.to_owned()]))
}

/// A document with a text in its section by which its bytes are found.
fn marked(n: u32) -> RawDocumentBuf {
    let text = format!("the content of document {n:05}");
    native_user(n, 1).set("scan_cache", text.as_str()).build()
}

/// L29.
#[tokio::test]
async fn a_changed_bit_of_a_document_is_an_error_for_whatever_reads_it() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let documents: Vec<_> = (0..5).map(marked).collect();
    let mut bytes = filled(&path, &documents).await;
    let [at] = place_of(&bytes, b"the content of document 00002")[..] else {
        panic!("it is stored once");
    };
    bytes[at + 10] ^= 1;
    fs::write(&path, bytes).unwrap();

    let store = opened(&path);
    let (guard, change) = section("op");
    let id = document::id(&documents[2]);
    let newer = native_user(2, 2).build();
    let errors: Vec<StoreError> = vec![
        store.find(USERS, &by_id(&documents[2])).await.unwrap_err(),
        store
            .find(USERS, &by_user(&documents[2]))
            .await
            .unwrap_err(),
        store.find(USERS, &Find::new(Query::All)).await.unwrap_err(),
        store.write(USERS, &id, &guard, &change).await.unwrap_err(),
        store.put_newer(USERS, &[newer]).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.class, Class::Corrupt, "{error}");
    }
    for sound in documents.iter().filter(|user| document::id(user) != id) {
        let found = store.find(USERS, &by_id(sound)).await.unwrap();
        assert_eq!(found, std::slice::from_ref(sound));
    }
    let damage = store.damage().await.unwrap();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(
        damage[0].to_string(),
        "1 documents of internal_users do not match their checksums"
    );
}

#[tokio::test]
async fn a_changed_bit_of_any_entry_or_column_never_hides_a_document() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let documents: Vec<_> = (0..40).map(marked).collect();
    let whole = filled(&path, &documents).await;
    let user = document::user_id(&documents[17]).unwrap();
    // Column, key and entries in each index, beside the document itself.
    let places = place_of(&whole, user.as_bytes());
    assert!(places.len() >= 6, "{places:?}");
    let mut hidden = 0;
    for at in places {
        for (byte, bit) in [(0, 0x40), (user.len() - 1, 1), (12, 4)] {
            let mut bytes = whole.clone();
            bytes[at + byte] ^= bit;
            fs::write(&path, bytes).unwrap();
            let store = opened(&path);
            for read in [by_id, by_user] {
                for stored in &documents {
                    match store.find(USERS, &read(stored)).await {
                        Ok(found) => assert_eq!(found, std::slice::from_ref(stored)),
                        Err(error) => assert_eq!(error.class, Class::Corrupt, "{error}"),
                    }
                }
            }
            let damage = store.damage().await.unwrap();
            assert!(!damage.is_empty(), "byte {byte} at {at}");
            hidden += 1;
        }
    }
    assert!(hidden >= 18);
}

/// Numbers that look random and are the same each time.
fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

#[tokio::test]
async fn fifty_changed_bits_anywhere_lead_to_errors_and_not_to_other_answers() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let documents: Vec<_> = (0..150).map(marked).collect();
    let whole = filled(&path, &documents).await;
    let (mut refused, mut failed, mut answered) = (0, 0, 0);
    for seed in 1..=60 {
        let mut next = numbers(seed);
        let mut bytes = whole.clone();
        for _ in 0..50 {
            let bit = usize::try_from(next() % (whole.len() as u64 * 8)).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        fs::remove_file(path.with_extension("db-wal")).ok();
        fs::remove_file(path.with_extension("db-shm")).ok();
        fs::write(&path, bytes).unwrap();
        let clock = Arc::new(ManualClock::default());
        let Ok(store) = SqliteStore::open(&path, Role::RaseenTempUser, clock) else {
            refused += 1;
            continue;
        };
        for stored in &documents {
            for find in [by_id(stored), by_user(stored)] {
                match store.find(USERS, &find).await {
                    Ok(found) => {
                        assert_eq!(found, std::slice::from_ref(stored), "seed {seed}");
                        answered += 1;
                    }
                    Err(error) => {
                        assert_ne!(error.class, Class::NoServer, "seed {seed}: {error}");
                        failed += 1;
                    }
                }
            }
        }
        let damage = store.damage().await;
        assert!(
            damage.as_ref().is_err() || damage.is_ok_and(|found| !found.is_empty()),
            "seed {seed}"
        );
    }
    assert!(
        failed > 500 && answered > 5_000 && refused < 30,
        "{refused} refused, {failed} failed, {answered} answered"
    );
}

#[tokio::test]
async fn what_another_program_changes_is_taken_as_it_is_until_it_is_written_here() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = opened(&path);
    let user = native_user(1, 1);
    store.insert(USERS, &[user.build()]).await.unwrap();
    let other = Connection::open(&path).unwrap();
    let unsummed = || -> i64 {
        let sql = "SELECT count(*) FROM documents_of_internal_users WHERE sum IS NULL";
        other.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(unsummed(), 0);
    let theirs = user.set("note", "theirs").build();
    let update = "UPDATE documents_of_internal_users SET doc = ?1";
    assert_eq!(other.execute(update, [theirs.as_bytes()]).unwrap(), 1);

    assert_eq!(unsummed(), 1);
    let id = document::id(&theirs);
    assert_eq!(store.find(USERS, &by_id(&theirs)).await.unwrap(), [theirs]);
    let (guard, change) = section("op");
    store.write(USERS, &id, &guard, &change).await.unwrap();
    assert_eq!(unsummed(), 0);
    assert_eq!(store.damage().await.unwrap(), []);
}

#[tokio::test]
async fn hostile_documents_have_no_damage() {
    let directory = directory();
    let store = opened(&directory.path().join("a.db"));
    let hostile: Vec<_> = hostile_documents().into_iter().map(|(_, it)| it).collect();
    store.insert(USERS, &hostile).await.unwrap();
    assert_eq!(store.damage().await.unwrap(), []);
    let count = store.count(USERS, &Query::All).await.unwrap();
    assert_eq!(count, hostile.len() as u64);
    let missing = Find::new(Query::Ids(vec![Bson::from("nobody")]));
    assert_eq!(store.find(USERS, &missing).await.unwrap(), []);
}
