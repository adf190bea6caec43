//! Performing a batch's actions through the stores. Decides nothing: what to do comes from
//! [`Batch::action`], what it means from [`Batch::observe`].
//!
//! The databases of a move are named by type, so a wrong pair does not compile.

use std::collections::BTreeMap;

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{
    BackedUp, EvaluationAudit, Handle, Promotes, RaseenTempUser, UserDatabase, collection,
};
use tierkeep_core::document::{self, State};
use tierkeep_core::erasure::tombstone;
use tierkeep_core::mover::{
    Action, Batch, Copied, Item, Observation, Phase, Record, Seen, SeenInTemp, Status, Target,
    Verify, record_field,
};
use tierkeep_core::store::{Change, Class, Fence, Find, Guard, Inserted, Query, StoreError};

use tracing::{Instrument as _, debug_span};

use crate::connection::ConnectionManager;
use crate::copying::{copy, read, read_back, unsettled};
use crate::erase::entomb;
use crate::foreign;
use crate::ledger::Ledger;
use crate::migration::MoverSettings;
use crate::mutant::{Mutant, Mutation};
use crate::retry::repeating;

type Main = <RaseenTempUser as Promotes>::Main;
type Backup = <Main as BackedUp>::Backup;

/// The databases of one move.
#[derive(Clone, Debug)]
pub(crate) struct Movement {
    temp: Handle<RaseenTempUser>,
    main: Handle<Main>,
    backup: Handle<Backup>,
    audit: Handle<EvaluationAudit>,
    ledger: Ledger,
    clock: std::sync::Arc<dyn Clock>,
    run_id: String,
    verify: Verify,
    foreign_writers: bool,
    mutation: Mutation,
}

/// A batch stopped because a database did not do its part; nothing is lost.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// As far as it came; `None` when an answer did not fit.
    pub(crate) batch: Option<Batch>,
    /// Why.
    pub(crate) error: StoreError,
}

impl Movement {
    pub(crate) fn new(
        databases: &ConnectionManager,
        run_id: &str,
        settings: &MoverSettings,
    ) -> Self {
        Self {
            temp: databases.raseen_temp_db().clone(),
            main: databases.raseen_main_db().clone(),
            backup: databases.srie_main_db().clone(),
            audit: databases.audit_db().clone(),
            ledger: databases.ledger().clone(),
            clock: std::sync::Arc::clone(databases.clock()),
            run_id: run_id.to_owned(),
            verify: settings.verify,
            foreign_writers: settings.foreign_writers,
            mutation: databases.mutation(),
        }
    }

    /// Takes the batch through its phases until it is done or enters `until`.
    pub(crate) async fn advance(
        &self,
        mut batch: Batch,
        until: Option<Phase>,
    ) -> Result<Batch, Box<Stopped>> {
        while batch.phase() != Phase::Done && Some(batch.phase()) != until {
            let step = debug_span!("move.step", phase = ?batch.phase());
            let observation = match self.perform(batch.action()).instrument(step).await {
                Ok(Some(observation)) => observation,
                Ok(None) => break,
                Err(error) => {
                    return Err(Box::new(Stopped {
                        batch: Some(batch),
                        error,
                    }));
                }
            };
            batch = batch.observe(observation).map_err(|_| {
                let database = self.audit.store().role();
                let error = StoreError {
                    database,
                    operation: "observe",
                    class: Class::Corrupt,
                    code: 0,
                };
                Box::new(Stopped { batch: None, error })
            })?;
        }
        Ok(batch)
    }

    async fn perform(&self, action: Action<'_>) -> Result<Option<Observation>, StoreError> {
        Ok(Some(match action {
            Action::Claims(items) => Observation::Claims(alone(&self.temp, &items).await?),
            Action::Record(items) => Observation::Recorded(self.record(&items).await?),
            Action::Copy(Target::Backup, copies) => {
                Observation::Copied(copy(&self.ledger, &self.backup, &copies, true).await?)
            }
            Action::Copy(Target::Main, copies) => {
                let guarded = !self.mutation.has(Mutant::UnguardedWriteToMain);
                Observation::Copied(copy(&self.ledger, &self.main, &copies, guarded).await?)
            }
            Action::ReadBack(copies) => {
                // One after the other: both at once would be most of the memory that a move takes.
                let backup = read_back(&self.backup, &copies, self.verify).await?;
                let main = read_back(&self.main, &copies, self.verify).await?;
                let mut seen = backup.into_iter().zip(main).collect();
                if self.mutation.has(Mutant::HigherIsFine) {
                    seen = take_higher_for_equal(&copies.items, seen);
                }
                Observation::ReadBack(seen)
            }
            Action::ReadTemp(items) => Observation::Temp(self.read_temp(&items).await?),
            Action::Erasures(items) => Observation::Erasures(self.erasures(&items).await?),
            Action::Delete(items) => {
                if self.delete(&items).await? == items.len() {
                    Observation::DeletedAll
                } else {
                    Observation::Deleted
                }
            }
            Action::Complete(items) => {
                self.complete(&items).await?;
                Observation::Completed
            }
            Action::Done => return Ok(None),
        }))
    }

    /// A pending record for each; those of earlier attempts are kept.
    async fn record(&self, items: &[&Item]) -> Result<Vec<Copied>, StoreError> {
        if self.mutation.has(Mutant::MoveWithoutRecord) {
            return Ok(vec![Copied::Settled; items.len()]);
        }
        let now = self.clock.now();
        let records: Vec<RawDocumentBuf> = items
            .iter()
            .map(|item| Record::pending(item, &self.run_id, now))
            .collect();
        let store = self.audit.store();
        let inserted = repeating(|| store.insert(collection::MIGRATION_RECORDS, &records)).await?;
        Ok(inserted
            .into_iter()
            .zip(items)
            .map(|(outcome, item)| match outcome {
                Inserted::Stored | Inserted::Exists => Copied::Settled,
                Inserted::Rejected(fault) => {
                    Copied::Rejected(format!("its migration record is refused: {fault}"))
                }
                Inserted::Unsettled(error) => unsettled(item, &error),
            })
            .collect())
    }

