//! Laws of the guards and the other changes of [`Store::write`]: L4, L18, L19.

use std::sync::Arc;

use bson::raw::{RawArrayBuf, RawBson};
use bson::{Bson, DateTime, doc, rawdoc};
use tierkeep_core::document::{self, Edit, State, field};
use tierkeep_core::store::{Change, Fence, Guard, Query, Store, Written};

use super::fixture::{Bench, id_of, live, live_at, live_within, record, set_section, version};
use crate::documents::{SeedUser, hostile_documents, native_user};

fn date(ms: i64) -> DateTime {
    DateTime::from_millis(ms)
}

fn entry(nonce: &str) -> Guard {
    Guard::Entry {
        nonce: nonce.to_owned(),
    }
}

/// L18.
pub async fn a_write_creates_nothing(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_write_creates_nothing").await;
    let user = native_user(1, 1).build();
    let guards = [
        live("op"),
        live_at(1, "op"),
        entry("nonce"),
        Guard::Tombstone(version(1)),
        Guard::Older(version(i64::MAX)),
        Guard::Whole(user.clone()),
        Guard::Fields(doc! {}),
        Guard::Fields(doc! { "nothing": Bson::Null }),
    ];
    let changes = [
        set_section(rawdoc! {}, "op"),
        Change::Confirm { created: true },
        admit(),
        Change::Replace(user.clone()),
        Change::Remove,
    ];
    for guard in &guards {
        for change in &changes {
            assert_eq!(
                bench.write(id_of(&user), guard, change).await,
                Written::Unmatched
            );
        }
    }
    assert_eq!(bench.count(&Query::All).await, 0);
}

/// [`Guard::Live`] means live documents with an int64 version within the window, whose ends count.
pub async fn a_live_guard_holds_for_live_documents_only(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_live_guard_holds_for_live_documents_only").await;
    let user = |n| native_user(n, 5);
    let outside = [
        user(1).state(State::Erased),
        user(2).entering("nonce", date(1)),
        user(3).set_meta(field::STATE, "frozen"),
        user(4).set_meta(field::STATE, RawBson::Null),
        user(5).set_meta(field::VERSION, 5),
        user(6).set_meta(field::VERSION, 5.0),
        user(7).set_meta(field::VERSION, "5"),
    ];
    let change = set_section(rawdoc! { "new": 1 }, "op");
    for user in outside {
        bench.given(&[user.build()]).await;
        bench.unmatched(user.id(), &live("op"), &change).await;
        bench.unmatched(user.id(), &live_at(5, "op"), &change).await;
    }
    let foreign = SeedUser::new(8, date(1));
    bench.given(&[foreign.build()]).await;
    let written = bench.write(foreign.id(), &live("op"), &change).await;
    assert_eq!(written, Written::Unmatched);

    bench.given(&[user(9).build()]).await;
    bench
        .unmatched(user(9).id(), &live_at(4, "op"), &change)
        .await;
    bench
        .unmatched(user(9).id(), &live_at(6, "op"), &change)
        .await;
    bench
        .applied(user(9).id(), &live_at(5, "op"), &change)
        .await;
    for (n, from, width, holds) in [
        (11, 1, 4, false),
        (12, 1, 5, true),
        (13, 5, 8, true),
        (14, 6, 8, false),
    ] {
        let user = user(n);
        bench.given(&[user.build()]).await;
        let guard = live_within(from, width, "op");
        let written = bench.write(user.id(), &guard, &change).await;
        let is_applied = matches!(written, Written::Applied(_));
        assert_eq!(
            is_applied, holds,
            "{width} versions from {from}: {written:?}"
        );
    }
    let stateless = document::without(&user(10).build(), &[], &[field::STATE]);
    bench.given(&[stateless]).await;
    bench
        .applied(user(10).id(), &live_at(5, "op"), &change)
        .await;
}

/// [`Guard::Entry`] means the entering document of one attempt.
pub async fn an_entry_guard_holds_for_its_own_attempt_only(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "an_entry_guard_holds_for_its_own_attempt_only").await;
    let user = native_user(1, 1).entering("mine", date(1));
    let live = native_user(2, 1).set_meta(field::NONCE, "mine");
    let odd = native_user(3, 1)
        .entering("mine", date(1))
        .set_meta(field::NONCE, 1);
    bench
        .given(&[user.build(), live.build(), odd.build()])
        .await;
    bench.unmatched(user.id(), &entry("other"), &admit()).await;
    bench.unmatched(user.id(), &entry(""), &admit()).await;
    bench.unmatched(live.id(), &entry("mine"), &admit()).await;
    bench.unmatched(odd.id(), &entry("mine"), &admit()).await;
    bench.applied(user.id(), &entry("mine"), &admit()).await;
    bench.unmatched(user.id(), &entry("mine"), &admit()).await;
}

