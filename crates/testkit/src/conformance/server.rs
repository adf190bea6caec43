//! Laws of [`Store::hello`], [`Store::prepare`] and [`Store::ttl_indexes`]: L5, L6.

use std::sync::Arc;

use tierkeep_core::db::Role;
use tierkeep_core::store::{Find, Inserted, Layout, Query, Store};

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

/// Nothing that a layout asks for deletes by age.
pub async fn no_prepared_index_deletes_by_age(store: &Arc<dyn Store>) {
    let bench = Bench::unique(store, "no_prepared_index_deletes_by_age").await;
    let listed = store.ttl_indexes().await.expect("ttl_indexes succeeds");
    assert!(
        listed
            .iter()
            .all(|index| index.collection != bench.collection)
    );
}
