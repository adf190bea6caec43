//! Reading the erasure ledger: which versions of which users count as erased.
//!
//! Makes its key, and opens entries again for tombstones that come late; entries are made and closed by
//! [`crate::erasure`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{EvaluationAudit, Role, collection};
use tierkeep_core::document;
use tierkeep_core::erasure::{Erasure, LedgerKey, Stage, erasure_field};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Class, Find, Query, StoreError};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use crate::databases::random::Randomness;
use crate::databases::retry::repeating;

/// Names the key's document in `control`.
const KEY: &str = "erasure_key";

/// The most entries that [`Fences`] reads whole, and the most users that it looks up at once.
const FEW_ENTRIES: usize = 1_000;
const LOOKED_UP: usize = 1_000;

/// The erasure ledger of a deployment.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    audit: Handle<EvaluationAudit>,
    clock: Arc<dyn Clock>,
    key: OnceLock<LedgerKey>,
}

impl Ledger {
    pub(crate) fn new(audit: Handle<EvaluationAudit>, clock: Arc<dyn Clock>) -> Self {
        Self {
            audit,
            clock,
            key: OnceLock::new(),
        }
    }

    /// The version below which content of `user` counts as nothing; `None` for who was never erased.
    pub(crate) async fn fence(&self, user: &UserId) -> Result<Option<Version>, StoreError> {
        Ok(self.entry(user).await?.and_then(|entry| entry.fence()))
    }

    /// As [`Ledger::fence`], for many, in their order.
    pub(crate) async fn fences(&self, users: &[&str]) -> Result<Vec<Option<Version>>, StoreError> {
        let entries = self.entries(users).await?;
        Ok(entries
            .into_iter()
            .map(|entry| entry.and_then(|entry| entry.fence()))
            .collect())
    }

    /// As [`Ledger::entry`], for many, in their order.
    pub(crate) async fn entries(&self, users: &[&str]) -> Result<Vec<Option<Erasure>>, StoreError> {
        let Some(key) = self.key().await? else {
            return Ok(vec![None; users.len()]);
        };
        let ids: Vec<String> = users.iter().map(|user| key.entry_id(user)).collect();
        let wanted = ids.iter().cloned().map(Bson::String).collect();
        let find = Find::new(Query::Ids(wanted))
            .limit(ids.len().max(1))
            .max_bytes(usize::MAX);
        let store = self.audit.store();
        let found = repeating(|| store.find(collection::ERASURES, &find)).await?;
        let mut entries = BTreeMap::new();
        for document in &found {
            let entry = Erasure::read(document).ok_or_else(corrupt)?;
            entries.insert(entry.id.clone(), entry);
        }
        Ok(ids.iter().map(|id| entries.get(id).cloned()).collect())
    }

    /// The entry of `user`.
    pub(crate) async fn entry(&self, user: &UserId) -> Result<Option<Erasure>, StoreError> {
        let Some(key) = self.key().await? else {
            return Ok(None);
        };
        let id = Bson::String(key.entry_id(user.as_str()));
        let find = Find::new(Query::Ids(vec![id]));
        let store = self.audit.store();
        let found = repeating(|| store.find(collection::ERASURES, &find)).await?;
        found
            .first()
            .map(|document| Erasure::read(document).ok_or_else(corrupt))
            .transpose()
    }

    /// Whose erasures have not reached every database, with the version at and below which nothing of them counts; of
    /// `most` at most.
    pub(crate) async fn pending(&self, most: usize) -> Result<Vec<(UserId, Version)>, StoreError> {
        let pending = doc! { erasure_field::STAGE: Stage::Pending.as_str() };
        let find = Find::new(Query::Equal(pending))
            .limit(most)
            .max_bytes(usize::MAX);
        let found = self.audit.store().find(collection::ERASURES, &find).await?;
        let whom = |document: &RawDocumentBuf| {
            let entry = Erasure::read(document).ok_or_else(corrupt)?;
            entry.user.clone().zip(entry.fence()).ok_or_else(corrupt)
        };
        found.iter().map(whom).collect()
    }

    /// To be called before any of these tombstones is put where it may have been removed already: it is removed again
    /// after another grace period, so that no erased user's id stays behind.
    pub(crate) async fn reopen(&self, tombstones: &[RawDocumentBuf]) -> Result<(), StoreError> {
        let Some(key) = self.key().await? else {
            return Ok(());
        };
        let store = self.audit.store();
        for tombstone in tombstones {
            let (Some(user), Some(fence)) =
                (document::user_id(tombstone), document::version(tombstone))
            else {
                continue;
            };
            let ids = [Bson::String(key.entry_id(user))];
            let set = Erasure::reopened(user, self.clock.now());
            // One that is pending, or of a later erasure, looks after its own.
            for stage in [Stage::Closed, Stage::Verified] {
                let when = doc! {
                    erasure_field::EPOCH: fence.epoch(),
                    erasure_field::STAGE: stage.as_str(),
                };
                repeating(|| store.amend(collection::ERASURES, &ids, &when, &set)).await?;
            }
        }
        Ok(())
    }

