//! Failures of a real server, injected by its fail points, get the right error class.

use std::time::{Duration, Instant};

use bson::raw::{RawArrayBuf, RawDocumentBuf};
use bson::{Bson, DateTime, doc, rawdoc};
use secrecy::SecretString;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::store::{
    Change, Class, Fault, Fence, Find, Guard, Inserted, Put, Query, Store, Verdict, Written,
};
use tierkeep_core::user::Section;
use tierkeep_core::version::{Version, Window};
use tierkeep_mongo::MongoStore;
use tierkeep_testkit::documents::native_user;

use crate::bench::{Bench, USERS, layout, url_with};

#[tokio::test]
async fn a_server_that_steps_down_is_a_matter_of_trying_again() {
    let bench = Bench::failing().await;
    let user = native_user(1, 1).build();
    for (code, class) in [
        (91, Class::Transition),
        (189, Class::Transition),
        (10107, Class::NotPrimary),
        (11600, Class::Transition),
        (11602, Class::Transition),
        (13435, Class::NotPrimary),
        (13436, Class::NotPrimary),
    ] {
        bench.fail(1, &["insert"], doc! { "errorCode": code }).await;
        let inserted = bench.store.insert(USERS, std::slice::from_ref(&user)).await;
        let error = inserted.unwrap_err();
        assert_eq!((error.class, error.code), (class, code));
        assert_eq!(error.verdict(), Verdict::Retry);
        assert_eq!(error.is_ambiguous(), class == Class::Transition);

        bench.fail(1, &["find"], doc! { "errorCode": code }).await;
        let found = bench.store.find(USERS, &Find::new(Query::All)).await;
        assert_eq!(found.unwrap_err().class, class);
    }
    assert!(bench.all().await.is_empty());
}

#[tokio::test]
async fn every_method_says_which_database_and_operation_failed() {
    let bench = Bench::failing().await;
    let user = native_user(1, 1).build();
    let commands = [
        "insert",
        "update",
        "delete",
        "findAndModify",
        "find",
        "aggregate",
        "listCollections",
    ];
    bench.fail(100, &commands, doc! { "errorCode": 13 }).await;
    let id = Bson::from("a");
    let guard = Guard::Entry { nonce: "n".into() };
    let fences = [Fence::Version {
        version: Version::FIRST,
        ids: vec![id.clone()],
    }];
    let store = &bench.store;
    let users = std::slice::from_ref(&user);
    let errors = [
        store.insert(USERS, users).await.unwrap_err(),
        store.put_newer(USERS, users).await.unwrap_err(),
        store
            .write(
                USERS,
                &id,
                &guard,
                &Change::Admit {
                    staged_at: DateTime::from_millis(7),
                },
            )
            .await
            .unwrap_err(),
        store.delete(USERS, &fences).await.unwrap_err(),
        store
            .amend(USERS, &[id], &doc! {}, &doc! { "a": 1 })
            .await
            .unwrap_err(),
        store.find(USERS, &Find::new(Query::All)).await.unwrap_err(),
        store.count(USERS, &Query::All).await.unwrap_err(),
        store.prepare(&layout("others")).await.unwrap_err(),
        store.indexes().await.unwrap_err(),
    ];
    let operations = [
        "insert",
        "put_newer",
        "write",
        "delete",
        "amend",
        "find",
        "count",
        "prepare",
        "indexes",
    ];
    for (error, operation) in errors.into_iter().zip(operations) {
        assert_eq!(
            error.to_string(),
            format!("raseen_temp_user: {operation} failed: unauthorized (code 13)")
        );
        assert_eq!(error.verdict(), Verdict::Defer);
    }
}

