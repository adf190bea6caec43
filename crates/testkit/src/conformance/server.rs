//! Laws of [`Store::hello`], [`Store::prepare`] and [`Store::indexes`]: L5, L6, L26, and of [`Store::collections`] and [`Store::damage`]: L27, L28.

use std::collections::BTreeSet;
use std::sync::Arc;

use bson::{Bson, doc};
use tierkeep_core::db::Role;
use tierkeep_core::store::{Find, FoundCollection, FoundIndex, Inserted, Layout, Query, Store};

use super::fixture::{Bench, record};
use crate::documents::native_user;

/// The server names itself, and does so the same way each time.
pub async fn a_server_names_itself_the_same_way_each_time(store: &Arc<dyn Store>) {
    let first = store.hello().await.expect("hello succeeds");
    let second = store.hello().await.expect("hello succeeds");
    assert_eq!(store.role(), Role::RaseenTempUser);
    assert!(first.is_same_database(&second), "{first:?} and {second:?}");
    assert!(!first.database.is_empty());
    assert!(!first.server.process.is_empty() || first.server.replica_set.is_some());
    assert!(first.now <= second.now);
}

/// L5, L6.
pub async fn preparing_twice_changes_nothing(store: &Arc<dyn Store>) {
    let bench = Bench::unique(store, "preparing_twice_changes_nothing").await;
    let user = native_user(1, 1).build();
    let mark = record("a", "u", 1);
    bench.given(&[user.clone(), mark.clone()]).await;

    bench.prepare(&bench.layout(true)).await;

    let stored = bench.find(Find::new(Query::All)).await;
    assert_eq!(stored, [mark, user]);
    let clash = bench.insert(&[record("b", "u", 1)]).await;
    assert!(matches!(&clash[..], [Inserted::Rejected(_)]), "{clash:?}");
}

/// L6: a layout that names less takes nothing away.
pub async fn preparing_a_smaller_layout_drops_nothing(store: &Arc<dyn Store>) {
    let bench = Bench::unique(store, "preparing_a_smaller_layout_drops_nothing").await;
    bench.given(&[record("a", "u", 1)]).await;

    bench.prepare(&bench.layout(false)).await;
    bench
        .prepare(&Layout {
            collections: Vec::new(),
        })
        .await;

    assert_eq!(bench.count(&Query::All).await, 1);
    let clash = bench.insert(&[record("b", "u", 1)]).await;
    assert!(matches!(&clash[..], [Inserted::Rejected(_)]), "{clash:?}");
}

/// A collection that exists already gets the indexes it lacks.
pub async fn preparing_adds_what_is_missing(store: &Arc<dyn Store>) {
    let bench = Bench::prepared(store, "preparing_adds_what_is_missing").await;
    bench.given(&[record("a", "u", 1)]).await;

    bench.prepare(&bench.layout(true)).await;

    let clash = bench.insert(&[record("b", "u", 1)]).await;
    assert!(matches!(&clash[..], [Inserted::Rejected(_)]), "{clash:?}");
}

/// L26: a collection's indexes are listed once they are prepared; none of them deletes by age.
pub async fn prepared_indexes_are_listed_and_none_deletes_by_age(store: &Arc<dyn Store>) {
    let of = |collection: &str, listed: Vec<FoundIndex>| -> Vec<FoundIndex> {
        let is_of = |index: &FoundIndex| index.collection == collection;
        listed.into_iter().filter(is_of).collect()
    };
    let name = "prepared_indexes_are_listed_and_none_deletes_by_age";
    let before = store.indexes().await.expect("indexes succeeds");
    assert_eq!(of(name, before), []);

    let bench = Bench::unique(store, name).await;

    let listed = of(name, store.indexes().await.expect("indexes succeeds"));
    let names: BTreeSet<&str> = listed.iter().map(|index| index.name.as_str()).collect();
    assert_eq!(names.len(), listed.len(), "{listed:?}");
    let wanted = &bench.layout(true).collections[0].indexes;
    assert!(listed.len() >= wanted.len(), "{listed:?}");
    assert!(
        listed.iter().all(|index| !index.deletes_by_age),
        "{listed:?}"
    );
}

/// L27.
pub async fn prepared_collections_are_listed_and_none_endangers_documents(store: &Arc<dyn Store>) {
    let name = "prepared_collections_are_listed_and_none_endangers_documents";
    let of = |listed: Vec<FoundCollection>| -> Vec<FoundCollection> {
        listed.into_iter().filter(|it| it.name == name).collect()
    };
    let before = store.collections().await.expect("collections succeeds");
    assert_eq!(of(before), []);

    Bench::prepared(store, name).await;

    let listed = store.collections().await.expect("collections succeeds");
    assert_eq!(of(listed), [FoundCollection::plain(name)]);
}

/// L28.
pub async fn what_stores_wrote_has_no_damage(store: &Arc<dyn Store>) {
    let bench = Bench::unique(store, "what_stores_wrote_has_no_damage").await;
    let users: Vec<_> = (0..20).map(|n| native_user(n, 1).build()).collect();
    bench.given(&users).await;
    bench
        .given(&[record("a", "u", 1), record("b", "u", 2)])
        .await;
    let newer: Vec<_> = (0..10).map(|n| native_user(n, 2).build()).collect();
    bench.put(&newer).await;
    bench
        .amend(&[Bson::from("a")], &doc! {}, &doc! { "status": "failed" })
        .await;

    assert_eq!(store.damage().await.expect("damage succeeds"), []);
}