    /// The key; `None` while no user was ever erased. Entries without their key would match no user, so they are
    /// an error.
    pub(crate) async fn key(&self) -> Result<Option<&LedgerKey>, StoreError> {
        if let Some(key) = self.stored_key().await? {
            return Ok(Some(key));
        }
        let any = Find::new(Query::All).limit(1).head();
        let store = self.audit.store();
        let entries = repeating(|| store.find(collection::ERASURES, &any)).await?;
        if entries.is_empty() {
            return Ok(None);
        }
        // The key comes before the first entry: it may have been made since the first look.
        let key = self.stored_key().await?;
        key.map(Some).ok_or_else(corrupt)
    }

    async fn stored_key(&self) -> Result<Option<&LedgerKey>, StoreError> {
        if let Some(key) = self.key.get() {
            return Ok(Some(key));
        }
        let find = Find::new(Query::Ids(vec![Bson::String(KEY.to_owned())]));
        let store = self.audit.store();
        let found = repeating(|| store.find(collection::CONTROL, &find)).await?;
        let Some(document) = found.first() else {
            return Ok(None);
        };
        let key = document.get_str("key").ok().and_then(LedgerKey::parse);
        let key = key.ok_or_else(corrupt)?;
        Ok(Some(self.key.get_or_init(|| key)))
    }

    /// The key, made where there is none. Of two that make one at once, both use the first.
    pub(crate) async fn key_or_new(
        &self,
        randomness: &dyn Randomness,
    ) -> Result<&LedgerKey, StoreError> {
        if let Some(key) = self.key().await? {
            return Ok(key);
        }
        let drawn = [(); 3].map(|()| randomness.unique()).concat();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(drawn.get(..32).ok_or_else(corrupt)?);
        let hex = LedgerKey::new(bytes).to_hex();
        let key = doc! { "_id": KEY, "kind": KEY, "key": hex };
        let key = RawDocumentBuf::try_from(&key).map_err(|_| corrupt())?;
        let keys = [key];
        let store = self.audit.store();
        repeating(|| store.insert(collection::CONTROL, &keys)).await?;
        self.key().await?.ok_or_else(corrupt)
    }
}

/// The fences of very many users, of whom hardly any were erased: a ledger with few entries is read whole each time, and
/// one without entries costs a single look. Remembers nothing of what it read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fences {
    /// The ledger had more entries than are read whole; it never has fewer later.
    is_large: bool,
}

impl Fences {
    /// As [`Ledger::fences`].
    pub(crate) async fn of(
        &mut self,
        ledger: &Ledger,
        users: &[&str],
    ) -> Result<Vec<Option<Version>>, StoreError> {
        let Some(key) = ledger.key().await? else {
            return Ok(vec![None; users.len()]);
        };
        if !self.is_large {
            let all = Find::new(Query::All).limit(FEW_ENTRIES + 1);
            let all = all.max_bytes(usize::MAX);
            let store = ledger.audit.store();
            let found = repeating(|| store.find(collection::ERASURES, &all)).await?;
            self.is_large = found.len() > FEW_ENTRIES;
            if !self.is_large {
                return among(&found, key, users);
            }
        }
        let mut fences = Vec::with_capacity(users.len());
        for users in users.chunks(LOOKED_UP) {
            fences.extend(ledger.fences(users).await?);
        }
        Ok(fences)
    }
}

/// The fences of `users` among all entries of the ledger.
fn among(
    all: &[RawDocumentBuf],
    key: &LedgerKey,
    users: &[&str],
) -> Result<Vec<Option<Version>>, StoreError> {
    let id = |entry: &RawDocumentBuf| document::id(entry).as_str().map(str::to_owned);
    let entries: HashMap<String, &RawDocumentBuf> = all
        .iter()
        .filter_map(|entry| Some((id(entry)?, entry)))
        .collect();
    if entries.is_empty() {
        return Ok(vec![None; users.len()]);
    }
    let fence = |user: &&str| match entries.get(&key.entry_id(user)) {
        None => Ok(None),
        Some(entry) => Erasure::read(entry)
            .map(|it| it.fence())
            .ok_or_else(corrupt),
    };
    users.iter().map(fence).collect()
}

/// The ledger cannot be interpreted, so it is unknown which users were erased.
fn corrupt() -> StoreError {
    StoreError {
        database: Role::EvaluationAudit,
        operation: "ledger",
        class: Class::Corrupt,
        code: 0,
    }
}