#[tokio::test]
async fn a_write_that_no_majority_acknowledged_is_an_error_although_it_is_applied() {
    let bench = Bench::failing().await;
    let first = native_user(1, 1).build();
    let unacknowledged =
        || doc! { "writeConcernError": { "code": 64, "errmsg": "waiting timed out" } };

    bench.fail(1, &["insert"], unacknowledged()).await;
    let inserted = bench
        .store
        .insert(USERS, std::slice::from_ref(&first))
        .await;
    let error = inserted.unwrap_err();
    assert_eq!((error.class, error.code), (Class::Unacknowledged, 64));
    assert_eq!(error.verdict(), Verdict::Retry);
    assert_eq!(bench.certain().await, std::slice::from_ref(&first));

    let second = native_user(1, 2).build();
    bench.fail(1, &["update"], unacknowledged()).await;
    let put = bench
        .store
        .put_newer(USERS, std::slice::from_ref(&second))
        .await;
    assert_eq!(put.unwrap_err().class, Class::Unacknowledged);
    assert_eq!(bench.certain().await, [second]);

    let id = Bson::from(native_user(1, 1).id());
    let fences = [Fence::Version {
        version: Version::new(2).unwrap(),
        ids: vec![id],
    }];
    bench.fail(1, &["delete"], unacknowledged()).await;
    let deleted = bench.store.delete(USERS, &fences).await;
    assert_eq!(deleted.unwrap_err().class, Class::Unacknowledged);
    assert!(bench.certain().await.is_empty());
}

#[tokio::test]
async fn a_command_that_one_document_makes_fail_is_repeated_until_that_document_is_alone() {
    let bench = Bench::failing().await;
    let users: Vec<_> = (0..5).map(|n| native_user(n, 1).build()).collect();
    bench.fail(3, &["insert"], doc! { "errorCode": 9 }).await;
    let outcomes = bench.store.insert(USERS, &users).await.unwrap();
    // All five fail, the first two, and the first alone.
    assert!(matches!(&outcomes[0], Inserted::Rejected(fault) if fault.code == 9));
    assert_eq!(outcomes[1..], vec![Inserted::Stored; 4]);
    assert_eq!(bench.all().await, &users[1..]);
}

#[tokio::test]
async fn what_a_validator_refuses_is_the_documents_own_fault() {
    let bench = Bench::prepared().await;
    let validator = doc! { "collMod": USERS, "validator": { "user_type": "internal" } };
    bench.run(validator).await;
    let good = native_user(1, 1).build();
    let bad = native_user(2, 1).set("user_type", "nobody").build();

    let inserted = bench
        .store
        .insert(USERS, &[bad.clone(), good.clone()])
        .await;
    let inserted = inserted.unwrap();
    assert!(matches!(&inserted[0], Inserted::Rejected(fault) if fault.code == 121));
    assert_eq!(inserted[1], Inserted::Stored);
    let put = bench
        .store
        .put_newer(USERS, &[bad, good.clone()])
        .await
        .unwrap();
    assert!(matches!(&put[0], Put::Rejected(fault) if fault.code == 121));
    assert_eq!(put[1], Put::Settled);
    assert_eq!(bench.all().await, [good]);
}

#[tokio::test]
async fn a_document_that_another_programs_index_refuses_is_its_own_fault_and_the_index_is_named() {
    let pair = || RawArrayBuf::from_iter([1, 2]);
    let words = |language: &str| rawdoc! { "name": "tierkeep", "language": language };
    let refused = [
        (
            "text",
            17_262,
            doc! { "scan_cache.name": "text" },
            words("Rust"),
        ),
        (
            "text",
            17_261,
            doc! { "scan_cache.name": "text" },
            rawdoc! { "name": "tierkeep", "language": 7 },
        ),
        (
            "sphere",
            16_755,
            doc! { "scan_cache.place": "2dsphere" },
            rawdoc! { "place": "Berlin" },
        ),
        (
            "plane",
            13_027,
            doc! { "scan_cache.place": "2d" },
            rawdoc! { "place": [1_000, 2] },
        ),
        (
            "hashed",
            16_766,
            doc! { "scan_cache.list": "hashed" },
            rawdoc! { "list": pair() },
        ),
        (
            "lists",
            171,
            doc! { "scan_cache.list": 1, "scan_cache.more": 1 },
            rawdoc! { "list": pair(), "more": pair() },
        ),
        (
            "numbers",
            16_746,
            doc! { "scan_cache.list.0": 1 },
            rawdoc! { "list": [{ "0": 1 }] },
        ),
    ];
    for (name, code, key, content) in refused {
        let bench = Bench::prepared().await;
        let index = doc! { "key": key, "name": name };
        bench
            .run(doc! { "createIndexes": USERS, "indexes": [index] })
            .await;
        let odd = native_user(1, 2).set("scan_cache", content.clone()).build();
        let good = [native_user(0, 2).build(), native_user(2, 2).build()];
        let batch = [good[0].clone(), odd, good[1].clone()];
        let blamed = |fault: &Fault| {
            assert_eq!(fault.code, code, "{fault}");
            assert!(fault.reason.contains(&format!("{name:?}")), "{fault}");
            assert!(!fault.reason.contains("Rust"), "{fault}");
        };

        let inserted = bench.store.insert(USERS, &batch).await.unwrap();
        let [
            Inserted::Stored,
            Inserted::Rejected(fault),
            Inserted::Stored,
        ] = &inserted[..]
        else {
            panic!("{code}: {inserted:?}");
        };
        blamed(fault);
        assert_eq!(bench.all().await, good);

        let put = bench.store.put_newer(USERS, &batch).await.unwrap();
        let [Put::Settled, Put::Rejected(fault), Put::Settled] = &put[..] else {
            panic!("{code}: {put:?}");
        };
        blamed(fault);

        let (guard, change) = section(content);
        let id = document::id(&good[0]);
        let written = bench.store.write(USERS, &id, &guard, &change).await;
        let Ok(Written::Rejected(fault)) = &written else {
            panic!("{code}: {written:?}");
        };
        blamed(fault);
        assert_eq!(bench.all().await, good);
    }
}

