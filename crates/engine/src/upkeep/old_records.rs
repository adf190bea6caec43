//! Removing migration records whose time is over.
//!
//! Must never remove a record of a move that is under way, waits or has failed: only completed ones go, each at
//! exactly the state in which it was looked at.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, DateTime, doc};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::collection;
use tierkeep_core::mover::{Status, record_field};
use tierkeep_core::store::{Change, Cursor, Find, Guard, Query, StoreError};

use crate::context::Engine;
use crate::databases::pages;
use crate::databases::retry::repeating;

/// How many records are looked at in one go.
const PAGE: usize = 500;
/// How long it pauses after it has seen all records.
const REST: Duration = Duration::from_hours(1);

/// Removes completed records that are older than their retention, a page at a time.
#[derive(Debug)]
pub(crate) struct Retirement {
    engine: Arc<Engine>,
    retention: Duration,
    after: Option<Cursor>,
    rests_until: Duration,
}

impl Retirement {
    pub(crate) fn new(engine: Arc<Engine>, retention: Duration) -> Self {
        Self {
            engine,
            retention,
            after: None,
            rests_until: Duration::ZERO,
        }
    }

    /// Looks at one page; answers how many records went. `now` never runs backwards.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer; repeating is safe.
    pub(crate) async fn round(&mut self, now: Duration) -> Result<u64, StoreError> {
        if now < self.rests_until {
            return Ok(0);
        }
        let audit = self.engine.databases.audit_db().store();
        let cutoff = clock::before(self.engine.clock().now(), self.retention);
        let completed = doc! { record_field::STATUS: Status::Completed.as_str() };
        let find = Find::new(Query::Equal(completed))
            .limit(PAGE)
            .after(self.after.clone());
        let (page, next) =
            pages::page(audit.as_ref(), collection::MIGRATION_RECORDS, &find).await?;
        let mut gone = 0;
        for record in &page {
            let (Ok(id), Ok(finished)) = (
                record.get_object_id("_id"),
                record.get_datetime(record_field::FINISHED_AT),
            ) else {
                continue;
            };
            if finished > cutoff {
                continue;
            }
            let as_seen = Guard::Fields(doc! {
                record_field::STATUS: Status::Completed.as_str(),
                record_field::FINISHED_AT: finished,
            });
            let id = Bson::ObjectId(id);
            let remove = || {
                audit.write(
                    collection::MIGRATION_RECORDS,
                    &id,
                    &as_seen,
                    &Change::Remove,
                )
            };
            repeating(remove).await?;
            gone += 1;
        }
        // Records are in the order in which their documents entered temp, and none completes before that.
        let last_is_young = page.last().is_some_and(|last| {
            let entered = last.get_object_id("_id").map(|id| id.timestamp());
            entered.is_ok_and(|entered: DateTime| entered > cutoff)
        });
        let over = page.len() < PAGE || last_is_young;
        self.after = next.filter(|_| !over);
        if over {
            self.rests_until = now.saturating_add(REST);
        }
        Ok(gone)
    }
}
