//! Erasing a user: an entry in the ledger, which is the point of no return, then a tombstone in every
//! database, each verified; later the tombstones go and the entry stays.
//!
//! Any process may repeat any step. Rule source: the contract's section 3 and the protocol's section 5.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, doc};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::erasure::{Erasure, Stage, erasure_field, tiers};
use tierkeep_core::store::{Change, Find, Guard, Query, Store, StoreError};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tokio::time::Instant;
use tracing::{error, info};

use crate::context::Engine;
use crate::databases::control;
use crate::databases::pages::Pages;
use crate::databases::retry::repeating;
use crate::erasure::survey::Survey;
use crate::erasure::tombstones;
use crate::github_binding;
use crate::mutant::Mutant;

/// How often a step that lost a race looks again.
const ROUNDS: u32 = 24;

/// What an erasure came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Erased {
    /// How often the id was erased by now.
    pub epoch: i64,
    /// The databases that have not confirmed it; they are finished in the background. `evaluation_audit`
    /// when it went away before it could note that the others have.
    pub pending: Vec<Role>,
}

/// Why nothing was erased.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum EraseError {
    /// `evaluation_audit` did not answer. If the entry was made nevertheless, it is finished in the
    /// background; repeating is safe.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
    /// Others erase the same user again and again.
    #[error("too many erasures of {0} run at once")]
    Contended(UserId),
}

/// Erases users and finishes erasures that were cut off.
#[derive(Clone, Debug)]
pub struct ErasureService {
    engine: Arc<Engine>,
}

impl ErasureService {
    /// A service over these databases.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Erases what is stored of `user` now. A later sign-up starts a new life at a higher version.
    ///
    /// Idempotent: a user without any remaining content is not erased again. Dropping the future may leave the
    /// erasure to the background.
    ///
    /// # Errors
    /// [`EraseError`] when the ledger could not take it.
    pub async fn erase(&self, user: &UserId) -> Result<Erased, EraseError> {
        let _at_work = self.engine.requests().begin();
        let entry = self.begin(user).await?;
        let begun = Instant::now();
        // From here on it counts, whatever crashes: the entry names what is left to do.
        let mut pending = self.erase_copies(user, &entry).await;
        if let Err(error) = self.note(user, &entry, &pending).await {
            failed(user, &error);
            pending.push(error.database);
        }
        if !pending.is_empty() {
            // Every process knows it by then: see `users::pending`.
            tokio::time::sleep_until(begun + self.engine.pending_known_for()).await;
        }
        Ok(Erased {
            epoch: entry.epoch,
            pending,
        })
    }

