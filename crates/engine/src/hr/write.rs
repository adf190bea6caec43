//! Writing records: main first, at the next version and marked pending, then srie.
//!
//! Each round reads what main holds and replaces exactly that; a race that is lost is another round. The operation's
//! own id, kept in the record's ring, makes a repeat after a lost answer harmless.

use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::bson;
use tierkeep_core::content;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, State};
use tierkeep_core::hr::{self, Content, HrCollection, HrId, Writing};
use tierkeep_core::store::{Change, Guard, Inserted, StoreError, Verdict, Written};
use tierkeep_core::version::{Version, Window};
use tracing::error;

use crate::Condition;
use crate::hr::deliver::{DeliveryOutcome, deliver};
use crate::hr::floor;
use crate::hr::read::is_sound;
use crate::hr::{BACKUP_WAITS, HrError, HrReceipt, HrRecords, one};

/// How often a write that lost a race looks again.
const ROUNDS: u32 = 24;
/// How many lost answers a write bears.
const LOST_ANSWERS: usize = 3;

/// What a write does to the record.
#[derive(Debug)]
enum What<'a> {
    Put(Content),
    Patch(&'a RawDocument),
    Remove,
}

/// One write of one record.
#[derive(Debug)]
struct Write<'a> {
    collection: &'a HrCollection,
    id: &'a HrId,
    what: What<'a>,
    condition: Condition,
    /// The operation's id: however often it is sent, it is applied once.
    op: String,
    /// What was sent and its answer lost: one of these may have been applied.
    lost: Vec<HrReceipt>,
}

enum Round {
    Done(HrReceipt),
    /// A race or an answer was lost: look again.
    Again,
}

impl HrRecords {
    /// Puts a record, whether there was one or not.
    ///
    /// Acknowledged means durable in main; the receipt says whether srie holds it too. Dropping the future leaves
    /// the effect unknown; repeating the call is safe but counts as another change.
    ///
    /// # Errors
    /// [`HrError`]; nothing changed, except that the effect is unknown after [`HrError::Unavailable`],
    /// [`HrError::OutcomeUnknown`] and [`HrError::Contended`].
    pub async fn put(
        &self,
        collection: &HrCollection,
        id: &HrId,
        content: Content,
        condition: Condition,
    ) -> Result<HrReceipt, HrError> {
        self.write(collection, id, What::Put(content), condition)
            .await
    }

    /// Applies a JSON Merge Patch (RFC 7396) to a record; a missing record counts as empty.
    ///
    /// # Errors
    /// As [`HrRecords::put`].
    pub async fn patch(
        &self,
        collection: &HrCollection,
        id: &HrId,
        patch: &RawDocument,
        condition: Condition,
    ) -> Result<HrReceipt, HrError> {
        self.write(collection, id, What::Patch(patch), condition)
            .await
    }

    /// Removes a record: a tombstone takes its place, and its way into the backup is that of a record.
    ///
    /// # Errors
    /// [`HrError::NotFound`] where there is none, else as [`HrRecords::put`].
    pub async fn remove(
        &self,
        collection: &HrCollection,
        id: &HrId,
        condition: Condition,
    ) -> Result<HrReceipt, HrError> {
        self.write(collection, id, What::Remove, condition).await
    }

    async fn write(
        &self,
        collection: &HrCollection,
        id: &HrId,
        what: What<'_>,
        condition: Condition,
    ) -> Result<HrReceipt, HrError> {
        let _at_work = self.engine.requests().begin();
        let mut write = Write {
            collection,
            id,
            what,
            condition,
            op: self.engine.randomness().id(),
            lost: Vec::new(),
        };
        for round in 0..ROUNDS {
            match self.round(&mut write).await {
                // A crash here leaves the mark: a reconciler delivers the record.
                Ok(Round::Done(receipt)) => return Ok(self.backed_up(collection, receipt).await),
                Ok(Round::Again) => self.pause(round).await,
                Err(error) => return Err(logged(error)),
            }
        }
        Err(logged(HrError::Contended))
    }

    async fn round(&self, write: &mut Write<'_>) -> Result<Round, HrError> {
        let main = self.engine.databases.raseen_hr_db();
        let found = match one(main, write.collection, write.id, false).await? {
            Some(found) => Some(found),
            // That there is nothing must not rest on a primary that has been deposed.
            None => one(main, write.collection, write.id, true).await?,
        };
        match found {
            Some(before) => self.over(write, &before).await,
            None => self.create(write).await,
        }
    }

