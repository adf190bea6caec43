//! Laws of [`Store::insert`] and [`Store::append`]: L3, L4, L12, L13, L14, L23, L24, L25.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bson::raw::RawDocumentBuf;
use bson::{DateTime, rawdoc};
use tierkeep_core::store::{Find, Inserted, Query, Store};

use super::fixture::{Bench, id_of, record};
use crate::documents::{SeedUser, hostile_documents, native_user};

/// L4.
pub async fn hostile_documents_survive_an_insert(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "hostile_documents_survive_an_insert").await;
    for (name, hostile) in hostile_documents() {
        bench.given_one(&hostile).await;
        let stored = bench.stored(id_of(&hostile)).await;
        assert!(stored == Some(hostile), "{name}");
    }
}

/// L4: also as one batch.
pub async fn hostile_documents_survive_one_batch(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "hostile_documents_survive_one_batch").await;
    let (_, documents): (Vec<_>, Vec<_>) = hostile_documents().into_iter().unzip();
    bench.given(&documents).await;
    for page in bench.pages(Find::new(Query::All).limit(5)).await {
        for stored in page {
            assert!(documents.contains(&stored), "{}", id_of(&stored));
        }
    }
    assert_eq!(bench.count(&Query::All).await, documents.len() as u64);
}

/// L4: documents of other programs are stored as they are.
pub async fn foreign_documents_survive_an_insert(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "foreign_documents_survive_an_insert").await;
    let at = DateTime::from_millis(1_700_000_000_000);
    for foreign in [SeedUser::new(1, at), SeedUser::new(2, at).naive_dates()] {
        bench.given(&[foreign.build()]).await;
        assert_eq!(bench.stored(foreign.id()).await, Some(foreign.build()));
    }
}

/// L12.
pub async fn an_existing_document_is_left_alone_and_reported(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "an_existing_document_is_left_alone_and_reported").await;
    let first = native_user(1, 5).build();
    bench.given_one(&first).await;
    let newer = native_user(1, 6).content(rawdoc! { "x": 1 }).build();
    assert_eq!(bench.insert(&[newer]).await, [Inserted::Exists]);
    assert_eq!(
        bench.insert(std::slice::from_ref(&first)).await,
        [Inserted::Exists]
    );
    assert_eq!(bench.stored(id_of(&first)).await, Some(first));
}

/// L12: the first of one batch is stored, the second finds it there.
pub async fn a_document_twice_in_one_batch_is_stored_once(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_document_twice_in_one_batch_is_stored_once").await;
    let first = native_user(1, 1).build();
    let second = native_user(1, 2).build();
    let outcomes = bench.insert(&[first.clone(), second]).await;
    assert_eq!(outcomes, [Inserted::Stored, Inserted::Exists]);
    assert_eq!(bench.stored(id_of(&first)).await, Some(first));
}

/// L13: a clash on another key than `_id` rejects one document, with the code for it.
pub async fn a_clash_on_another_key_keeps_no_other_out(store: &Arc<dyn Store>) {
    let bench = Bench::unique(store, "a_clash_on_another_key_keeps_no_other_out").await;
    bench.given(&[record("a", "u", 1)]).await;
    let batch = [
        record("b", "u", 2),
        record("c", "u", 1),
        record("d", "v", 1),
    ];
    let outcomes = bench.insert(&batch).await;
    assert!(
        matches!(
            &outcomes[..],
            [Inserted::Stored, Inserted::Rejected(fault), Inserted::Stored] if fault.code == 11000
        ),
        "{outcomes:?}"
    );
    let stored = bench.find(Find::new(Query::All)).await;
    let expected = [
        record("a", "u", 1),
        record("b", "u", 2),
        record("d", "v", 1),
    ];
    assert_eq!(stored, expected);
}

/// L13: two documents of one batch can clash with each other.
pub async fn documents_of_one_batch_clash_with_each_other(store: &Arc<dyn Store>) {
    let bench = Bench::unique(store, "documents_of_one_batch_clash_with_each_other").await;
    let outcomes = bench
        .insert(&[record("a", "u", 1), record("b", "u", 1)])
        .await;
    assert!(
        matches!(&outcomes[..], [Inserted::Stored, Inserted::Rejected(_)]),
        "{outcomes:?}"
    );
}

/// L12: with its `_id` there, a document exists, even where it clashes with a third one too.
pub async fn an_existing_id_comes_before_a_clash(store: &Arc<dyn Store>) {
    let bench = Bench::unique(store, "an_existing_id_comes_before_a_clash").await;
    bench
        .given(&[record("a", "u", 1), record("b", "u", 2)])
        .await;
    assert_eq!(
        bench.insert(&[record("a", "u", 2)]).await,
        [Inserted::Exists]
    );
}