    /// Whether there is anything to erase of `user`, or was: a copy anywhere, an entry of the ledger, or a
    /// database that is away and may hold one.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn is_known(&self, user: &UserId) -> Result<bool, StoreError> {
        let entry = self.engine.ledger().entry(user).await?;
        Ok(entry.is_some() || !Survey::of(&self.engine, user).await.is_empty())
    }

    /// Finishes what is pending; answers how many erasures still are.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn finish_pending(&self) -> Result<u64, StoreError> {
        let mut left = 0;
        let audit = self.engine.databases.audit_db().store();
        let mut entries = entries_at(audit.as_ref(), Stage::Pending);
        while let Some(page) = entries.next().await? {
            for entry in read(&page) {
                let Some(user) = entry.user.clone() else {
                    continue;
                };
                let pending = self.erase_copies(&user, &entry).await;
                self.note(&user, &entry, &pending).await?;
                left += u64::from(!pending.is_empty());
            }
        }
        Ok(left)
    }

    /// Whose erasures were asked for at or before `before` and are still pending.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn pending_since(&self, before: DateTime) -> Result<Vec<UserId>, StoreError> {
        let mut users = Vec::new();
        let audit = self.engine.databases.audit_db().store();
        let mut entries = entries_at(audit.as_ref(), Stage::Pending);
        while let Some(page) = entries.next().await? {
            let late = read(&page).filter(|entry| entry.requested_at.is_none_or(|at| at <= before));
            users.extend(late.filter_map(|entry| entry.user));
        }
        Ok(users)
    }

    /// Removes the tombstones of erasures that were verified in every database for `grace`; answers of
    /// how many.
    ///
    /// # Errors
    /// [`StoreError`] when a database did not answer.
    pub async fn remove_tombstones(&self, grace: Duration) -> Result<u64, StoreError> {
        let before = clock::before(self.engine.clock().now(), grace);
        let mut removed = 0;
        let audit = self.engine.databases.audit_db().store();
        let mut entries = entries_at(audit.as_ref(), Stage::Verified);
        while let Some(page) = entries.next().await? {
            for entry in read(&page) {
                let ripe = entry.verified_at.is_some_and(|at| at <= before);
                let (Some(user), Some(fence)) = (entry.user.clone(), entry.fence()) else {
                    continue;
                };
                if !ripe {
                    continue;
                }
                self.remove_tombstone(&user, fence).await?;
                // A crash here leaves an entry whose tombstones are gone; removing them again is harmless.
                removed += self
                    .amend(&entry, Stage::Verified, &Erasure::closed())
                    .await?;
            }
        }
        Ok(removed)
    }

    /// Makes the entry, or finds the one that covers everything that is stored.
    ///
    /// The fence is chosen once, above the ledger and every copy that can be read. A lost race or a lost answer keeps it:
    /// an entry that has come as far meanwhile covers what was seen here, and a newer life is left alone.
    async fn begin(&self, user: &UserId) -> Result<Erasure, EraseError> {
        let ledger = self.engine.ledger();
        let id = ledger
            .key_or_new(self.engine.randomness())
            .await?
            .entry_id(user.as_str());
        let audit = self.engine.databases.audit_db().store();
        let mut entry = ledger.entry(user).await?;
        let mut survey = Survey::of(&self.engine, user).await;
        if self.engine.mutation().has(Mutant::UnreadIsForgotten) {
            survey.unread.clear();
        }
        if let Some(entry) = entry.take_if(|entry| survey.is_covered_by(entry)) {
            return Ok(entry);
        }
        let mut epoch = survey.epoch_above(entry.as_ref());
        if self.engine.mutation().has(Mutant::FenceFromTheLedger) {
            epoch = entry.as_ref().map_or(1, |entry| entry.epoch + 1);
        }
        for round in 0..ROUNDS {
            let set = Erasure::begun_unread(user, epoch, &survey.unread, self.engine.clock().now());
            let is_made = match &entry {
                None => {
                    let mut first = doc! { "_id": &id };
                    first.extend(set);
                    control::insert_if_absent(audit.as_ref(), collection::ERASURES, &first).await?
                }
                // Others, or an answer of this call that was lost, have brought it as far.
                Some(made) if round > 0 && made.epoch >= epoch => return Ok(made.clone()),
                Some(older) => {
                    let when = doc! {
                        erasure_field::EPOCH: older.epoch,
                        erasure_field::STAGE: older.stage.as_str(),
                    };
                    let ids = [Bson::String(id.clone())];
                    repeating(|| audit.amend(collection::ERASURES, &ids, &when, &set)).await? > 0
                }
            };
            entry = ledger.entry(user).await?;
            if let Some(made) = entry.take_if(|_| is_made) {
                return Ok(made);
            }
            if self.engine.mutation().has(Mutant::FenceChosenAgain) {
                let again = Survey::of(&self.engine, user).await;
                epoch = again.epoch_above(entry.as_ref());
            }
        }
        Err(EraseError::Contended(user.clone()))
    }

    /// Puts the tombstones where they are missing; answers which databases did not take theirs.
    async fn erase_copies(&self, user: &UserId, entry: &Erasure) -> Vec<Role> {
        let mut pending = Vec::new();
        let (Some(fence), Stage::Pending) = (entry.fence(), entry.stage) else {
            return pending;
        };
        for role in tiers(user.user_type()) {
            if !entry.pending.contains(role) {
                continue;
            }
            if let Err(error) = tombstones::erase_in(&self.engine, *role, user, fence).await {
                failed(user, &error);
                pending.push(*role);
            }
        }
        pending
    }

    /// Finishes an erasure in the database of `role` alone, and notes that.
    ///
    /// # Errors
    /// [`StoreError`] when that database or `evaluation_audit` did not answer.
    pub(crate) async fn finish_in(
        &self,
        role: Role,
        user: &UserId,
        entry: &Erasure,
    ) -> Result<(), StoreError> {
        let Some(fence) = entry.fence() else {
            return Ok(());
        };
        tombstones::erase_in(&self.engine, role, user, fence).await?;
        let left = entry.pending.iter().copied();
        let left: Vec<Role> = left.filter(|pending| *pending != role).collect();
        self.note(user, entry, &left).await
    }

    /// Notes in the ledger what is still pending.
    async fn note(
        &self,
        user: &UserId,
        entry: &Erasure,
        pending: &[Role],
    ) -> Result<(), StoreError> {
        if entry.stage != Stage::Pending || pending == entry.pending {
            return Ok(());
        }
        if pending.is_empty() {
            github_binding::forget(&self.engine, user).await?;
        }
        let set = Erasure::brought(pending, self.engine.clock().now());
        if self.amend(entry, Stage::Pending, &set).await? == 0 {
            return self.take_back(user, entry).await;
        }
        if pending.is_empty() {
            info!(
                user_id = %user,
                user_type = %user.user_type(),
                epoch = entry.epoch,
                "the user was erased from every database",
            );
        }
        Ok(())
    }

    /// Removes the tombstones of this erasure if other processes have meanwhile ended it, including its grace period: a
    /// process that was stalled for that long has written them again.
    async fn take_back(&self, user: &UserId, entry: &Erasure) -> Result<(), StoreError> {
        let now = self.engine.ledger().entry(user).await?;
        match (now, entry.fence()) {
            (Some(now), Some(fence)) if now.stage == Stage::Closed => {
                self.remove_tombstone(user, fence).await
            }
            _ => Ok(()),
        }
    }

    async fn remove_tombstone(&self, user: &UserId, fence: Version) -> Result<(), StoreError> {
        for role in tiers(user.user_type()) {
            let (Some(store), Some(users)) = (self.engine.databases.store(*role), role.users())
            else {
                continue;
            };
            let id = Bson::String(user.to_string());
            let guard = Guard::Tombstone(fence);
            repeating(|| store.write(users, &id, &guard, &Change::Remove)).await?;
        }
        Ok(())
    }

    /// Sets fields of exactly this erasure, while it is at `stage` and no tombstones were written again since it was
    /// read.
    async fn amend(
        &self,
        entry: &Erasure,
        stage: Stage,
        set: &bson::Document,
    ) -> Result<u64, StoreError> {
        let store = self.engine.databases.audit_db().store();
        let ids = [Bson::String(entry.id.clone())];
        let when = doc! {
            erasure_field::EPOCH: entry.epoch,
            erasure_field::STAGE: stage.as_str(),
            erasure_field::VERIFIED_AT: entry.verified_at.map_or(Bson::Null, Bson::DateTime),
            // Others may have brought it further: a database that is done is never noted as pending again.
            erasure_field::PENDING: entry.pending.iter().map(|role| role.name()).collect::<Vec<_>>(),
        };
        repeating(|| store.amend(collection::ERASURES, &ids, &when, set)).await
    }
}

/// The ledger's entries at a stage, in pages.
fn entries_at(audit: &dyn Store, stage: Stage) -> Pages<'_> {
    let at = doc! { erasure_field::STAGE: stage.as_str() };
    Pages::new(audit, collection::ERASURES, Find::new(Query::Equal(at)))
}

fn read(page: &[RawDocumentBuf]) -> impl Iterator<Item = Erasure> {
    page.iter().filter_map(|entry| Erasure::read(entry))
}

fn failed(user: &UserId, error: &StoreError) {
    error!(
        user_id = %user,
        user_type = %user.user_type(),
        database = %error.database,
        error = error.class.as_str(),
        code = error.code,
        "error in erasing from {}; it will be retried",
        error.database,
    );
}
