//! Laws of the pages of [`Store::find`]: L7, L8, L10, L11.

use std::sync::Arc;

use bson::oid::ObjectId;
use bson::raw::{RawBson, RawDocumentBuf};
use bson::{Binary, Bson, DateTime, doc, rawdoc, spec::BinarySubtype};
use tierkeep_core::document::{self, field};
use tierkeep_core::store::{Change, Cursor, Fence, Find, Guard, Query, Store, Written, id_order};

use super::fixture::{Bench, live, record, set_section, version};
use crate::documents::{NativeUser, native_user, odd_staged_at};

fn date(ms: i64) -> DateTime {
    DateTime::from_millis(ms)
}

/// `_id`s of the types that ids have, in their order.
fn ordered_ids() -> Vec<Bson> {
    vec![
        Bson::Double(-1.5),
        Bson::Int32(-1),
        Bson::Int64(0),
        Bson::Double(0.5),
        Bson::Int32(1),
        Bson::Int64(9_007_199_254_740_993),
        Bson::String(String::new()),
        Bson::String("A".into()),
        Bson::String("a".into()),
        Bson::String("aa".into()),
        Bson::String("b".into()),
        Bson::String("é".into()),
        Bson::String("😀".into()),
        Bson::Document(doc! { "a": 1 }),
        Bson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes: vec![9],
        }),
        Bson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes: vec![1, 1],
        }),
        Bson::ObjectId(ObjectId::from_bytes([0; 12])),
        Bson::ObjectId(ObjectId::from_bytes([255; 12])),
        Bson::Boolean(false),
        Bson::Boolean(true),
        Bson::DateTime(date(-1)),
        Bson::DateTime(date(1)),
    ]
}

fn with_id(id: &Bson) -> RawDocumentBuf {
    let document = doc! { "_id": id.clone(), "kind": "k", "metadata": { "x": 1 } };
    RawDocumentBuf::try_from(document).expect("a small document")
}

async fn mixed_ids(bench: &Bench) -> Vec<Bson> {
    let ids = ordered_ids();
    let mut documents: Vec<_> = ids.iter().map(with_id).collect();
    documents.reverse();
    bench.given(&documents).await;
    ids
}

/// L7 for [`Query::All`].
pub async fn all_documents_come_in_the_order_of_their_ids(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "all_documents_come_in_the_order_of_their_ids").await;
    let ids = mixed_ids(&bench).await;
    assert_eq!(bench.ids(Find::new(Query::All)).await, ids);
}

/// L7: each page begins after its cursor, whatever the type of the `_id`.
pub async fn a_page_begins_after_its_cursor(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_page_begins_after_its_cursor").await;
    let ids = mixed_ids(&bench).await;
    for (place, id) in ids.iter().enumerate() {
        let after = Cursor {
            staged_at: Bson::Null,
            id: id.clone(),
        };
        let rest = bench.ids(Find::new(Query::All).after(Some(after))).await;
        assert_eq!(rest, ids[place + 1..], "after {id:?}");
    }
}

/// L7: a cursor may name a document that is gone.
pub async fn a_cursor_outlives_its_document(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_cursor_outlives_its_document").await;
    let users: Vec<_> = (1..=4).map(|n| native_user(n, 1)).collect();
    bench
        .given(&users.iter().map(NativeUser::build).collect::<Vec<_>>())
        .await;
    let after = Some(Cursor::after(&users[1].build()));
    let gone = Fence::Version {
        version: version(1),
        ids: vec![users[1].id().into()],
    };
    assert_eq!(bench.delete(&[gone]).await, 1);

    for query in [
        Query::All,
        Query::Due(date(i64::MAX)),
        Query::Staged(date(i64::MAX)),
    ] {
        let rest = bench.ids(Find::new(query).after(after.clone())).await;
        assert_eq!(rest, [Bson::from(users[2].id()), users[3].id().into()]);
    }
}