/// L13: no backend stores more than 16 MiB in one document.
pub async fn a_document_beyond_16_mib_is_rejected_alone(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_document_beyond_16_mib_is_rejected_alone").await;
    let filler = "x".repeat(16 * 1024 * 1024);
    let large = native_user(2, 1)
        .content(rawdoc! { "filler": filler })
        .build();
    let small = [native_user(1, 1).build(), native_user(3, 1).build()];
    let batch = [small[0].clone(), large, small[1].clone()];
    let outcomes = bench.insert(&batch).await;
    assert!(
        matches!(
            &outcomes[..],
            [Inserted::Stored, Inserted::Rejected(_), Inserted::Stored]
        ),
        "{outcomes:?}"
    );
    assert_eq!(bench.find(Find::new(Query::All)).await, small);
}

/// L14, over a batch of a thousand in which every third exists.
pub async fn outcomes_are_in_the_order_of_the_documents(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "outcomes_are_in_the_order_of_the_documents").await;
    let all: Vec<RawDocumentBuf> = (0..1_000)
        .rev()
        .map(|n| native_user(n, 1).build())
        .collect();
    let third: Vec<_> = all.iter().step_by(3).cloned().collect();
    bench.given(&third).await;
    for (place, outcome) in bench.insert(&all).await.into_iter().enumerate() {
        let expected = if place % 3 == 0 {
            Inserted::Exists
        } else {
            Inserted::Stored
        };
        assert_eq!(outcome, expected, "document {place}");
    }
    assert_eq!(bench.count(&Query::All).await, 1_000);
}

/// An empty batch has no outcomes.
pub async fn nothing_inserted_has_no_outcome(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "nothing_inserted_has_no_outcome").await;
    assert_eq!(bench.insert(&[]).await, []);
    assert_eq!(bench.put(&[]).await, []);
    assert_eq!(bench.delete(&[]).await, 0);
}

/// L23, L24.
pub async fn what_is_appended_ends_with_the_first_that_is_not_stored(store: &Arc<dyn Store>) {
    let name = "what_is_appended_ends_with_the_first_that_is_not_stored";
    let bench = Bench::unique(store, name).await;
    let batch: Vec<_> = (1..=5).map(|n| record(&format!("a{n}"), "u", n)).collect();
    assert_eq!(bench.append(&batch[..3]).await, vec![Inserted::Stored; 3]);
    let again = bench.append(&batch[2..]).await;
    assert_eq!(again, [Inserted::Exists]);
    let clash = [
        record("b1", "v", 1),
        record("b2", "u", 2),
        record("b3", "v", 3),
    ];
    let outcomes = bench.append(&clash).await;
    assert!(
        matches!(
            &outcomes[..],
            [Inserted::Stored, Inserted::Rejected(fault)] if fault.code == 11000
        ),
        "{outcomes:?}"
    );
    let stored = bench.find(Find::new(Query::All)).await;
    let expected = [&batch[..3], &clash[..1]].concat();
    assert_eq!(stored, expected);
    assert_eq!(bench.append(&[]).await, []);
}

/// L3: an insert whose future is dropped stored each document whole or not at all, and may be repeated.
pub async fn a_dropped_insert_may_be_repeated(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_dropped_insert_may_be_repeated").await;
    for n in 1..=20 {
        let user = native_user(n, 1).build();
        dropped(store.insert(bench.collection, std::slice::from_ref(&user))).await;
        let again = bench.insert(std::slice::from_ref(&user)).await;
        assert!(
            matches!(again[..], [Inserted::Stored | Inserted::Exists]),
            "{again:?}"
        );
        let ids = Query::Ids(vec![tierkeep_core::document::id(&user)]);
        assert_eq!(bench.find(Find::new(ids)).await, [user]);
    }
}

/// L3, L25: an append whose future is dropped stored a beginning of the batch, never a document without those before it.
pub async fn a_dropped_append_leaves_a_beginning_of_its_batch(store: &Arc<dyn Store>) {
    let name = "a_dropped_append_leaves_a_beginning_of_its_batch";
    let bench = Bench::prepared(store, name).await;
    let batch: Vec<_> = (1..=30)
        .map(|n| record(&format!("a{n:02}"), "u", n))
        .collect();
    dropped(store.append(bench.collection, &batch)).await;
    let stored = bench.find(Find::new(Query::All)).await;
    assert!(batch.starts_with(&stored), "{} stored", stored.len());
    for left in &batch {
        bench.append(std::slice::from_ref(left)).await;
    }
    assert_eq!(bench.find(Find::new(Query::All)).await, batch);
}

/// Begins a call and drops its future, wherever it is after a few looks.
async fn dropped<T>(call: impl Future<Output = T>) {
    let mut call = std::pin::pin!(call);
    for _ in 0..3 {
        let looked = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready()));
        if looked.await {
            return;
        }
        tokio::task::yield_now().await;
    }
}
