//! HR records: into main, pending, and from there to srie like any other write; one for each arrival.

use std::collections::HashMap;

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::document::{self, State};
use tierkeep_core::hr::{self, Arrival, BackupStatus, HrCollection};
use tierkeep_core::legacy::Refusal;
use tierkeep_core::store::{Change, Find, Guard, Inserted, Query, Store, StoreError, Written};
use tierkeep_core::version::Version;

use crate::databases::retry::repeating;
use crate::hr::{DeliveryOutcome, deliver};
use crate::transfer::import::stored_form::{ImportedState, standing_of};
use crate::transfer::import::{Compared, Import, ImportOutcome, ROUNDS};

/// The most bytes of records that are held at once, but for one that is larger.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// What is to be done about one record.
enum Step {
    Over(ImportOutcome),
    /// Main holds nothing; at this version.
    Insert(Version),
    /// In the place of the older import.
    Replace(RawDocumentBuf, Version),
    /// Main has it; srie may not.
    Deliver(RawDocumentBuf),
}

impl Import {
    /// Imports these records of one collection; answers what became of each, in their order. No id may be among
    /// them twice.
    ///
    /// Dropping the future is as harmless as a crash: what is in main and not in srie is delivered by the next run, or
    /// by a reconciler.
    ///
    /// # Errors
    /// [`StoreError`] when a database did not answer. Some may be stored nevertheless.
    pub async fn take_hr(
        &self,
        collection: &HrCollection,
        arrivals: &[Arrival],
    ) -> Result<Vec<ImportOutcome>, StoreError> {
        let mut taken: Vec<Option<ImportOutcome>> = vec![None; arrivals.len()];
        for round in 0..ROUNDS {
            let open: Vec<usize> = (0..arrivals.len())
                .filter(|index| taken[*index].is_none())
                .collect();
            if open.is_empty() {
                break;
            }
            let some: Vec<&Arrival> = open.iter().map(|index| &arrivals[*index]).collect();
            let outcomes = self.hr_round(collection, &some).await?;
            for (index, outcome) in open.into_iter().zip(outcomes) {
                if outcome != ImportOutcome::Busy || round + 1 == ROUNDS {
                    taken[index] = Some(outcome);
                }
            }
        }
        let busy = |taken: Option<ImportOutcome>| taken.unwrap_or(ImportOutcome::Busy);
        Ok(taken.into_iter().map(busy).collect())
    }

    /// Compares each record with what is stored; writes nothing.
    ///
    /// # Errors
    /// [`StoreError`] when a database did not answer.
    pub async fn compare_hr(
        &self,
        collection: &HrCollection,
        expected: &[Arrival],
    ) -> Result<Vec<Compared>, StoreError> {
        let all: Vec<&Arrival> = expected.iter().collect();
        let in_main = stored(self.main_hr(), collection, &all).await?;
        let in_srie = stored(self.srie_hr(), collection, &all).await?;
        let compared = expected.iter().map(|one| {
            let Some(main) = in_main.get(one.id.as_str()) else {
                return Compared::Missing;
            };
            if document::state(main) == Some(State::Erased) {
                return Compared::Erased;
            }
            let version = match standing_of(main, &one.fingerprint) {
                ImportedState::Own => return Compared::Own,
                ImportedState::Changed => return Compared::Changed,
                ImportedState::Older(_) => return Compared::Different,
                ImportedState::Same(version) => version,
            };
            let sound = hr::is_sound(main)
                && one
                    .at(version, None)
                    .is_ok_and(|should| hr_content(&should) == hr_content(main));
            let backed_up = in_srie
                .get(one.id.as_str())
                .is_some_and(|srie| hr_content(srie) == hr_content(main));
            if sound && backed_up {
                Compared::Equal
            } else {
                Compared::Different
            }
        });
        Ok(compared.collect())
    }

