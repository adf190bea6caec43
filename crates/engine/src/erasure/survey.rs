//! What the databases hold of a user who is to be erased, and the fence above all of it. Only reads.

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::bson;
use tierkeep_core::db::{Role, UserDatabase};
use tierkeep_core::document::{self, State};
use tierkeep_core::erasure::{Erasure, Stage, tiers};
use tierkeep_core::store::{Handle, StoreError};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use crate::claims::{Consistency, claims};
use crate::context::Engine;

/// What every database that may hold a user does hold.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Survey {
    /// The databases that did not answer.
    pub(crate) unread: Vec<Role>,
    /// The live documents: where each is, and its version where tierkeep wrote it.
    live: Vec<(Role, Option<Version>)>,
    /// The highest version of all, tombstones included.
    highest: Option<Version>,
}

impl Survey {
    /// Reads every database that may hold `user`.
    pub(crate) async fn of(engine: &Engine, user: &UserId) -> Self {
        let mut survey = Self::default();
        for role in tiers(user.user_type()) {
            let databases = &engine.databases;
            let found = match role {
                Role::ExternalUsers => read(databases.external_db(), user).await,
                Role::RaseenTempUser => read(databases.raseen_temp_db(), user).await,
                Role::RaseenMainUser => read(databases.raseen_main_db(), user).await,
                Role::SrieMainUser => read(databases.srie_main_db(), user).await,
                Role::RaseenMainHr | Role::SrieMainHr | Role::EvaluationAudit => continue,
            };
            match found {
                Ok(found) => found.iter().for_each(|one| survey.add(*role, one)),
                Err(_) => survey.unread.push(*role),
            }
        }
        survey
    }

    fn add(&mut self, role: Role, document: &RawDocument) {
        self.highest = self.highest.max(document::version(document));
        if document::state(document) != Some(State::Erased) {
            let own = document::is_native(document);
            let version = document::version(document).filter(|_| own);
            self.live.push((role, version));
        }
    }

    /// Whether nothing is live, and every database has said so.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.unread.is_empty()
    }

    /// Whether an erasure that was asked for before covers everything: nothing is left but what it is about to erase.
    pub(crate) fn is_covered_by(&self, entry: &Erasure) -> bool {
        let waits = |role| entry.stage == Stage::Pending && entry.pending.contains(role);
        let below = |version: Option<Version>| version.is_some() && version <= entry.fence();
        self.unread.iter().all(waits)
            && self
                .live
                .iter()
                .all(|(role, version)| waits(role) && below(*version))
    }

    /// The number of the erasure whose fence lies above the ledger's entry and every copy that was read. The last one
    /// is repeated.
    pub(crate) fn epoch_above(&self, entry: Option<&Erasure>) -> i64 {
        let of_ledger = entry.map_or(0, |entry| entry.epoch);
        let of_copies = self.highest.map_or(0, Version::epoch);
        let next = of_ledger.max(of_copies).saturating_add(1);
        next.min(Version::LAST_ERASURE)
    }
}

async fn read<D: UserDatabase>(
    database: &Handle<D>,
    user: &UserId,
) -> Result<Vec<RawDocumentBuf>, StoreError> {
    claims(database, user, Consistency::Linearizable).await
}
