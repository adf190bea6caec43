//! Internal users: the young to temp, the others to srie and then main.
//!
//! A user who signs up at the same moment is in temp at the same version as what is stored in main here. The
//! one looks at main after having put an entry into temp; the other looks at temp after having written main: one
//! of the two always sees the other, however long either was stopped. The sign-up wins.

use std::borrow::Cow;

use bson::Bson;
use bson::raw::RawDocumentBuf;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tierkeep_core::bson;
use tierkeep_core::db::UserDatabase;
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Location};
use tierkeep_core::legacy::Composed;
use tierkeep_core::mover::{Copied, Copies, Item, Record, main_form};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Change, Find, Guard, Query, StoreError, Written};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use crate::claims::{Consistency, CurrentCopy, by_user};
use crate::copies::batch::{copy, read_back};
use crate::copies::staging::{self, Entered, Known, StagingEntry, withdraw};
use crate::databases::retry::repeating;
use crate::erasure::tombstones::{self, Written as JustWritten};
use crate::transfer::import::external::{refused, replace};
use crate::transfer::import::steps::Step;
use crate::transfer::import::stored_form::{is_as_imported, stored_form};
use crate::transfer::import::{Import, ImportOutcome};

/// How many users enter temp at once.
const AT_ONCE: usize = 16;

