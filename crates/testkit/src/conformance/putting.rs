//! Laws of [`Store::put_newer`]: L4, L13, L15, L16.

use std::sync::Arc;

use bson::raw::{RawBson, RawDocumentBuf};
use bson::{doc, rawdoc};
use tierkeep_core::document::{self, Edit, State, field};
use tierkeep_core::store::{Find, Put, Query, Store};

use super::fixture::{Bench, id_of, version};
use crate::documents::{hostile_documents, native_user};

/// Puts `incoming` over what is planted, and says whether it was replaced.
async fn replaces(bench: &Bench, planted: &RawDocumentBuf, incoming: &RawDocumentBuf) -> bool {
    assert_eq!(document::id(planted), document::id(incoming));
    bench.given_one(planted).await;
    bench.settle_one(incoming).await;
    let stored = bench
        .stored(document::id(planted))
        .await
        .expect("it stays stored");
    assert!(stored == *incoming || stored == *planted, "{stored:?}");
    stored == *incoming
}

/// L4: as new documents.
pub async fn hostile_documents_survive_a_put(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "hostile_documents_survive_a_put").await;
    for (name, hostile) in hostile_documents() {
        bench.settle_one(&hostile).await;
        let stored = bench.stored(id_of(&hostile)).await;
        assert!(stored == Some(hostile), "{name}");
    }
}

/// L4: over an older version.
pub async fn hostile_documents_survive_a_put_over_older_ones(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "hostile_documents_survive_a_put_over_older_ones").await;
    for (name, hostile) in hostile_documents() {
        bench.given_one(&hostile).await;
        let newer = Edit::new()
            .set_meta(field::VERSION, 2_i64)
            .set("new", 1)
            .apply(&hostile);
        bench.settle_one(&newer).await;
        let stored = bench.stored(id_of(&hostile)).await;
        assert!(stored == Some(newer), "{name}");
    }
}

/// L4: what is put replaces all of what was there.
pub async fn a_put_leaves_nothing_of_the_older_document(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_put_leaves_nothing_of_the_older_document").await;
    let older = native_user(1, 1)
        .set("extra", 1)
        .set_meta("extra", 1)
        .build();
    let newer = native_user(1, 2)
        .content(rawdoc! { "b": 1, "a": 2 })
        .build();
    assert!(replaces(&bench, &older, &newer).await);
}

/// L16.
pub async fn a_put_replaces_only_lower_versions(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_put_replaces_only_lower_versions").await;
    let epoch = 1_i64 << 40;
    let cases = [
        (1, 2, true),
        (1, epoch + 1, true),
        (epoch - 1, epoch, true),
        (0x7fff_ffff, 0x8000_0000, true),
        (i64::MAX - 1, i64::MAX, true),
        (2, 2, false),
        (3, 2, false),
        (epoch + 1, 9, false),
        (i64::MAX, 1, false),
    ];
    for (n, (there, incoming, replaced)) in (1..).zip(cases) {
        let planted = native_user(n, there).build();
        let new = native_user(n, incoming)
            .content(rawdoc! { "new": 1 })
            .build();
        assert_eq!(
            replaces(&bench, &planted, &new).await,
            replaced,
            "{incoming} over {there}"
        );
    }
}

/// L16: states do not matter, versions do.
pub async fn tombstones_yield_to_higher_versions_only(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "tombstones_yield_to_higher_versions_only").await;
    let erased = |n, version| native_user(n, version).state(State::Erased).build();
    assert!(replaces(&bench, &erased(1, 5), &native_user(1, 6).build()).await);
    assert!(!replaces(&bench, &erased(2, 5), &native_user(2, 5).build()).await);
    assert!(!replaces(&bench, &erased(3, 5), &native_user(3, 4).build()).await);
    assert!(replaces(&bench, &native_user(4, 5).build(), &erased(4, 6)).await);
    assert!(!replaces(&bench, &native_user(5, 5).build(), &erased(5, 5)).await);
}

/// L15: a document without `user_id` is no document of a user.
pub async fn what_has_no_user_is_replaced(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "what_has_no_user_is_replaced").await;
    let bare = |user: &RawDocumentBuf| {
        RawDocumentBuf::from_iter([(bson::raw::cstr!("_id"), RawBson::String(id_of(user)))])
    };
    let first = native_user(1, 1).build();
    assert!(replaces(&bench, &bare(&first), &first).await);
    let second = native_user(2, 1).build();
    let higher = document::without(&native_user(2, 9).build(), &[field::USER_ID], &[]);
    assert!(replaces(&bench, &higher, &second).await);
}

