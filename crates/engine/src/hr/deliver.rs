//! Delivering records from main to srie: insert what is new, replace what is older, read back, and only then take
//! the mark off.
//!
//! Every step is guarded by the version, so any number of processes may deliver the same records, a crash after any
//! step is a repeat, and versions in srie never fall. A main copy that does not match its own digest never leaves.

use std::collections::BTreeMap;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::db::RaseenMainHr;
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, State};
use tierkeep_core::hr::{self, BackupStatus, HrCollection};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Change, Find, Guard, Inserted, Query, StoreError, Written};
use tierkeep_core::version::Version;

use crate::context::Engine;
use crate::databases::pages::Pages;
use crate::hr::Backup;

/// What became of one record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum DeliveryOutcome {
    /// srie holds it, and main says so.
    Completed,
    /// Main holds a newer version, or none: nothing is left to be done for this one.
    Superseded,
    /// Something was put in order first: read the record again and deliver what it is then.
    Again,
    /// It cannot be delivered for a reason of its own; it stays pending.
    Held(String),
}

/// Delivers records of one collection as main holds them; the outcomes are in their order.
///
/// Cancel safe: what was not finished stays pending.
///
/// # Errors
/// [`StoreError`] when a database did not answer; what was not finished stays pending.
pub(crate) async fn deliver(
    engine: &Engine,
    collection: &HrCollection,
    records: &[RawDocumentBuf],
) -> Result<Vec<DeliveryOutcome>, StoreError> {
    let delivery = Delivery {
        main: engine.databases.raseen_hr_db(),
        srie: engine.databases.srie_hr_db(),
        collection: collection.as_str(),
    };
    let mut outcomes: Vec<DeliveryOutcome> = records.iter().map(|one| fit(one)).collect();
    let (places, copies): (Vec<usize>, Vec<RawDocumentBuf>) = records
        .iter()
        .enumerate()
        .filter(|(place, _)| outcomes.get(*place) == Some(&DeliveryOutcome::Again))
        .map(|(place, record)| (place, hr::as_backup(record)))
        .unzip();
    if copies.is_empty() {
        return Ok(outcomes);
    }
    let stored = delivery.store(&copies).await?;
    let proven = delivery.prove(&copies, stored).await?;
    let finished = delivery.complete(&copies, proven).await?;
    for (place, outcome) in places.into_iter().zip(finished) {
        if let Some(slot) = outcomes.get_mut(place) {
            *slot = outcome;
        }
    }
    Ok(outcomes)
}

/// Whether a record may leave main; [`DeliveryOutcome::Again`] says that it may.
fn fit(record: &RawDocument) -> DeliveryOutcome {
    if document::version(record).is_none() {
        DeliveryOutcome::Held("its version is not an int64".to_owned())
    } else if !hr::is_sound(record) {
        DeliveryOutcome::Held("it does not match its own digest".to_owned())
    } else {
        DeliveryOutcome::Again
    }
}

/// How far one copy is.
#[derive(Clone, PartialEq, Debug)]
enum Step {
    /// It was sent, and may be there.
    Sent,
    /// It was read back, equal.
    Proven,
    /// It goes no further.
    Over(DeliveryOutcome),
}

struct Delivery<'a> {
    main: &'a Handle<RaseenMainHr>,
    srie: &'a Handle<Backup>,
    collection: &'a str,
}

