//! Scans over several shards: in order, complete, and by index alone, also with orphaned documents of moved chunks.

use std::collections::BTreeSet;

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, rawdoc};
use tierkeep_core::document;
use tierkeep_core::store::{Cursor, Fields, Find, Query, Store};
use tierkeep_mongo::MongoStore;
use tierkeep_testkit::documents::native_user;

use super::{CUT, HASHED, RANGED, cluster, store};
use crate::bench::{USERS, layout};

const STORED: u32 = 3_000;
/// More than one batch of a shard.
const PAGE: usize = 700;

fn at(ms: u32) -> DateTime {
    DateTime::from_millis(i64::from(ms))
}

/// Users in a collection that lies on both shards; every tenth has no date of staging.
async fn spread(databases: &str) -> (MongoStore, Vec<RawDocumentBuf>) {
    let store = store(databases).await;
    store.prepare(&layout(USERS)).await.unwrap();
    let users: Vec<_> = (0..STORED)
        .map(|n| {
            let user = native_user(n, 1).staged_at(at(n)).build();
            if n % 10 > 0 {
                return user;
            }
            let id = user.get_str("_id").unwrap();
            rawdoc! { "_id": id, "user_id": id, "metadata": { "version": 1_i64 } }
        })
        .collect();
    store.insert(USERS, &users).await.unwrap();
    (store, users)
}

/// The `_id`s that paging through `query` brings.
async fn paged(store: &MongoStore, query: Query, fields: Fields) -> Vec<Bson> {
    let mut ids = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let mut find = Find::new(query.clone()).limit(PAGE).after(after);
        find.fields = fields;
        let page = store.find(USERS, &find).await.unwrap();
        let Some(last) = page.last() else { return ids };
        after = Some(Cursor::after(last));
        ids.extend(page.iter().map(|document| document::id(document)));
        assert!(ids.len() < 10_000, "paging does not end");
    }
}

fn scans() -> [(Query, Fields); 4] {
    [
        (Query::All, Fields::Whole),
        (Query::Due(at(STORED)), Fields::Head),
        (Query::Staged(at(STORED)), Fields::SortKey),
        (Query::Unstaged, Fields::Head),
    ]
}

fn meant(users: &[RawDocumentBuf], query: &Query) -> Vec<Bson> {
    let meant = users.iter().filter(|user| query.matches(user));
    meant.map(|user| document::id(user)).collect()
}

#[tokio::test]
async fn scans_over_several_shards_bring_every_document_once_and_in_order() {
    for databases in [HASHED, RANGED] {
        let (store, users) = spread(databases).await;
        for (query, fields) in scans() {
            let found = paged(&store, query.clone(), fields).await;
            assert_eq!(found, meant(&users, &query), "{databases}{query:?}");
            let count = store.count(USERS, &query).await.unwrap();
            assert_eq!(count, found.len() as u64, "{databases}{query:?}");
        }
    }
}

#[tokio::test]
async fn scans_whose_sort_is_taken_out_lose_documents() {
    let (store, users) = spread(HASHED).await;
    cluster().drop_sorts(store.database_name());
    for (query, fields) in [scans()[0].clone(), scans()[2].clone()] {
        let found = paged(&store, query.clone(), fields).await;
        let found: BTreeSet<_> = found.iter().map(ToString::to_string).collect();
        let stored = meant(&users, &query).len();
        assert!(
            found.len() < stored,
            "{query:?}: {} of {stored}",
            found.len()
        );
    }
}

