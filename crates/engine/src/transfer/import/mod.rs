//! Taking in users whose documents were put together from elsewhere.
//!
//! Any process may repeat any step at any time: a document that an earlier run stored is found by the fingerprint of
//! what it was made from, a document that was changed since is left alone, and an erased user stays erased. Nothing
//! here knows where the documents come from. Where to look: `external`, `internal` (where each goes and in which
//! order), `steps` (what is to be done about each internal user), `hr` (records), `stored_form` (what may be done about
//! a stored document), `compare` (what is stored against what should be), `resume_token` (how far changes of elsewhere
//! were followed).

mod compare;
mod external;
mod hr;
mod internal;
mod resume_token;
mod steps;
mod stored_form;

pub use compare::Compared;

use std::collections::HashMap;
use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::db::UserDatabase;
use tierkeep_core::document;
use tierkeep_core::legacy::{Composed, Refusal};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Find, Query, StoreError};
use tierkeep_core::user::UserType;

use crate::claims::by_user;
use crate::context::Engine;
use crate::mover::MoverSettings;

/// How often a user who is written concurrently is read again.
const ROUNDS: u32 = 8;

/// What became of one user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImportOutcome {
    /// Stored; in a dry run: would be.
    Stored,
    /// Stored in place of what an earlier run stored, which was not changed since.
    Replaced,
    /// Stored by an earlier run.
    Same,
    /// Stored by an earlier run and changed since: left alone.
    Changed,
    /// Here without any import: left alone.
    Own,
    /// Erased: left out for good.
    Erased,
    /// Being written by another writer at this moment: left to the next run.
    Busy,
    /// It cannot be stored.
    Refused(Refusal),
}

/// Imports users.
#[derive(Clone, Debug)]
pub struct Import {
    engine: Arc<Engine>,
    settings: MoverSettings,
    dry_run: bool,
}

impl Import {
    /// Into these databases; young users wait in temp as long as `settings` say.
    pub fn new(engine: Arc<Engine>, settings: MoverSettings) -> Self {
        Self {
            engine,
            settings,
            dry_run: false,
        }
    }

    /// One that only says what it would do.
    #[must_use]
    pub fn dry(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Imports these users, each for itself; answers what became of each, in their order. No user may be among
    /// them twice.
    ///
    /// External users go to `external_users`, internal ones younger than the retention to temp, the others to
    /// srie and main. Dropping the future is as harmless as a crash: the next run finds what is there.
    ///
    /// # Errors
    /// [`StoreError`] when a database did not answer. Some may be stored nevertheless.
    pub async fn take(&self, arrivals: &[Composed]) -> Result<Vec<ImportOutcome>, StoreError> {
        let mut taken: Vec<Option<ImportOutcome>> = arrivals
            .iter()
            .map(|arrival| {
                let too_large = arrival.document.as_bytes().len() > document::MAX_DOCUMENT_BYTES;
                too_large.then(|| ImportOutcome::Refused(Refusal::TooLarge(arrival.user.clone())))
            })
            .collect();
        for round in 0..ROUNDS {
            for user_type in [UserType::External, UserType::Internal] {
                let open: Vec<usize> = (0..arrivals.len())
                    .filter(|index| {
                        taken[*index].is_none() && arrivals[*index].user.user_type() == user_type
                    })
                    .collect();
                if open.is_empty() {
                    continue;
                }
                let some: Vec<&Composed> = open.iter().map(|index| &arrivals[*index]).collect();
                let outcomes = match user_type {
                    UserType::External => self.external(&some).await?,
                    UserType::Internal => self.internal(&some).await?,
                };
                for (index, outcome) in open.into_iter().zip(outcomes) {
                    if outcome != ImportOutcome::Busy || round + 1 == ROUNDS {
                        taken[index] = Some(outcome);
                    }
                }
            }
        }
        Ok(taken
            .into_iter()
            .map(|taken| taken.unwrap_or(ImportOutcome::Busy))
            .collect())
    }

    /// Those of these users that the ledger names.
    async fn erased(&self, arrivals: &[&Composed]) -> Result<Vec<bool>, StoreError> {
        let users: Vec<&str> = arrivals.iter().map(|it| it.user.as_str()).collect();
        let fences = self.engine.ledger().fences(&users).await?;
        Ok(fences.into_iter().map(|fence| fence.is_some()).collect())
    }
}

/// The heads of everything that claims one of these users in one database, by user.
async fn heads<D: UserDatabase>(
    database: &Handle<D>,
    users: &[String],
) -> Result<HashMap<String, Vec<RawDocumentBuf>>, StoreError> {
    let heads = Find::new(Query::All).max_bytes(usize::MAX).head();
    by_user(database, users, heads).await
}