/// [`Guard::Tombstone`] means the tombstone of one version.
pub async fn a_tombstone_guard_holds_for_its_version_only(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_tombstone_guard_holds_for_its_version_only").await;
    let erased = native_user(1, 5).state(State::Erased);
    let live = native_user(2, 5);
    bench.given(&[erased.build(), live.build()]).await;
    bench
        .unmatched(erased.id(), &Guard::Tombstone(version(4)), &Change::Remove)
        .await;
    bench
        .unmatched(erased.id(), &Guard::Tombstone(version(6)), &Change::Remove)
        .await;
    bench
        .unmatched(live.id(), &Guard::Tombstone(version(5)), &Change::Remove)
        .await;
    bench
        .applied(erased.id(), &Guard::Tombstone(version(5)), &Change::Remove)
        .await;
    assert_eq!(bench.stored(erased.id()).await, None);
}

/// [`Guard::Older`] means int64 versions below its own, in any state, of a user or not.
pub async fn an_older_guard_holds_for_lower_versions_only(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "an_older_guard_holds_for_lower_versions_only").await;
    let nobodys =
        |n, version| document::without(&native_user(n, version).build(), &["user_id"], &[]);
    let erased = |n, version| native_user(n, version).state(State::Erased).build();
    let cases = [
        (nobodys(1, 4), true),
        (nobodys(2, 5), false),
        (nobodys(3, 6), false),
        (native_user(4, 4).build(), true),
        (native_user(5, 5).build(), false),
        (erased(6, 4), true),
        (erased(7, 5), false),
        (native_user(8, 4).set_meta(field::VERSION, 4).build(), false),
        (
            native_user(9, 4).set_meta(field::VERSION, 4.0).build(),
            false,
        ),
        (
            document::without(&nobodys(10, 4), &[], &[field::VERSION]),
            false,
        ),
        (
            document::without(&nobodys(11, 4), &[field::METADATA], &[]),
            false,
        ),
    ];
    let guard = Guard::Older(version(5));
    for (n, (planted, replaced)) in (1..).zip(cases) {
        bench.given_one(&planted).await;
        let id = id_of(&planted);
        let incoming = document::without(&native_user(n, 5).build(), &["user_id"], &[]);
        let change = Change::Replace(incoming.clone());
        if replaced {
            assert_eq!(bench.applied(&id, &guard, &change).await, incoming);
        }
        bench.unmatched(&id, &guard, &change).await;
    }
}

/// [`Guard::Whole`] means every byte: added fields, other types and another order are all seen.
pub async fn a_whole_guard_sees_every_byte(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_whole_guard_sees_every_byte").await;
    let content = rawdoc! { "a": 1, "b": 2_i64, "c": { "x": 1, "y": 2 }, "d": [1] };
    let user = native_user(1, 1).content(content);
    bench.given(&[user.build()]).await;
    let others = [
        user.clone().set("extra", 1),
        user.clone().set_meta("extra", 1),
        user.clone()
            .content(rawdoc! { "a": 1_i64, "b": 2_i64, "c": { "x": 1, "y": 2 }, "d": [1] }),
        user.clone()
            .content(rawdoc! { "a": 1, "b": 2_i64, "c": { "y": 2, "x": 1 }, "d": [1] }),
        user.clone()
            .content(rawdoc! { "a": 1, "b": 2_i64, "c": { "x": 1 }, "d": [1] }),
        user.clone()
            .content(rawdoc! { "a": 1.0, "b": 2_i64, "c": { "x": 1, "y": 2 }, "d": [1] }),
        user.clone()
            .content(rawdoc! { "b": 2_i64, "a": 1, "c": { "x": 1, "y": 2 }, "d": [1] }),
    ];
    for other in others {
        bench
            .unmatched(user.id(), &Guard::Whole(other.build()), &Change::Remove)
            .await;
    }
    bench
        .applied(user.id(), &Guard::Whole(user.build()), &Change::Remove)
        .await;
}

/// L4: hostile documents can be named whole, and replaced.
pub async fn hostile_documents_are_replaced_as_wholes(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "hostile_documents_are_replaced_as_wholes").await;
    for (name, hostile) in hostile_documents() {
        let id = id_of(&hostile);
        let plain = Edit::new()
            .set(field::ID, id.as_str())
            .set("x", 1)
            .apply(&rawdoc! {});
        bench.given_one(&plain).await;
        let replace = Change::Replace(hostile.clone());
        let written = bench
            .write(id.as_str(), &Guard::Whole(plain.clone()), &replace)
            .await;
        assert!(written == Written::Applied(hostile.clone()), "{name}");
        assert!(
            bench.stored(id.as_str()).await.as_ref() == Some(&hostile),
            "{name}"
        );

        let back = Change::Replace(plain.clone());
        let written = bench
            .write(id.as_str(), &Guard::Whole(hostile), &back)
            .await;
        assert!(written == Written::Applied(plain.clone()), "{name}");
    }
}