#[tokio::test]
async fn what_a_chunk_leaves_behind_is_neither_read_nor_counted() {
    let (store, users) = spread(RANGED).await;
    let cluster = cluster();
    let namespace = format!("{}.{USERS}", store.database_name());
    // What lies from the cut on goes back to the first shard, and stays on the second as well for a while.
    let command = rawdoc! {
        "moveChunk": &*namespace,
        "bounds": [{ "_id": CUT }, { "_id": bson::raw::RawBson::MaxKey }],
        "to": "s0",
    };
    cluster.keep_orphans(900).await.unwrap();
    let moved = cluster.ask("admin", &command).await.unwrap();
    cluster.keep_orphans(1).await.unwrap();
    assert_eq!(moved.get_f64("ok").ok(), Some(1.0), "{moved:?}");
    let left = rawdoc! { "count": USERS };
    let left = cluster.ask_shard("s1", store.database_name(), &left).await;
    assert!(left.unwrap().get_i32("n").unwrap() > 2_000);
    for (query, fields) in scans() {
        let found = paged(&store, query.clone(), fields).await;
        assert_eq!(found, meant(&users, &query), "{query:?}");
        let count = store.count(USERS, &query).await.unwrap();
        assert_eq!(count, found.len() as u64, "{query:?}");
    }
}

#[tokio::test]
async fn the_places_of_what_is_staged_come_from_the_index_alone_on_every_shard() {
    for databases in [HASHED, RANGED] {
        let (store, users) = spread(databases).await;
        let database = store.database_name();
        let cluster = cluster();
        let profile = async |level: i32| {
            for shard in cluster.shards() {
                let command = rawdoc! { "profile": level };
                cluster.ask_shard(shard, database, &command).await.unwrap();
            }
        };
        profile(2).await;
        let query = Query::Staged(at(STORED));
        let found = paged(&store, query.clone(), Fields::SortKey).await;
        profile(0).await;
        assert_eq!(found, meant(&users, &query));
        let mut shards = 0;
        for shard in cluster.shards() {
            let seen = rawdoc! {
                "aggregate": "system.profile",
                "pipeline": [
                    { "$match": { "op": { "$in": ["query", "getmore"] }, "ns": format!("{database}.{USERS}") } },
                    { "$group": {
                        "_id": bson::raw::RawBson::Null,
                        "documents": { "$sum": "$docsExamined" },
                        "keys": { "$sum": "$keysExamined" },
                        "sorted": { "$sum": { "$cond": ["$hasSortStage", 1, 0] } },
                    } },
                ],
                "cursor": {},
            };
            let seen = cluster.ask_shard(shard, database, &seen).await.unwrap();
            let seen = bson::Document::try_from(&*seen).unwrap();
            let seen = seen
                .get_document("cursor")
                .unwrap()
                .get_array("firstBatch")
                .unwrap();
            let seen = seen.first().and_then(Bson::as_document).unwrap();
            assert_eq!(
                seen.get_i32("documents").ok(),
                Some(0),
                "{databases}{shard}: {seen}"
            );
            assert_eq!(
                seen.get_i32("sorted").ok(),
                Some(0),
                "{databases}{shard}: {seen}"
            );
            assert!(
                seen.get_i32("keys").unwrap() > 0,
                "{databases}{shard}: {seen}"
            );
            shards += 1;
        }
        assert_eq!(shards, 2);
    }
}

#[tokio::test]
async fn an_array_among_the_staging_times_of_one_shard_hides_no_document() {
    let (store, users) = spread(HASHED).await;
    let dates = bson::raw::RawArrayBuf::from_iter([at(1), at(2)]);
    let odd = rawdoc! { "_id": "odd", "metadata": { "staged_at": dates } };
    store
        .insert(USERS, std::slice::from_ref(&odd))
        .await
        .unwrap();
    let mut expected = meant(&users, &Query::Unstaged);
    expected.push("odd".into());
    assert_eq!(paged(&store, Query::Unstaged, Fields::Head).await, expected);
    let count = store.count(USERS, &Query::Unstaged).await.unwrap();
    assert_eq!(count, expected.len() as u64);
    let due = Query::Due(at(STORED));
    assert_eq!(
        paged(&store, due.clone(), Fields::Head).await,
        meant(&users, &due)
    );
}
