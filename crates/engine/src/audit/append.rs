//! Appending: entries that wait at the same time are written together, and writers of several processes take
//! turns by the place that each entry has.
//!
//! The place is the `_id`, so of two writers that saw the same head one is refused, looks for the new head and
//! chains again. A run of entries is written in order, so an entry of another writer between two of them ends the run.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::Bson;
use bson::raw::RawDocumentBuf;
use tierkeep_core::audit::{Draft, Entry, Head, Mac, audit_field};
use tierkeep_core::bson;
use tierkeep_core::db::collection;
use tierkeep_core::document;
use tierkeep_core::store::{Class, Cursor, Find, Inserted, Query, StoreError};
use tokio::sync::oneshot;

use crate::audit::spool::SpoolShare;
use crate::audit::{AuditTrail, corrupt, failed};
use crate::databases::retry::repeating;

/// The most entries that are written together.
pub(super) const RUN: usize = 500;
/// How many entries behind the known head are read at once.
const PAGE: usize = 200;
/// How often a writer that is refused its place finds the same head as before.
const PATIENCE: u32 = 200;
/// The wait before it looks again.
const PAUSE: Duration = Duration::from_millis(10);
/// The code of a clash on another unique field than `_id`: the entry is in the trail.
const DUPLICATE: i32 = 11000;

type Outcome = Result<(), StoreError>;

/// What waits to be written to one place.
#[derive(Default)]
pub(super) struct Lane(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Draft, oneshot::Sender<Outcome>)>,
    /// A writer is running and will take what waits.
    busy: bool,
}

/// The places to which drafts go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Database,
    Spool(SpoolShare),
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the turn of a writer that stopped early: its waiters are woken, and the next one writes.
struct Writing<'a> {
    lane: &'a Lane,
    ended: bool,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // Once it has ended, what waits is another writer's.
        if !self.ended {
            let mut queue = self.lane.lock();
            queue.busy = false;
            queue.waiting.clear();
        }
    }
}

impl AuditTrail {
    /// Has the draft written with whatever else waits to go this way. The writing goes on when the future is dropped.
    pub(super) async fn through(&self, way: Way, draft: Draft) -> Outcome {
        let (done, written) = oneshot::channel();
        let idle = {
            let mut queue = self.lane(way).lock();
            queue.waiting.push_back((draft, done));
            !std::mem::replace(&mut queue.busy, true)
        };
        if idle {
            let trail = self.clone();
            tokio::spawn(async move { trail.write_waiting(way).await });
        }
        written
            .await
            .unwrap_or_else(|_| Err(failed(Class::Other, 0)))
    }

    /// Public entries have a lane of their own: what is refused for want of room takes no other along.
    fn lane(&self, way: Way) -> &Lane {
        match way {
            Way::Database => &self.0.database_lane,
            Way::Spool(SpoolShare::Public) => &self.0.public_spool_lane,
            Way::Spool(SpoolShare::Reserved) => &self.0.spool_lane,
        }
    }

    async fn write_waiting(self, way: Way) {
        let lane = self.lane(way);
        let mut writing = Writing { lane, ended: false };
        loop {
            let (drafts, waiting): (Vec<Draft>, Vec<_>) = {
                let mut queue = lane.lock();
                let run = queue.waiting.len().min(RUN);
                if run == 0 {
                    queue.busy = false;
                    writing.ended = true;
                    return;
                }
                queue.waiting.drain(..run).unzip()
            };
            let outcome = match way {
                Way::Database => self.append(&drafts).await,
                Way::Spool(share) => self.spool(drafts, share).await,
            };
            for done in waiting {
                // Who asked may have gone.
                let _ = done.send(outcome.clone());
            }
        }
    }