    /// Replaces what main holds, a record or a tombstone.
    async fn over(&self, write: &mut Write<'_>, before: &RawDocument) -> Result<Round, HrError> {
        if let Some(receipt) = write.applied_to(before) {
            return Ok(Round::Done(receipt));
        }
        write.known_not_applied(before)?;
        let state = match document::state(before) {
            _ if document::is_of_user(before) => {
                return Err(HrError::Unclear("it is a user document"));
            }
            Some(state @ (State::Live | State::Erased)) => state,
            Some(State::Entering) | None => return Err(HrError::Unclear("its state is unknown")),
        };
        if matches!(write.what, What::Patch(_)) && !is_sound(before) {
            // What a merge keeps of the record must not be kept of a damaged one.
            return Err(HrError::Corrupt(Role::RaseenMainHr));
        }
        let version = document::version(before);
        write.check(state == State::Live, version)?;
        let (guard, above) = match version {
            Some(version) if state == State::Live => {
                let guard = Guard::Live {
                    window: Window::exactly(version),
                    unless_op: write.op.clone(),
                };
                (guard, Some(version))
            }
            Some(version) => (Guard::Tombstone(version), Some(version)),
            None if document::has_version(before) => {
                return Err(HrError::Unclear("its version is not an int64"));
            }
            // Another program wrote it: it is adopted by being changed.
            None => {
                let srie = self.in_backup(write.collection, write.id).await;
                let above = srie.as_deref().and_then(document::version);
                (Guard::Whole(before.to_owned()), above)
            }
        };
        let live = (state == State::Live).then_some(before);
        let record = self.composed(write, live, Some(before), above)?;
        let receipt = HrReceipt {
            record: record.clone(),
            created: state == State::Erased,
        };
        let store = self.engine.databases.raseen_hr_db().store();
        let (id, change) = (write.id.to_bson(), Change::Replace(record));
        match store
            .write(write.collection.as_str(), &id, &guard, &change)
            .await
        {
            Ok(Written::Applied(_)) => Ok(Round::Done(receipt)),
            Ok(Written::Unmatched) => Ok(Round::Again),
            Ok(Written::TooLarge) => Err(HrError::TooLarge),
            Ok(Written::Rejected(fault)) => Err(HrError::Rejected(fault)),
            Err(error) => write.lose(receipt, error),
        }
    }

    /// Creates a record where main has nothing. srie may know of an earlier life; being away it blocks nothing, and
    /// delivery raises the version above what it finds there.
    async fn create(&self, write: &mut Write<'_>) -> Result<Round, HrError> {
        let srie = self.in_backup(write.collection, write.id).await;
        let live = srie
            .as_deref()
            .filter(|copy| document::state(copy) == Some(State::Live));
        let floor = floor::of(&self.engine, write.collection).await?;
        let above = srie.as_deref().and_then(document::version).max(floor);
        write.check(live.is_some(), live.and_then(document::version))?;
        if matches!(write.what, What::Patch(_)) && live.is_some_and(|copy| !is_sound(copy)) {
            return Err(HrError::Corrupt(Role::SrieMainHr));
        }
        let record = self.composed(write, live, srie.as_deref(), above)?;
        let receipt = HrReceipt {
            record: record.clone(),
            created: live.is_none(),
        };
        let store = self.engine.databases.raseen_hr_db().store();
        let one = std::slice::from_ref(&record);
        match store.insert(write.collection.as_str(), one).await {
            Ok(outcomes) => match outcomes.into_iter().next() {
                Some(Inserted::Stored) => self.above_floor(write, receipt).await,
                Some(Inserted::Exists) | None => Ok(Round::Again),
                Some(Inserted::Rejected(fault)) => Err(HrError::Rejected(fault)),
                Some(Inserted::Unsettled(error)) => Err(error.into()),
            },
            Err(error) => write.lose(receipt, error),
        }
    }

    /// A tombstone of the id may have come and gone since the floor was read: the new record is raised above it.
    async fn above_floor(
        &self,
        write: &mut Write<'_>,
        receipt: HrReceipt,
    ) -> Result<Round, HrError> {
        let floor = floor::in_main(&self.engine, write.collection).await?;
        let Some(version) = document::version(&receipt.record).filter(|it| Some(*it) <= floor)
        else {
            return Ok(Round::Done(receipt));
        };
        let above =
            Version::above([floor]).ok_or(HrError::Unclear("its version numbers are exhausted"))?;
        let record = hr::raised(&receipt.record, above);
        let guard = Guard::Tombstone(version);
        let guard = match document::state(&record) {
            Some(State::Erased) => guard,
            _ => Guard::Live {
                window: Window::exactly(version),
                unless_op: String::new(),
            },
        };
        let store = self.engine.databases.raseen_hr_db().store();
        let (id, change) = (write.id.to_bson(), Change::Replace(record.clone()));
        match store
            .write(write.collection.as_str(), &id, &guard, &change)
            .await?
        {
            Written::Applied(_) => Ok(Round::Done(HrReceipt { record, ..receipt })),
            Written::Unmatched => {
                // It was applied: the next look finds it in the ring.
                write.lost.push(receipt);
                Ok(Round::Again)
            }
            Written::TooLarge => Err(HrError::TooLarge),
            Written::Rejected(fault) => Err(HrError::Rejected(fault)),
        }
    }

