//! What is left of deletions: removed once srie holds it too and its grace is over, from srie first.
//!
//! A tombstone in main outlives the one in srie, so that a process that delivers an older version late finds it there.

use std::time::Duration;

use bson::doc;
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::document::{self, State};
use tierkeep_core::hr::{self, BackupStatus, HrCollection, marked};
use tierkeep_core::store::{Change, Find, Guard, Query, StoreError, Written};

use crate::context::Engine;
use crate::databases::pages::Pages;
use crate::databases::retry::repeating;
use crate::hr::floor;

/// Removes the tombstones of `collection` that are older than `grace`; answers how many.
pub(super) async fn remove(
    engine: &Engine,
    collection: &HrCollection,
    grace: Duration,
) -> Result<u64, StoreError> {
    let before = clock::before(engine.clock().now(), grace);
    let main = engine.databases.raseen_hr_db().store();
    let srie = engine.databases.srie_hr_db().store();
    let (named, collection) = (collection, collection.as_str());
    let find = Find::new(marked(State::Erased, BackupStatus::Completed));
    let mut removed = 0;
    let mut pages = Pages::new(main.as_ref(), collection, find);
    while let Some(page) = pages.next().await? {
        let ripe =
            |tombstone: &RawDocumentBuf| hr::updated_at(tombstone).is_some_and(|at| at <= before);
        let page: Vec<RawDocumentBuf> = page.into_iter().filter(ripe).collect();
        let highest = page.iter().filter_map(|one| document::version(one)).max();
        if let Some(highest) = highest {
            floor::raise(engine, named, highest).await?;
        }
        for tombstone in page {
            let Some(version) = document::version(&tombstone) else {
                continue;
            };
            let id = document::id(&tombstone);
            let guard = Guard::Tombstone(version);
            repeating(|| srie.write(collection, &id, &guard, &Change::Remove)).await?;
            // A crash here leaves the tombstone in main, which finds nothing in srie the next time.
            let left = Find::new(Query::Ids(vec![id.clone()])).head();
            let left = repeating(|| srie.find(collection, &left)).await?;
            if let Some(left) = left.first() {
                if document::version(left) < Some(version) {
                    // Another process brought an older version back: the tombstone is delivered to srie again.
                    let when = doc! { "metadata.version": version.get() };
                    let set = doc! { "metadata.backup_status": BackupStatus::Pending.as_str() };
                    repeating(|| main.amend(collection, std::slice::from_ref(&id), &when, &set))
                        .await?;
                }
                continue;
            }
            let guard = Guard::Fields(doc! {
                "metadata.version": version.get(),
                "metadata.state": State::Erased.as_str(),
                "metadata.backup_status": BackupStatus::Completed.as_str(),
            });
            let gone = repeating(|| main.write(collection, &id, &guard, &Change::Remove)).await?;
            removed += u64::from(matches!(gone, Written::Applied(_)));
        }
    }
    Ok(removed)
}
