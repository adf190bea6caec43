//! The queries of every tick use an index, independent of the other documents.

use bson::raw::{RawBson, RawDocumentBuf};
use bson::{Bson, DateTime, Document, Regex, Timestamp, doc, rawdoc};
use tierkeep_core::document;
use tierkeep_core::store::{Cursor, Find, IndexLayout, Layout, Query, Store};
use tierkeep_testkit::documents::native_user;

use crate::bench::{Bench, USERS, layout};

fn at(ms: i64) -> DateTime {
    DateTime::from_millis(ms)
}

/// What the server had to look at for the reads that `reads` made of it.
async fn profiled(bench: &Bench, reads: impl AsyncFnOnce()) -> Vec<Document> {
    bench.run(doc! { "profile": 2 }).await;
    reads().await;
    bench.run(doc! { "profile": 0 }).await;
    let filter = doc! { "find": "system.profile", "filter": { "op": { "$in": ["query", "getmore"] }, "appName": &bench.name } };
    let reply = bench.run(filter).await;
    let batch = reply
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    batch
        .iter()
        .filter_map(Bson::as_document)
        .cloned()
        .collect()
}

fn number(entry: &Document, name: &str) -> i64 {
    entry
        .get_i64(name)
        .or_else(|_| entry.get_i32(name).map(i64::from))
        .unwrap_or(0)
}

/// Every `_id` that paging through `query` with pages of `limit` brings.
async fn paged(bench: &Bench, query: Query, limit: usize) -> Vec<Bson> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let find = Find::new(query.clone()).limit(limit).after(after);
        let page = bench.store.find(USERS, &find).await.unwrap();
        let Some(last) = page.last() else { return ids };
        after = Some(Cursor::after(last));
        ids.extend(page.iter().map(|document| document::id(document)));
        assert!(ids.len() < 1_000, "paging does not end: {ids:?}");
    }
}

#[tokio::test]
async fn a_tick_with_nothing_due_looks_at_no_document() {
    let bench = Bench::prepared().await;
    let users: Vec<_> = (0..200)
        .map(|n| {
            native_user(n, 1)
                .staged_at(at(10_000 + i64::from(n)))
                .build()
        })
        .collect();
    bench.store.insert(USERS, &users).await.unwrap();

    let entries = profiled(&bench, async || {
        let due = Find::new(Query::Due(at(9_999)));
        assert!(bench.store.find(USERS, &due).await.unwrap().is_empty());
        let unstaged = Find::new(Query::Unstaged);
        assert!(bench.store.find(USERS, &unstaged).await.unwrap().is_empty());
    })
    .await;

    assert_eq!(
        entries.len(),
        3,
        "one for what is due, two for what is unstaged"
    );
    for entry in entries {
        assert!(number(&entry, "keysExamined") <= 1, "{entry}");
        assert_eq!(number(&entry, "docsExamined"), 0, "{entry}");
        let plan = entry.get_str("planSummary").unwrap();
        assert!(plan.starts_with("IXSCAN"), "{plan}");
    }
}

/// Two hundred users, staged a millisecond apart from the epoch on.
async fn a_millisecond_apart() -> (Bench, Vec<RawDocumentBuf>) {
    let bench = Bench::prepared().await;
    let users: Vec<_> = (0..200)
        .map(|n| native_user(n, 1).staged_at(at(i64::from(n))).build())
        .collect();
    bench.store.insert(USERS, &users).await.unwrap();
    (bench, users)
}

#[tokio::test]
async fn a_page_of_due_documents_looks_at_no_more_than_it_holds() {
    let (bench, users) = a_millisecond_apart().await;
    let after = Some(Cursor::after(&users[99]));

    let entries = profiled(&bench, async || {
        let due = Find::new(Query::Due(at(150))).limit(10).after(after);
        let page = bench.store.find(USERS, &due).await.unwrap();
        assert_eq!(page, &users[100..110]);
    })
    .await;

    let examined: i64 = entries.iter().map(|e| number(e, "docsExamined")).sum();
    assert!(examined <= 21, "{entries:?}");
}

