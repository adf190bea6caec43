//! Documents are stored and read byte for byte, where MongoDB's own update operators would change them.

use bson::raw::{RawBson, RawDocumentBuf};
use bson::{Bson, Timestamp, doc, rawdoc};
use tierkeep_core::document::{self, MAX_DOCUMENT_BYTES};
use tierkeep_core::store::{Change, Find, Guard, Inserted, Put, Query, Store, Written};
use tierkeep_core::user::Section;
use tierkeep_core::version::{Version, Window};
use tierkeep_testkit::documents::{hostile_documents, native_user};

use crate::bench::{Bench, USERS};

/// A document that holds a text that is no UTF-8 and a key that is spelled twice.
fn strange(id: &str) -> RawDocumentBuf {
    let document = rawdoc! {
        "_id": id, "user_id": id, "text": "AAAA", "k": 1, "k": 2,
        "metadata": { "version": 1_i64 },
    };
    let mut bytes = document.into_bytes();
    let at = bytes.windows(4).position(|w| w == b"AAAA").unwrap();
    bytes[at..at + 4].copy_from_slice(&[0xff, 0xfe, 0xc3, 0x28]);
    RawDocumentBuf::from_bytes(bytes).unwrap()
}

/// A document with a key that is spelled twice and nothing else strange.
fn doubled(id: &str) -> RawDocumentBuf {
    rawdoc! { "_id": id, "user_id": id, "k": 1, "k": 2, "metadata": { "version": 1_i64 } }
}

fn live(op: &str) -> Guard {
    Guard::Live {
        window: Window::from(Version::FIRST, 8),
        unless_op: op.to_owned(),
    }
}

fn scan_cache(value: Option<RawDocumentBuf>, op: &str) -> Change {
    Change::Section {
        section: Section::parse("scan_cache").unwrap(),
        value,
        op: op.to_owned(),
    }
}

/// A document of exactly `size` bytes.
fn sized(id: &str, size: usize) -> RawDocumentBuf {
    let with = |filler: usize| {
        rawdoc! {
            "_id": id, "user_id": id, "metadata": { "version": 1_i64 }, "filler": "x".repeat(filler),
        }
    };
    let document = with(size - with(0).as_bytes().len());
    assert_eq!(document.as_bytes().len(), size);
    document
}

#[tokio::test]
async fn hostile_documents_are_stored_alike_by_both_ways_in() {
    let inserted = Bench::prepared().await;
    let put = Bench::prepared().await;
    for (name, document) in hostile_documents() {
        let id = document::id(&document);
        let one = std::slice::from_ref(&document);
        let outcome = inserted.store.insert(USERS, one).await.unwrap();
        assert_eq!(outcome, [Inserted::Stored], "{name}");
        let find = Find::new(Query::Ids(vec![id]));
        let read = inserted.store.find(USERS, &find).await.unwrap();
        assert_eq!(read, one, "{name}");
        if document::version(&document).is_some() {
            let outcome = put.store.put_newer(USERS, one).await.unwrap();
            assert_eq!(outcome, [Put::Settled], "{name}");
            let read = put.store.find(USERS, &find).await.unwrap();
            assert_eq!(read, one, "{name}");
        }
    }
}

#[tokio::test]
async fn a_write_answers_documents_that_the_driver_cannot_decode() {
    let bench = Bench::prepared().await;
    for before in [strange("a"), doubled("b")] {
        let id = document::id(&before);
        bench
            .store
            .insert(USERS, std::slice::from_ref(&before))
            .await
            .unwrap();
        let change = scan_cache(Some(rawdoc! { "n": 1 }), "op");
        let written = bench.store.write(USERS, &id, &live("op"), &change).await;
        let Written::Applied(after) = written.unwrap() else {
            panic!("{id} was not written")
        };
        let find = Find::new(Query::Ids(vec![id.clone()]));
        assert_eq!(
            bench.store.find(USERS, &find).await.unwrap(),
            std::slice::from_ref(&after)
        );
        let kept = document::without(&after, &["scan_cache", "metadata"], &[]);
        assert_eq!(kept, document::without(&before, &["metadata"], &[]));

        let whole = Guard::Whole(after.clone());
        let removed = bench.store.write(USERS, &id, &whole, &Change::Remove).await;
        assert_eq!(removed.unwrap(), Written::Applied(after));
    }
}