fn section(content: RawDocumentBuf) -> (Guard, Change) {
    let guard = Guard::Live {
        window: Window::from(Version::FIRST, 8),
        unless_op: "op".to_owned(),
    };
    let change = Change::Section {
        section: Section::parse("scan_cache").unwrap(),
        value: Some(content),
        op: "op".to_owned(),
    };
    (guard, change)
}

#[tokio::test]
async fn a_unique_index_of_another_program_is_named_when_it_refuses_a_document() {
    let bench = Bench::prepared().await;
    let index =
        doc! { "key": { "scan_cache.mail": 1 }, "name": "by mail", "unique": true, "sparse": true };
    bench
        .run(doc! { "createIndexes": USERS, "indexes": [index] })
        .await;
    let mail = || rawdoc! { "mail": "one@example.org" };
    let users = [
        native_user(1, 2).set("scan_cache", mail()).build(),
        native_user(2, 2).set("scan_cache", mail()).build(),
        native_user(3, 2).set("scan_cache", rawdoc! {}).build(),
    ];
    let named = |fault: &Fault| fault.code == 11_000 && fault.reason.contains("\"by mail\"");
    let inserted = bench.store.insert(USERS, &users).await.unwrap();
    assert!(
        matches!(&inserted[..], [Inserted::Stored, Inserted::Rejected(fault), Inserted::Stored] if named(fault)),
        "{inserted:?}"
    );
    let (guard, change) = section(mail());
    let id = document::id(&users[2]);
    let written = bench.store.write(USERS, &id, &guard, &change).await;
    assert!(
        matches!(&written, Ok(Written::Rejected(fault)) if named(fault)),
        "{written:?}"
    );
}

#[tokio::test]
async fn an_unlisted_error_of_one_document_leaves_that_document_alone_unsettled() {
    const FAIL_POINT_ENABLED: i32 = 192;
    let bench = Bench::prepared().await;
    let batch = [0, 1, 2].map(|n| native_user(n, 2).build());
    let good = &batch[1..];
    let fail = |times: i32| {
        let data = doc! { "collectionNS": format!("{}.{USERS}", bench.name) };
        let mode = doc! { "times": times };
        let point =
            doc! { "configureFailPoint": "failCollectionInserts", "mode": mode, "data": data };
        let admin = bench.client.database("admin");
        async move { admin.run_command(point).await.unwrap() }
    };
    // All at once, then the first by itself.
    fail(2).await;

    let inserted = bench.store.insert(USERS, &batch).await.unwrap();
    let [
        Inserted::Unsettled(error),
        Inserted::Stored,
        Inserted::Stored,
    ] = &inserted[..]
    else {
        panic!("{inserted:?}");
    };
    assert_eq!(
        (error.class, error.code, error.operation),
        (Class::Other, FAIL_POINT_ENABLED, "insert")
    );
    assert_eq!(bench.all().await, good);

    fail(1).await;
    let put = bench.store.put_newer(USERS, &batch).await.unwrap();
    let [Put::Unsettled(error), Put::Settled, Put::Settled] = &put[..] else {
        panic!("{put:?}");
    };
    assert_eq!(
        (error.class, error.code, error.verdict()),
        (Class::Other, FAIL_POINT_ENABLED, Verdict::Defer)
    );
    assert_eq!(bench.all().await, good);
}

