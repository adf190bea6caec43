//! Laws of which documents the queries of [`Store::find`] mean: L7, L9.

use std::sync::Arc;

use bson::oid::ObjectId;
use bson::raw::{RawBson, RawDocumentBuf};
use bson::{Bson, DateTime, doc, rawdoc};
use tierkeep_core::document::{self, Edit, State, field};
use tierkeep_core::store::{Cursor, Find, Query, SIZE, Store, id_order, stored_size};

use super::fixture::{Bench, live, record, set_section};
use crate::documents::{SeedUser, hostile_documents, native_user, odd_staged_at};

fn date(ms: i64) -> DateTime {
    DateTime::from_millis(ms)
}

fn sorted(mut ids: Vec<Bson>) -> Vec<Bson> {
    ids.sort_by_key(id_order);
    ids
}

/// L7 for [`Query::Due`]: at or before the time, and not a millisecond after.
pub async fn due_is_what_was_staged_at_or_before_the_time(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "due_is_what_was_staged_at_or_before_the_time").await;
    let users: Vec<_> = [999, 1_000, 1_001]
        .into_iter()
        .zip(1..)
        .map(|(ms, n)| native_user(n, 1).dated(date(ms)).build())
        .collect();
    bench.given(&users).await;
    assert_eq!(
        bench.find(Find::new(Query::Due(date(1_000)))).await,
        users[..2]
    );
    assert_eq!(bench.find(Find::new(Query::Due(date(998)))).await, []);
}

/// L7 for [`Query::Due`]: a `staged_at` of any other type is never due, however late it is.
pub async fn what_was_never_staged_is_never_due(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "what_was_never_staged_is_never_due").await;
    for (n, staged_at) in (1..).zip(odd_staged_at()) {
        let user = native_user(n, 1).unstaged();
        let user = match staged_at {
            Some(value) => user.staged_at(value),
            None => user,
        };
        bench.given(&[user.build()]).await;
    }
    bench
        .given(&[
            rawdoc! { "_id": "no metadata" },
            rawdoc! { "_id": "metadata of another type", "metadata": "2020-01-01" },
            rawdoc! { "_id": "staged at the top", "staged_at": date(1), "metadata": {} },
            SeedUser::new(1, date(1)).build(),
        ])
        .await;
    let due = Query::Due(date(4_102_444_800_000));
    assert_eq!(bench.ids(Find::new(due.clone())).await, []);
    assert_eq!(bench.count(&due).await, 0);
}

/// L7 for [`Query::Due`]: entering documents and tombstones are not; unknown states are, to be reported.
pub async fn neither_entries_nor_tombstones_are_due(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "neither_entries_nor_tombstones_are_due").await;
    let stateless = native_user(1, 1).build();
    let stateless = document::without(&stateless, &[], &[field::STATE]);
    let live = native_user(2, 1).build();
    let frozen = native_user(5, 1).set_meta(field::STATE, "frozen").build();
    let odd = native_user(6, 1).set_meta(field::STATE, 1).build();
    let due = [stateless, live, frozen, odd];
    bench.given(&due).await;
    bench
        .given(&[
            native_user(3, 1).state(State::Entering).build(),
            native_user(4, 1).state(State::Erased).build(),
        ])
        .await;
    let query = Query::Due(date(4_102_444_800_000));
    assert_eq!(bench.count(&query).await, 4);
    assert_eq!(bench.find(Find::new(query)).await, due);
}