#[tokio::test]
async fn a_whole_document_guard_tells_an_int64_from_the_double_of_its_value() {
    let bench = Bench::prepared().await;
    let stored = rawdoc! { "_id": "a", "n": 1.0 };
    bench
        .store
        .insert(USERS, std::slice::from_ref(&stored))
        .await
        .unwrap();
    for other in [
        rawdoc! { "_id": "a", "n": 1_i64 },
        rawdoc! { "_id": "a", "n": 1 },
        rawdoc! { "n": 1.0, "_id": "a" },
        rawdoc! { "_id": "a", "n": 1.0, "m": 1 },
    ] {
        let guard = Guard::Whole(other);
        let written = bench
            .store
            .write(USERS, &"a".into(), &guard, &Change::Remove)
            .await;
        assert_eq!(written.unwrap(), Written::Unmatched);
    }
    assert_eq!(bench.all().await, [stored]);
}

#[tokio::test]
async fn documents_too_large_for_one_command_together_are_compared_and_replaced() {
    let bench = Bench::prepared().await;
    let before = sized("a", 12 * 1024 * 1024);
    let after = {
        let mut after = sized("a", 11 * 1024 * 1024);
        after.append(bson::raw::cstr!("changed"), true);
        after
    };
    bench
        .store
        .insert(USERS, std::slice::from_ref(&before))
        .await
        .unwrap();
    let id = Bson::from("a");

    let stale = Guard::Whole(after.clone());
    let unmatched = bench.store.write(USERS, &id, &stale, &Change::Remove).await;
    assert_eq!(unmatched.unwrap(), Written::Unmatched);

    let guard = Guard::Whole(before);
    let change = Change::Replace(after.clone());
    let written = bench
        .store
        .write(USERS, &id, &guard, &change)
        .await
        .unwrap();
    assert!(written == Written::Applied(after.clone()));
    let again = bench
        .store
        .write(USERS, &id, &guard, &change)
        .await
        .unwrap();
    assert!(again == Written::Unmatched);
    assert!(bench.all().await == [after]);
}

#[tokio::test]
async fn a_document_of_sixteen_mebibytes_fits_and_one_byte_more_does_not() {
    let bench = Bench::prepared().await;
    let limit = 16 * 1024 * 1024;
    let documents = [sized("a", limit), sized("b", limit + 1)];
    let inserted = bench.store.insert(USERS, &documents).await.unwrap();
    assert_eq!(inserted[0], Inserted::Stored);
    assert!(matches!(&inserted[1], Inserted::Rejected(fault) if fault.code == 10334));
    let newer = documents.map(|document| {
        document::Edit::new()
            .set_meta("version", 2_i64)
            .apply(&document)
    });
    let put = bench.store.put_newer(USERS, &newer).await.unwrap();
    assert_eq!(put[0], Put::Settled);
    assert!(matches!(&put[1], Put::Rejected(fault) if fault.code == 10334));
    assert!(bench.all().await == newer[..1]);
}

#[tokio::test]
async fn a_section_that_fills_the_document_to_its_limit_fits_and_one_byte_more_does_not() {
    let bench = Bench::prepared().await;
    let user = native_user(1, 1).build();
    let id = document::id(&user);
    bench
        .store
        .insert(USERS, std::slice::from_ref(&user))
        .await
        .unwrap();
    let op = "00000000-0000-0000-0000-000000000000";
    let section = |filler: usize| scan_cache(Some(rawdoc! { "f": "x".repeat(filler) }), op);
    let now = bson::DateTime::from_millis(0);
    let overhead = section(0)
        .apply(&user, now)
        .unwrap()
        .unwrap()
        .as_bytes()
        .len();

    let over = section(MAX_DOCUMENT_BYTES - overhead + 1);
    let written = bench
        .store
        .write(USERS, &id, &live(op), &over)
        .await
        .unwrap();
    assert!(written == Written::TooLarge);
    assert_eq!(bench.all().await, [user]);
    let exact = section(MAX_DOCUMENT_BYTES - overhead);
    let written = bench
        .store
        .write(USERS, &id, &live(op), &exact)
        .await
        .unwrap();
    let Written::Applied(document) = written else {
        panic!("not written")
    };
    assert_eq!(document.as_bytes().len(), MAX_DOCUMENT_BYTES);
    assert_eq!(document::version(&document), Version::new(2));
}