    /// Appends the entries in their order; those that are in the trail already are passed over.
    pub(super) async fn append(&self, drafts: &[Draft]) -> Outcome {
        let key = self.key_or_new().await?;
        let store = self.0.audit.store();
        let mut known = self.0.head.lock().await;
        let mut refused = 0;
        let mut left = drafts;
        while !left.is_empty() {
            // After an error the end of the trail is unknown.
            let head = match known.take() {
                Some(head) => head,
                None => self.head_after(Head::EMPTY).await?,
            };
            let mut last = head;
            let mut entries = Vec::with_capacity(left.len());
            let mut documents = Vec::with_capacity(left.len());
            for draft in left {
                let entry = last.then(draft.clone(), key);
                last = Head::from(&entry);
                documents.push(entry.to_document().ok_or_else(corrupt)?);
                entries.push(entry);
            }
            let outcomes = repeating(|| store.append(collection::AUDIT_TRAIL, &documents)).await?;
            let stored = outcomes
                .iter()
                .take_while(|outcome| **outcome == Inserted::Stored)
                .count();
            let written = stored.checked_sub(1).and_then(|last| entries.get(last));
            let reached = written.map_or(head, Head::from);
            left = left.get(stored..).unwrap_or_default();
            *known = Some(reached);
            match outcomes.into_iter().nth(stored) {
                None | Some(Inserted::Stored) => refused = 0,
                Some(Inserted::Exists) => {
                    let next = self.head_after(reached).await;
                    *known = next.as_ref().ok().copied();
                    refused = if next? == head { refused + 1 } else { 0 };
                    if refused > PATIENCE {
                        return Err(failed(Class::Busy, 0));
                    }
                    if refused > 0 {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                Some(Inserted::Rejected(fault)) if fault.code == DUPLICATE => {
                    left = left.get(1..).unwrap_or_default();
                }
                Some(Inserted::Rejected(fault)) => return Err(failed(Class::Other, fault.code)),
                Some(Inserted::Unsettled(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Where the trail ends.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn head(&self) -> Result<Head, StoreError> {
        let mut known = self.0.head.lock().await;
        let head = self.head_after(known.unwrap_or(Head::EMPTY)).await?;
        *known = Some(head);
        Ok(head)
    }

    /// Where the trail ends, behind a place where it ended once: in strides that double, then by halves.
    async fn head_after(&self, from: Head) -> Result<Head, StoreError> {
        let (mut low, more) = self.page_after(from, from.count, PAGE).await?;
        if !more {
            return Ok(low);
        }
        let mut stride = 1_000;
        let mut nothing_after = loop {
            let far = low.count.saturating_add(stride);
            let (found, _) = self.page_after(low, far, 1).await?;
            if found == low {
                break far;
            }
            low = found;
            stride = stride.saturating_mul(2);
        };
        while low.count < nothing_after {
            let middle = low.count.midpoint(nothing_after);
            let (found, _) = self.page_after(low, middle, 1).await?;
            if found == low {
                nothing_after = middle;
            } else {
                low = found;
            }
        }
        Ok(low)
    }

    /// The last entry of the page that begins after `place`, or `low` where there is none; whether the page is
    /// full.
    async fn page_after(
        &self,
        low: Head,
        place: i64,
        limit: usize,
    ) -> Result<(Head, bool), StoreError> {
        let store = self.0.audit.store();
        let cursor = Cursor {
            staged_at: Bson::Null,
            id: Bson::Int64(place),
        };
        let find = Find::new(Query::All).limit(limit).after(Some(cursor));
        let page = repeating(|| store.find(collection::AUDIT_TRAIL, &find)).await?;
        // A document with another kind of `_id` was put there by another program; the verification names it.
        let last = page.iter().filter_map(place_of).next_back();
        Ok((last.unwrap_or(low), page.len() >= limit))
    }
}

fn place_of(document: &RawDocumentBuf) -> Option<Head> {
    let count = document::id(document).as_i64()?;
    let hash = document
        .get_str(audit_field::HASH)
        .ok()
        .and_then(Mac::parse);
    Some(Head {
        count,
        // The chain continues after an entry that was altered; the verification names it.
        hash: Entry::read(document).map_or(hash.unwrap_or(Mac::NONE), |entry| entry.hash),
    })
}
