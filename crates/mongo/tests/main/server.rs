//! The answers of the server about itself and its collections.

use bson::{Bson, DateTime, doc, rawdoc};
use secrecy::SecretString;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::legacy::source::Source as _;
use tierkeep_core::store::{
    Entries, Fault, FoundCollection, FoundIndex, Hello, Inserted, Layout, Query, Store,
};
use tierkeep_mongo::{Deviation, LegacyDatabase, MongoStore, Servers};
use tierkeep_testkit::documents::native_user;

use crate::bench::{Bench, USERS, fresh_name, layout, url, url_with};

async fn hello(url: String) -> Hello {
    let store = MongoStore::connect(&SecretString::from(url), Role::RaseenMainUser)
        .await
        .unwrap();
    store.hello().await.unwrap()
}

#[tokio::test]
async fn two_host_names_of_one_server_are_one_server() {
    let name = fresh_name();
    let direct = if url().contains("directConnection=true") {
        ""
    } else {
        "directConnection=true"
    };
    let url = url_with(&name, direct);
    let by_number = hello(url.replace("localhost", "127.0.0.1")).await;
    let by_name = hello(url.replace("127.0.0.1", "localhost")).await;
    assert!(by_number.server.is_same(&by_name.server));
    assert!(by_number.is_same_database(&by_name));
    assert!(!by_number.server.process.is_empty());
    let (_, members) = by_number.server.replica_set.clone().unwrap();
    assert!(members.contains(&by_number.server.member), "{by_number:?}");

    let other = hello(url_with(&fresh_name(), "")).await;
    assert!(!by_number.is_same_database(&other));
}

#[tokio::test]
async fn the_servers_clock_is_told() {
    let bench = Bench::new().await;
    let before = bench.store.hello().await.unwrap().now;
    let after = bench.store.hello().await.unwrap().now;
    assert!(before <= after);
    assert!(
        before > DateTime::from_millis(1_577_836_800_000),
        "after 2020"
    );
}

#[tokio::test]
async fn roles_on_one_connection_string_share_a_client_and_keep_their_databases() {
    let servers = Servers::new();
    let url = SecretString::from(url_with("", ""));
    let temp = servers.connect(&url, Role::RaseenTempUser).await.unwrap();
    let main = servers.connect(&url, Role::RaseenMainUser).await.unwrap();
    assert_eq!(temp.database_name(), "raseen_temp_user");
    assert_eq!(main.database_name(), "raseen_main_user");
    let (temp, main) = (temp.hello().await.unwrap(), main.hello().await.unwrap());
    assert!(temp.server.is_same(&main.server));
    assert!(!temp.is_same_database(&main));
}

#[tokio::test]
async fn documents_of_the_predecessor_are_counted_and_estimated() {
    let bench = Bench::new().await;
    let users: Vec<_> = (0..7).map(|n| native_user(n, 1).build()).collect();
    bench.store.insert(USERS, &users).await.unwrap();
    let source = LegacyDatabase::with_client(&bench.client, &bench.name);
    for (collection, documents) in [(USERS, 7), ("nobody", 0)] {
        assert_eq!(source.count(collection).await.unwrap(), documents);
        assert_eq!(source.estimate(collection).await.unwrap(), documents);
    }
}

#[tokio::test]
async fn every_index_that_deletes_by_age_is_listed() {
    let bench = Bench::prepared().await;
    let listed = bench.store.indexes().await.unwrap();
    assert!(listed.iter().all(|index| !index.deletes_by_age));
    let index = doc! { "key": { "created_at": 1 }, "name": "gone_by_age", "expireAfterSeconds": 0 };
    bench
        .run(doc! { "createIndexes": "somewhere", "indexes": [index] })
        .await;
    let mut listed = bench.store.indexes().await.unwrap();
    listed.retain(|index| index.deletes_by_age);
    assert_eq!(
        listed,
        [FoundIndex {
            collection: "somewhere".into(),
            name: "gone_by_age".into(),
            deletes_by_age: true,
        }]
    );
}