/// L7 for [`Query::Ids`].
pub async fn ids_are_found_and_unknown_ones_are_not(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "ids_are_found_and_unknown_ones_are_not").await;
    let oid = Bson::ObjectId(ObjectId::from_bytes([4; 12]));
    let ids = vec![Bson::Int64(3), "a".into(), "b".into(), oid];
    for id in &ids {
        bench
            .given(&[RawDocumentBuf::try_from(doc! { "_id": id.clone() }).expect("small")])
            .await;
    }
    let mut wanted = ids.clone();
    wanted.extend([
        "c".into(),
        "".into(),
        Bson::Int64(4),
        Bson::ObjectId(ObjectId::from_bytes([5; 12])),
    ]);
    let found = bench.ids(Find::new(Query::Ids(wanted))).await;
    assert_eq!(sorted(found), ids);
    assert_eq!(bench.ids(Find::new(Query::Ids(vec!["3".into()]))).await, []);
    assert_eq!(bench.ids(Find::new(Query::Ids(Vec::new()))).await, []);
    let one = Find::new(Query::Ids(ids.clone())).limit(2);
    assert_eq!(bench.ids(one).await.len(), 2);
}

/// L7 for [`Query::Ids`]: a thousand at once, and each once.
pub async fn many_ids_are_found_at_once(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "many_ids_are_found_at_once").await;
    let users: Vec<_> = (0..1_000).map(|n| native_user(n, 1).build()).collect();
    bench.given(&users).await;
    let ids: Vec<_> = users.iter().map(|user| document::id(user)).collect();
    let twice = ids.iter().chain(&ids).cloned().collect();
    let found = bench.ids(Find::new(Query::Ids(twice)).limit(2_000)).await;
    assert_eq!(sorted(found), ids);
}

/// L7 for [`Query::Users`].
pub async fn users_are_found_whatever_their_id_or_state(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "users_are_found_whatever_their_id_or_state").await;
    let seed = SeedUser::new(7, date(1));
    let native = native_user(7, 1);
    assert_eq!(seed.user_id(), native.id());
    let documents = [
        seed.build(),
        native.clone().state(State::Erased).build(),
        native_user(8, 1).entering("nonce", date(1)).build(),
        native_user(9, 1).build(),
        rawdoc! { "_id": "odd", "user_id": 7 },
        rawdoc! { "_id": native.id().replace("internal_", "") },
    ];
    bench.given(&documents).await;
    let users = vec![
        native.id().to_owned(),
        native_user(8, 1).id().to_owned(),
        "none".into(),
    ];
    let found = sorted(bench.ids(Find::new(Query::Users(users))).await);
    let expected: Vec<_> = documents[..3].iter().map(|d| document::id(d)).collect();
    assert_eq!(found, sorted(expected));
}

/// L7 for [`Query::Equal`].
pub async fn equal_fields_are_found(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "equal_fields_are_found").await;
    let documents = [
        record("a", "u", 1),
        record("b", "u", 2),
        record("c", "v", 1),
        rawdoc! { "_id": "d", "user_id": "u", "version": 1_i64, "status": "completed", "note": "x" },
        rawdoc! { "_id": "e", "user_id": "u", "status": bson::raw::RawBson::Null },
    ];
    bench.given(&documents).await;
    let expectations = [
        (doc! { "user_id": "u" }, vec!["a", "b", "d", "e"]),
        (doc! { "status": "pending" }, vec!["a", "b", "c"]),
        (doc! { "user_id": "u", "version": 1_i64 }, vec!["a", "d"]),
        (doc! { "status": "completed", "user_id": "v" }, vec![]),
        (doc! { "note": "x" }, vec!["d"]),
        (doc! { "note": Bson::Null }, vec!["a", "b", "c", "e"]),
        (doc! { "status": Bson::Null }, vec!["e"]),
        (doc! { "_id": "c" }, vec!["c"]),
        (doc! { "_id": "c", "user_id": "u" }, vec![]),
        (doc! {}, vec!["a", "b", "c", "d", "e"]),
    ];
    for (fields, ids) in expectations {
        let find = Find::new(Query::Equal(fields.clone()));
        let ids: Vec<_> = ids.into_iter().map(Bson::from).collect();
        for find in [find.clone(), find.clone().head(), find.keys()] {
            assert_eq!(bench.ids(find.clone()).await, ids, "{find:?}");
        }
    }
}