impl Delivery<'_> {
    /// Puts the copies into srie where it holds none or older ones.
    async fn store(&self, copies: &[RawDocumentBuf]) -> Result<Vec<Step>, StoreError> {
        let inserted = self.srie.store().insert(self.collection, copies).await?;
        let mut steps = Vec::with_capacity(copies.len());
        for (copy, inserted) in copies.iter().zip(inserted) {
            steps.push(match inserted {
                Inserted::Stored => Step::Sent,
                Inserted::Exists => self.replace_older(copy).await?,
                Inserted::Rejected(fault) => Step::Over(DeliveryOutcome::Held(fault.to_string())),
                Inserted::Unsettled(error) => Step::Over(DeliveryOutcome::Held(error.to_string())),
            });
        }
        Ok(steps)
    }

    async fn replace_older(&self, copy: &RawDocumentBuf) -> Result<Step, StoreError> {
        let Some(version) = document::version(copy) else {
            return Ok(Step::Sent);
        };
        let (id, guard) = (document::id(copy), Guard::Older(version));
        let change = Change::Replace(copy.clone());
        let store = self.srie.store();
        Ok(
            match store.write(self.collection, &id, &guard, &change).await? {
                Written::Applied(_) | Written::Unmatched => Step::Sent,
                Written::TooLarge => {
                    Step::Over(DeliveryOutcome::Held("it is too large".to_owned()))
                }
                Written::Rejected(fault) => Step::Over(DeliveryOutcome::Held(fault.to_string())),
            },
        )
    }

    /// Reads back what was sent: only equal versions with equal digests are proven.
    async fn prove(
        &self,
        copies: &[RawDocumentBuf],
        mut steps: Vec<Step>,
    ) -> Result<Vec<Step>, StoreError> {
        let sent = copies.iter().zip(&steps);
        let ids = sent
            .filter(|(_, step)| **step == Step::Sent)
            .map(|(copy, _)| document::id(copy));
        let there = self.read(Query::Ids(ids.collect())).await?;
        for (copy, step) in copies.iter().zip(&mut steps) {
            if *step == Step::Sent {
                let found = id_of(copy).and_then(|id| there.get(id));
                *step = match found {
                    None => Step::Over(DeliveryOutcome::Again),
                    Some(found) => self.compare(copy, found).await?,
                };
            }
        }
        Ok(steps)
    }

    /// What srie holds of these, whole, by id.
    async fn read(&self, query: Query) -> Result<BTreeMap<String, RawDocumentBuf>, StoreError> {
        let mut there = BTreeMap::new();
        let store = self.srie.store().as_ref();
        let mut pages = Pages::new(store, self.collection, Find::new(query));
        while let Some(page) = pages.next().await? {
            for copy in page {
                if let Some(id) = id_of(&copy).map(str::to_owned) {
                    there.insert(id, copy);
                }
            }
        }
        Ok(there)
    }

    async fn compare(
        &self,
        copy: &RawDocumentBuf,
        found: &RawDocumentBuf,
    ) -> Result<Step, StoreError> {
        let Some(version) = document::version(copy) else {
            return Ok(Step::Over(DeliveryOutcome::Again));
        };
        match document::version(found) {
            None if document::has_version(found) || document::is_of_user(found) => {
                let why = "srie holds a document with its id that is not an HR record";
                Ok(Step::Over(DeliveryOutcome::Held(why.to_owned())))
            }
            // Another program's copy, without a version: main counts.
            None => {
                let guard = Guard::Whole(found.clone());
                let (id, change) = (document::id(copy), Change::Replace(copy.clone()));
                let store = self.srie.store();
                store.write(self.collection, &id, &guard, &change).await?;
                Ok(Step::Over(DeliveryOutcome::Again))
            }
            Some(there) if there < version => Ok(Step::Over(DeliveryOutcome::Again)),
            Some(there) if there == version && is_equal(copy, found) => Ok(Step::Proven),
            Some(there) => self.raise(copy, version, there).await,
        }
    }

    /// srie is ahead of what was read in main, or holds something else at the same version. Where main still holds
    /// what was read, it was created while srie was away: its version is raised above, so that the write that was
    /// acknowledged last is the one that counts in both.
    async fn raise(
        &self,
        copy: &RawDocumentBuf,
        version: Version,
        above: Version,
    ) -> Result<Step, StoreError> {
        let Some(next) = above.next() else {
            let why = "its version numbers are exhausted".to_owned();
            return Ok(Step::Over(DeliveryOutcome::Held(why)));
        };
        let guard = exactly(copy, version, BackupStatus::Pending);
        let change = Change::Replace(hr::raised(copy, next));
        let id = document::id(copy);
        let store = self.main.store();
        Ok(Step::Over(
            match store.write(self.collection, &id, &guard, &change).await? {
                Written::Applied(_) => DeliveryOutcome::Again,
                Written::Unmatched => DeliveryOutcome::Superseded,
                Written::TooLarge => DeliveryOutcome::Held("it is too large".to_owned()),
                Written::Rejected(fault) => DeliveryOutcome::Held(fault.to_string()),
            },
        ))
    }

    /// Takes the mark off what is proven, where main still holds that version.
    async fn complete(
        &self,
        copies: &[RawDocumentBuf],
        steps: Vec<Step>,
    ) -> Result<Vec<DeliveryOutcome>, StoreError> {
        let mut proven: BTreeMap<Version, Vec<Bson>> = BTreeMap::new();
        for (copy, step) in copies.iter().zip(&steps) {
            if let (Step::Proven, Some(version)) = (step, document::version(copy)) {
                proven.entry(version).or_default().push(document::id(copy));
            }
        }
        let store = self.main.store();
        let set = doc! { "metadata.backup_status": BackupStatus::Completed.as_str() };
        let mut in_doubt = Vec::new();
        for (version, ids) in proven {
            let when = doc! {
                "metadata.version": version.get(),
                "metadata.backup_status": BackupStatus::Pending.as_str(),
            };
            let marked = store.amend(self.collection, &ids, &when, &set).await?;
            if usize::try_from(marked).ok() != Some(ids.len()) {
                in_doubt.extend(ids);
            }
        }
        let mut outcomes = Vec::with_capacity(copies.len());
        for (copy, step) in copies.iter().zip(steps) {
            outcomes.push(match step {
                Step::Sent => DeliveryOutcome::Again,
                Step::Over(outcome) => outcome,
                Step::Proven if in_doubt.contains(&document::id(copy)) => {
                    self.look_again(copy).await?
                }
                Step::Proven => DeliveryOutcome::Completed,
            });
        }
        Ok(outcomes)
    }

    /// Main holds another version by now. A process that was stopped for long may have brought back a version that was
    /// removed long ago: it looks again after writing and corrects what it wrote.
    async fn look_again(&self, copy: &RawDocumentBuf) -> Result<DeliveryOutcome, StoreError> {
        let Some(version) = document::version(copy) else {
            return Ok(DeliveryOutcome::Again);
        };
        let id = document::id(copy);
        let find = Find::new(Query::Ids(vec![id.clone()])).head();
        let found = self.main.store().find(self.collection, &find).await?;
        let Some(now) = found.first() else {
            let guard = exactly(copy, version, BackupStatus::Completed);
            let store = self.srie.store();
            store
                .write(self.collection, &id, &guard, &Change::Remove)
                .await?;
            return Ok(DeliveryOutcome::Superseded);
        };
        match document::version(now) {
            Some(there) if there == version => Ok(DeliveryOutcome::Completed),
            Some(there) if there > version => {
                let when = doc! {
                    "metadata.version": there.get(),
                    "metadata.backup_status": BackupStatus::Completed.as_str(),
                };
                let set = doc! { "metadata.backup_status": BackupStatus::Pending.as_str() };
                let store = self.main.store();
                store.amend(self.collection, &[id], &when, &set).await?;
                Ok(DeliveryOutcome::Superseded)
            }
            Some(_) | None => Ok(DeliveryOutcome::Held("main is older than srie".to_owned())),
        }
    }
}

/// A guard for this version, in this state, with this mark.
fn exactly(copy: &RawDocument, version: Version, status: BackupStatus) -> Guard {
    let state = document::state(copy).unwrap_or(State::Live);
    Guard::Fields(doc! {
        "metadata.version": version.get(),
        "metadata.state": state.as_str(),
        "metadata.backup_status": status.as_str(),
    })
}

/// Whether two copies of one version are the same, by the content that is there.
fn is_equal(copy: &RawDocument, found: &RawDocument) -> bool {
    document::state(copy) == document::state(found)
        && Digest::of_hr_record(copy) == Digest::of_hr_record(found)
}

fn id_of(record: &RawDocument) -> Option<&str> {
    record.get_str(document::field::ID).ok()
}
