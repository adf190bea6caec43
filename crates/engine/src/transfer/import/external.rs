//! External users: `external_users` alone, inserted first; what is there is replaced only as it was read.

use bson::Bson;
use bson::raw::RawDocumentBuf;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tierkeep_core::bson;
use tierkeep_core::db::{ExternalUsers, UserDatabase};
use tierkeep_core::document::{self, Edit, Location, field};
use tierkeep_core::legacy::{Composed, Refusal};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Change, Guard, Inserted, StoreError, Written};
use tierkeep_core::version::Version;

use crate::claims::{Consistency, CurrentCopy};
use crate::databases::retry::repeating;
use crate::erasure::tombstones::{self, Written as JustWritten};
use crate::transfer::import::stored_form::{ImportedState, standing, stored_form};
use crate::transfer::import::{Import, ImportOutcome, heads};

/// How many documents are replaced at once.
const AT_ONCE: usize = 16;

impl Import {
    /// One round over external users.
    pub(crate) async fn external(
        &self,
        arrivals: &[&Composed],
    ) -> Result<Vec<ImportOutcome>, StoreError> {
        let external = self.engine.databases.external_db();
        let erased = self.erased(arrivals).await?;
        let users: Vec<String> = arrivals.iter().map(|it| it.user.to_string()).collect();
        let mut found = heads(external, &users).await?;
        let (mut new, mut older) = (Vec::new(), Vec::new());
        let mut taken = vec![ImportOutcome::Busy; arrivals.len()];
        for (index, arrival) in arrivals.iter().enumerate() {
            let claims = found.remove(arrival.user.as_str()).unwrap_or_default();
            taken[index] = match CurrentCopy::among(claims, &arrival.user) {
                _ if erased[index] => ImportOutcome::Erased,
                CurrentCopy::Erased(_) => ImportOutcome::Erased,
                CurrentCopy::Foreign(_) | CurrentCopy::Unclear(_) => ImportOutcome::Own,
                CurrentCopy::Entering(_) => ImportOutcome::Busy,
                CurrentCopy::Absent => {
                    new.push(index);
                    ImportOutcome::Stored
                }
                CurrentCopy::Live(head) => match standing(&head, arrival) {
                    ImportedState::Same(_) => ImportOutcome::Same,
                    ImportedState::Changed => ImportOutcome::Changed,
                    ImportedState::Own => ImportOutcome::Own,
                    ImportedState::Older(_) => {
                        older.push(index);
                        ImportOutcome::Replaced
                    }
                },
            };
        }
        if self.dry_run {
            return Ok(taken);
        }
        self.insert_external(arrivals, &new, &mut taken).await?;
        let replaced: Vec<(usize, ImportOutcome)> = stream::iter(older.clone())
            .map(|index| async move {
                let outcome = replace(external, Location::External, arrivals[index]).await?;
                Ok::<_, StoreError>((index, outcome))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (index, outcome) in replaced {
            taken[index] = outcome;
        }
        new.extend(older);
        self.mark_erased_external(arrivals, &new, &mut taken)
            .await?;
        Ok(taken)
    }

    async fn insert_external(
        &self,
        arrivals: &[&Composed],
        new: &[usize],
        taken: &mut [ImportOutcome],
    ) -> Result<(), StoreError> {
        if new.is_empty() {
            return Ok(());
        }
        let documents: Vec<RawDocumentBuf> = new
            .iter()
            .map(|index| stored_form(arrivals[*index], Location::External, Version::FIRST))
            .collect();
        let store = self.engine.databases.external_db().store();
        let outcomes = repeating(|| store.insert(ExternalUsers::USERS, &documents)).await?;
        for (index, outcome) in new.iter().zip(outcomes) {
            taken[*index] = match outcome {
                Inserted::Stored => ImportOutcome::Stored,
                // Another writer was faster, or this run itself inserted it and the answer was lost: look again.
                Inserted::Exists => ImportOutcome::Busy,
                Inserted::Rejected(fault) => refused(arrivals[*index], &fault.to_string()),
                Inserted::Unsettled(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Who was erased while it was stored is found by looking into the ledger afterwards.
    async fn mark_erased_external(
        &self,
        arrivals: &[&Composed],
        written: &[usize],
        taken: &mut [ImportOutcome],
    ) -> Result<(), StoreError> {
        if written.is_empty() {
            return Ok(());
        }
        let just_written: Vec<JustWritten<'_>> = written
            .iter()
            .map(|index| JustWritten::live(&arrivals[*index].user, None))
            .collect();
        let erased = tombstones::check_after_writing(&self.engine, &just_written).await?;
        for (index, erased) in written.iter().zip(erased) {
            if erased {
                taken[*index] = ImportOutcome::Erased;
            }
        }
        Ok(())
    }
}

/// Puts the arrival in the place of what an earlier run stored, if that is still there exactly.
pub(crate) async fn replace<D: UserDatabase>(
    database: &Handle<D>,
    location: Location,
    arrival: &Composed,
) -> Result<ImportOutcome, StoreError> {
    let user = &arrival.user;
    let CurrentCopy::Live(stored) = CurrentCopy::of(database, user, Consistency::Majority).await?
    else {
        return Ok(ImportOutcome::Busy);
    };
    let ImportedState::Older(version) = standing(&stored, arrival) else {
        return Ok(ImportOutcome::Busy);
    };
    let Some(next) = version.next() else {
        return Ok(refused(arrival, "its version numbers are exhausted"));
    };
    let id = Bson::String(user.to_string());
    let seen = document::last_accessed(&stored).max(document::last_accessed(&arrival.document));
    let mut replaced = stored_form(arrival, location, next);
    if let Some(seen) = seen {
        replaced = Edit::new().set(field::LAST_ACCESSED, seen).apply(&replaced);
    }
    let change = Change::Replace(replaced);
    let guard = Guard::Whole(stored);
    let store = database.store();
    Ok(
        match repeating(|| store.write(D::USERS, &id, &guard, &change)).await? {
            Written::Applied(document) => {
                debug_assert_eq!(document::version(&document), Some(next));
                ImportOutcome::Replaced
            }
            // Read or changed meanwhile, or the answer was lost: look again.
            Written::Unmatched => ImportOutcome::Busy,
            Written::TooLarge => ImportOutcome::Refused(Refusal::TooLarge(user.clone())),
            Written::Rejected(fault) => refused(arrival, &fault.to_string()),
        },
    )
}

pub(crate) fn refused(arrival: &Composed, reason: &str) -> ImportOutcome {
    ImportOutcome::Refused(Refusal::Rejected {
        user: arrival.user.to_string(),
        reason: reason.to_owned(),
    })
}