    /// What the write makes of `live`, one above `above`; the ring of operations continues from `before`.
    fn composed(
        &self,
        write: &Write<'_>,
        live: Option<&RawDocument>,
        before: Option<&RawDocument>,
        above: Option<Version>,
    ) -> Result<RawDocumentBuf, HrError> {
        let version =
            Version::above([above]).ok_or(HrError::Unclear("its version numbers are exhausted"))?;
        let writing = Writing {
            id: write.id,
            before,
            version,
            op: &write.op,
            at: self.engine.clock().now(),
        };
        let record = match &write.what {
            What::Put(content) => writing.record(content),
            What::Remove if live.is_none() => return Err(HrError::NotFound),
            What::Remove => return Ok(writing.tombstone()),
            What::Patch(patch) => {
                let unreadable = || HrError::Unclear("it is not valid BSON; PUT replaces it");
                let merged = match live {
                    Some(live) => content::merge(Content::of(live).as_raw(), patch),
                    None => content::merge(&RawDocumentBuf::new(), patch),
                };
                let raw = merged.map_err(|_| unreadable())?;
                let merged =
                    Content::new(raw).map_err(|_| HrError::Unclear("a key is reserved"))?;
                writing.record(&merged)
            }
        };
        record.map_err(|_| HrError::TooLarge)
    }

    /// Brings the record into srie in the same request, as far as srie is quick enough.
    async fn backed_up(&self, collection: &HrCollection, receipt: HrReceipt) -> HrReceipt {
        let one = std::slice::from_ref(&receipt.record);
        let delivering = deliver(&self.engine, collection, one);
        match tokio::time::timeout(BACKUP_WAITS, delivering).await {
            Ok(Ok(outcomes)) if outcomes == [DeliveryOutcome::Completed] => HrReceipt {
                record: hr::as_backup(&receipt.record),
                ..receipt
            },
            Ok(Ok(_)) | Err(_) => receipt,
            Ok(Err(error)) => {
                error!(
                    user_type = "internal",
                    database = %error.database,
                    error = error.class.as_str(),
                    code = error.code,
                    "error in storing to {}; the record will be delivered later",
                    error.database,
                );
                receipt
            }
        }
    }

    /// Waits a little longer in each round, 10 ms to half a second, with jitter; not before the first repeat.
    async fn pause(&self, round: u32) {
        let whole = Duration::from_millis(10 << round.min(6)).min(Duration::from_millis(500));
        let fraction = self.engine.randomness().fraction();
        tokio::time::sleep(whole.mul_f64(0.5 + fraction / 2.0)).await;
    }
}

impl Write<'_> {
    /// What the operation did to the record that is stored as `now`; `None` when it is not remembered.
    fn applied_to(&self, now: &RawDocument) -> Option<HrReceipt> {
        let version = document::version_of_op(now, &self.op)?;
        self.lost
            .iter()
            .find(|sent| document::version(&sent.record) == Some(version))
            .cloned()
    }

    /// Refuses to continue where the operation may have been applied and `before` no longer remembers.
    fn known_not_applied(&self, before: &RawDocument) -> Result<(), HrError> {
        let sent = self.lost.iter();
        match sent
            .filter_map(|sent| document::version(&sent.record))
            .min()
        {
            Some(made) if !document::ops_reach(before, made) => Err(HrError::OutcomeUnknown),
            Some(_) | None => Ok(()),
        }
    }

    fn check(&self, stored: bool, current: Option<Version>) -> Result<(), HrError> {
        let holds = self.condition.holds(stored, current);
        match (&self.what, stored) {
            // Nothing to remove is not a failed condition, unless there was one.
            (What::Remove, false) if self.condition == Condition::None => Err(HrError::NotFound),
            (_, _) if holds => Ok(()),
            (_, _) => Err(HrError::Mismatch {
                current: current.filter(|_| stored),
            }),
        }
    }

    /// The answer to what was sent is lost: what main remembers says whether it was applied.
    fn lose(&mut self, sent: HrReceipt, error: StoreError) -> Result<Round, HrError> {
        if error.verdict() != Verdict::Retry || self.lost.len() >= LOST_ANSWERS {
            return Err(error.into());
        }
        if error.is_ambiguous() {
            self.lost.push(sent);
        }
        Ok(Round::Again)
    }
}

/// Logs a failed write once, where it is handled. A refused condition is an answer, not a failure.
fn logged(error: HrError) -> HrError {
    let database = match &error {
        HrError::Unavailable(error) => error.database,
        HrError::Rejected(_)
        | HrError::Unclear(_)
        | HrError::Corrupt(_)
        | HrError::OutcomeUnknown
        | HrError::Contended => Role::RaseenMainHr,
        HrError::Mismatch { .. } | HrError::NotFound | HrError::TooLarge => return error,
    };
    error!(
        user_type = "internal",
        database = %database,
        %error,
        "error in storing to {}",
        Role::RaseenMainHr,
    );
    error
}