#[tokio::test]
async fn a_full_disk_is_left_for_later_and_is_no_documents_fault() {
    let bench = Bench::failing().await;
    let users: Vec<_> = (0..3).map(|n| native_user(n, 1).build()).collect();
    bench
        .fail(1, &["insert"], doc! { "errorCode": 14031 })
        .await;
    let error = bench.store.insert(USERS, &users).await.unwrap_err();
    assert_eq!(
        (error.class, error.verdict()),
        (Class::DiskFull, Verdict::Defer)
    );
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again() {
    let bench = Bench::failing().await;
    let user = native_user(1, 1).build();
    bench
        .fail(1, &["insert"], doc! { "closeConnection": true })
        .await;
    let inserted = bench.store.insert(USERS, std::slice::from_ref(&user)).await;
    let error = inserted.unwrap_err();
    assert_eq!(
        (error.class, error.verdict()),
        (Class::Refused, Verdict::Retry)
    );
    let again = bench.store.insert(USERS, std::slice::from_ref(&user)).await;
    assert_eq!(again.unwrap(), [Inserted::Stored]);
}

#[tokio::test]
async fn a_server_that_was_lost_is_told_though_no_call_failed() {
    let bench = Bench::failing().await;
    bench.store.hello().await.unwrap();
    let before = bench.store.times_reached();
    let looks = ["hello", "isMaster", "ismaster"];
    bench
        .fail(2, &looks, doc! { "closeConnection": true })
        .await;
    // The driver looks at the server by itself.
    for _ in 0..100 {
        if bench.store.times_reached() > before {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(bench.store.times_reached() > before);
    bench.store.hello().await.unwrap();
}

#[tokio::test]
async fn a_batch_that_breaks_in_the_middle_of_a_page_is_an_error_and_not_a_short_page() {
    let bench = Bench::failing().await;
    let users: Vec<_> = (0..1_600).map(|n| native_user(n, 1).build()).collect();
    bench.store.insert(USERS, &users).await.unwrap();
    bench
        .fail(1, &["getMore"], doc! { "errorCode": 11602 })
        .await;
    let all = Find::new(Query::All).limit(1_600);
    let found = bench.store.find(USERS, &all).await.map(|page| page.len());
    assert_eq!(found.unwrap_err().class, Class::Transition);
    assert_eq!(bench.store.find(USERS, &all).await.unwrap().len(), 1_600);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up_in_time() {
    let bench = Bench::failing().await;
    let block = doc! { "blockConnection": true, "blockTimeMS": 30_000 };
    bench.fail(1, &["insert"], block).await;
    let started = Instant::now();
    let user = native_user(1, 1).build();
    let error = bench.store.insert(USERS, &[user]).await.unwrap_err();
    assert_eq!(
        (error.class, error.verdict()),
        (Class::Timeout, Verdict::Retry)
    );
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("mongodb://me:hunter2@127.0.0.1:{port}/?serverSelectionTimeoutMS=500");
    let store = MongoStore::connect(&SecretString::from(url), Role::SrieMainUser)
        .await
        .unwrap();
    let started = Instant::now();
    let error = store.hello().await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(
        (error.class, error.verdict()),
        (Class::NoServer, Verdict::Defer)
    );
    assert_eq!(
        error.to_string(),
        "srie_main_user: hello failed: no_server (code 0)"
    );
}

#[tokio::test]
async fn a_wrong_password_is_a_distinct_error_that_names_no_user() {
    let url = url_with("x", "").replace("mongodb://", "mongodb://nobody:hunter2@");
    let store = MongoStore::connect(&SecretString::from(url), Role::SrieMainUser)
        .await
        .unwrap();
    let error = store.count(USERS, &Query::All).await.unwrap_err();
    assert_eq!(error.class, Class::Auth);
    assert_eq!(error.verdict(), Verdict::Defer);
    let shown = format!("{error} {error:?} {store:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("nobody"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_missing_id_is_rejected_before_anything_is_sent() {
    let bench = Bench::prepared().await;
    let outcomes = bench
        .store
        .insert(USERS, &[rawdoc! { "a": 1 }, rawdoc! { "a": 1, "_id": 1 }])
        .await
        .unwrap();
    assert!(
        outcomes
            .iter()
            .all(|outcome| { matches!(outcome, Inserted::Rejected(fault) if fault.code == 53) })
    );
    assert!(bench.all().await.is_empty());
}