/// L7, L8: with pages of any size every document is reached, once.
pub async fn tiny_pages_reach_every_document_once(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "tiny_pages_reach_every_document_once").await;
    mixed_ids(&bench).await;
    let query = Query::Equal(doc! { "kind": "k" });
    for query in [Query::All, query] {
        let whole = bench.find(Find::new(query.clone())).await;
        assert_eq!(whole.len(), ordered_ids().len());
        for limit in [1, 2, 3, 7] {
            let pages = bench.pages(Find::new(query.clone()).limit(limit)).await;
            assert!(pages.iter().all(|page| page.len() <= limit));
            assert_eq!(pages.concat(), whole, "{query:?} by {limit}");
        }
        let bytes = bench.pages(Find::new(query.clone()).max_bytes(1)).await;
        assert!(bytes.iter().all(|page| page.len() == 1));
        assert_eq!(bytes.concat(), whole, "{query:?} by bytes");
    }
}

/// L7 for [`Query::Due`]: ordered by (`staged_at`, `_id`), across many documents of one time.
pub async fn due_pages_go_from_the_oldest_to_the_youngest(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "due_pages_go_from_the_oldest_to_the_youngest").await;
    let mut expected = Vec::new();
    for (time, numbers) in [(-5_000, [9, 2, 4]), (0, [8, 1, 6]), (7_000, [3, 7, 5])] {
        let mut users = numbers.map(|n| native_user(n, 1).dated(date(time)).build());
        bench.given(&users).await;
        users.sort_by_key(|user| id_order(&document::id(user)));
        expected.extend(users);
    }
    let due = Query::Due(date(7_000));
    assert_eq!(bench.find(Find::new(due.clone())).await, expected);
    for limit in [1, 2, 4] {
        let pages = bench.pages(Find::new(due.clone()).limit(limit)).await;
        assert_eq!(pages.concat(), expected, "by {limit}");
    }
}

/// L7 for [`Query::Unstaged`]: with any values of `staged_at` and `_id`, tiny pages reach each document once.
pub async fn unstaged_pages_reach_every_document_once(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "unstaged_pages_reach_every_document_once").await;
    let mut unstaged = Vec::new();
    for (n, staged_at) in (1..).zip(odd_staged_at()) {
        let mut user = native_user(n, 1).unstaged();
        if let Some(value) = staged_at {
            user = user.staged_at(value);
        }
        unstaged.push(user.build());
        unstaged.push(
            user.set(field::ID, ObjectId::from_bytes([n.to_le_bytes()[0]; 12]))
                .build(),
        );
    }
    for id in ordered_ids() {
        unstaged.push(with_id(&id));
    }
    unstaged.push(rawdoc! { "_id": "no metadata" });
    unstaged.push(rawdoc! { "_id": "metadata of another type", "metadata": "2020-01-01" });
    unstaged.push(rawdoc! { "_id": "staged at the top", "staged_at": date(1), "metadata": {} });
    unstaged.reverse();
    bench.given(&unstaged).await;
    bench
        .given(&[
            native_user(90, 1).build(),
            native_user(91, 1).dated(date(-1)).build(),
        ])
        .await;

    let sorted = |mut documents: Vec<RawDocumentBuf>| {
        documents.sort_by_key(|document| id_order(&document::id(document)));
        documents
    };
    let unstaged = sorted(unstaged);
    let whole = bench.find(Find::new(Query::Unstaged)).await;
    assert_eq!(sorted(whole.clone()), unstaged);
    for limit in [1, 3, 10] {
        let pages = bench.pages(Find::new(Query::Unstaged).limit(limit)).await;
        assert_eq!(pages.concat(), whole, "by {limit}");
    }
    let bytes = bench.pages(Find::new(Query::Unstaged).max_bytes(300)).await;
    assert_eq!(bytes.concat(), whole, "by bytes");
}

/// L8.
pub async fn a_page_ends_with_the_document_that_reaches_its_bytes(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(
        store,
        "a_page_ends_with_the_document_that_reaches_its_bytes",
    )
    .await;
    let users: Vec<_> = (1..=9)
        .map(|n| {
            let filler = "x".repeat(400 * usize::try_from(n % 4).unwrap_or_default());
            native_user(n, 1)
                .content(rawdoc! { "filler": filler })
                .build()
        })
        .collect();
    bench.given(&users).await;
    for query in [
        Query::All,
        Query::Due(date(i64::MAX)),
        Query::Staged(date(i64::MAX)),
    ] {
        for max_bytes in [1, 500, 1_200, 2_500, 1_000_000] {
            for limit in [1, 3, 100] {
                let find = Find::new(query.clone()).max_bytes(max_bytes).limit(limit);
                let expected = find.cut(users.iter().cloned());
                assert_eq!(
                    bench.find(find).await,
                    expected,
                    "{max_bytes} bytes, {limit}"
                );
            }
        }
    }
}

