//! Performing a batch's actions through the stores. Decides nothing: what to do comes from
//! [`Batch::action`], what it means from [`Batch::observe`].
//!
//! The databases of a move are named by type, so a wrong pair does not compile.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, doc, oid::ObjectId};
use tierkeep_core::bson;
use tierkeep_core::db::{
    BackedUp, Database as _, EvaluationAudit, Promotes, RaseenTempUser, Role, UserDatabase,
    collection,
};
use tierkeep_core::document::{self, State};
use tierkeep_core::erasure::{Erasure, Stage};
use tierkeep_core::mover::{
    Action, Batch, Copied, Intent, Item, Move, Observation, OutOfOrder, Phase, Record, Recorded,
    SeenInTemp, Status, Target, Verify, record_field,
};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Fence, Find, Inserted, Query, StoreError};

use tracing::{Instrument as _, debug_span};

use crate::claims::by_user;
use crate::context::Engine;
use crate::copies::batch::{copy, read, read_back, unsettled};
use crate::databases::retry::repeating;
use crate::erasure::tombstones::{self, Written};
use crate::intents::{self, Stored};
use crate::mover::MoverSettings;
use crate::mover::foreign;
use crate::mover::sharing::{Claimed, SIGN_EVERY, Sharing};
use crate::mutant::Mutant;
#[cfg(feature = "mutants")]
use crate::mutant::wrong;

/// Whether there are any pending erasures is what is asked; of more than this, no more are read.
const MOST_PENDING: usize = 1;

type Main = <RaseenTempUser as Promotes>::Main;
type Backup = <Main as BackedUp>::Backup;

/// The databases of one move.
#[derive(Clone, Debug)]
pub(crate) struct Movement {
    temp: Handle<RaseenTempUser>,
    main: Handle<Main>,
    backup: Handle<Backup>,
    audit: Handle<EvaluationAudit>,
    engine: Arc<Engine>,
    run_id: String,
    verify: Verify,
    foreign_writers: bool,
    /// What other runs are moving; none where this one does not look.
    sharing: Option<Arc<Sharing>>,
    /// Of the batch that this movement takes along, once it is written.
    intent: OnceLock<Intent>,
    /// A record of the batch was refused: the intent stands in its place.
    keeps_intent: OnceLock<()>,
}

/// Why a batch stopped before its end; nothing is lost.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// A database did not do its part.
    Database {
        /// As far as the batch came.
        batch: Batch,
        /// The database's error.
        error: StoreError,
    },
    /// An observation did not fit the phase: a fault of this program.
    OutOfOrder(OutOfOrder),
}

