//! Writing a section: in place where the user is, else by entering.

use std::sync::Arc;
use std::time::Duration;

use bson::Bson;
use bson::raw::{RawBsonRef, RawDocument, RawDocumentBuf};
use tierkeep_core::bson;
use tierkeep_core::content;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::erasure::Stage;
use tierkeep_core::route;
use tierkeep_core::store::{Change, Guard, Store, StoreError, Verdict, Written};
use tierkeep_core::user::{Section, UserId, UserType};

use crate::claims::{Consistency, CurrentCopy};
use crate::copies::adopt::{Adoption, adopt_copies, adopt_in_temp};
use crate::copies::staging::is_abandoned;
use crate::erasure::service::ErasureService;
use crate::erasure::tombstones;
use crate::mutant::Mutant;
#[cfg(feature = "mutants")]
use crate::mutant::wrong;
use crate::users::attempt::{Round, Write};
use crate::users::conditions::{already, check, logged, receipt, unreadable};
use crate::users::{Condition, Found, Receipt, Users, UsersError};

/// How often a write that lost a race looks again.
const ROUNDS: u32 = 24;

impl Users {
    /// Replaces a section, creating the user where there is none.
    ///
    /// Acknowledged means durable. Dropping the future leaves the effect unknown; repeating the call is
    /// safe but counts as another change.
    ///
    /// # Errors
    /// [`UsersError`]; nothing changed, except that the effect is unknown after
    /// [`UsersError::Unavailable`] and [`UsersError::Contended`].
    pub async fn put(
        &self,
        user: &UserId,
        section: &Section,
        value: RawDocumentBuf,
        condition: Condition,
    ) -> Result<Receipt, UsersError> {
        let op = self.engine.randomness().id();
        let write = Write::new(user, section, Some(value), condition, op);
        self.write(write).await
    }

    /// Removes a section of a user who is stored.
    ///
    /// # Errors
    /// [`UsersError::NotFound`] when the user is not stored, [`UsersError::SectionNotFound`] when the section is not, else
    /// as [`Users::put`].
    pub async fn remove(
        &self,
        user: &UserId,
        section: &Section,
        condition: Condition,
    ) -> Result<Receipt, UsersError> {
        let found = self.read(user).await?.ok_or(UsersError::NotFound)?;
        if !matches!(found.document.get(section.as_str()), Ok(Some(_))) {
            return Err(UsersError::SectionNotFound);
        }
        let op = self.engine.randomness().id();
        self.write(Write::new(user, section, None, condition, op))
            .await
    }

    /// Applies a JSON Merge Patch (RFC 7396) to a section; a missing section counts as empty.
    ///
    /// # Errors
    /// As [`Users::put`].
    pub async fn patch(
        &self,
        user: &UserId,
        section: &Section,
        patch: &RawDocument,
        condition: Condition,
    ) -> Result<Receipt, UsersError> {
        for round in 0..ROUNDS {
            let found = self.read(user).await?;
            let merged = match found
                .as_ref()
                .map(|found| found.document.get(section.as_str()))
            {
                Some(Ok(Some(RawBsonRef::Document(stored)))) => content::merge(stored, patch),
                Some(Err(_)) => return Err(unreadable(section)),
                Some(Ok(_)) | None => content::merge(&RawDocumentBuf::new(), patch),
            };
            let value = merged.map_err(|_| unreadable(section))?;
            let current = found.as_ref().and_then(crate::users::Found::version);
            check(condition, found.is_some(), current)?;
            let seen = match (&found, current) {
                (Some(_), Some(version)) => Condition::Version(version),
                // A merge is written only over exactly the version it was made from.
                (Some(found), None) => {
                    self.adopt_found(user, found).await?;
                    continue;
                }
                (None, _) => Condition::Absent,
            };
            let op = self.engine.randomness().id();
            let write = Write::new(user, section, Some(value), seen, op);
            match self.write(write).await {
                Err(UsersError::Mismatch { .. }) => self.pause(round).await,
                done => return done,
            }
        }
        Err(UsersError::Contended)
    }