/// L8: a document that is larger than the page's bytes is still on a page.
pub async fn a_page_holds_at_least_one_document(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_page_holds_at_least_one_document").await;
    let large = native_user(1, 1)
        .content(rawdoc! { "filler": "x".repeat(3_000_000) })
        .build();
    bench.given_one(&large).await;
    let queries = [
        Query::All,
        Query::Ids(vec![document::id(&large)]),
        Query::Users(vec![
            document::user_id(&large).unwrap_or_default().to_owned(),
        ]),
        Query::Due(date(i64::MAX)),
        Query::Staged(date(i64::MAX)),
        Query::Equal(doc! { "user_type": "internal" }),
    ];
    for query in queries {
        let page = bench.find(Find::new(query.clone()).max_bytes(10)).await;
        assert_eq!(page, std::slice::from_ref(&large), "{query:?}");
    }
}

/// L10.
pub async fn a_missing_collection_is_empty(store: &Arc<dyn Store>) {
    let bench = Bench::new(store, "a_missing_collection_is_empty");
    let queries = [
        Query::All,
        Query::Ids(vec!["a".into()]),
        Query::Users(vec!["a".into()]),
        Query::Due(date(i64::MAX)),
        Query::Staged(date(i64::MAX)),
        Query::Unstaged,
        Query::Equal(doc! { "a": 1 }),
        Query::Equal(doc! { "a": Bson::Null }),
    ];
    for query in queries {
        assert_eq!(bench.find(Find::new(query.clone())).await, [], "{query:?}");
        assert_eq!(bench.count(&query).await, 0, "{query:?}");
    }
    let change = set_section(rawdoc! {}, "op");
    assert_eq!(
        bench.write("a", &live("op"), &change).await,
        Written::Unmatched
    );
    let fields = Guard::Fields(doc! {});
    assert_eq!(
        bench.write("a", &fields, &Change::Remove).await,
        Written::Unmatched
    );
    let fence = Fence::Version {
        version: version(1),
        ids: vec!["a".into()],
    };
    assert_eq!(bench.delete(&[fence]).await, 0);
    assert_eq!(
        bench.amend(&["a".into()], &doc! {}, &doc! { "a": 1 }).await,
        0
    );
    assert_eq!(bench.count(&Query::All).await, 0);
}

/// L11.
pub async fn a_count_equals_what_pages_through(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_count_equals_what_pages_through").await;
    let mut documents = vec![
        record("r1", "u", 1),
        record("r2", "u", 2),
        record("r3", "v", 1),
    ];
    for n in 1..=5 {
        documents.push(native_user(n, 1).dated(date(n.into())).build());
        documents.push(native_user(n + 10, 1).entering("nonce", date(1)).build());
        documents.push(native_user(n + 20, 1).staged_at(RawBson::Null).build());
    }
    bench.given(&documents).await;
    let queries = [
        (Query::All, 18),
        (
            Query::Ids(vec!["r1".into(), "r3".into(), "r3".into(), "none".into()]),
            2,
        ),
        (
            Query::Users(vec!["u".into(), "v".into(), "u".into(), "none".into()]),
            3,
        ),
        (Query::Due(date(3)), 3),
        (Query::Staged(date(3)), 3),
        (Query::Unstaged, 13),
        (
            Query::Equal(doc! { "user_id": "u", "status": "pending" }),
            2,
        ),
        (Query::Equal(doc! { "nothing": Bson::Null }), 18),
    ];
    for (query, expected) in queries {
        assert_eq!(bench.count(&query).await, expected, "{query:?}");
        assert_eq!(bench.find(Find::new(query)).await.len() as u64, expected);
    }
}
