//! Laws of [`Store::delete`] and [`Store::amend`]: L20, L21, L22.

use std::sync::Arc;

use bson::oid::ObjectId;
use bson::raw::{RawBson, RawDocumentBuf, cstr};
use bson::{Bson, DateTime, doc, rawdoc};
use tierkeep_core::document::{self, State, field};
use tierkeep_core::store::{Fence, Find, Query, Store};

use super::fixture::{Bench, record, version};
use crate::documents::{NativeUser, hostile_documents, native_user, seed_user};

fn fence(number: i64, ids: &[&str]) -> Fence {
    Fence::Version {
        version: version(number),
        ids: ids.iter().map(|id| Bson::from(*id)).collect(),
    }
}

/// L20.
pub async fn a_delete_takes_only_live_documents_of_its_version(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_delete_takes_only_live_documents_of_its_version").await;
    let date = DateTime::from_millis(1);
    let stay = [
        native_user(1, 4),
        native_user(2, 6),
        native_user(3, 5).state(State::Erased),
        native_user(4, 5).entering("nonce", date),
        native_user(5, 5).set_meta(field::STATE, "frozen"),
        native_user(6, 5).set_meta(field::VERSION, 5),
        native_user(7, 5).set_meta(field::VERSION, 5.0),
        native_user(8, 5).set_meta(field::VERSION, "5"),
        native_user(9, 5 + (1 << 40)),
    ];
    let go = [native_user(10, 5), native_user(11, 5)];
    let stateless = document::without(&native_user(12, 5).build(), &[], &[field::STATE]);
    let unnamed = native_user(13, 5);
    let kept: Vec<_> = stay
        .iter()
        .chain([&unnamed])
        .map(NativeUser::build)
        .collect();
    bench.given(&kept).await;
    bench
        .given(&[go[0].build(), go[1].build(), stateless])
        .await;

    let named: Vec<&str> = stay.iter().chain(&go).map(NativeUser::id).collect();
    let twelve = native_user(12, 5);
    let mut fences = vec![fence(5, &named), fence(5, &[twelve.id(), "nobody"])];
    assert_eq!(bench.delete(&fences).await, 3);
    assert_eq!(bench.find(Find::new(Query::All)).await, kept);

    fences.reverse();
    assert_eq!(bench.delete(&fences).await, 0, "nothing is deleted twice");
}

/// L30.
pub async fn a_delete_takes_whole_documents_only_as_they_are(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_delete_takes_whole_documents_only_as_they_are").await;
    let date = DateTime::from_millis(1);
    let foreign = |n: u32| seed_user(n, date);
    let number = |value: RawBson| {
        let mut document = rawdoc! { "_id": "number", "user_id": "u" };
        document.append(cstr!("n"), value);
        document
    };
    let stored = [
        foreign(1),
        foreign(2),
        native_user(3, 5).build(),
        number(RawBson::Int64(1)),
        rawdoc! { "_id": "order", "a": 1, "b": 2 },
        rawdoc! { "_id": "more", "a": 1, "b": { "$odd": 1, "x.y": 2 } },
        rawdoc! { "_id": 7, "a": 1 },
    ];
    bench.given(&stored).await;
    let absent = [
        foreign(9),
        document::without(&foreign(1), &["scan_cache"], &[]),
        native_user(3, 6).build(),
        number(RawBson::Double(1.0)),
        number(RawBson::Int32(1)),
        rawdoc! { "_id": "order", "b": 2, "a": 1 },
        rawdoc! { "_id": "more", "a": 1 },
        rawdoc! { "_id": 7_i64, "a": 1, "b": 2 },
    ];
    let whole = |documents: &[RawDocumentBuf]| -> Vec<Fence> {
        documents.iter().cloned().map(Fence::Whole).collect()
    };
    assert_eq!(bench.delete(&whole(&absent)).await, 0);
    let all = bench.find(Find::new(Query::All)).await;
    assert_eq!(all.len(), stored.len(), "what differs in any byte stays");

    // One that is there, one that is not, and a version beside them.
    let mut fences = whole(&[foreign(1), foreign(9), stored[5].clone()]);
    fences.push(fence(5, &[native_user(3, 5).id()]));
    assert_eq!(bench.delete(&fences).await, 3);
    assert_eq!(bench.delete(&fences).await, 0, "nothing is deleted twice");
    assert_eq!(bench.delete(&whole(&stored)).await, 4);
    assert_eq!(bench.count(&Query::All).await, 0);
}

