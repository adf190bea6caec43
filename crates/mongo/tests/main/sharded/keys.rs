//! The shard keys of collections.

use bson::{Bson, rawdoc};
use tierkeep_core::store::{ForeignShardKey, Inserted, Store};

use super::{HASHED, cluster, store};
use crate::bench::{USERS, layout};

#[tokio::test]
async fn a_shard_key_other_than_the_id_is_found() {
    let store = store("by_user_").await;
    let database = store.database_name().to_owned();
    let namespace = format!("{database}.{USERS}");
    assert_eq!(store.foreign_shard_keys().await.unwrap(), []);
    let command = rawdoc! { "shardCollection": &*namespace, "key": { "user_id": 1 } };
    let sharded = cluster().ask("admin", &command).await.unwrap();
    assert_eq!(sharded.get_f64("ok").ok(), Some(1.0), "{sharded:?}");

    let found = store.foreign_shard_keys().await.unwrap();

    let key = ForeignShardKey {
        database: database.clone(),
        collection: USERS.to_owned(),
        key: r#"{ "user_id": 1 }"#.to_owned(),
    };
    assert_eq!(found, [key]);
    // Why it matters: the same _id is stored on two shards.
    let split = rawdoc! { "split": &*namespace, "middle": { "user_id": "m" } };
    cluster().ask("admin", &split).await.unwrap();
    let move_chunk = rawdoc! {
        "moveChunk": &*namespace,
        "bounds": [{ "user_id": "m" }, { "user_id": bson::raw::RawBson::MaxKey }],
        "to": "s1",
    };
    cluster().ask("admin", &move_chunk).await.unwrap();
    for user in ["a", "z"] {
        let document = rawdoc! { "_id": "one", "user_id": user };
        let stored = store.insert(USERS, &[document]).await.unwrap();
        assert_eq!(stored, [Inserted::Stored], "{user}");
    }
}

#[tokio::test]
async fn collections_that_are_sharded_by_their_id_have_no_foreign_key() {
    let store = store(HASHED).await;
    store.prepare(&layout(USERS)).await.unwrap();
    assert_eq!(store.foreign_shard_keys().await.unwrap(), []);
    let of_config = rawdoc! { "find": "collections", "filter": { "_id": format!("{}.{USERS}", store.database_name()) } };
    let of_config = cluster().ask("config", &of_config).await.unwrap();
    let of_config = bson::Document::try_from(&*of_config).unwrap();
    let batch = of_config
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch");
    let key = batch.unwrap().first().and_then(Bson::as_document).unwrap();
    assert_eq!(
        key.get_document("key").unwrap().get_str("_id").unwrap(),
        "hashed"
    );
}