/// L7 for [`Query::Newest`]: tiny pages reach each once, from the highest `_id` down, and a cursor outlives its document.
pub async fn the_newest_come_first(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "the_newest_come_first").await;
    let documents = [
        record("a", "u", 1),
        record("b", "u", 2),
        record("c", "v", 1),
        rawdoc! { "_id": "d", "user_id": "u", "version": 1_i64, "status": "completed", "note": "x" },
        rawdoc! { "_id": 7, "user_id": "u", "status": "completed" },
        rawdoc! { "_id": ObjectId::from_bytes([7; 12]), "user_id": "v", "status": "failed" },
    ];
    bench.given(&documents).await;
    let newest = Bson::from(ObjectId::from_bytes([7; 12]));
    let texts = |ids: &[&str]| ids.iter().map(|&id| id.into()).collect::<Vec<Bson>>();
    let all = [
        vec![newest.clone()],
        texts(&["d", "c", "b", "a"]),
        vec![7.into()],
    ]
    .concat();
    let expectations = [
        (doc! {}, all),
        (
            doc! { "user_id": "u" },
            [texts(&["d", "b", "a"]), vec![7.into()]].concat(),
        ),
        (doc! { "status": "pending" }, texts(&["c", "b", "a"])),
        (
            doc! { "status": "completed", "user_id": "u" },
            vec!["d".into(), 7.into()],
        ),
        (doc! { "status": "failed" }, vec![newest.clone()]),
        (doc! { "note": "x" }, texts(&["d"])),
        (doc! { "note": "y" }, vec![]),
    ];
    for (fields, ids) in expectations {
        let query = Query::Newest(fields);
        assert_eq!(bench.count(&query).await, ids.len() as u64, "{query:?}");
        for limit in [1, 2, 100] {
            for find in [Find::new(query.clone()), Find::new(query.clone()).keys()] {
                let find = find.limit(limit);
                let pages = bench.pages(find.clone()).await.concat();
                let found: Vec<_> = pages.iter().map(|d| document::id(d)).collect();
                assert_eq!(found, ids, "{find:?}");
            }
        }
    }
    let between = Cursor {
        staged_at: Bson::Null,
        id: "bb".into(),
    };
    let rest = Find::new(Query::Newest(doc! {})).after(Some(between));
    assert_eq!(
        bench.ids(rest).await,
        [texts(&["b", "a"]), vec![7.into()]].concat()
    );
}

