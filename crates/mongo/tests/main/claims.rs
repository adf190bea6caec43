//! What copies claim is read from an index; indexes of other programs hide no document, and a large collection is never
//! indexed while a start waits.

use bson::raw::RawDocumentBuf;
use bson::{Bson, Document, doc, rawdoc};
use tierkeep_core::document;
use tierkeep_core::store::{CLAIMS_INDEX, Cursor, Find, IndexLayout, Layout, Query, Store};
use tierkeep_mongo::Deviation;
use tierkeep_testkit::documents::native_user;

use crate::bench::{Bench, USERS, layout};

fn with_claims() -> Layout {
    let mut layout = layout(USERS);
    let indexes = &mut layout.collections[0].indexes;
    indexes.push(IndexLayout::over(&CLAIMS_INDEX).optional());
    layout
}

fn users(count: u32) -> Vec<RawDocumentBuf> {
    (0..count)
        .map(|n| native_user(n, 1).set_meta("digest", "d").build())
        .collect()
}

/// The `_id`s and versions that paging by 3 brings.
async fn paged(bench: &Bench) -> Vec<(Bson, bool)> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let find = Find::new(Query::All).claims().limit(3).after(after);
        let page = bench.store.find(USERS, &find).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = Some(Cursor::after(last));
        all.extend(
            page.iter()
                .map(|it| (document::id(it), document::version(it).is_some())),
        );
        assert!(all.len() < 100, "paging does not end");
    }
}

/// How many documents the server opened for the pages that `reads` asked for.
async fn opened(bench: &Bench, reads: impl AsyncFnOnce()) -> i64 {
    bench.run(doc! { "profile": 2 }).await;
    reads().await;
    bench.run(doc! { "profile": 0 }).await;
    let filter = doc! {
        "find": "system.profile", "filter": { "op": "query", "appName": &bench.name, "command.find": USERS },
    };
    let reply = bench.run(filter).await;
    let batch = reply
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch");
    let entries = batch.unwrap().iter().filter_map(Bson::as_document);
    let number = |entry: &Document| {
        let number = entry.get("docsExamined").unwrap();
        number.as_i64().or_else(|| number.as_i32().map(i64::from))
    };
    let opened: Vec<i64> = entries.map(|entry| number(entry).unwrap()).collect();
    assert!(!opened.is_empty());
    opened.iter().sum()
}

#[tokio::test]
async fn a_scan_of_claims_opens_no_document_until_one_holds_an_array() {
    let bench = Bench::new().await;
    bench.store.prepare(&with_claims()).await.unwrap();
    bench.store.insert(USERS, &users(10)).await.unwrap();
    let odd = rawdoc! { "_id": 7, "metadata": { "version": 3, "digest": "d" } };
    bench.store.insert(USERS, &[odd]).await.unwrap();
    let opens = opened(&bench, async || {
        let found = paged(&bench).await;
        assert_eq!(found.len(), 11);
        assert_eq!(
            found.iter().filter(|(_, is_version)| *is_version).count(),
            10
        );
    });
    assert_eq!(opens.await, 0);
    let array =
        rawdoc! { "_id": "array", "metadata": { "version": [3_i64, 4_i64], "digest": "d" } };
    bench.store.insert(USERS, &[array]).await.unwrap();
    let found = paged(&bench).await;
    assert_eq!(found.len(), 12);
    assert_eq!(
        found.iter().filter(|(_, is_version)| *is_version).count(),
        10
    );
}

#[tokio::test]
async fn an_index_of_another_program_over_the_claims_hides_no_document() {
    for options in [
        doc! { "sparse": true },
        doc! { "partialFilterExpression": { "of_another_program": true } },
        doc! { "collation": { "locale": "en", "strength": 1 } },
    ] {
        for is_alone in [true, false] {
            let bench = Bench::prepared().await;
            let mut index = doc! {
                "key": { "_id": 1, "metadata.version": 1, "metadata.digest": 1 }, "name": "other",
            };
            index.extend(options.clone());
            let make = doc! { "createIndexes": USERS, "indexes": [index] };
            bench.run(make).await;
            if !is_alone {
                bench.store.prepare(&with_claims()).await.unwrap();
            }
            bench.store.insert(USERS, &users(7)).await.unwrap();
            bench
                .store
                .insert(USERS, &[rawdoc! { "_id": "bare" }])
                .await
                .unwrap();
            let found = paged(&bench).await;
            assert_eq!(found.len(), 8, "{options}, alone: {is_alone}");
        }
    }
}

#[tokio::test]
async fn a_large_collection_is_left_without_the_index_and_that_is_told() {
    let bench = Bench::prepared().await;
    for first in (0..100_001).step_by(10_000) {
        let some: Vec<Document> = (first..100_001.min(first + 10_000))
            .map(|n| doc! { "_id": n })
            .collect();
        let users = bench.client.database(&bench.name).collection(USERS);
        users.insert_many(some).await.unwrap();
    }
    bench.store.prepare(&with_claims()).await.unwrap();
    let lacks = async || {
        let deviations = bench.store.deviations(&with_claims()).await.unwrap();
        deviations.iter().any(|deviation| {
            matches!(deviation, Deviation::NoIndex { index, .. } if index.fields == CLAIMS_INDEX)
        })
    };
    assert!(lacks().await);
    bench
        .run(doc! { "delete": USERS, "deletes": [{ "q": { "_id": 5 }, "limit": 1 }] })
        .await;
    bench.store.prepare(&with_claims()).await.unwrap();
    assert!(!lacks().await, "a small one gets it");
}