    async fn read_temp(&self, items: &[&Item]) -> Result<Vec<SeenInTemp>, StoreError> {
        let found = read(&self.temp, items, true).await?;
        Ok(items
            .iter()
            .map(|item| match found.get(item.user.as_str()) {
                Some(document) if document::state(document) == Some(State::Live) => {
                    document::version(document).map_or(SeenInTemp::Gone, SeenInTemp::Live)
                }
                Some(_) | None => SeenInTemp::Gone,
            })
            .collect())
    }

    /// Whoever stopped longer than the tombstones stood may have written what was erased: who looks into the
    /// ledger after writing finds out and puts them again.
    async fn erasures(&self, items: &[&Item]) -> Result<Vec<bool>, StoreError> {
        let users: Vec<&str> = items.iter().map(|item| item.user.as_str()).collect();
        if self.mutation.has(Mutant::NoLedgerAfterWriting) {
            return Ok(vec![false; items.len()]);
        }
        let fences = self.ledger.fences(&users).await?;
        let now = self.clock.now();
        let mut erased = Vec::with_capacity(items.len());
        let mut stones = Vec::new();
        for (item, fence) in items.iter().zip(fences) {
            let fence = fence.filter(|fence| *fence > item.version);
            stones.extend(fence.map(|fence| tombstone(&item.user, fence, now)));
            erased.push(fence.is_some());
        }
        if !stones.is_empty() {
            self.ledger.reopen(&stones).await?;
            // Temp first: while its tombstone stands, nothing older in the others counts.
            entomb(&self.temp, &stones).await?;
            entomb(&self.main, &stones).await?;
            entomb(&self.backup, &stones).await?;
        }
        Ok(erased)
    }

    /// One statement for each distinct version. Answers how many are known to have gone.
    async fn delete(&self, items: &[&Item]) -> Result<usize, StoreError> {
        if self.foreign_writers {
            foreign::delete(&self.temp, items).await?;
            return Ok(0);
        }
        let mut by_version = BTreeMap::new();
        for item in items {
            by_version
                .entry(item.version)
                .or_insert_with(Vec::new)
                .push(Bson::String(item.user.to_string()));
        }
        let fences: Vec<Fence> = by_version
            .into_iter()
            .map(|(version, ids)| Fence { version, ids })
            .collect();
        let store = self.temp.store();
        if self.mutation.has(Mutant::UnguardedDelete) {
            let whatever = Guard::Fields(doc! {});
            for id in fences.iter().flat_map(|fence| &fence.ids) {
                let users = RaseenTempUser::USERS;
                repeating(|| store.write(users, id, &whatever, &Change::Remove)).await?;
            }
            return Ok(0);
        }
        // A repeat after a lost answer finds fewer: then temp is asked what it still holds.
        let gone = repeating(|| store.delete(RaseenTempUser::USERS, &fences)).await?;
        Ok(usize::try_from(gone).unwrap_or(usize::MAX))
    }

    async fn complete(&self, items: &[&Item]) -> Result<(), StoreError> {
        let ids: Vec<Bson> = items
            .iter()
            .map(|item| Bson::ObjectId(item.record))
            .collect();
        let set = Record::completed(&self.run_id, self.clock.now());
        let store = self.audit.store();
        // One that another mover gave up, or completed a moment ago, is rare.
        let mut left = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        for status in [Status::Pending, Status::Failed] {
            let when = doc! { record_field::STATUS: status.as_str() };
            let amended =
                repeating(|| store.amend(collection::MIGRATION_RECORDS, &ids, &when, &set)).await?;
            left = left.saturating_sub(amended);
            if left == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Whether each is its user's only document in temp, whatever the `_id`s.
async fn alone(temp: &Handle<RaseenTempUser>, items: &[&Item]) -> Result<Vec<bool>, StoreError> {
    let mut claims: BTreeMap<String, usize> = BTreeMap::new();
    let mut runs = vec![items];
    while let Some(run) = runs.pop() {
        let limit = run.len() * 2;
        let users = run.iter().map(|item| item.user.to_string()).collect();
        let find = Find::new(Query::Users(users)).limit(limit).keys();
        let page = repeating(|| temp.store().find(RaseenTempUser::USERS, &find)).await?;
        if page.len() >= limit && run.len() > 1 {
            // So many claims that some may not be on the page.
            let (first, second) = run.split_at(run.len() / 2);
            runs.extend([first, second]);
            continue;
        }
        for user in page
            .iter()
            .filter_map(|document| document::user_id(document))
        {
            *claims.entry(user.to_owned()).or_default() += 1;
        }
    }
    Ok(items
        .iter()
        .map(|item| claims.get(item.user.as_str()).is_none_or(|n| *n < 2))
        .collect())
}

/// What must never be done: the newer copy need not contain what moves.
fn take_higher_for_equal(
    items: &[&Item],
    seen: Vec<(Option<Seen>, Option<Seen>)>,
) -> Vec<(Option<Seen>, Option<Seen>)> {
    let equal = |item: &Item, seen: Option<Seen>| {
        seen.map(|seen| {
            if seen.version <= item.version {
                return seen;
            }
            Seen {
                version: item.version,
                digest: item.digest.clone(),
            }
        })
    };
    items
        .iter()
        .zip(seen)
        .map(|(item, (srie, main))| (equal(item, srie), equal(item, main)))
        .collect()
}