/// L30: many at once, however many go with one statement, and those named twice count once.
pub async fn a_large_batch_of_whole_documents_is_deleted_at_once(store: &Arc<dyn Store>) {
    let name = "a_large_batch_of_whole_documents_is_deleted_at_once";
    let bench = Bench::prepared(store, name).await;
    let date = DateTime::from_millis(1);
    let users: Vec<RawDocumentBuf> = (0..1_000).map(|n| seed_user(n, date)).collect();
    bench.given(&users).await;
    let kept = users.iter().step_by(100).cloned();
    let kept: Vec<RawDocumentBuf> = kept.collect();
    let changed = kept
        .iter()
        .map(|it| document::without(it, &["scan_cache"], &[]));
    let fences: Vec<Fence> = users
        .iter()
        .filter(|user| !kept.contains(user))
        .chain(users.get(1))
        .cloned()
        .chain(changed)
        .map(Fence::Whole)
        .collect();
    assert_eq!(bench.delete(&fences).await, 990);
    let left = bench.find(Find::new(Query::All)).await;
    assert_eq!(left.len(), kept.len());
    assert!(kept.iter().all(|it| left.contains(it)));
}

/// Each fence is for itself.
pub async fn fences_do_not_mix(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "fences_do_not_mix").await;
    let users: Vec<_> = (1..=6).map(|n| native_user(n, i64::from(n))).collect();
    bench
        .given(&users.iter().map(NativeUser::build).collect::<Vec<_>>())
        .await;
    let fences = [
        fence(1, &[users[0].id(), users[1].id()]),
        fence(3, &[users[2].id(), users[3].id()]),
        fence(6, &[]),
    ];
    assert_eq!(bench.delete(&fences).await, 2);
    let left: Vec<_> = [1, 3, 4, 5]
        .map(|n: usize| Bson::from(users[n].id()))
        .into();
    assert_eq!(bench.ids(Find::new(Query::All)).await, left);
}

/// A thousand go at once, and those named twice count once.
pub async fn a_large_batch_is_deleted_at_once(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "a_large_batch_is_deleted_at_once").await;
    let users: Vec<_> = (0..1_000)
        .map(|n| native_user(n, 1 + i64::from(n % 2)))
        .collect();
    bench
        .given(&users.iter().map(NativeUser::build).collect::<Vec<_>>())
        .await;
    let ids: Vec<&str> = users.iter().map(NativeUser::id).collect();
    let twice = [ids.clone(), ids].concat();
    assert_eq!(bench.delete(&[fence(1, &twice)]).await, 500);
    assert_eq!(
        bench.delete(&[fence(1, &twice), fence(2, &twice)]).await,
        500
    );
    assert_eq!(bench.count(&Query::All).await, 0);
}

/// L21: only what equals all of `when` is amended, and matches are counted.
pub async fn an_amendment_touches_only_what_matches(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "an_amendment_touches_only_what_matches").await;
    let records = [
        record("a", "u", 1),
        record("b", "u", 2),
        rawdoc! { "_id": "c", "user_id": "u", "version": 1_i64, "status": "completed" },
        record("d", "u", 1),
    ];
    bench.given(&records).await;
    let ids = ["a", "b", "c", "nobody", "a"].map(Bson::from);
    let when = doc! { "status": "pending", "version": 1_i64 };
    let set = doc! { "status": "failed" };
    assert_eq!(bench.amend(&ids, &when, &set).await, 1);

    let stored = bench.find(Find::new(Query::All)).await;
    let failed = doc! { "_id": "a", "user_id": "u", "version": 1_i64, "status": "failed" };
    assert_eq!(stored[0], RawDocumentBuf::try_from(failed).expect("small"));
    assert_eq!(stored[1..], records[1..]);
    assert_eq!(
        bench
            .count(&Query::Equal(doc! { "status": "failed" }))
            .await,
        1
    );
    assert_eq!(bench.amend(&ids, &when, &set).await, 0);
}

/// L21: what already equals the amendment counts as matched.
pub async fn an_amendment_that_changes_nothing_matches(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "an_amendment_that_changes_nothing_matches").await;
    bench.given(&[record("a", "u", 1)]).await;
    let pending = doc! { "status": "pending" };
    assert_eq!(bench.amend(&["a".into()], &pending, &pending).await, 1);
    assert_eq!(bench.stored("a").await, Some(record("a", "u", 1)));
    assert_eq!(bench.amend(&[], &doc! {}, &pending).await, 0);
}