#[tokio::test]
async fn the_places_of_what_is_staged_come_from_the_index_alone() {
    let (bench, users) = a_millisecond_apart().await;
    let after = Some(Cursor::after(&users[99]));

    let entries = profiled(&bench, async || {
        let staged = Find::new(Query::Staged(at(150))).limit(40).after(after);
        let page = bench.store.find(USERS, &staged.sort_keys()).await.unwrap();
        let expected = users[100..140].iter().map(|user| document::id(user));
        assert!(page.iter().map(|place| document::id(place)).eq(expected));
    })
    .await;

    let sum = |name| entries.iter().map(|it| number(it, name)).sum::<i64>();
    assert_eq!(sum("docsExamined"), 0, "{entries:?}");
    assert!((1..=41).contains(&sum("keysExamined")), "{entries:?}");
}

#[tokio::test]
async fn records_not_completed_are_found_by_an_index_of_them_alone_and_completed_ones_in_order() {
    let bench = Bench::new().await;
    let mut layout = layout(USERS);
    let by_status = IndexLayout::over(&["status", "_id"]).above("completed");
    layout.collections[0].indexes.push(by_status);
    bench.store.prepare(&layout).await.unwrap();
    let records: Vec<_> = (0..200)
        .map(|n| {
            let status = if n % 50 == 7 { "pending" } else { "completed" };
            rawdoc! { "_id": n, "status": status }
        })
        .collect();
    bench.store.insert(USERS, &records).await.unwrap();
    let found = async |status: &str, after: Option<Cursor>| {
        let query = Query::Equal(doc! { "status": status });
        let find = Find::new(query).after(after).limit(10);
        let mut page = Vec::new();
        let entries = profiled(&bench, async || {
            page = bench.store.find(USERS, &find).await.unwrap();
        })
        .await;
        let ids: Vec<_> = page.iter().map(|it| it.get_i32("_id").unwrap()).collect();
        (ids, entries.last().cloned().unwrap())
    };

    let (ids, entry) = found("pending", None).await;
    assert_eq!(ids, [7, 57, 107, 157]);
    assert!(number(&entry, "keysExamined") <= 5, "{entry}");
    assert_eq!(
        entry.get_str("planSummary").unwrap(),
        "IXSCAN { status: 1, _id: 1 }"
    );
    assert!(found("failed", None).await.0.is_empty());

    let (ids, entry) = found("completed", Some(Cursor::after(&records[100]))).await;
    assert_eq!(ids, [101, 102, 103, 104, 105, 106, 108, 109, 110, 111]);
    assert!(number(&entry, "keysExamined") <= 13, "{entry}");
    assert_eq!(entry.get_str("planSummary").unwrap(), "IXSCAN { _id: 1 }");
}

/// One document for each type that `staged_at` may have, in index order of the types.
fn of_every_type() -> Vec<(Bson, Option<RawBson>)> {
    let regex = Regex {
        pattern: bson::raw::cstr!("a").to_owned(),
        options: bson::raw::cstr!("").to_owned(),
    };
    let values: Vec<(&str, Option<RawBson>)> = vec![
        ("minkey", Some(RawBson::MinKey)),
        ("missing", None),
        ("null", Some(RawBson::Null)),
        ("number", Some(5.into())),
        ("text", Some("2024-01-01T00:00:00".into())),
        ("object", Some(rawdoc! { "a": 1 }.into())),
        (
            "binary",
            Some(RawBson::Binary(bson::Binary {
                subtype: bson::spec::BinarySubtype::Generic,
                bytes: vec![1],
            })),
        ),
        ("oid", Some(bson::oid::ObjectId::from_bytes([1; 12]).into())),
        ("bool", Some(true.into())),
        ("first date", Some(at(i64::MIN).into())),
        ("date", Some(at(7).into())),
        ("last date", Some(at(i64::MAX).into())),
        (
            "timestamp",
            Some(
                Timestamp {
                    time: 0,
                    increment: 1,
                }
                .into(),
            ),
        ),
        ("regex", Some(regex.into())),
        ("maxkey", Some(RawBson::MaxKey)),
    ];
    values
        .into_iter()
        .map(|(id, value)| (Bson::from(id), value))
        .collect()
}

fn staged(id: &Bson, value: Option<RawBson>) -> RawDocumentBuf {
    let mut metadata = rawdoc! { "version": 1_i64 };
    if let Some(value) = value {
        metadata.append(bson::raw::cstr!("staged_at"), value);
    }
    let mut document = RawDocumentBuf::new();
    document.append(
        bson::raw::cstr!("_id"),
        RawBson::try_from(id.clone()).unwrap(),
    );
    document.append(bson::raw::cstr!("metadata"), metadata);
    document
}

