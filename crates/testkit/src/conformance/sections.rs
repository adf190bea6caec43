//! Laws of [`Change::Section`] in [`Store::write`]: what a user's own write does. L17, L19.

use std::sync::Arc;

use bson::raw::{RawArrayBuf, RawBson, RawDocument, RawDocumentBuf};
use bson::{DateTime, rawdoc};
use tierkeep_core::document::{self, MAX_DOCUMENT_BYTES, OPS_KEPT, field};
use tierkeep_core::store::{Change, Store, Written};

use super::fixture::{Bench, live, live_at, section, set_section, version};
use crate::documents::{hostile_documents, hostile_sections, native_user};

fn remove_section(name: &str, op: &str) -> Change {
    Change::Section {
        section: section(name),
        value: None,
        op: op.to_owned(),
    }
}

/// What the change makes of `before` at the time that the store gave it.
fn expected(before: &RawDocument, change: &Change, after: &RawDocument) -> RawDocumentBuf {
    let at = document::updated_at(after).expect("the store gave a time");
    change
        .apply(before, at)
        .expect("it fits")
        .expect("it is not removed")
}

/// The section is as given, the version is one higher, the operation is recorded, all else is unchanged.
pub async fn a_section_is_set_and_nothing_else(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_section_is_set_and_nothing_else").await;
    let user = native_user(1, 7).set("other", rawdoc! { "b": 1, "a": 2 });
    bench.given(&[user.build()]).await;
    let value = rawdoc! { "z": 1, "a": { "y": [1, {}], "b": 1_i64 }, "m": 1.0 };
    let change = set_section(value.clone(), "op-1");

    let after = bench.applied(user.id(), &live("op-1"), &change).await;

    assert_eq!(
        after
            .get_document("scan_cache")
            .expect("it is set")
            .as_bytes(),
        value.as_bytes()
    );
    assert_eq!(document::version(&after), Some(version(8)));
    assert_eq!(document::version_of_op(&after, "op-1"), Some(version(8)));
    assert_eq!(after, expected(&user.build(), &change, &after));
}

/// A section that was not there joins at the end; one that was keeps its place.
pub async fn a_new_section_joins_at_the_end(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_new_section_joins_at_the_end").await;
    let user = native_user(1, 1);
    bench.given(&[user.build()]).await;
    let change = Change::Section {
        section: section("analysis_progress"),
        value: Some(rawdoc! { "b": 1, "a": 2 }),
        op: "op".to_owned(),
    };
    let after = bench.applied(user.id(), &live("op"), &change).await;
    let last = after
        .iter_elements()
        .flatten()
        .last()
        .map(|e| e.key().as_str().to_owned());
    assert_eq!(last.as_deref(), Some("analysis_progress"));
    assert_eq!(after, expected(&user.build(), &change, &after));
}

/// L4: sections that break naive copies, and all of the old content goes.
pub async fn hostile_sections_are_set_as_they_are(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "hostile_sections_are_set_as_they_are").await;
    let user = native_user(1, 1).content(rawdoc! { "old": { "x": 1 }, "a": 1 });
    bench.given(&[user.build()]).await;
    for (op, (name, value)) in hostile_sections().into_iter().enumerate() {
        let at = i64::try_from(op).expect("a few sections") + 1;
        let op = op.to_string();
        let change = set_section(value.clone(), &op);
        let after = bench.applied(user.id(), &live_at(at, &op), &change).await;
        let set = after.get_document("scan_cache").expect("it is set");
        assert!(set.as_bytes() == value.as_bytes(), "{name}");
    }
}

/// L4: what is hostile beside the section stays as it is.
pub async fn a_section_leaves_hostile_neighbours_as_they_are(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_section_leaves_hostile_neighbours_as_they_are").await;
    for (name, hostile) in hostile_documents() {
        bench.given_one(&hostile).await;
        let change = Change::Section {
            section: section("analysis_progress"),
            value: Some(rawdoc! { "x": 1 }),
            op: "op".to_owned(),
        };
        let id = document::user_id(&hostile).expect("it has a user");
        let after = bench.applied(id, &live("op"), &change).await;
        assert!(after == expected(&hostile, &change, &after), "{name}");
    }
}

/// A section that is removed is gone, and that is a change like any other.
pub async fn a_section_is_removed(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_section_is_removed").await;
    let user = native_user(1, 1).set("analysis_progress", rawdoc! { "x": 1 });
    bench.given(&[user.build()]).await;
    let change = remove_section("scan_cache", "op");
    let after = bench.applied(user.id(), &live_at(1, "op"), &change).await;
    assert!(after.get("scan_cache").expect("it is sound").is_none());
    assert!(after.get_document("analysis_progress").is_ok());
    assert_eq!(document::version(&after), Some(version(2)));
    assert_eq!(after, expected(&user.build(), &change, &after));

    let again = remove_section("scan_cache", "op-2");
    let again = bench.applied(user.id(), &live_at(2, "op-2"), &again).await;
    assert_eq!(document::version(&again), Some(version(3)));
}