    async fn write(&self, mut write: Write<'_>) -> Result<Receipt, UsersError> {
        let _at_work = self.engine.requests().begin();
        let user = write.user;
        if let Err(error) = self.finish_erasure_before_write(user).await {
            return Err(logged(user, error));
        }
        write.seen = self.last_seen.of(user);
        for round in 0..ROUNDS {
            match self.round(&mut write).await {
                Ok(Round::Done(receipt)) => {
                    self.last_seen.note(user, receipt.version);
                    return Ok(receipt);
                }
                Ok(Round::Again) => self.pause(round).await,
                Err(error) => return Err(logged(user, error)),
            }
        }
        Err(logged(user, UsersError::Contended))
    }

    /// Brings an erasure that is pending to the database that is about to be written to: nothing is written to what
    /// only waits to be erased.
    async fn finish_erasure_before_write(&self, user: &UserId) -> Result<(), UsersError> {
        let Some(fence) = self.pending.fence(&self.engine, user).await else {
            return Ok(());
        };
        let role = route::writes(user.user_type());
        let there = match user.user_type() {
            UserType::Internal => {
                let temp = self.engine.databases.raseen_temp_db();
                CurrentCopy::of(temp, user, Consistency::Majority).await?
            }
            UserType::External => {
                let external = self.engine.databases.external_db();
                CurrentCopy::of(external, user, Consistency::Majority).await?
            }
        };
        let is_newer = there.version() >= Some(fence);
        // The cached erasure may be outdated, and another program may have stored the user again: only the ledger
        // decides what is erased.
        let entry = match self.engine.ledger().entry(user).await {
            Ok(entry) => entry.filter(|entry| entry.stage == Stage::Pending),
            Err(_) if is_newer => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let Some(entry) = entry else {
            return Ok(());
        };
        if entry.predates_all_of(role) {
            let erasures = ErasureService::new(Arc::clone(&self.engine));
            erasures.finish_in(role, user, &entry).await?;
        } else if let Some(fence) = entry.fence().filter(|fence| there.version() < Some(*fence)) {
            tombstones::erase_in(&self.engine, role, user, fence).await?;
        }
        Ok(())
    }

    async fn round(&self, write: &mut Write<'_>) -> Result<Round, UsersError> {
        let role = route::writes(write.user.user_type());
        if let Some(round) = self.in_place(write, role).await? {
            return Ok(round);
        }
        let resident = match write.user.user_type() {
            UserType::Internal => CurrentCopy::of(
                self.engine.databases.raseen_temp_db(),
                write.user,
                Consistency::Majority,
            ),
            UserType::External => {
                return self.enter_external(write).await;
            }
        };
        match resident.await? {
            CurrentCopy::Live(document) => self.over(write, &document, role).await,
            CurrentCopy::Foreign(document) => self.adopt(&document).await,
            CurrentCopy::Unclear(reason) => Err(UsersError::Quarantined(reason)),
            CurrentCopy::Absent => self.enter_temp(write, None).await,
            CurrentCopy::Erased(tombstone) => self.enter_temp(write, Some(&tombstone)).await,
            CurrentCopy::Entering(entry) => {
                if !is_abandoned(&entry, self.engine.clock().now()) {
                    Ok(Round::Again)
                } else if self.engine.mutation().has(Mutant::ConfirmAbandoned) {
                    self.confirm_abandoned(write, &entry).await
                } else {
                    self.enter_temp(write, Some(&entry)).await
                }
            }
        }
    }

    /// The document is live where writes go. One that is seen for the first time is written to at once.
    pub(super) async fn over(
        &self,
        write: &mut Write<'_>,
        document: &RawDocument,
        role: Role,
    ) -> Result<Round, UsersError> {
        let round = already(write, document, role)?;
        let is_first_sight = write.seen.is_none();
        write.seen = document::version(document);
        if is_first_sight && matches!(round, Round::Again) {
            let placed = self.in_place(write, role).await?;
            return Ok(placed.unwrap_or(Round::Again));
        }
        Ok(round)
    }

    /// What must never be done: the one who entered may have read main before a move.
    async fn confirm_abandoned(
        &self,
        write: &Write<'_>,
        entry: &RawDocument,
    ) -> Result<Round, UsersError> {
        let (store, users) = self.target(Role::RaseenTempUser)?;
        let guard = Guard::Entry {
            nonce: document::nonce(entry).unwrap_or_default().to_owned(),
        };
        let id = Bson::String(write.user.to_string());
        let change = Change::Confirm { created: false };
        store.write(users, &id, &guard, &change).await?;
        Ok(Round::Again)
    }

    /// The usual case: the document is where writes go, at a version that the write may name. `None` when nothing
    /// matched or no version is known.
    async fn in_place(
        &self,
        write: &mut Write<'_>,
        role: Role,
    ) -> Result<Option<Round>, UsersError> {
        let Some(window) = write.window() else {
            return Ok(None);
        };
        #[cfg(feature = "mutants")]
        let window = wrong::window(self.engine.mutation(), window);
        let (store, users) = self.target(role)?;
        let id = Bson::String(write.user.to_string());
        let guard = Guard::Live {
            window,
            unless_op: write.op.clone(),
        };
        let change = Change::Section {
            section: write.section.clone(),
            value: write.value.clone(),
            op: write.op.clone(),
        };
        match store.write(users, &id, &guard, &change).await {
            Ok(Written::Applied(document)) => {
                let mut receipt = receipt(&document, &write.op, role, false);
                let lifted = self.lift(write.user, &document).await.unwrap_or_default();
                if let (Some(receipt), Some(version)) =
                    (&mut receipt, lifted.as_deref().and_then(document::version))
                {
                    receipt.version = version;
                }
                Ok(receipt.map(Round::Done))
            }
            Ok(Written::TooLarge) => Err(UsersError::TooLarge),
            Ok(Written::Rejected(fault)) => Err(UsersError::Rejected(fault)),
            Ok(Written::Unmatched) => {
                write.races += 1;
                Ok(None)
            }
            Err(error) if error.verdict() == Verdict::Retry => {
                // What the document remembers says whether this may be sent again.
                if error.is_ambiguous() && write.lose(window) {
                    return Err(error.into());
                }
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a document of another program its final form where it was found.
    async fn adopt_found(&self, user: &UserId, found: &Found) -> Result<(), UsersError> {
        let ledger = self.engine.ledger();
        let adoption = match found.source {
            Role::RaseenTempUser => adopt_in_temp(&self.engine, &found.document).await?,
            Role::ExternalUsers => {
                adopt_copies(ledger, self.engine.databases.external_db(), user).await?
            }
            Role::SrieMainUser => {
                adopt_copies(ledger, self.engine.databases.srie_main_db(), user).await?
            }
            Role::RaseenMainUser
            | Role::RaseenMainHr
            | Role::SrieMainHr
            | Role::EvaluationAudit => {
                adopt_copies(ledger, self.engine.databases.raseen_main_db(), user).await?
            }
        };
        match adoption {
            Adoption::Done | Adoption::Again => Ok(()),
            Adoption::Quarantined(reason) => Err(UsersError::Quarantined(reason)),
        }
    }

    async fn adopt(&self, document: &RawDocument) -> Result<Round, UsersError> {
        match adopt_in_temp(&self.engine, document).await? {
            Adoption::Done | Adoption::Again => Ok(Round::Again),
            Adoption::Quarantined(reason) => Err(UsersError::Quarantined(reason)),
        }
    }

    /// Waits a little longer in each round, 10 ms to half a second, with jitter.
    async fn pause(&self, round: u32) {
        let whole = Duration::from_millis(10 << round.min(6)).min(Duration::from_millis(500));
        let fraction = self.engine.randomness().fraction();
        tokio::time::sleep(whole.mul_f64(0.5 + fraction / 2.0)).await;
    }

    pub(super) fn target(
        &self,
        role: Role,
    ) -> Result<(std::sync::Arc<dyn Store>, &'static str), UsersError> {
        match (self.engine.databases.store(role), role.users()) {
            (Some(store), Some(users)) => Ok((store, users)),
            (None, _) | (_, None) => Err(UsersError::Unavailable(StoreError {
                database: role,
                operation: "write",
                class: tierkeep_core::store::Class::Other,
                code: 0,
            })),
        }
    }
}