#[tokio::test]
async fn unstaged_documents_of_every_type_are_found_once_by_index_and_without_it() {
    let documents: Vec<_> = of_every_type()
        .into_iter()
        .map(|(id, value)| staged(&id, value))
        .collect();
    let expected: Vec<Bson> = of_every_type()
        .into_iter()
        .map(|(id, _)| id)
        .filter(|id| !id.as_str().unwrap().ends_with("date"))
        .collect();
    for prepared in [true, false] {
        let bench = if prepared {
            Bench::prepared().await
        } else {
            Bench::new().await
        };
        bench.store.insert(USERS, &documents).await.unwrap();
        for limit in [1, 2, 100] {
            let mut found = paged(&bench, Query::Unstaged, limit).await;
            let mut wanted = expected.clone();
            if !prepared {
                wanted.sort_by_key(ToString::to_string);
                found.sort_by_key(ToString::to_string);
            }
            assert_eq!(found, wanted, "prepared: {prepared}, pages of {limit}");
        }
        let count = bench.store.count(USERS, &Query::Unstaged).await.unwrap();
        assert_eq!(count, expected.len() as u64);
        let due = Query::Due(at(i64::MAX));
        let dates = ["first date", "date", "last date"].map(Bson::from);
        for limit in [1, 100] {
            assert_eq!(paged(&bench, due.clone(), limit).await, dates);
        }
        assert_eq!(bench.store.count(USERS, &due).await.unwrap(), 3);
    }
}

#[tokio::test]
async fn arrays_among_the_staging_times_hide_no_document() {
    let bench = Bench::prepared().await;
    let dates = RawBson::Array([at(1), at(2)].into_iter().collect());
    let mixed = RawBson::Array([RawBson::from("x"), at(3).into()].into_iter().collect());
    let outer = rawdoc! { "_id": "outer", "metadata": [{ "staged_at": at(1) }] };
    let documents = [
        staged(&"dates".into(), Some(dates)),
        staged(&"mixed".into(), Some(mixed)),
        outer,
        staged(&"date".into(), Some(at(1).into())),
        staged(&"missing".into(), None),
    ];
    bench.store.insert(USERS, &documents).await.unwrap();
    for limit in [1, 2, 100] {
        let found = paged(&bench, Query::Unstaged, limit).await;
        assert_eq!(
            found,
            ["dates", "missing", "mixed", "outer"].map(Bson::from)
        );
        let due = paged(&bench, Query::Due(at(100)), limit).await;
        assert_eq!(due, [Bson::from("date")]);
    }
    assert_eq!(bench.store.count(USERS, &Query::Unstaged).await.unwrap(), 4);
    assert_eq!(
        bench
            .store
            .count(USERS, &Query::Due(at(100)))
            .await
            .unwrap(),
        1
    );
}

/// Makes indexes with these options over the fields that reads go by.
async fn make_others(bench: &Bench, options: &Document, names: [&str; 2]) {
    let keys = [
        doc! { "metadata.staged_at": 1, "_id": 1 },
        doc! { "user_id": 1, "_id": 1 },
    ];
    for (key, name) in keys.into_iter().zip(names) {
        let mut index = doc! { "key": key, "name": name };
        index.extend(options.clone());
        bench
            .run(doc! { "createIndexes": USERS, "indexes": [index] })
            .await;
    }
}

/// What other programs may index: each leaves documents out, or orders them otherwise.
fn options_of_others() -> [Document; 3] {
    [
        doc! { "sparse": true },
        doc! { "partialFilterExpression": { "of_another_program": true } },
        doc! { "collation": { "locale": "en", "strength": 1 } },
    ]
}

/// The fields that reads go by, each with an index over them.
fn with_both_indexes() -> Layout {
    let mut wanted = layout(USERS);
    wanted.collections[0]
        .indexes
        .push(IndexLayout::over(&["user_id", "_id"]));
    wanted
}