/// L2: an operation that is repeated changes nothing, also when others came between.
pub async fn a_repeated_operation_changes_nothing(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_repeated_operation_changes_nothing").await;
    let user = native_user(1, 1);
    bench.given(&[user.build()]).await;
    let set = |op: &str| set_section(rawdoc! { "by": op }, op);
    bench.applied(user.id(), &live("a"), &set("a")).await;
    bench.applied(user.id(), &live("b"), &set("b")).await;
    bench.unmatched(user.id(), &live("a"), &set("a")).await;
    bench.unmatched(user.id(), &live("b"), &set("b")).await;
    bench
        .unmatched(user.id(), &live_at(3, "a"), &set("a"))
        .await;
}

/// The last eight operations are remembered, newest last, each with its version.
pub async fn a_document_remembers_its_last_eight_operations(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_document_remembers_its_last_eight_operations").await;
    let user = native_user(1, 1);
    bench.given(&[user.build()]).await;
    let mut last = user.build();
    for n in 1..=12 {
        let op = format!("op-{n}");
        last = bench
            .applied(
                user.id(),
                &live_at(i64::from(n), &op),
                &set_section(rawdoc! { "n": n }, &op),
            )
            .await;
        assert_eq!(document::version(&last), Some(version(i64::from(n) + 1)));
    }
    let ring = document::metadata(&last).and_then(|m| m.get_array(field::OPS).ok());
    let ring: RawArrayBuf = ring.expect("it is an array").to_owned();
    let newest: RawArrayBuf = (5..=12_i64)
        .map(|n| RawBson::Document(rawdoc! { "id": format!("op-{n}"), "v": n + 1 }))
        .collect();
    assert_eq!(ring, newest);
    assert_eq!(newest.into_iter().count(), OPS_KEPT);
    assert_eq!(document::version_of_op(&last, "op-4"), None);
    assert_eq!(document::version_of_op(&last, "op-5"), Some(version(6)));
}

/// A document without a ring gets one.
pub async fn the_first_operation_makes_the_ring(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "the_first_operation_makes_the_ring").await;
    for (n, ops) in (1..).zip([
        None,
        Some(RawBson::Null),
        Some("x".into()),
        Some(rawdoc! {}.into()),
    ]) {
        let user = match ops.clone() {
            Some(ops) => native_user(n, 1).set_meta(field::OPS, ops),
            None => native_user(n, 1),
        };
        bench.given(&[user.build()]).await;
        let change = set_section(rawdoc! { "x": 1 }, "op");
        let after = bench.applied(user.id(), &live("op"), &change).await;
        assert_eq!(
            document::version_of_op(&after, "op"),
            Some(version(2)),
            "{ops:?}"
        );
        assert_eq!(after, expected(&user.build(), &change, &after));
    }
}

/// L19: `updated_at` is the server's time, whatever it was.
pub async fn the_time_of_a_change_is_the_servers(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "the_time_of_a_change_is_the_servers").await;
    let user = native_user(1, 1).set_meta(field::UPDATED_AT, DateTime::from_millis(i64::MAX));
    let timeless = document::without(&native_user(2, 1).build(), &[], &[field::UPDATED_AT]);
    bench.given(&[user.build(), timeless]).await;
    for id in [user.id(), native_user(2, 1).id()] {
        let before = store.hello().await.expect("hello succeeds").now;
        let after = bench
            .applied(id, &live("op"), &set_section(rawdoc! {}, "op"))
            .await;
        let later = store.hello().await.expect("hello succeeds").now;
        let at = document::updated_at(&after).expect("it is a date");
        assert!(before <= at && at <= later, "{before} <= {at} <= {later}");
    }
}

/// A document may grow to exactly the limit and not a byte beyond; one that would is left as it is.
pub async fn a_document_never_outgrows_its_limit(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_document_never_outgrows_its_limit").await;
    let user = native_user(1, 1);
    bench.given(&[user.build()]).await;
    let filled = |bytes: usize, op: &str| set_section(rawdoc! { "filler": "x".repeat(bytes) }, op);
    let empty = expected(&user.build(), &filled(0, "fits"), &user.build());
    let room = MAX_DOCUMENT_BYTES - empty.as_bytes().len();

    let written = bench
        .write(user.id(), &live("over"), &filled(room + 1, "over"))
        .await;
    assert_eq!(written, Written::TooLarge);
    assert!(
        bench.stored(user.id()).await == Some(user.build()),
        "nothing changed"
    );

    let full = bench
        .applied(user.id(), &live("fits"), &filled(room, "fits"))
        .await;
    assert_eq!(full.as_bytes().len(), MAX_DOCUMENT_BYTES);

    let more = Change::Section {
        section: section("analysis_progress"),
        value: Some(rawdoc! {}),
        op: "more".to_owned(),
    };
    assert_eq!(
        bench.write(user.id(), &live("more"), &more).await,
        Written::TooLarge
    );
    assert!(
        bench.stored(user.id()).await == Some(full),
        "nothing changed"
    );

    bench
        .applied(user.id(), &live("less"), &filled(1, "less"))
        .await;
}

/// The guard comes first: a large change to a document that it does not hold for is no match.
pub async fn a_guard_comes_before_the_limit(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_guard_comes_before_the_limit").await;
    let user = native_user(1, 1);
    bench.given(&[user.build()]).await;
    let filler = "x".repeat(MAX_DOCUMENT_BYTES - 500);
    let large = set_section(rawdoc! { "filler": filler }, "op");
    bench.unmatched(user.id(), &live_at(2, "op"), &large).await;
}