#[tokio::test]
async fn nesting_up_to_the_servers_limit_is_stored_and_beyond_it_is_the_documents_fault() {
    let bench = Bench::prepared().await;
    let nested =
        |depth: usize| (0..depth).fold(rawdoc! { "x": 1 }, |inner, _| rawdoc! { "a": inner });
    let deep = |n: u32, depth: usize| {
        let user = native_user(n, 1).set("scan_cache", RawBson::Document(nested(depth)));
        user.build()
    };
    let documents = [deep(1, 170), deep(2, 184), deep(3, 1), deep(4, 195)];
    let inserted = bench.store.insert(USERS, &documents).await.unwrap();
    let stored: Vec<_> = inserted.iter().map(|o| *o == Inserted::Stored).collect();
    assert_eq!(stored, [true, false, true, false], "{inserted:?}");
    let put = bench.store.put_newer(USERS, &documents).await.unwrap();
    let settled: Vec<_> = put.iter().map(|o| *o == Put::Settled).collect();
    assert_eq!(settled, [true, false, true, false], "{put:?}");

    let id = document::id(&documents[2]);
    let change = scan_cache(Some(nested(170)), "op");
    let written = bench.store.write(USERS, &id, &live("op"), &change).await;
    assert!(matches!(written.unwrap(), Written::Applied(_)));
}

#[tokio::test]
async fn a_zero_timestamp_is_stored_as_it_is_and_never_over_what_is_there() {
    let bench = Bench::prepared().await;
    let zero = Timestamp {
        time: 0,
        increment: 0,
    };
    let first = rawdoc! { "_id": "a", "t": zero };
    let second = rawdoc! { "_id": "a", "t": zero, "u": 1 };
    let bare = rawdoc! { "_id": "b" };
    let over_bare = rawdoc! { "_id": "b", "t": zero };
    let documents = [first.clone(), second, bare.clone(), over_bare];
    let outcomes = bench.store.insert(USERS, &documents).await.unwrap();
    assert_eq!(
        outcomes,
        [
            Inserted::Stored,
            Inserted::Exists,
            Inserted::Stored,
            Inserted::Exists
        ]
    );
    assert_eq!(bench.all().await, [first, bare]);
}

#[tokio::test]
async fn large_batches_are_cut_into_commands_that_fit() {
    let bench = Bench::prepared().await;
    let documents: Vec<_> = (0..7)
        .map(|n| sized(&format!("u{n}"), 6 * 1024 * 1024))
        .collect();
    let inserted = bench.store.insert(USERS, &documents).await.unwrap();
    assert_eq!(inserted, vec![Inserted::Stored; 7]);
    let put = bench.store.put_newer(USERS, &documents).await.unwrap();
    assert_eq!(put, vec![Put::Settled; 7]);
    assert_eq!(bench.store.count(USERS, &Query::All).await.unwrap(), 7);
    let page = bench
        .store
        .find(USERS, &Find::new(Query::All))
        .await
        .unwrap();
    assert_eq!(
        page.len(),
        3,
        "the page ends with the document that reaches 16 MiB"
    );
}

#[tokio::test]
async fn many_ids_are_cut_into_commands_that_fit() {
    let bench = Bench::prepared().await;
    let user = native_user(1, 1).build();
    bench
        .store
        .insert(USERS, std::slice::from_ref(&user))
        .await
        .unwrap();
    let mut ids: Vec<Bson> = (0..25_000)
        .map(|n| format!("none_{n:0>900}").into())
        .collect();
    ids.push(document::id(&user));
    let found = bench
        .store
        .find(USERS, &Find::new(Query::Ids(ids.clone())))
        .await;
    assert_eq!(found.unwrap(), std::slice::from_ref(&user));
    let counted = bench.store.count(USERS, &Query::Ids(ids.clone())).await;
    assert_eq!(counted.unwrap(), 1);
    let mark = doc! { "mark": 1 };
    let amended = bench.store.amend(USERS, &ids, &doc! {}, &mark).await;
    assert_eq!(amended.unwrap(), 1);
    let fence = tierkeep_core::store::Fence::Version {
        version: Version::FIRST,
        ids,
    };
    assert_eq!(bench.store.delete(USERS, &[fence]).await.unwrap(), 1);
}