/// L15: a version of another type is another program's, and not compared.
pub async fn versions_of_other_types_are_left_alone(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "versions_of_other_types_are_left_alone").await;
    let odd: Vec<RawBson> = vec![
        1.into(),
        1.0.into(),
        "1".into(),
        true.into(),
        RawBson::Null,
        rawdoc! { "v": 1_i64 }.into(),
        RawBson::MinKey,
    ];
    for (n, version) in (1..).zip(odd) {
        let planted = native_user(n, 1)
            .set_meta(field::VERSION, version.clone())
            .build();
        let incoming = native_user(n, i64::MAX).build();
        assert!(!replaces(&bench, &planted, &incoming).await, "{version:?}");
    }
    let versionless = native_user(90, 1).build();
    let versionless = document::without(&versionless, &[], &[field::VERSION]);
    assert!(!replaces(&bench, &versionless, &native_user(90, 5).build()).await);
    let bare = document::without(&versionless, &[field::METADATA], &[]);
    let bare = Edit::new().set(field::ID, "bare").apply(&bare);
    let incoming = native_user(90, 5).set(field::ID, "bare").build();
    assert!(!replaces(&bench, &bare, &incoming).await);
}

/// L16: within one batch too, in any order.
pub async fn the_highest_version_of_one_batch_stays(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "the_highest_version_of_one_batch_stays").await;
    let at = |version| {
        native_user(1, version)
            .content(rawdoc! { "of": version })
            .build()
    };
    bench.settle(&[at(1), at(3), at(2)]).await;
    assert_eq!(bench.find(Find::new(Query::All)).await, [at(3)]);
}

/// L14, L16: over a batch in which some are new, some stale, some equal and some newer.
pub async fn a_mixed_batch_settles_each_for_itself(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_mixed_batch_settles_each_for_itself").await;
    let there: Vec<_> = (0..300).map(|n| native_user(n, 5).build()).collect();
    bench.given(&there).await;
    let incoming: Vec<_> = (0..400)
        .map(|n| {
            let version = 4 + i64::from(n % 3);
            native_user(n, version)
                .content(rawdoc! { "incoming": true })
                .build()
        })
        .collect();
    bench.settle(&incoming).await;
    let stored = bench.find(Find::new(Query::All)).await;
    assert_eq!(stored.len(), 400);
    for (place, stored) in stored.iter().enumerate() {
        let replaced = place >= 300 || place % 3 == 2;
        let expected = if replaced {
            &incoming[place]
        } else {
            &there[place]
        };
        assert_eq!(stored, expected, "document {place}");
    }
}

/// L13: a clash on another key rejects one document.
pub async fn a_put_that_clashes_keeps_no_other_out(store: &Arc<dyn Store>) {
    let bench = Bench::unique(store, "a_put_that_clashes_keeps_no_other_out").await;
    let user = |n, of: i64| {
        native_user(n, 1)
            .set("user_id", "u")
            .set("version", of)
            .build()
    };
    bench.given(&[user(1, 1)]).await;
    let outcomes = bench.put(&[user(2, 2), user(3, 1), user(4, 4)]).await;
    assert!(
        matches!(
            &outcomes[..],
            [Put::Settled, Put::Rejected(fault), Put::Settled] if fault.code == 11000
        ),
        "{outcomes:?}"
    );
    let stored = bench.find(Find::new(Query::All)).await;
    assert_eq!(stored, [user(1, 1), user(2, 2), user(4, 4)]);
}

/// L13: a unique value that a document gives up is free, and the one it takes is not.
pub async fn a_put_frees_the_unique_fields_it_replaces(store: &Arc<dyn Store>) {
    let bench = Bench::unique(store, "a_put_frees_the_unique_fields_it_replaces").await;
    let user = |n, version, of: i64| {
        native_user(n, version)
            .set("user_id", "u")
            .set("version", of)
            .build()
    };
    bench.given(&[user(1, 1, 1)]).await;
    bench.settle(&[user(1, 2, 2)]).await;
    bench.settle(&[user(2, 1, 1)]).await;
    let outcomes = bench.put(&[user(3, 1, 2)]).await;
    assert!(matches!(&outcomes[..], [Put::Rejected(_)]), "{outcomes:?}");
    let gone = [tierkeep_core::store::Fence::Version {
        version: version(2),
        ids: vec![document::id(&user(1, 2, 2))],
    }];
    assert_eq!(bench.delete(&gone).await, 1);
    bench.settle(&[user(3, 1, 2)]).await;
    assert_eq!(bench.count(&Query::Equal(doc! { "user_id": "u" })).await, 2);
}

/// L2: putting a batch again changes nothing.
pub async fn putting_twice_is_putting_once(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "putting_twice_is_putting_once").await;
    let users: Vec<_> = (0..20).map(|n| native_user(n, 3).build()).collect();
    bench.settle(&users).await;
    bench.settle(&users).await;
    assert_eq!(bench.find(Find::new(Query::All)).await, users);
}
