//! The second check: independent of earlier decisions, a document of one type of user is refused by the
//! handle of a database for the other type.

use bson::doc;
use bson::raw::RawDocumentBuf;
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Change, Class, Guard};
use tierkeep_core::user::UserId;
use tierkeep_testkit::documents::NativeUser;

use crate::world::{Backend, World};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_document_passes_a_handle_of_the_other_type(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let internal = UserId::internal("507f1f77bcf86cd799439011").unwrap();
    let external = UserId::external("srie06").unwrap();
    let roles = Role::ALL
        .into_iter()
        .filter_map(|role| Some((role, role.users()?)));
    for (role, users) in roles {
        let (own, other) = if role == Role::ExternalUsers {
            (&external, &internal)
        } else {
            (&internal, &external)
        };
        let store = world.engine.databases().store(role).unwrap();
        let document = NativeUser::new(other, 1).build();
        let disguised = doc! { "_id": own.as_str(), "user_id": other.as_str() };
        let disguised = RawDocumentBuf::try_from(&disguised).unwrap();
        let id = bson::Bson::String(other.to_string());
        let any = Guard::Fields(doc! {});
        for hostile in [&document, &disguised] {
            let one = std::slice::from_ref(hostile);
            let change = Change::Replace(hostile.clone());
            let refused = [
                store.insert(users, one).await.map(|_| ()),
                store.put_newer(users, one).await.map(|_| ()),
                store.write(users, &id, &any, &change).await.map(|_| ()),
            ];
            for refused in refused {
                let error = refused.unwrap_err();
                assert_eq!((error.database, error.class), (role, Class::Unauthorized));
            }
        }
        assert!(world.all(role).await.is_empty(), "{role}");
        let fitting = NativeUser::new(own, 1).build();
        store.insert(users, &[fitting]).await.unwrap();
        assert_eq!(world.all(role).await.len(), 1, "{role}");
    }
}
