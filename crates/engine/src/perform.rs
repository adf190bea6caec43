//! Performing a batch's actions through the stores. Decides nothing: what to do comes from
//! [`Batch::action`], what it means from [`Batch::observe`].
//!
//! The databases of a move are named by type, so a wrong pair does not compile.

use std::collections::BTreeMap;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{
    BackedUp, EvaluationAudit, Handle, Promotes, RaseenTempUser, UserDatabase, collection,
};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, State};
use tierkeep_core::mover::{
    Action, Batch, Copied, Item, Observation, Phase, Record, Seen, SeenInTemp, Status, Target,
    record_field,
};
use tierkeep_core::store::{Class, Fence, Find, Inserted, Put, Query, StoreError};

use crate::connection::ConnectionManager;
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
    clock: std::sync::Arc<dyn Clock>,
    run_id: String,
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
    pub(crate) fn new(databases: &ConnectionManager, run_id: &str) -> Self {
        Self {
            temp: databases.raseen_temp_db().clone(),
            main: databases.raseen_main_db().clone(),
            backup: databases.srie_main_db().clone(),
            audit: databases.audit_db().clone(),
            clock: std::sync::Arc::clone(databases.clock()),
            run_id: run_id.to_owned(),
        }
    }

    /// Takes the batch through its phases until it is done or enters `until`.
    pub(crate) async fn advance(
        &self,
        mut batch: Batch,
        until: Option<Phase>,
    ) -> Result<Batch, Box<Stopped>> {
        while batch.phase() != Phase::Done && Some(batch.phase()) != until {
            let observation = match self.perform(batch.action()).await {
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
            Action::Record(items) => {
                self.record(&items).await?;
                Observation::Recorded
            }
            Action::Copy(Target::Backup, copies) => {
                Observation::Copied(copy(&self.backup, &copies).await?)
            }
            Action::Copy(Target::Main, copies) => {
                Observation::Copied(copy(&self.main, &copies).await?)
            }
            Action::ReadBack(items) => {
                let (backup, main) = tokio::join!(
                    read_back(&self.backup, &items),
                    read_back(&self.main, &items)
                );
                Observation::ReadBack(backup?.into_iter().zip(main?).collect())
            }
            Action::ReadTemp(items) => Observation::Temp(self.read_temp(&items).await?),
            Action::Delete(items) => {
                self.delete(&items).await?;
                Observation::Deleted
            }
            Action::Complete(items) => {
                self.complete(&items).await?;
                Observation::Completed
            }
            Action::Done => return Ok(None),
        }))
    }

    /// A pending record for each; those of earlier attempts are kept.
    async fn record(&self, items: &[&Item]) -> Result<(), StoreError> {
        let now = self.clock.now();
        let records: Vec<RawDocumentBuf> = items
            .iter()
            .filter_map(|item| {
                RawDocumentBuf::try_from(&Record::pending(item, &self.run_id, now)).ok()
            })
            .collect();
        let store = self.audit.store();
        repeating(|| store.insert(collection::MIGRATION_RECORDS, &records)).await?;
        Ok(())
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

    /// One statement for each distinct version.
    async fn delete(&self, items: &[&Item]) -> Result<(), StoreError> {
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
        repeating(|| store.delete(RaseenTempUser::USERS, &fences)).await?;
        Ok(())
    }

    async fn complete(&self, items: &[&Item]) -> Result<(), StoreError> {
        let ids: Vec<Bson> = items
            .iter()
            .map(|item| Bson::ObjectId(item.record))
            .collect();
        let when = doc! { record_field::STATUS: Status::Pending.as_str() };
        let set = Record::completed(&self.run_id, self.clock.now());
        let store = self.audit.store();
        repeating(|| store.amend(collection::MIGRATION_RECORDS, &ids, &when, &set)).await?;
        Ok(())
    }
}

/// Inserts first; for those that are there already, skips equals and sends the others guarded.
async fn copy<D: UserDatabase>(
    target: &Handle<D>,
    copies: &[(&Item, &RawDocumentBuf)],
) -> Result<Vec<Copied>, StoreError> {
    let store = target.store();
    let documents: Vec<RawDocumentBuf> = copies.iter().map(|(_, copy)| (*copy).clone()).collect();
    let inserted = repeating(|| store.insert(D::USERS, &documents)).await?;
    let mut outcomes: Vec<Copied> = Vec::with_capacity(copies.len());
    let mut there = Vec::new();
    for (index, outcome) in inserted.into_iter().enumerate() {
        outcomes.push(match outcome {
            Inserted::Stored => Copied::Settled,
            Inserted::Exists => {
                there.push(index);
                Copied::Settled
            }
            Inserted::Rejected(fault) => Copied::Rejected(fault.to_string()),
        });
    }
    if there.is_empty() {
        return Ok(outcomes);
    }
    let items: Vec<&Item> = there.iter().map(|index| copies[*index].0).collect();
    let found = read(target, &items, true).await?;
    let stale: Vec<usize> = there
        .into_iter()
        .filter(|index| {
            let item = copies[*index].0;
            !found.get(item.user.as_str()).is_some_and(|document| {
                document::version(document) == Some(item.version)
                    && Digest::claimed_by(document).as_ref() == Some(&item.digest)
            })
        })
        .collect();
    if stale.is_empty() {
        return Ok(outcomes);
    }
    let newer: Vec<RawDocumentBuf> = stale
        .iter()
        .map(|index| documents[*index].clone())
        .collect();
    let put = repeating(|| store.put_newer(D::USERS, &newer)).await?;
    for (index, outcome) in stale.into_iter().zip(put) {
        if let Put::Rejected(fault) = outcome {
            outcomes[index] = Copied::Rejected(fault.to_string());
        }
    }
    Ok(outcomes)
}

/// Reads the copies whole and computes their digests.
async fn read_back<D: UserDatabase>(
    database: &Handle<D>,
    items: &[&Item],
) -> Result<Vec<Option<Seen>>, StoreError> {
    let found = read(database, items, false).await?;
    Ok(items
        .iter()
        .map(|item| {
            let document: &RawDocument = found.get(item.user.as_str())?;
            let version = document::version(document)?;
            Some(Seen {
                version,
                digest: Digest::of(document),
            })
        })
        .collect())
}

/// Reads documents by `_id`; only their heads where that is enough.
pub(crate) async fn read<D: UserDatabase>(
    database: &Handle<D>,
    items: &[&Item],
    head: bool,
) -> Result<BTreeMap<String, RawDocumentBuf>, StoreError> {
    let mut found = BTreeMap::new();
    let mut missing: Vec<Bson> = items
        .iter()
        .map(|item| Bson::String(item.user.to_string()))
        .collect();
    while !missing.is_empty() {
        let mut find = Find::new(Query::Ids(missing.clone())).limit(missing.len());
        if head {
            find = find.head();
        }
        let page = repeating(|| database.store().find(D::USERS, &find)).await?;
        if page.is_empty() {
            break;
        }
        for document in page {
            if let Bson::String(id) = document::id(&document) {
                found.insert(id, document);
            }
        }
        missing.retain(|id| id.as_str().is_none_or(|id| !found.contains_key(id)));
    }
    Ok(found)
}
