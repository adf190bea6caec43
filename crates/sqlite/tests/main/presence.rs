//! Files that are removed, renamed, replaced or emptied while a store has them open: the store is unavailable, never
//! empty.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::document;
use tierkeep_core::store::{Class, Find, Inserted, Query, Store, StoreError, Written};
use tierkeep_testkit::documents::native_user;

use crate::files::{USERS, all, directory, section};
use crate::opened;

/// What is done to a file.
type Harm = fn(&Path);

/// What every kind of call fails with, which must be the same.
async fn failures(store: &Arc<dyn Store>, user: &RawDocumentBuf) -> Vec<StoreError> {
    let other = native_user(99, 1).build();
    let (guard, change) = section("op");
    let id = document::id(user);
    let ids = Find::new(Query::Ids(vec![id.clone()]));
    vec![
        store
            .hello()
            .await
            .map(drop)
            .expect_err("the file is not there"),
        store
            .find(USERS, &ids)
            .await
            .map(drop)
            .expect_err("the file is not there"),
        store
            .count(USERS, &Query::All)
            .await
            .map(drop)
            .expect_err("the file is not there"),
        store
            .insert(USERS, &[other])
            .await
            .map(drop)
            .expect_err("the file is not there"),
        store
            .write(USERS, &id, &guard, &change)
            .await
            .map(drop)
            .expect_err("the file is not there"),
        store
            .indexes()
            .await
            .map(drop)
            .expect_err("the file is not there"),
    ]
}

#[tokio::test]
async fn a_store_whose_file_goes_or_is_another_one_is_away_and_not_empty() {
    let ways: [(&str, Harm); 7] = [
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("renamed", |path| {
            fs::rename(path, path.with_extension("old")).unwrap();
        }),
        ("replaced by an empty file", |path| {
            fs::remove_file(path).unwrap();
            fs::write(path, "").unwrap();
        }),
        ("replaced by another database", |path| {
            let other = path.with_extension("other");
            drop(opened(&other));
            fs::rename(other, path).unwrap();
        }),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("without its log", |path| {
            fs::remove_file(path.with_extension("db-wal")).unwrap();
        }),
        ("in a directory that is renamed", |path| {
            let directory = path.parent().unwrap();
            fs::rename(directory, directory.with_extension("old")).unwrap();
        }),
    ];
    for (way, happen) in ways {
        let directory = directory();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let path = data.join("a.db");
        let store = opened(&path);
        let user = native_user(1, 1).build();
        let inserted = store.insert(USERS, std::slice::from_ref(&user)).await;
        assert_eq!(inserted.unwrap(), [Inserted::Stored]);
        assert_eq!(all(&*store).await, std::slice::from_ref(&user));

        happen(&path);

        for error in failures(&store, &user).await {
            assert_eq!(error.class, Class::NoServer, "{way}: {error}");
        }
    }
}

#[tokio::test]
async fn a_store_whose_file_comes_back_goes_on_with_it() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let aside = directory.path().join("aside.db");
    let store = opened(&path);
    let user = native_user(1, 1).build();
    store
        .insert(USERS, std::slice::from_ref(&user))
        .await
        .unwrap();
    fs::rename(&path, &aside).unwrap();
    failures(&store, &user).await;
    fs::rename(&aside, &path).unwrap();

    let (guard, change) = section("op");
    let written = store
        .write(USERS, &document::id(&user), &guard, &change)
        .await
        .unwrap();
    let Written::Applied(changed) = written else {
        panic!("{written:?}");
    };
    assert_eq!(all(&*store).await, [changed]);
}