#[tokio::test]
async fn options_by_which_a_server_deletes_or_confuses_documents_are_listed() {
    let bench = Bench::prepared().await;
    let listed = bench.store.collections().await.unwrap();
    assert_eq!(listed, [FoundCollection::plain(USERS)]);

    bench
        .run(doc! { "create": "a", "capped": true, "size": 4096 })
        .await;
    // Clustered collections came with MongoDB 5.3.
    let build = bench.run(doc! { "buildInfo": 1 }).await;
    let version = build.get_array("versionArray").unwrap().iter();
    let version: Vec<i32> = version.filter_map(Bson::as_i32).collect();
    let has_clustered = version.as_slice() >= &[5, 3][..];
    if has_clustered {
        let by_id = doc! { "key": { "_id": 1 }, "unique": true };
        let clustered = doc! { "create": "b", "clusteredIndex": by_id };
        bench.run(clustered.clone()).await;
        let mut expiring = clustered;
        expiring.insert("create", "c");
        expiring.insert("expireAfterSeconds", 3600);
        bench.run(expiring).await;
    }
    let collation = doc! { "locale": "en", "strength": 2 };
    bench
        .run(doc! { "create": "d", "collation": collation })
        .await;
    bench
        .run(doc! { "create": "v", "viewOn": USERS, "pipeline": [] })
        .await;

    let listed = bench.store.collections().await.unwrap();
    let mut expected = vec![
        FoundCollection {
            capped: true,
            ..FoundCollection::plain("a")
        },
        FoundCollection::plain("b"),
        FoundCollection {
            expires: true,
            ..FoundCollection::plain("c")
        },
        FoundCollection {
            collation: Some("en".into()),
            ..FoundCollection::plain("d")
        },
        FoundCollection::plain(USERS),
    ];
    expected.retain(|it| has_clustered || !["b", "c"].contains(&it.name.as_str()));
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn an_index_that_refuses_documents_by_their_content_is_a_deviation() {
    let bench = Bench::prepared().await;
    assert_eq!(bench.store.deviations(&layout(USERS)).await.unwrap(), []);
    let index = doc! { "key": { "scan_cache.name": "text" }, "name": "names" };
    bench
        .run(doc! { "createIndexes": USERS, "indexes": [index] })
        .await;
    let deviations = bench.store.deviations(&layout(USERS)).await.unwrap();
    assert_eq!(
        deviations,
        [Deviation::Choosy {
            collection: USERS.into(),
            index: "names".into(),
            kind: "text",
        }]
    );
}

#[tokio::test]
async fn an_index_of_another_program_that_has_the_name_stays_and_the_wanted_one_stands_beside_it() {
    let bench = Bench::new().await;
    // It lacks the documents that lack the field, and it does not refuse a second.
    let sparse = |field: &str| {
        let name = format!("{field}_1");
        let index = doc! { "key": { field: 1 }, "name": name, "sparse": true };
        doc! { "createIndexes": USERS, "indexes": [index] }
    };
    bench.run(sparse("user_id")).await;
    let mut unique = layout(USERS);
    unique.collections[0].indexes[0].entries = Entries::Unique;
    for _ in 0..2 {
        bench.store.prepare(&unique).await.unwrap();
        let reply = bench.run(doc! { "listIndexes": USERS }).await;
        let found = reply.get_document("cursor").unwrap();
        let mut found: Vec<(&str, bool, bool)> = found
            .get_array("firstBatch")
            .unwrap()
            .iter()
            .map(|index| {
                let index = index.as_document().unwrap();
                let is = |option| index.get_bool(option).unwrap_or_default();
                (index.get_str("name").unwrap(), is("unique"), is("sparse"))
            })
            .collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("_id_", false, false),
                ("metadata.staged_at_1__id_1", false, false),
                ("tierkeep_user_id_1", true, false),
                ("user_id_1", false, true),
            ]
        );
    }
    let twice = [
        native_user(1, 1).set("_id", "a").build(),
        native_user(1, 1).set("_id", "b").build(),
    ];
    let inserted = bench.store.insert(USERS, &twice).await.unwrap();
    assert_eq!(inserted[0], Inserted::Stored);
    assert_ne!(inserted[1], Inserted::Stored);
}

#[tokio::test]
async fn a_unique_index_over_documents_that_already_clash_is_an_error_that_drops_nothing() {
    let bench = Bench::new().await;
    let twice = [
        native_user(1, 1).set("_id", "a").build(),
        native_user(1, 1).set("_id", "b").build(),
    ];
    let inserted = bench.store.insert(USERS, &twice).await.unwrap();
    assert_eq!(inserted, vec![Inserted::Stored; 2]);
    let mut unique = layout(USERS);
    unique.collections[0].indexes[0].entries = Entries::Unique;
    let error = bench.store.prepare(&unique).await.unwrap_err();
    assert_eq!(error.code, 11000);
    assert_eq!(bench.store.count(USERS, &Query::All).await.unwrap(), 2);
}

#[tokio::test]
async fn preparing_at_once_from_several_places_succeeds_everywhere() {
    let bench = Bench::new().await;
    let stores = [(); 4].map(|()| bench.store.clone());
    let tasks =
        stores.map(|store| tokio::spawn(async move { store.prepare(&layout(USERS)).await }));
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let reply = bench.run(doc! { "listIndexes": USERS }).await;
    let indexes = reply
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    assert_eq!(indexes.len(), 3, "{indexes:?}");
}

fn keeping_out(prefix: &'static str) -> Layout {
    let mut layout = layout(USERS);
    for collection in &mut layout.collections {
        collection.keeps_out = Some(prefix);
    }
    layout
}

#[tokio::test]
async fn a_user_id_that_a_collection_keeps_out_is_refused_by_the_server() {
    let bench = Bench::prepared().await;
    let misrouted = native_user(1, 1).build();
    let there = bench
        .store
        .insert(USERS, std::slice::from_ref(&misrouted))
        .await;
    assert_eq!(there.unwrap(), [Inserted::Stored]);

    bench
        .store
        .prepare(&keeping_out("internal_"))
        .await
        .unwrap();

    let users = [
        native_user(2, 1).build(),
        rawdoc! { "_id": 7, "user_id": "external_a" },
    ];
    let outcomes = bench.store.insert(USERS, &users).await.unwrap();
    assert!(
        matches!(
            &outcomes[..],
            [
                Inserted::Rejected(Fault { code: 121, .. }),
                Inserted::Stored
            ]
        ),
        "{outcomes:?}"
    );
    // Documents from before can still be changed and corrected.
    let set = doc! { "metadata.backup_status": "failed" };
    let ids = [document::id(&misrouted)];
    let amended = bench.store.amend(USERS, &ids, &doc! {}, &set).await;
    assert_eq!(amended.unwrap(), 1);
}

#[tokio::test]
async fn a_validator_of_another_program_is_left_alone() {
    let bench = Bench::prepared().await;
    let theirs = doc! { "collMod": USERS, "validator": { "size": { "$gt": 0 } } };
    bench.run(theirs).await;

    bench
        .store
        .prepare(&keeping_out("internal_"))
        .await
        .unwrap();

    let document = rawdoc! { "_id": 1, "user_id": "internal_a", "size": 1 };
    let outcomes = bench.store.insert(USERS, &[document]).await.unwrap();
    assert_eq!(outcomes, [Inserted::Stored]);
}