impl Import {
    /// One round over internal users.
    pub(crate) async fn internal(
        &self,
        arrivals: &[&Composed],
    ) -> Result<Vec<ImportOutcome>, StoreError> {
        let steps = self.steps(arrivals).await?;
        let mut taken = vec![ImportOutcome::Busy; arrivals.len()];
        let (mut settle, mut single) = (Vec::new(), Vec::new());
        for (index, step) in steps.into_iter().enumerate() {
            taken[index] = match &step {
                Step::Over(over) => over.clone(),
                Step::Enter(None) | Step::ImportToMain(_) => ImportOutcome::Stored,
                Step::Enter(Some(_)) | Step::Replace => ImportOutcome::Replaced,
                Step::RemoveImported => ImportOutcome::Own,
            };
            match step {
                Step::Over(_) => {}
                Step::ImportToMain(version) => settle.push((index, version)),
                Step::Enter(_) | Step::Replace | Step::RemoveImported => single.push((index, step)),
            }
        }
        if self.dry_run {
            return Ok(taken);
        }
        self.import_to_main(arrivals, &settle, &mut taken).await?;
        let done: Vec<(usize, ImportOutcome)> = stream::iter(single)
            .map(|(index, step)| async move {
                Ok::<_, StoreError>((index, self.one(arrivals[index], step).await?))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (index, outcome) in done {
            taken[index] = outcome;
        }
        Ok(taken)
    }

    /// What concerns one user alone.
    async fn one(&self, arrival: &Composed, step: Step) -> Result<ImportOutcome, StoreError> {
        let engine = &self.engine;
        match step {
            Step::Over(over) => Ok(over),
            Step::ImportToMain(_) => Ok(ImportOutcome::Busy),
            Step::Replace => {
                // While a document lives in temp, an erasure replaces it there.
                replace(engine.databases.raseen_temp_db(), Location::Temp, arrival).await
            }
            Step::RemoveImported => {
                self.remove_imported(&arrival.user).await?;
                Ok(ImportOutcome::Own)
            }
            Step::Enter(main) => {
                let Some(version) = Version::above([main]) else {
                    return Ok(refused(arrival, "its version numbers are exhausted"));
                };
                let staging = StagingEntry {
                    user: &arrival.user,
                    document: stored_form(arrival, Location::Temp, version),
                    over: None,
                    // Users that the ledger names do not get here.
                    known: Known { main, fence: None },
                    open_moves: None,
                };
                let staged_at = arrival.created_at;
                let admit = Change::Admit { staged_at };
                Ok(match staging::enter(engine, &staging, admit).await? {
                    Entered::Done(_) if main.is_some() => ImportOutcome::Replaced,
                    Entered::Done(_) => ImportOutcome::Stored,
                    Entered::Again | Entered::Unmatched => ImportOutcome::Busy,
                    Entered::Refused(fault) => refused(arrival, &fault.to_string()),
                })
            }
        }
    }

    /// Stores users in srie, then in main, reads both back, and looks at temp and the ledger afterwards.
    async fn import_to_main(
        &self,
        arrivals: &[&Composed],
        which: &[(usize, Version)],
        taken: &mut [ImportOutcome],
    ) -> Result<(), StoreError> {
        if which.is_empty() {
            return Ok(());
        }
        let engine = &self.engine;
        let ledger = engine.ledger();
        let (mut places, mut items) = (Vec::new(), Vec::new());
        let mut documents: Vec<RawDocumentBuf> = Vec::new();
        for (index, version) in which {
            let (item, document) = main_copy(arrivals[*index], *version);
            places.push(*index);
            items.push(item);
            documents.push(document);
        }
        for main in [false, true] {
            let copies = Copies {
                items: items.iter().collect(),
                documents: Cow::Borrowed(&documents),
            };
            let copied = if main {
                copy(ledger, engine.databases.raseen_main_db(), &copies).await?
            } else {
                copy(ledger, engine.databases.srie_main_db(), &copies).await?
            };
            for (index, copied) in places.iter().zip(&copied) {
                match copied {
                    Copied::Settled => {}
                    Copied::Rejected(reason) => taken[*index] = refused(arrivals[*index], reason),
                    // Another writer's content has this version there: that writer was faster.
                    Copied::Contradicted(_) | Copied::Refused(_) | Copied::Unsettled => {
                        taken[*index] = ImportOutcome::Busy;
                    }
                }
            }
            keep_settled(&mut places, &copied);
            keep_settled(&mut items, &copied);
            keep_settled(&mut documents, &copied);
            // A crash here leaves srie ahead of main, or main without a look at temp; the next run continues.
        }
        if items.is_empty() {
            return Ok(());
        }
        let copies = Copies {
            items: items.iter().collect(),
            documents: documents.into(),
        };
        let verify = self.settings.verify;
        let (srie, main) = tokio::try_join!(
            read_back(engine.databases.srie_main_db(), &copies, verify),
            read_back(engine.databases.raseen_main_db(), &copies, verify),
        )?;
        for ((index, item), (srie, main)) in places.iter().zip(&items).zip(srie.iter().zip(&main)) {
            let proven = [srie, main].into_iter().all(|seen| {
                seen.as_ref().is_some_and(|seen| {
                    seen.version > item.version
                        || (seen.version == item.version && seen.digest == item.digest)
                })
            });
            if !proven {
                taken[*index] = ImportOutcome::Busy;
            }
        }
        self.look_at_temp(&places, &items, taken).await?;
        self.mark_erased_internal(&places, &items, taken).await
    }

    /// A writer that entered temp before main was written here has not seen the copy in main: its entry is withdrawn,
    /// and a user whose own document is live in temp at no higher version keeps that document.
    async fn look_at_temp(
        &self,
        places: &[usize],
        items: &[Item],
        taken: &mut [ImportOutcome],
    ) -> Result<(), StoreError> {
        let users: Vec<String> = items.iter().map(|item| item.user.to_string()).collect();
        let surely = Find::new(Query::All)
            .max_bytes(usize::MAX)
            .head()
            .linearizable();
        let mut found = by_user(self.engine.databases.raseen_temp_db(), &users, surely).await?;
        for (index, item) in places.iter().zip(items) {
            let claims = found.remove(item.user.as_str()).unwrap_or_default();
            match CurrentCopy::among(claims, &item.user) {
                CurrentCopy::Entering(entry) if document::version(&entry) <= Some(item.version) => {
                    // Its writer cannot confirm it any more, and looks at main again.
                    let nonce = document::nonce(&entry).unwrap_or_default();
                    withdraw(&self.engine, &item.user, nonce).await?;
                    taken[*index] = ImportOutcome::Busy;
                }
                CurrentCopy::Live(live)
                    if document::version(&live) <= Some(item.version)
                        && document::imported(&live).is_none() =>
                {
                    self.remove_imported(&item.user).await?;
                    taken[*index] = ImportOutcome::Own;
                }
                CurrentCopy::Absent
                | CurrentCopy::Entering(_)
                | CurrentCopy::Live(_)
                | CurrentCopy::Erased(_)
                | CurrentCopy::Foreign(_)
                | CurrentCopy::Unclear(_) => {}
            }
        }
        Ok(())
    }

    async fn mark_erased_internal(
        &self,
        places: &[usize],
        items: &[Item],
        taken: &mut [ImportOutcome],
    ) -> Result<(), StoreError> {
        let just_written: Vec<JustWritten<'_>> = items
            .iter()
            .map(|item| JustWritten::live(&item.user, None))
            .collect();
        let erased = tombstones::check_after_writing(&self.engine, &just_written).await?;
        for (index, erased) in places.iter().zip(erased) {
            if erased {
                taken[*index] = ImportOutcome::Erased;
            }
        }
        Ok(())
    }

    /// Takes what an import stored, if unchanged since, out of main and srie again.
    async fn remove_imported(&self, user: &UserId) -> Result<(), StoreError> {
        take_out(self.engine.databases.raseen_main_db(), user).await?;
        take_out(self.engine.databases.srie_main_db(), user).await
    }
}

/// Those of `all` whose copy is determined.
fn keep_settled<T>(all: &mut Vec<T>, copied: &[Copied]) {
    let mut copied = copied.iter();
    all.retain(|_| copied.next() == Some(&Copied::Settled));
}

fn main_copy(arrival: &Composed, version: Version) -> (Item, RawDocumentBuf) {
    let document = stored_form(arrival, Location::Main, version);
    let digest = Digest::of(&document);
    let document = main_form(&document, &digest);
    let item = Item {
        user: arrival.user.clone(),
        version,
        digest,
        size: u64::try_from(document.as_bytes().len()).unwrap_or(u64::MAX),
        record: Record::id_of(&arrival.user, version, arrival.created_at),
        original: None,
    };
    (item, document)
}

async fn take_out<D: UserDatabase>(database: &Handle<D>, user: &UserId) -> Result<(), StoreError> {
    let store = database.store();
    for _ in 0..crate::transfer::import::ROUNDS {
        let CurrentCopy::Live(copy) =
            CurrentCopy::of(database, user, Consistency::Majority).await?
        else {
            return Ok(());
        };
        if !is_as_imported(&copy) {
            return Ok(());
        }
        let id = Bson::String(user.to_string());
        let guard = Guard::Whole(copy);
        let written = repeating(|| store.write(D::USERS, &id, &guard, &Change::Remove)).await?;
        match written {
            Written::Applied(_) => return Ok(()),
            // It was read meanwhile, which changes when it was read last.
            Written::Unmatched | Written::TooLarge | Written::Rejected(_) => {}
        }
    }
    Ok(())
}