/// Records that wait for their backup are distinguished from all others, in every state, whatever fields they have.
pub async fn what_has_no_backup_is_found(store: &Arc<dyn Store>) {
    let bench = Bench::backed_up(store, "what_has_no_backup_is_found").await;
    let of = |state: RawBson, backup: RawBson| rawdoc! { "state": state, "backup_status": backup };
    let documents = [
        rawdoc! { "_id": "a", "metadata": of("live".into(), "pending".into()) },
        rawdoc! { "_id": "b", "metadata": of("live".into(), "completed".into()) },
        rawdoc! { "_id": "c", "metadata": of("erased".into(), "pending".into()) },
        rawdoc! { "_id": "d", "metadata": of("erased".into(), "completed".into()) },
        rawdoc! { "_id": "e", "metadata": { "backup_status": "pending" } },
        rawdoc! { "_id": "f", "metadata": of("frozen".into(), "pending".into()) },
        rawdoc! { "_id": "g", "metadata": of("live".into(), RawBson::Null) },
        rawdoc! { "_id": "h", "metadata": of("live".into(), true.into()) },
        rawdoc! { "_id": "i", "state": "live", "backup_status": "pending", "status": "pending" },
        rawdoc! { "_id": "j", "metadata": of("live".into(), "pending".into()) },
    ];
    bench.given(&documents).await;
    let both = |state: &str, backup: &str| {
        doc! { "metadata.state": state, "metadata.backup_status": backup }
    };
    let expectations = [
        (both("live", "pending"), vec!["a", "j"]),
        (both("live", "completed"), vec!["b"]),
        (both("erased", "pending"), vec!["c"]),
        (both("erased", "completed"), vec!["d"]),
        (both("frozen", "pending"), vec!["f"]),
        (both("frozen", "completed"), vec![]),
        (
            doc! { "metadata.backup_status": "pending" },
            vec!["a", "c", "e", "f", "j"],
        ),
        (doc! { "metadata.state": "erased" }, vec!["c", "d"]),
        (doc! { "metadata.state": Bson::Null }, vec!["e", "i"]),
        (
            doc! { "metadata.backup_status": Bson::Null },
            vec!["g", "i"],
        ),
    ];
    for (fields, ids) in expectations {
        let query = Query::Equal(fields);
        let ids: Vec<_> = ids.into_iter().map(Bson::from).collect();
        let find = Find::new(query.clone());
        for find in [find.clone(), find.clone().head()] {
            assert_eq!(bench.ids(find.clone()).await, ids, "{find:?}");
        }
        let pages: Vec<_> = bench.pages(find.limit(1)).await.concat();
        assert_eq!(pages.len(), ids.len(), "{query:?}");
        assert_eq!(bench.count(&query).await, ids.len() as u64, "{query:?}");
    }
    let done = doc! { "metadata.backup_status": "completed" };
    assert_eq!(
        bench
            .amend(&["a".into()], &both("live", "pending"), &done)
            .await,
        1
    );
    let left = Find::new(Query::Equal(both("live", "pending")));
    assert_eq!(bench.ids(left).await, ["j".into()]);
}

/// A head holds at least what tierkeep reads, unchanged.
pub async fn a_head_holds_at_least_what_tierkeep_reads(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_head_holds_at_least_what_tierkeep_reads").await;
    let user = native_user(1, 1).set_meta("a.b", 1).build();
    bench
        .given(&[user.clone(), rawdoc! { "_id": "bare", "content": 1 }])
        .await;
    for query in [
        Query::All,
        Query::Ids(vec![document::id(&user), "bare".into()]),
    ] {
        for head in bench.find(Find::new(query).head()).await {
            let whole = bench
                .stored(document::id(&head))
                .await
                .expect("it is stored");
            let names = [
                field::ID,
                field::USER_ID,
                field::CREATED_AT,
                field::LAST_ACCESSED,
                field::METADATA,
            ];
            for name in names {
                assert_eq!(head.get(name).ok(), whole.get(name).ok(), "{name}");
            }
        }
    }
}

/// A sized head holds what a head holds, and the size of the document as it is stored, whatever is in it.
pub async fn a_sized_head_knows_the_size_of_the_whole(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_sized_head_knows_the_size_of_the_whole").await;
    let user = native_user(1, 1).dated(date(1_000));
    let large = user.set("scan_cache", rawdoc! { "text": "x".repeat(1 << 20) });
    let small = native_user(2, 1).dated(date(2_000));
    bench.given(&[large.build(), small.build()]).await;
    // What a document says of its own size is no answer.
    let liar = SeedUser::new(3, date(3_000)).build();
    let liar = Edit::new().set(SIZE, 1_i64).apply(&liar);
    bench.given(&[liar]).await;
    for (_, hostile) in hostile_documents() {
        bench.given(&[hostile]).await;
    }
    let mut seen = 0;
    for query in [Query::All, Query::Due(date(5_000)), Query::Unstaged] {
        for sized in bench.find(Find::new(query.clone()).sized()).await {
            let id = document::id(&sized);
            let whole = bench.stored(id.clone()).await.expect("it is stored");
            let size = u64::try_from(whole.as_bytes().len()).ok();
            assert_eq!(stored_size(&sized), size, "{id} in {query:?}");
            assert_eq!(document::metadata(&sized), document::metadata(&whole));
            seen += 1;
        }
    }
    assert!(seen > 6, "{seen}");
    let due = Find::new(Query::Due(date(5_000))).sized().max_bytes(1);
    assert_eq!(bench.find(due).await.len(), 1, "pages are bounded as ever");
}