/// L22: one dot reaches into an object, and nothing beside the field changes.
pub async fn an_amendment_reaches_into_objects(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "an_amendment_reaches_into_objects").await;
    let user = native_user(1, 1).set("mark", rawdoc! { "b": 1, "a": 2 });
    bench.given(&[user.build()]).await;
    let id = [Bson::from(user.id())];
    let when = doc! { "metadata.version": 1_i64, "metadata.backup_status": "pending" };
    let set = doc! { "metadata.backup_status": "completed" };
    assert_eq!(bench.amend(&id, &when, &set).await, 1);
    assert_eq!(bench.amend(&id, &when, &set).await, 0);
    let amended = user.clone().set_meta(field::BACKUP_STATUS, "completed");
    assert_eq!(bench.stored(user.id()).await, Some(amended.build()));

    assert_eq!(
        bench
            .amend(&id, &doc! { "mark.b": 1 }, &doc! { "mark.b": 5 })
            .await,
        1
    );
    assert_eq!(
        bench
            .amend(&id, &doc! { "mark.b": 1 }, &doc! { "mark.b": 6 })
            .await,
        0
    );
    let amended = amended.set("mark", rawdoc! { "b": 5, "a": 2 });
    assert_eq!(bench.stored(user.id()).await, Some(amended.build()));
}

/// L22: fields that are not there are made, also in an object that is not there.
pub async fn an_amendment_makes_the_fields_it_sets(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "an_amendment_makes_the_fields_it_sets").await;
    bench.given(&[rawdoc! { "_id": "a", "x": 1 }]).await;
    let id = [Bson::from("a")];
    assert_eq!(
        bench.amend(&id, &doc! {}, &doc! { "count": 1_i64 }).await,
        1
    );
    assert_eq!(
        bench.amend(&id, &doc! {}, &doc! { "lease.by": "me" }).await,
        1
    );
    let expected = rawdoc! { "_id": "a", "x": 1, "count": 1_i64, "lease": { "by": "me" } };
    assert_eq!(bench.stored("a").await, Some(expected));
    assert_eq!(bench.count(&Query::All).await, 1);
}

/// L21: null in `when` also means a field that is missing.
pub async fn null_also_matches_what_is_missing(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "null_also_matches_what_is_missing").await;
    bench
        .given(&[
            rawdoc! { "_id": "missing" },
            rawdoc! { "_id": "missing inside", "lease": { "x": 1 } },
            rawdoc! { "_id": "null", "holder": RawBson::Null, "lease": { "by": RawBson::Null } },
            rawdoc! { "_id": "there", "holder": "a", "lease": { "by": "a" } },
            rawdoc! { "_id": "empty", "holder": "", "lease": { "by": "" } },
        ])
        .await;
    let ids = ["missing", "missing inside", "null", "there", "empty"].map(Bson::from);
    let set = doc! { "seen": true };
    assert_eq!(
        bench
            .amend(&ids, &doc! { "holder": Bson::Null }, &set)
            .await,
        3
    );
    assert_eq!(
        bench
            .amend(&ids, &doc! { "lease.by": Bson::Null }, &set)
            .await,
        3
    );
    let seen = bench
        .ids(Find::new(Query::Equal(doc! { "seen": true })))
        .await;
    assert_eq!(seen, ["missing", "missing inside", "null"].map(Bson::from));
}

/// L22: an amendment of a date moves the document between queries, and foreign ids are found.
pub async fn an_amendment_is_seen_by_every_query(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "an_amendment_is_seen_by_every_query").await;
    let date = DateTime::from_millis(1_000);
    let foreign = seed_user(1, date);
    let id: ObjectId = foreign.get_object_id("_id").expect("an object id");
    bench.given(&[foreign]).await;
    assert_eq!(bench.count(&Query::Unstaged).await, 1);
    let set = doc! { "metadata.staged_at": date };
    assert_eq!(
        bench.amend(&[id.into()], &doc! { "_id": id }, &set).await,
        1
    );
    assert_eq!(bench.count(&Query::Unstaged).await, 0);
    assert_eq!(bench.count(&Query::Due(date)).await, 1);
}

/// L4, L22: an amended document keeps every other byte.
pub async fn hostile_documents_survive_an_amendment(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "hostile_documents_survive_an_amendment").await;
    for (name, hostile) in hostile_documents() {
        bench.given_one(&hostile).await;
        let set = doc! { "metadata.backup_status": "completed" };
        let matched = bench.amend(&[document::id(&hostile)], &doc! {}, &set).await;
        assert_eq!(matched, 1, "{name}");
        let expected = document::Edit::new()
            .set_meta(field::BACKUP_STATUS, "completed")
            .apply(&hostile);
        assert!(
            bench.stored(document::id(&hostile)).await == Some(expected),
            "{name}"
        );
    }
}
