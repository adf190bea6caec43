//! HR records and user documents are kept apart by a second check, independent of earlier decisions.

use bson::doc;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::erasure::tombstone;
use tierkeep_core::store::{Change, Class, Guard};
use tierkeep_core::version::Version;
use tierkeep_testkit::documents::{native_user, seed_user};

use super::{MAIN, SRIE, all, candidates, put, remove};
use crate::world::{Backend, World, user};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_a_user_is_refused_by_the_hr_databases_and_the_reverse(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let record = put(&world, "c1", 1).await.record;
    put(&world, "c2", 2).await;
    let gone = remove(&world, "c2").await.record;
    let of_users = [
        native_user(1, 1).build(),
        seed_user(2, world.now().await),
        tombstone(&user(3), Version::of_erasure(1).unwrap(), world.now().await),
    ];
    let hr = candidates();
    let of_hr = [record, gone];
    let mut ways = Vec::new();
    for role in [MAIN, SRIE] {
        ways.extend(of_users.iter().map(|one| (role, hr.as_str(), one)));
    }
    for role in Role::ALL {
        if let Some(users) = role.users() {
            ways.extend(of_hr.iter().map(|one| (role, users, one)));
        }
    }
    let before = (all(&world, MAIN).await, all(&world, SRIE).await);
    let any = Guard::Fields(doc! {});
    for (role, collection, document) in ways {
        let store = world.engine.databases().store(role).unwrap();
        let one = std::slice::from_ref(document);
        let change = Change::Replace(document.clone());
        let id = tierkeep_core::document::id(document);
        let refused = [
            store.insert(collection, one).await.map(|_| ()),
            store.put_newer(collection, one).await.map(|_| ()),
            store
                .write(collection, &id, &any, &change)
                .await
                .map(|_| ()),
        ];
        for refused in refused {
            let error = refused.unwrap_err();
            assert_eq!(
                (error.database, error.class),
                (role, Class::Unauthorized),
                "{document:?}"
            );
        }
    }
    assert_eq!(before, (all(&world, MAIN).await, all(&world, SRIE).await));
    for role in Role::ALL.into_iter().filter(|role| role.users().is_some()) {
        assert!(world.all(role).await.is_empty(), "{role}");
    }
}