/// Sort keys are in the order of their documents, and each page continues after the last, whatever the `_id`s are.
pub async fn a_place_is_where_its_document_stands(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_place_is_where_its_document_stands").await;
    let ids = [
        RawBson::from("b"),
        RawBson::Symbol("a".into()),
        RawBson::from("\u{e4}"),
        RawBson::from(""),
        RawBson::from(7_i32),
        RawBson::from(7.5),
        RawBson::from(true),
        RawBson::from(ObjectId::from_bytes([9; 12])),
        RawBson::from(date(3)),
        RawBson::from(rawdoc! { "a": 1 }),
    ];
    let mut documents = Vec::new();
    for (n, id) in (1..).zip(ids) {
        let due = native_user(n, 1).dated(date(1_000 + i64::from(n / 4)));
        documents.push(Edit::new().set("_id", id).apply(&due.build()));
    }
    let hidden = [(80, State::Entering), (81, State::Erased)]
        .map(|(n, state)| native_user(n, 1).dated(date(1_001)).state(state).build());
    documents.extend(hidden);
    documents.push(native_user(90, 1).unstaged().build());
    documents.push(rawdoc! { "_id": "bare" });
    bench.given(&documents).await;
    let ids = documents.iter().map(|document| document::id(document));
    let queries = [
        (Query::All, 14),
        (Query::Ids(ids.collect()), 14),
        (Query::Users(vec![native_user(1, 1).id().to_owned()]), 1),
        (Query::Due(date(5_000)), 10),
        (Query::Staged(date(1_000)), 3),
        (Query::Staged(date(5_000)), 12),
        (Query::Unstaged, 2),
        (Query::Equal(doc! { "metadata.version": 1_i64 }), 13),
    ];
    for (query, count) in queries {
        let find = Find::new(query.clone()).limit(3);
        let whole = bench.pages(find.clone()).await.concat();
        let places = bench.pages(find.sort_keys()).await.concat();
        assert_eq!(whole.len(), count, "{query:?}");
        let stands = |page: &[RawDocumentBuf]| -> Vec<_> {
            let cursors = page.iter().map(|document| Cursor::after(document));
            let dated = query.orders_by_staged_at();
            cursors
                .map(|at| (dated.then_some(at.staged_at), id_order(&at.id)))
                .collect()
        };
        assert_eq!(stands(&places), stands(&whole), "{query:?}");
        if !query.orders_by_staged_at() {
            assert!(stands(&whole).is_sorted_by_key(|(_, id)| id), "{query:?}");
        }
    }
}

/// L1, L9: a write that was acknowledged is found by every later read, majority and linearizable, as it was last
/// written. That it survives a crash of the process is shown by the tests that kill one.
pub async fn what_was_acknowledged_is_read_back(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "what_was_acknowledged_is_read_back").await;
    for n in 1..=20 {
        let user = native_user(n, 1);
        bench.given(&[user.build()]).await;
        let change = set_section(rawdoc! { "n": i64::from(n) }, "op");
        let written = bench.applied(user.id(), &live("op"), &change).await;
        let query = Query::Users(vec![user.id().to_owned()]);
        assert_eq!(
            bench.find(Find::new(query.clone())).await,
            std::slice::from_ref(&written)
        );
        assert_eq!(bench.find(Find::new(query).linearizable()).await, [written]);
    }
}

/// A linearizable read of what is not there finds nothing and succeeds.
pub async fn a_linearizable_read_of_nothing_is_empty(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_linearizable_read_of_nothing_is_empty").await;
    let find = Find::new(Query::Ids(vec!["none".into()])).linearizable();
    assert_eq!(bench.find(find).await, []);
}