/// Every read by an index finds five staged users and one that is not.
async fn assert_finds_all(bench: &Bench, at_which: &str) {
    let names = (0..5).map(|n| {
        let user = native_user(n, 1).build();
        user.get_str("user_id").unwrap().to_owned()
    });
    let users: Vec<_> = names.collect();
    let due = Query::Due(at(100));
    assert_eq!(paged(bench, due.clone(), 2).await.len(), 5, "{at_which}");
    let count = bench.store.count(USERS, &due).await.unwrap();
    assert_eq!(count, 5, "{at_which}");
    let found = paged(bench, Query::Unstaged, 2).await;
    assert_eq!(found, [Bson::from("unstaged")], "{at_which}");
    let count = bench.store.count(USERS, &Query::Unstaged).await.unwrap();
    assert_eq!(count, 1, "{at_which}");
    let found = Find::new(Query::Users(users));
    let found = bench.store.find(USERS, &found).await.unwrap();
    assert_eq!(found.len(), 5, "{at_which}");
}

async fn plant_staged_and_unstaged(bench: &Bench) {
    let users: Vec<_> = (0..5)
        .map(|n| native_user(n, 1).staged_at(at(i64::from(n))).build())
        .collect();
    bench.store.insert(USERS, &users).await.unwrap();
    let unstaged = staged(&"unstaged".into(), None);
    bench.store.insert(USERS, &[unstaged]).await.unwrap();
}

#[tokio::test]
async fn an_index_of_another_program_over_the_same_fields_hides_no_document() {
    for options in options_of_others() {
        for earlier in [true, false] {
            let bench = Bench::new().await;
            if earlier {
                // With the names that the wanted ones would have.
                let taken = ["metadata.staged_at_1__id_1", "user_id_1__id_1"];
                make_others(&bench, &options, taken).await;
            }
            bench.store.prepare(&with_both_indexes()).await.unwrap();
            if !earlier {
                make_others(&bench, &options, ["other_staged", "other_user"]).await;
            }
            plant_staged_and_unstaged(&bench).await;
            let entries = profiled(&bench, async || {
                assert_finds_all(&bench, &format!("{options}, earlier: {earlier}")).await;
            });
            for entry in entries.await {
                let plan = entry.get_str("planSummary").unwrap();
                let is_by_index = ["IXSCAN { metadata.staged_at: 1", "IXSCAN { user_id: 1"]
                    .iter()
                    .any(|by| plan.starts_with(by));
                assert!(is_by_index, "{options}, earlier: {earlier}: {entry}");
            }
        }
    }
}

#[tokio::test]
async fn an_index_of_another_program_alone_over_the_same_fields_hides_no_document() {
    let taken = ["metadata.staged_at_1__id_1", "user_id_1__id_1"];
    for options in options_of_others() {
        // By a store that has read by the usable indexes before they were dropped, and by one that never saw them.
        for (has_read, names) in [(false, taken), (true, ["other_staged", "other_user"])] {
            let bench = Bench::prepared().await;
            if has_read {
                bench.store.prepare(&with_both_indexes()).await.unwrap();
            }
            plant_staged_and_unstaged(&bench).await;
            if has_read {
                assert_finds_all(&bench, "before").await;
            }
            let drop = doc! { "dropIndexes": USERS, "index": "*" };
            bench.run(drop).await;
            make_others(&bench, &options, names).await;
            assert_finds_all(&bench, &format!("{options}, has read: {has_read}")).await;
        }
    }
}

#[tokio::test]
async fn paging_through_everything_crosses_the_types_of_ids() {
    let bench = Bench::prepared().await;
    let ids: Vec<Bson> = vec![
        Bson::Null,
        1.into(),
        2.5.into(),
        7_i64.into(),
        "a".into(),
        "b".into(),
        doc! { "a": 1 }.into(),
        bson::oid::ObjectId::from_bytes([1; 12]).into(),
        true.into(),
        at(5).into(),
        Timestamp {
            time: 1,
            increment: 1,
        }
        .into(),
    ];
    let documents: Vec<_> = ids
        .iter()
        .map(|id| staged(id, Some(at(1).into())))
        .collect();
    bench.store.insert(USERS, &documents).await.unwrap();
    for limit in [1, 3, 100] {
        assert_eq!(paged(&bench, Query::All, limit).await, ids);
        let equal = Query::Equal(doc! { "metadata.version": 1_i64 });
        assert_eq!(paged(&bench, equal, limit).await, ids);
        let by_id = Query::Ids(ids.clone());
        assert_eq!(paged(&bench, by_id, limit).await, ids);
        assert_eq!(paged(&bench, Query::Due(at(1)), limit).await, ids);
    }
}