impl Movement {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        run_id: &str,
        settings: &MoverSettings,
        sharing: Option<Arc<Sharing>>,
    ) -> Self {
        Self {
            temp: engine.databases.raseen_temp_db().clone(),
            main: engine.databases.raseen_main_db().clone(),
            backup: engine.databases.srie_main_db().clone(),
            audit: engine.databases.audit_db().clone(),
            engine: Arc::clone(engine),
            run_id: run_id.to_owned(),
            verify: settings.verify,
            foreign_writers: settings.foreign_writers,
            sharing,
            intent: OnceLock::new(),
            keeps_intent: OnceLock::new(),
        }
    }

    /// Shows other runs that the batch is at work; never ends.
    pub(crate) async fn give_signs<T>(&self) -> T {
        if self.sharing.is_some() {
            for beat in 1.. {
                tokio::time::sleep(SIGN_EVERY).await;
                if let Some(intent) = self.intent.get() {
                    let audit = self.audit.store().as_ref();
                    // Without the sign another run moves the same documents too.
                    intents::give_sign(audit, &intent.id, beat).await.ok();
                }
            }
        }
        std::future::pending().await
    }

    /// Takes the batch through its phases until it is done or enters `until`, and closes its intent. One that cannot be closed
    /// is expanded by a later run.
    pub(crate) async fn advance(
        &self,
        batch: Batch,
        until: Option<Phase>,
    ) -> Result<Batch, Box<Stopped>> {
        match self.steps(batch, until).await {
            Ok(batch) => match self.close(&batch).await {
                Ok(()) => Ok(batch),
                Err(error) => Err(Box::new(Stopped::Database { batch, error })),
            },
            Err(stopped) => {
                if let Stopped::Database { batch, .. } = stopped.as_ref() {
                    self.close(batch).await.ok();
                }
                Err(stopped)
            }
        }
    }

    async fn steps(&self, mut batch: Batch, until: Option<Phase>) -> Result<Batch, Box<Stopped>> {
        while batch.phase() != Phase::Done && Some(batch.phase()) != until {
            let step = debug_span!("move.step", phase = ?batch.phase());
            #[cfg(feature = "mutants")]
            if self.engine.mutation().has(Mutant::CopiedAsItWasRead)
                && let Some(standing) = wrong::as_it_was_read(&batch)
            {
                batch = batch
                    .observe(standing)
                    .map_err(|fault| Box::new(Stopped::OutOfOrder(fault)))?;
                continue;
            }
            let observation = match self.perform(batch.action()).instrument(step).await {
                Ok(Some(observation)) => observation,
                Ok(None) => break,
                Err(error) => {
                    return Err(Box::new(Stopped::Database { batch, error }));
                }
            };
            batch = batch
                .observe(observation)
                .map_err(|fault| Box::new(Stopped::OutOfOrder(fault)))?;
        }
        Ok(batch)
    }

    async fn perform(&self, action: Action<'_>) -> Result<Option<Observation>, StoreError> {
        Ok(Some(match action {
            Action::Claims(items) => {
                Observation::Claims(are_sole_claims(&self.temp, &items).await?)
            }
            Action::Record(items) => Observation::Recorded(self.record(&items).await?),
            Action::Copy(Target::Backup, copies) => {
                Observation::Copied(copy(self.engine.ledger(), &self.backup, &copies).await?)
            }
            Action::Copy(Target::Main, copies) => {
                #[cfg(feature = "mutants")]
                if self.engine.mutation().has(Mutant::UnguardedWriteToMain) {
                    wrong::copy_over(&self.main, &copies).await?;
                }
                Observation::Copied(copy(self.engine.ledger(), &self.main, &copies).await?)
            }
            Action::ReadBack(copies) => {
                // One after the other: both at once would be most of the memory that a move takes.
                let backup = read_back(&self.backup, &copies, self.verify).await?;
                let main = read_back(&self.main, &copies, self.verify).await?;
                let seen = backup.into_iter().zip(main).collect();
                #[cfg(feature = "mutants")]
                if self.engine.mutation().has(Mutant::HigherIsFine) {
                    let taken = wrong::take_higher_for_equal(&copies.items, seen);
                    return Ok(Some(Observation::ReadBack(taken)));
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

    /// One intent for the documents that temp holds in their final form, and a pending record for each of the others: a
    /// version of theirs is for one document alone, and a writer that adopts it looks for that record. Records of earlier
    /// attempts are kept.
    async fn record(&self, items: &[&Item]) -> Result<Vec<Recorded>, StoreError> {
        if self.engine.mutation().has(Mutant::MoveWithoutRecord) {
            return Ok(vec![Recorded::Announced; items.len()]);
        }
        let now = self.engine.clock().now();
        let elsewhere = self.announce(items, now).await?;
        let is_foreign =
            |item: &&&Item| item.original.is_some() && !elsewhere.has(item.user.as_str());
        let foreign: Vec<&Item> = items.iter().filter(is_foreign).copied().collect();
        let recorded = self.record_foreign(&foreign, now).await?;
        let mut recorded = recorded.into_iter();
        let held = self.held_by_erasures(items).await?;
        let outcome = |(item, held): (&&Item, Option<String>)| {
            if elsewhere.has(item.user.as_str()) {
                return Recorded::Elsewhere;
            }
            let recorded = match item.original {
                Some(_) => recorded.next().unwrap_or(Copied::Unsettled),
                None => Copied::Settled,
            };
            match (recorded, held) {
                (Copied::Settled, None) => Recorded::Announced,
                (Copied::Settled, Some(held)) => Recorded::Stays(Copied::Refused(held)),
                (recorded, _) => Recorded::Stays(recorded),
            }
        };
        Ok(items.iter().zip(held).map(outcome).collect())
    }

    /// Writes the intent of the batch; answers which of its documents another run had announced before.
    async fn announce(&self, items: &[&Item], now: DateTime) -> Result<Claimed, StoreError> {
        if self.sharing.is_none() && items.iter().all(|item| item.original.is_some()) {
            return Ok(Claimed::default());
        }
        let id = self.engine.randomness().id();
        let intent = self
            .intent
            .get_or_init(|| Intent::of(&id, &self.run_id, now, items));
        intents::announce(self.audit.store().as_ref(), intent).await?;
        match &self.sharing {
            Some(sharing) => sharing.claimed_before(&self.engine, intent).await,
            None => Ok(Claimed::default()),
        }
    }

    async fn record_foreign(
        &self,
        items: &[&Item],
        now: DateTime,
    ) -> Result<Vec<Copied>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let record = |item: &&Item| Move::of(item).pending(&self.run_id, now);
        let records: Vec<RawDocumentBuf> = items.iter().map(record).collect();
        let store = self.audit.store();
        let inserted = repeating(|| store.insert(collection::MIGRATION_RECORDS, &records)).await?;
        let taken = self.taken_by_others(items, &inserted).await?;
        Ok(inserted
            .into_iter()
            .zip(items)
            .map(|(outcome, item)| match outcome {
                Inserted::Exists if taken.contains(&item.record) => Copied::Unsettled,
                Inserted::Stored | Inserted::Exists => Copied::Settled,
                Inserted::Rejected(fault) => {
                    Copied::Rejected(format!("its migration record was refused: {fault}"))
                }
                Inserted::Unsettled(error) => unsettled(item, &error),
            })
            .collect())
    }

    /// The records among those that exist that are of another document than the one which moves: a version is for one
    /// document alone, and this one is planned again above it.
    async fn taken_by_others(
        &self,
        items: &[&Item],
        inserted: &[Inserted],
    ) -> Result<Vec<ObjectId>, StoreError> {
        let exists = |(_, outcome): &(&&Item, &Inserted)| matches!(outcome, Inserted::Exists);
        let items: Vec<&Item> = items
            .iter()
            .zip(inserted)
            .filter(exists)
            .map(|(item, _)| *item)
            .collect();
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let records = records_of(&self.audit, items.iter().map(|item| item.record)).await?;
        let is_other = |item: &&&Item| {
            let record = records.get(&item.record);
            record.is_none_or(|record| !record.is_of(item))
        };
        Ok(items
            .iter()
            .filter(is_other)
            .map(|item| item.record)
            .collect())
    }

    /// Why these documents stay in temp for now: nothing moves into a database where an erasure of their users is pending.
    /// Read after the documents were, so that the erasure before a new life is always seen.
    async fn held_by_erasures(&self, items: &[&Item]) -> Result<Vec<Option<String>>, StoreError> {
        let ledger = self.engine.ledger();
        let pending = repeating(|| ledger.pending(MOST_PENDING)).await?;
        if pending.is_empty() {
            return Ok(vec![None; items.len()]);
        }
        let users: Vec<&str> = items.iter().map(|item| item.user.as_str()).collect();
        let entries = ledger.entries(&users).await?;
        let reason = |entry: Erasure| {
            let targets = [Main::ROLE, Backup::ROLE];
            let waits = |role: &Role| entry.stage == Stage::Pending && entry.pending.contains(role);
            let role = targets.into_iter().find(waits)?;
            Some(format!("an erasure of its user is pending in {role}"))
        };
        Ok(entries
            .into_iter()
            .map(|entry| entry.and_then(reason))
            .collect())
    }

    async fn read_temp(&self, items: &[&Item]) -> Result<Vec<SeenInTemp>, StoreError> {
        let (foreign, own): (Vec<&Item>, Vec<&Item>) =
            items.iter().partition(|item| item.original.is_some());
        let found = read(&self.temp, &own, true).await?;
        let users: Vec<String> = foreign.iter().map(|item| item.user.to_string()).collect();
        // As sure as a writer's look at main after its entry: either sees the other.
        let whole = Find::new(Query::All).max_bytes(usize::MAX).linearizable();
        let claims = by_user(&self.temp, &users, whole).await?;
        let is_live = |it: &RawDocumentBuf| document::state(it) == Some(State::Live);
        let seen = |item: &&Item| {
            if let Some(original) = &item.original {
                let claims = claims.get(item.user.as_str());
                return match claims.map(Vec::as_slice).unwrap_or_default() {
                    [only] if *only == original.document => SeenInTemp::Same,
                    claims if claims.iter().any(is_live) => SeenInTemp::Other,
                    _ => SeenInTemp::Gone,
                };
            }
            match found.get(item.user.as_str()).filter(|it| is_live(it)) {
                Some(live) if document::version(live) == Some(item.version) => SeenInTemp::Same,
                Some(live) if document::version(live).is_some() => SeenInTemp::Other,
                Some(_) | None => SeenInTemp::Gone,
            }
        };
        Ok(items.iter().map(seen).collect())
    }

    /// Which of these users were erased since; their tombstones were rewritten.
    async fn erasures(&self, items: &[&Item]) -> Result<Vec<bool>, StoreError> {
        let written: Vec<Written<'_>> = items
            .iter()
            .map(|item| Written::live(&item.user, Some(item.version)))
            .collect();
        tombstones::check_after_writing(&self.engine, &written).await
    }

    /// One statement for each distinct version; what another program wrote goes as the whole document that it is. Answers how
    /// many are known to have gone.
    async fn delete(&self, items: &[&Item]) -> Result<usize, StoreError> {
        let mut by_version = BTreeMap::new();
        let mut fences = Vec::new();
        let mut own = Vec::new();
        for &item in items {
            if let Some(original) = &item.original {
                fences.push(Fence::Whole(original.document.clone()));
                continue;
            }
            own.push(item);
            by_version
                .entry(item.version)
                .or_insert_with(Vec::new)
                .push(Bson::String(item.user.to_string()));
        }
        if self.foreign_writers {
            foreign::delete(&self.temp, &own).await?;
        } else {
            let of_version = |(version, ids)| Fence::Version { version, ids };
            fences.extend(by_version.into_iter().map(of_version));
        }
        if fences.is_empty() {
            return Ok(0);
        }
        let store = self.temp.store();
        #[cfg(feature = "mutants")]
        if self.engine.mutation().has(Mutant::UnguardedDelete) {
            wrong::delete_any(&self.temp, &fences).await?;
            return Ok(0);
        }
        // A repeat after a lost answer finds fewer: then temp is asked what it still holds.
        let gone = repeating(|| store.delete(RaseenTempUser::USERS, &fences)).await?;
        Ok(usize::try_from(gone).unwrap_or(usize::MAX))
    }

    /// Inserts a completed record where there is none, and amends the others.
    async fn complete(&self, items: &[&Item]) -> Result<(), StoreError> {
        #[cfg(feature = "mutants")]
        if self.engine.mutation().has(Mutant::IntentRemovedFirst)
            && let Some(intent) = self.intent.get()
        {
            intents::remove(self.audit.store().as_ref(), &intent.id).await?;
        }
        let now = self.engine.clock().now();
        let begun_at = self.intent.get().map_or(now, |intent| intent.begun_at);
        let (foreign, own): (Vec<&Item>, Vec<&Item>) =
            items.iter().partition(|item| item.original.is_some());
        let record = |item: &&Item| Move::of(item).completed(&self.run_id, begun_at, now);
        let records: Vec<RawDocumentBuf> = own.iter().map(record).collect();
        let store = self.audit.store();
        let stored = intents::insert_records(store.as_ref(), &records).await?;
        if stored.contains(&Stored::Refused) {
            self.keeps_intent.get_or_init(|| ());
        }
        let existed = own.into_iter().zip(stored);
        let existed =
            existed.filter_map(|(item, stored)| (stored == Stored::Existed).then_some(item));
        let ids: Vec<Bson> = foreign
            .into_iter()
            .chain(existed)
            .map(|item| Bson::ObjectId(item.record))
            .collect();
        let set = Record::completed(&self.run_id, now);
        // One that another mover gave up, or completed a moment ago, is rare.
        let mut left = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        for status in [Status::Pending, Status::Failed] {
            if left == 0 {
                break;
            }
            let when = doc! { record_field::STATUS: status.as_str() };
            let amended =
                repeating(|| store.amend(collection::MIGRATION_RECORDS, &ids, &when, &set)).await?;
            left = left.saturating_sub(amended);
        }
        Ok(())
    }

    /// Gives each move of the batch that is not complete a pending record, and removes the intent; it stays where a record was
    /// refused.
    async fn close(&self, batch: &Batch) -> Result<(), StoreError> {
        let Some(intent) = self.intent.get() else {
            return Ok(());
        };
        let unfinished = batch.unfinished().filter(|item| item.original.is_none());
        let records: Vec<RawDocumentBuf> = unfinished
            .map(|item| Move::of(item).pending(&intent.run_id, intent.begun_at))
            .collect();
        let audit = self.audit.store().as_ref();
        let stored = intents::insert_records(audit, &records).await?;
        if stored.contains(&Stored::Refused) || self.keeps_intent.get().is_some() {
            return Ok(());
        }
        intents::remove(audit, &intent.id).await
    }
}

/// The records that exist of those named.
pub(super) async fn records_of(
    audit: &Handle<EvaluationAudit>,
    ids: impl Iterator<Item = ObjectId>,
) -> Result<BTreeMap<ObjectId, Record>, StoreError> {
    let ids: Vec<Bson> = ids.map(Bson::ObjectId).collect();
    let find = Find::new(Query::Ids(ids.clone())).limit(ids.len());
    let store = audit.store();
    let found = repeating(|| store.find(collection::MIGRATION_RECORDS, &find)).await?;
    let records = found.iter().filter_map(|record| Record::read(record));
    Ok(records.map(|record| (record.id, record)).collect())
}

/// Whether each is the only document of its user in temp, whatever the `_id`s.
async fn are_sole_claims(
    temp: &Handle<RaseenTempUser>,
    items: &[&Item],
) -> Result<Vec<bool>, StoreError> {
    let users: Vec<String> = items.iter().map(|item| item.user.to_string()).collect();
    let keys = Find::new(Query::All).max_bytes(usize::MAX).keys();
    let claims = by_user(temp, &users, keys).await?;
    Ok(users
        .iter()
        .map(|user| claims.get(user).is_none_or(|claims| claims.len() < 2))
        .collect())
}
