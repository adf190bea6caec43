//! The highest version whose tombstone was removed, for each HR collection: the next record under any id starts above it.
//!
//! Versions of a record are never reused, but once its tombstone is gone nothing under its id remembers them. The floor
//! does, one number for a collection: raised in both databases before a tombstone goes, and read by a write that
//! creates a record after the id was found empty.

use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::db::collection;
use tierkeep_core::hr::HrCollection;
use tierkeep_core::store::{Class, Find, Query, Store, StoreError};
use tierkeep_core::version::Version;

use crate::context::Engine;
use crate::databases::control::insert_if_absent;
use crate::databases::retry::repeating;

const HIGHEST: &str = "highest_removed_version";

fn key(collection: &HrCollection) -> String {
    format!("hr_versions/{collection}")
}

/// The floor of a collection; `None` while no tombstone of it was removed.
pub(super) async fn of(
    engine: &Engine,
    collection: &HrCollection,
) -> Result<Option<Version>, StoreError> {
    let main = engine.databases.raseen_hr_db().store();
    if let Some(floor) = read(main.as_ref(), collection).await? {
        return Ok(Some(floor));
    }
    // Main may have been emptied and its stamp put there again; srie being away blocks nothing.
    let srie = engine.databases.srie_hr_db().store();
    let reading = tokio::time::timeout(super::BACKUP_WAITS, read(srie.as_ref(), collection));
    Ok(reading.await.ok().and_then(Result::ok).flatten())
}

/// As [`of`], in main alone, where it is raised before any tombstone goes.
pub(super) async fn in_main(
    engine: &Engine,
    collection: &HrCollection,
) -> Result<Option<Version>, StoreError> {
    read(engine.databases.raseen_hr_db().store().as_ref(), collection).await
}

async fn read(store: &dyn Store, collection: &HrCollection) -> Result<Option<Version>, StoreError> {
    let find = Find::new(Query::Ids(vec![Bson::String(key(collection))]));
    let found = repeating(|| store.find(collection::IDENTITY, &find)).await?;
    let highest = found.first().and_then(|floor| floor.get_i64(HIGHEST).ok());
    Ok(highest.and_then(Version::new))
}

/// Raises the floor of a collection to at least `version`, in main and in srie.
pub(super) async fn raise(
    engine: &Engine,
    collection: &HrCollection,
    version: Version,
) -> Result<(), StoreError> {
    let srie = engine.databases.srie_hr_db().store();
    let main = engine.databases.raseen_hr_db().store();
    for store in [srie, main] {
        raise_in(store.as_ref(), collection, version).await?;
    }
    Ok(())
}

async fn raise_in(
    store: &dyn Store,
    collection: &HrCollection,
    version: Version,
) -> Result<(), StoreError> {
    let (id, set) = (key(collection), doc! { HIGHEST: version.get() });
    let mut first = doc! { "_id": &id };
    first.extend(set.clone());
    let ids = [Bson::String(id)];
    // Each round that finds the floor changed finds it higher.
    loop {
        match read(store, collection).await? {
            Some(floor) if floor >= version => return Ok(()),
            Some(floor) => {
                let when = doc! { HIGHEST: floor.get() };
                repeating(|| store.amend(collection::IDENTITY, &ids, &when, &set)).await?;
            }
            None => {
                let is_made = insert_if_absent(store, collection::IDENTITY, &first).await?;
                if !is_made && read(store, collection).await?.is_none() {
                    // Something is there that is no version.
                    return Err(StoreError {
                        database: store.role(),
                        operation: "floor",
                        class: Class::Corrupt,
                        code: 0,
                    });
                }
            }
        }
    }
}
