//! Keeping the outcomes of a run: what became of each document, and what its record says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::raw::RawDocument;
use bson::{Bson, DateTime, doc, oid::ObjectId};
use tierkeep_core::audit::AuditKind;
use tierkeep_core::bson;
use tierkeep_core::db::{RaseenTempUser, Role, UserDatabase, collection};
use tierkeep_core::mover::{
    Batch, Fate, Item, Park, Planned, Record, Status, held_attempt, next_attempt, record_field,
};
use tierkeep_core::store::{Class, StoreError};
use tracing::{error, warn};

use crate::alerts::{AlertKind, Alerts};
use crate::context::{Engine, MoveOutcome};
use crate::copies::adopt::adopt_in_temp;
use crate::databases::retry::repeating;
use crate::mover::scan::Scan;
use crate::mover::{MigrationService, Summary};

/// What was tried of a move before this run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    /// Failed attempts.
    retries: i32,
    /// Attempts that a database refused for a reason that is not known to be the document's.
    refusals: i32,
}

impl Tried {
    pub(crate) fn of(record: Option<&Record>) -> Self {
        record.map_or_else(Self::default, |record| Self {
            retries: record.retry_count,
            refusals: record.refusals,
        })
    }
}

#[derive(Debug)]
pub(crate) struct RunOutcomes {
    service: MigrationService,
    summary: Summary,
    /// What was tried before this run, of the documents at work.
    tried: BTreeMap<ObjectId, Tried>,
    /// The records of moves that failed in this pass: what was adopted then comes by once more.
    failed_in_pass: BTreeSet<ObjectId>,
    due_in_pass: u64,
    parked_in_pass: u64,
    left_in_pass: u64,
    moved_in_pass: u64,
    adopted_in_pass: u64,
    passes: u32,
}

impl RunOutcomes {
    pub(crate) fn new(service: &MigrationService, summary: Summary) -> Self {
        Self {
            service: service.clone(),
            summary,
            tried: BTreeMap::new(),
            failed_in_pass: BTreeSet::new(),
            due_in_pass: 0,
            parked_in_pass: 0,
            left_in_pass: 0,
            moved_in_pass: 0,
            adopted_in_pass: 0,
            passes: 0,
        }
    }

    pub(crate) fn run_id(&self) -> String {
        self.summary.run_id.clone()
    }

    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// What moved counts as due even where the first pass did not see it yet.
    pub(crate) fn into_summary(mut self) -> Summary {
        let summary = &mut self.summary;
        let settled = summary.moved + summary.failed;
        summary.due = summary.due.max(settled);
        summary.scanned = summary.scanned.max(summary.due);
        self.summary
    }

    pub(crate) fn begin_pass(&mut self) {
        self.passes += 1;
        self.failed_in_pass.clear();
        self.due_in_pass = 0;
        self.parked_in_pass = 0;
        self.left_in_pass = 0;
        self.moved_in_pass = 0;
        self.adopted_in_pass = 0;
    }

    /// What the last pass left is what the run leaves.
    pub(crate) fn settle_pass(&mut self) {
        self.summary.deferred = self.parked_in_pass + self.left_in_pass;
    }