/// L31: what a newer version wrote is found where it is due, and no guard of a state holds for it.
pub async fn a_document_of_a_newer_form_is_left_alone(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_document_of_a_newer_form_is_left_alone").await;
    let newer = |n, state| {
        let user = native_user(n, 5).state(state).dated(date(1));
        user.set_meta(field::SCHEMA_VERSION, document::SCHEMA_VERSION + 1)
    };
    let live_one = newer(1, State::Live);
    let entering = newer(2, State::Entering).set_meta(field::NONCE, "nonce");
    let erased = newer(3, State::Erased);
    let doubled = native_user(4, 5)
        .dated(date(1))
        .set_meta(field::SCHEMA_VERSION, 2.0);
    let known = native_user(5, 5)
        .dated(date(1))
        .set_meta(field::SCHEMA_VERSION, 1.0);
    let users = [&live_one, &entering, &erased, &doubled, &known];
    for user in users {
        bench.given_one(&user.build()).await;
    }
    let section = set_section(rawdoc! {}, "op");
    for user in [&live_one, &doubled] {
        bench
            .unmatched(user.id(), &live_at(5, "op"), &section)
            .await;
    }
    bench
        .unmatched(entering.id(), &entry("nonce"), &admit())
        .await;
    bench
        .unmatched(erased.id(), &Guard::Tombstone(version(5)), &Change::Remove)
        .await;
    let ids: Vec<Bson> = users.iter().map(|user| user.id().into()).collect();
    let fence = Fence::Version {
        version: version(5),
        ids,
    };
    assert_eq!(bench.delete(&[fence]).await, 1, "the one of a known form");
    let due = bench.count(&Query::Due(date(2))).await;
    assert_eq!(due, 2, "those that are live");
    assert_eq!(bench.count(&Query::All).await, 4);
}

/// A document of another program, named whole, takes its final form in one step.
pub async fn a_foreign_document_is_replaced_in_place(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_foreign_document_is_replaced_in_place").await;
    let native = native_user(1, 1);
    let foreign = SeedUser::new(1, date(1)).naive_dates().build();
    let foreign = Edit::new().set(field::ID, native.id()).apply(&foreign);
    bench.given_one(&foreign).await;
    let guard = Guard::Whole(foreign);
    let change = Change::Replace(native.build());
    assert_eq!(
        bench.applied(native.id(), &guard, &change).await,
        native.build()
    );
    bench.unmatched(native.id(), &guard, &change).await;
}

/// [`Guard::Fields`] means equal fields, a dot reaching into an object, null also where there is none.
pub async fn a_fields_guard_compares_fields(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_fields_guard_compares_fields").await;
    let lease = rawdoc! { "_id": "l", "holder": "a", "fence": 3_i64, "metadata": { "state": "x" } };
    bench.given_one(&lease).await;
    let not = [
        doc! { "holder": "b" },
        doc! { "holder": "a", "fence": 4_i64 },
        doc! { "holder": Bson::Null },
        doc! { "metadata.state": "y" },
        doc! { "metadata.other": "x" },
        doc! { "other": "a" },
    ];
    for fields in not {
        bench
            .unmatched("l", &Guard::Fields(fields), &Change::Remove)
            .await;
    }
    let holds = [
        doc! { "holder": "a", "fence": 3_i64 },
        doc! { "metadata.state": "x" },
        doc! { "other": Bson::Null, "metadata.other": Bson::Null, "no.object": Bson::Null },
        doc! {},
    ];
    for fields in holds {
        bench
            .applied("l", &Guard::Fields(fields), &Change::Replace(lease.clone()))
            .await;
    }
}

/// [`Change::Confirm`]: live, staged now, and no trace of the attempt.
pub async fn a_confirmed_entry_is_live_and_staged_now(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_confirmed_entry_is_live_and_staged_now").await;
    for (n, created) in [(1, true), (2, false)] {
        let user = native_user(n, 3)
            .dated(date(4))
            .entering("nonce", date(5))
            .set_meta("a.b", 1);
        bench.given(&[user.build()]).await;
        let change = Change::Confirm { created };
        let before = store.hello().await.expect("hello succeeds").now;
        let after = bench.applied(user.id(), &entry("nonce"), &change).await;
        let later = store.hello().await.expect("hello succeeds").now;

        let staged = document::staged_at(&after).expect("it is staged");
        assert!(
            before <= staged && staged <= later,
            "{before} <= {staged} <= {later}"
        );
        assert_eq!(document::state(&after), Some(State::Live));
        assert_eq!(document::nonce(&after), None);
        assert_eq!(document::entered_at(&after), None);
        assert_eq!(document::version(&after), Some(version(3)));
        let created_at = after.get_datetime(field::CREATED_AT).expect("it is a date");
        let same = [
            document::last_accessed(&after),
            document::updated_at(&after),
        ];
        assert_eq!(created_at == staged, created, "created_at");
        assert_eq!(same, [Some(staged); 2], "the other dates");
        let expected = change.apply(&user.build(), staged).expect("it fits");
        assert_eq!(Some(after), expected);
    }
}