    fn main_hr(&self) -> &dyn Store {
        self.engine.databases.raseen_hr_db().store().as_ref()
    }

    fn srie_hr(&self) -> &dyn Store {
        self.engine.databases.srie_hr_db().store().as_ref()
    }

    async fn hr_round(
        &self,
        collection: &HrCollection,
        arrivals: &[&Arrival],
    ) -> Result<Vec<ImportOutcome>, StoreError> {
        let mut in_main = stored(self.main_hr(), collection, arrivals).await?;
        let unknown = |one: &&&Arrival| !in_main.contains_key(one.id.as_str());
        let new: Vec<&Arrival> = arrivals.iter().filter(unknown).copied().collect();
        let mut in_srie = stored(self.srie_hr(), collection, &new).await?;
        let steps: Vec<Step> = arrivals
            .iter()
            .map(|arrival| match in_main.remove(arrival.id.as_str()) {
                Some(found) => over(arrival, found),
                None => beside(arrival, in_srie.remove(arrival.id.as_str())),
            })
            .collect();
        if self.dry_run {
            return Ok(steps.into_iter().map(|step| would(&step)).collect());
        }
        let mut taken = vec![ImportOutcome::Busy; arrivals.len()];
        let (mut new, mut sent) = (Vec::new(), Vec::new());
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Over(over) => taken[index] = over,
                Step::Insert(version) => match arrivals[index].at(version, None) {
                    Ok(record) => new.push((index, record)),
                    Err(hr::TooLarge) => taken[index] = too_large(arrivals[index]),
                },
                Step::Deliver(record) => sent.push((index, record, ImportOutcome::Same)),
                Step::Replace(stands, version) => {
                    let outcome = self
                        .replace_hr(collection, arrivals[index], stands, version)
                        .await?;
                    match outcome {
                        Ok(record) => sent.push((index, record, ImportOutcome::Replaced)),
                        Err(outcome) => taken[index] = outcome,
                    }
                }
            }
        }
        if !new.is_empty() {
            let records: Vec<RawDocumentBuf> = new.iter().map(|(_, it)| it.clone()).collect();
            let insert = || self.main_hr().insert(collection.as_str(), &records);
            for ((index, record), inserted) in new.into_iter().zip(repeating(insert).await?) {
                match inserted {
                    Inserted::Stored => sent.push((index, record, ImportOutcome::Stored)),
                    // Another writer was faster, or this run itself inserted it and the answer was lost: look again.
                    Inserted::Exists => {}
                    Inserted::Rejected(fault) => {
                        taken[index] = rejected(arrivals[index], fault.to_string());
                    }
                    Inserted::Unsettled(error) => return Err(error),
                }
            }
        }
        // A crash here leaves records in main that are marked as pending.
        let records: Vec<RawDocumentBuf> = sent.iter().map(|(_, it, _)| it.clone()).collect();
        if records.is_empty() {
            return Ok(taken);
        }
        let delivered = deliver(&self.engine, collection, &records).await?;
        for ((index, _, outcome), delivered) in sent.into_iter().zip(delivered) {
            taken[index] = match delivered {
                DeliveryOutcome::Completed => outcome,
                // Written by another process meanwhile, or put in order first: look again.
                DeliveryOutcome::Superseded | DeliveryOutcome::Again => ImportOutcome::Busy,
                DeliveryOutcome::Held(reason) => rejected(arrivals[index], reason),
            };
        }
        Ok(taken)
    }

    async fn replace_hr(
        &self,
        collection: &HrCollection,
        arrival: &Arrival,
        stands: RawDocumentBuf,
        version: Version,
    ) -> Result<Result<RawDocumentBuf, ImportOutcome>, StoreError> {
        let Some(next) = version.next() else {
            let why = "its version numbers are exhausted".to_owned();
            return Ok(Err(rejected(arrival, why)));
        };
        let Ok(record) = arrival.at(next, Some(&stands)) else {
            return Ok(Err(too_large(arrival)));
        };
        let (id, guard) = (arrival.id.to_bson(), Guard::Whole(stands));
        let change = Change::Replace(record.clone());
        let write = || {
            self.main_hr()
                .write(collection.as_str(), &id, &guard, &change)
        };
        Ok(match repeating(write).await? {
            Written::Applied(_) => Ok(record),
            Written::Unmatched => Err(ImportOutcome::Busy),
            Written::TooLarge => Err(too_large(arrival)),
            Written::Rejected(fault) => Err(rejected(arrival, fault.to_string())),
        })
    }
}