    /// Whether another pass may find more to do.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.left_in_pass > 0
    }

    /// Whether the pass brought anything further.
    pub(crate) fn has_progressed(&self) -> bool {
        self.moved_in_pass + self.adopted_in_pass > 0
    }

    pub(crate) fn scanned(&mut self, documents: usize) {
        if self.passes == 1 {
            self.summary.scanned += u64::try_from(documents).unwrap_or(u64::MAX);
        }
    }

    pub(crate) fn quarantined(&mut self, documents: u64) {
        self.summary.quarantined = documents;
    }

    /// Whether the move failed in this pass already.
    pub(crate) fn has_failed(&self, item: &Item) -> bool {
        self.failed_in_pass.contains(&item.record)
    }

    /// A document whose time has come, parked or not.
    pub(crate) fn due(&mut self, item: &Item, parked: Option<Park>, tried: Tried) {
        self.due_in_pass += 1;
        if self.passes == 1 {
            self.summary.due += 1;
        }
        match parked {
            Some(Park::Waiting | Park::Failed) => self.parked_in_pass += 1,
            None => {
                self.tried.insert(item.record, tried);
            }
        }
    }

    /// A document that must be looked at again.
    pub(crate) fn left(&mut self, documents: u64) {
        self.left_in_pass += documents;
    }

    /// A document of another program took its final form.
    pub(crate) fn adopted(&mut self) {
        self.adopted_in_pass += 1;
    }

    pub(crate) fn would_adopt(&mut self, bytes: usize) {
        self.summary.scanned += 1;
        self.summary.due += 1;
        self.summary.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    pub(crate) fn would_move(&mut self, planned: &[Planned]) {
        self.summary.bytes += planned.iter().map(|plan| plan.item.size).sum::<u64>();
    }

    /// Records the outcomes of a batch, also when a step fails.
    pub(crate) async fn take(&mut self, batch: Batch, scan: &mut Scan) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        for (item, fate) in batch.fates() {
            let tried = self.tried.remove(&item.record).unwrap_or_default();
            let booked = match fate {
                Fate::Moved => {
                    self.count(MoveOutcome::Moved);
                    self.summary.moved += 1;
                    self.summary.bytes += item.size;
                    self.moved_in_pass += 1;
                    Ok(())
                }
                // Its record is completed with those of moves that were cut off.
                Fate::Erased => Ok(()),
                Fate::Superseded | Fate::Deferred => {
                    self.count(MoveOutcome::Deferred);
                    self.left_in_pass += 1;
                    Ok(())
                }
                Fate::Conflict(reason) => {
                    let again = scan.conflict(&item, &reason).await;
                    again.map(|again| self.left_in_pass += u64::from(again))
                }
                Fate::Held(reason) => self.held(&item, tried, &reason, scan.now()).await,
                Fate::Failed(reason) => {
                    self.failed(&item, tried.retries, &reason, scan.now()).await
                }
            };
            outcome = outcome.and(booked);
        }
        outcome
    }

    fn count(&self, outcome: MoveOutcome) {
        self.service.engine.moves().add(outcome);
    }

    /// A database refuses the document for a reason that says nothing about it: no retry is counted, the next attempt waits
    /// longer each time, and the second refusal raises an alert. The run is done with it.
    async fn held(
        &mut self,
        item: &Item,
        tried: Tried,
        reason: &str,
        now: DateTime,
    ) -> Result<(), StoreError> {
        self.count(MoveOutcome::Deferred);
        self.parked_in_pass += 1;
        let engine = &self.service.engine;
        let set = held_attempt(
            tried.refusals,
            self.service.settings.retry_backoff,
            engine.randomness().fraction(),
            reason,
            now,
        );
        let when = doc! {
            record_field::STATUS: Status::Pending.as_str(),
            record_field::RETRY_COUNT: tried.retries,
        };
        let audit = engine.databases.audit_db().store();
        let ids = [Bson::ObjectId(item.record)];
        repeating(|| audit.amend(collection::MIGRATION_RECORDS, &ids, &when, &set)).await?;
        if tried.refusals > 0 {
            Alerts::new(Arc::clone(engine))
                .raise(AlertKind::MigrationFailed, item.user.as_str(), reason)
                .await?;
        }
        Ok(())
    }

    /// The document's own fault: counts towards its retries.
    async fn failed(
        &mut self,
        item: &Item,
        retries: i32,
        reason: &str,
        now: DateTime,
    ) -> Result<(), StoreError> {
        self.summary.failed += 1;
        let engine = &self.service.engine;
        self.failed_in_pass.insert(item.record);
        if let Some(original) = &item.original {
            // From here on its attempts, and the mark of the last of them, are those of a document in its final form.
            Box::pin(adopt_if_taken(engine, &original.document)).await?;
        }
        let backoff = self.service.settings.retry_backoff;
        let attempt = next_attempt(
            retries,
            backoff,
            engine.randomness().fraction(),
            reason,
            now,
        );
        let when = doc! {
            record_field::STATUS: Status::Pending.as_str(),
            record_field::RETRY_COUNT: retries,
        };
        self.count(if attempt.gave_up {
            MoveOutcome::Failed
        } else {
            MoveOutcome::Retried
        });
        if attempt.gave_up {
            // Before the record says so: after a crash between the two the attempt fails, and is told of, again.
            let trail = engine.audit_trail();
            let given_up = trail
                .draft(AuditKind::FailedMove)
                .about(Some(&item.user))
                .by(Some("mover"))
                .decided("failed")
                .because(reason)
                .in_database(Some(Role::RaseenMainUser));
            trail.record(given_up).await?;
            Alerts::new(Arc::clone(engine))
                .raise(AlertKind::MigrationFailed, item.user.as_str(), reason)
                .await?;
        }
        let audit = engine.databases.audit_db().store();
        let ids = [Bson::ObjectId(item.record)];
        repeating(|| audit.amend(collection::MIGRATION_RECORDS, &ids, &when, &attempt.set)).await?;
        if !attempt.gave_up {
            warn!(
                user_id = %item.user,
                user_type = %item.user.user_type(),
                error = reason,
                "error in moving data to raseen_main_user, retry {} of {}",
                retries + 1,
                tierkeep_core::mover::RETRIES,
            );
            return Ok(());
        }
        error!(
            user_id = %item.user,
            user_type = %item.user.user_type(),
            error = reason,
            "error in moving data to raseen_main_user, failed permanently",
        );
        let temp = engine.databases.raseen_temp_db().store();
        let ids = [Bson::String(item.user.to_string())];
        let when = doc! { "metadata.version": item.version.get() };
        let set = doc! { "metadata.backup_status": "failed" };
        let marked = repeating(|| temp.amend(RaseenTempUser::USERS, &ids, &when, &set)).await;
        // The record says it; a document that cannot even be marked holds up no other.
        unless_refused(marked)
    }
}

async fn adopt_if_taken(engine: &Engine, original: &RawDocument) -> Result<(), StoreError> {
    unless_refused(adopt_in_temp(engine, original).await)
}

/// A document that temp does not take stays as it is.
fn unless_refused<T>(outcome: Result<T, StoreError>) -> Result<(), StoreError> {
    match outcome {
        Ok(_)
        | Err(StoreError {
            class: Class::Other,
            ..
        }) => Ok(()),
        Err(error) => Err(error),
    }
}