/// [`Change::Admit`]: live, staged when it is said, with the other dates it had.
pub async fn an_admitted_entry_is_staged_when_it_is_said(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "an_admitted_entry_is_staged_when_it_is_said").await;
    let user = native_user(1, 3).entering("nonce", date(5));
    bench.given(&[user.build()]).await;
    let after = bench.applied(user.id(), &entry("nonce"), &admit()).await;
    let expected = admit().apply(&user.build(), date(0)).expect("it fits");
    assert_eq!(Some(after.clone()), expected);
    assert_eq!(document::state(&after), Some(State::Live));
    assert_eq!(document::staged_at(&after), Some(date(4)));
    assert_eq!(
        document::updated_at(&after),
        document::updated_at(&user.build())
    );
}

fn admit() -> Change {
    Change::Admit { staged_at: date(4) }
}

/// [`Change::Replace`] leaves nothing of what was there.
pub async fn a_replacement_leaves_nothing_behind(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_replacement_leaves_nothing_behind").await;
    let user = native_user(1, 3).set("extra", RawArrayBuf::from_iter([1]));
    bench.given(&[user.build()]).await;
    let tombstone = native_user(1, 1 << 40)
        .state(State::Erased)
        .content(rawdoc! {})
        .build();
    let change = Change::Replace(tombstone.clone());
    assert_eq!(
        bench.applied(user.id(), &live_at(3, "op"), &change).await,
        tombstone
    );
    let guard = Guard::Tombstone(version(1 << 40));
    let back = Change::Replace(user.build());
    assert_eq!(bench.applied(user.id(), &guard, &back).await, user.build());
}

/// [`Change::Remove`] answers the document as it was last.
pub async fn a_removed_document_is_answered_and_gone(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_removed_document_is_answered_and_gone").await;
    let user = native_user(1, 3).entering("nonce", date(1));
    let other = native_user(2, 3).entering("nonce", date(1));
    bench.given(&[user.build(), other.build()]).await;
    let gone = bench
        .applied(user.id(), &entry("nonce"), &Change::Remove)
        .await;
    assert_eq!(gone, user.build());
    assert_eq!(bench.stored(user.id()).await, None);
    assert_eq!(bench.stored(other.id()).await, Some(other.build()));
    bench.given(&[user.build()]).await;
}

/// A write moves a document between the queries that find it.
pub async fn a_write_is_seen_by_every_query(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_write_is_seen_by_every_query").await;
    let user = native_user(1, 3)
        .entering("nonce", date(1))
        .set("status", "pending");
    bench.given(&[user.build()]).await;
    let due = Query::Due(date(4_102_444_800_000));
    let pending = Query::Equal(doc! { "status": "pending" });
    assert_eq!(
        (bench.count(&due).await, bench.count(&Query::Unstaged).await),
        (0, 1)
    );

    let live = bench
        .applied(
            user.id(),
            &entry("nonce"),
            &Change::Confirm { created: true },
        )
        .await;
    assert_eq!(
        (bench.count(&due).await, bench.count(&Query::Unstaged).await),
        (1, 0)
    );
    assert_eq!(bench.count(&pending).await, 1);

    let done = Edit::new()
        .set("status", "completed")
        .set("user_id", "x")
        .apply(&live);
    bench
        .applied(user.id(), &Guard::Whole(live), &Change::Replace(done))
        .await;
    assert_eq!(bench.count(&pending).await, 0);
    assert_eq!(
        bench
            .count(&Query::Equal(doc! { "status": "completed" }))
            .await,
        1
    );
    assert_eq!(
        bench.count(&Query::Users(vec![user.id().to_owned()])).await,
        0
    );
    assert_eq!(bench.count(&Query::Users(vec!["x".to_owned()])).await, 1);
}

/// A change that makes a document clash with another one is refused for that document's own fault.
pub async fn a_write_that_clashes_is_rejected(store: &Arc<dyn Store>) {
    let bench = Bench::unique(store, "a_write_that_clashes_is_rejected").await;
    bench
        .given(&[record("a", "u", 1), record("b", "u", 2)])
        .await;
    let whole = Guard::Whole(record("b", "u", 2));
    let change = Change::Replace(record("b", "u", 1));
    let written = bench.write("b", &whole, &change).await;
    assert!(
        matches!(&written, Written::Rejected(fault) if fault.code == 11000),
        "{written:?}"
    );
    assert_eq!(bench.stored("b").await, Some(record("b", "u", 2)));
}