/// What is to be done about an arrival of which main holds nothing, and srie `copy`: what main has lost is never
/// replaced by what the predecessor had.
fn beside(arrival: &Arrival, copy: Option<RawDocumentBuf>) -> Step {
    let Some(copy) = copy else {
        return Step::Insert(Version::FIRST);
    };
    if document::state(&copy) == Some(State::Erased) {
        return Step::Over(ImportOutcome::Erased);
    }
    match standing_of(&copy, &arrival.fingerprint) {
        ImportedState::Same(version) => Step::Insert(version),
        ImportedState::Older(_) | ImportedState::Changed | ImportedState::Own => {
            Step::Over(ImportOutcome::Own)
        }
    }
}

/// What is to be done about an arrival of which main holds `found`.
fn over(arrival: &Arrival, found: RawDocumentBuf) -> Step {
    match document::state(&found) {
        Some(State::Live) => {}
        Some(State::Erased) => return Step::Over(ImportOutcome::Erased),
        Some(State::Entering) | None => return Step::Over(ImportOutcome::Own),
    }
    match standing_of(&found, &arrival.fingerprint) {
        ImportedState::Same(_) if BackupStatus::of(&found) == Some(BackupStatus::Pending) => {
            Step::Deliver(found)
        }
        ImportedState::Same(_) => Step::Over(ImportOutcome::Same),
        ImportedState::Older(version) => Step::Replace(found, version),
        ImportedState::Changed => Step::Over(ImportOutcome::Changed),
        ImportedState::Own => Step::Over(ImportOutcome::Own),
    }
}

fn would(step: &Step) -> ImportOutcome {
    match step {
        Step::Over(over) => over.clone(),
        Step::Insert(_) => ImportOutcome::Stored,
        Step::Replace(..) => ImportOutcome::Replaced,
        Step::Deliver(_) => ImportOutcome::Same,
    }
}

fn too_large(arrival: &Arrival) -> ImportOutcome {
    ImportOutcome::Refused(Refusal::HrTooLarge(arrival.id.to_string()))
}

fn rejected(arrival: &Arrival, reason: String) -> ImportOutcome {
    ImportOutcome::Refused(Refusal::Rejected {
        user: arrival.id.to_string(),
        reason,
    })
}

/// The content of a record, whatever its version.
fn hr_content(record: &RawDocumentBuf) -> RawDocumentBuf {
    document::without(record, &[document::field::METADATA], &[])
}

/// What `store` holds of these, whole, by id.
async fn stored(
    store: &dyn Store,
    collection: &HrCollection,
    arrivals: &[&Arrival],
) -> Result<HashMap<String, RawDocumentBuf>, StoreError> {
    let mut missing: Vec<_> = arrivals.iter().map(|one| one.id.to_bson()).collect();
    let mut found = HashMap::new();
    while !missing.is_empty() {
        let find = Find::new(Query::Ids(missing.clone()))
            .limit(missing.len())
            .max_bytes(PAGE_BYTES);
        let page = repeating(|| store.find(collection.as_str(), &find)).await?;
        if page.is_empty() {
            break;
        }
        for record in page {
            let id = document::id(&record);
            missing.retain(|it| *it != id);
            if let Some(id) = id.as_str() {
                found.insert(id.to_owned(), record);
            }
        }
    }
    Ok(found)
}
