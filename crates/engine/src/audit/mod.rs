//! The audit trail: proof of what was decided and done, in `evaluation_audit.audit_trail`.
//!
//! Owns the way of an entry into the trail ([`AuditTrail::record`]), who must be told of which decision
//! ([`AuditTrail::decided`]), what is counted instead (`counted`), and what happens while the database is away (`delivery`). Entries hold no content of
//! documents and no tokens. Never alters an entry; only [`AuditTrail::prune`] removes any, and says so in the
//! trail. The chain itself is [`tierkeep_core::audit`].

mod append;
mod counted;
mod decisions;
mod delivery;
mod reading;
mod spool;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bson::{Bson, doc};
use moka::future::Cache;
use tierkeep_core::audit::{AuditKey, AuditKind, Draft, Head};
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{EvaluationAudit, Role, collection};
use tierkeep_core::repeats::Repeats;
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Class, Find, Query, StoreError};

use crate::databases::control;
use crate::databases::random::Randomness;
use crate::databases::retry::repeating;
use append::{Lane, Way};
use counted::Counted;
pub use decisions::{AuditDecisions, Decided, Kept, Refused};
pub use reading::{AuditFilter, AuditPage, Listed, PruneError, Pruned};
use spool::Refusing;
pub use spool::{MemorySpool, Portion, Spool, SpoolShare};

/// Names the key's document in `control`, where none was given.
const KEY: &str = "audit_key";
/// How many users' last decisions are remembered, of internal and of public ones.
const REMEMBERED: u64 = 100_000;

/// How the trail is kept.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// The key of the chain. Without one, a key is made and kept in `evaluation_audit`, where any client that can write
    /// there can read it.
    pub key: Option<AuditKey>,
    /// Which decisions are written.
    pub decisions: AuditDecisions,
    /// Where decisions wait while `evaluation_audit` is away.
    pub spool: Arc<dyn Spool>,
}

impl Default for AuditSettings {
    /// A key in the database, notable decisions, and a spool in memory.
    fn default() -> Self {
        Self {
            key: None,
            decisions: AuditDecisions::Notable,
            spool: Arc::new(MemorySpool::default()),
        }
    }
}

/// The audit trail of a deployment. Clones are the same.
#[derive(Clone)]
pub struct AuditTrail(Arc<Inner>);

struct Inner {
    audit: Handle<EvaluationAudit>,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    settings: AuditSettings,
    key: OnceLock<AuditKey>,
    /// Where the trail ended when this process looked last; locked by the task that appends.
    head: tokio::sync::Mutex<Option<Head>>,
    database_lane: Lane,
    spool_lane: Lane,
    public_spool_lane: Lane,
    /// Decisions go into the spool until it has been delivered whole.
    spooling: AtomicBool,
    /// What the spool takes no more.
    refusing: Refusing,
    /// Held for reading by who looks at `spooling` and then writes; for writing by who ends the spooling.
    turn: tokio::sync::RwLock<()>,
    /// The account that each internal user came with last.
    remembered: Cache<String, Option<String>>,
    /// Public users: apart, so that made-up names push out no internal user.
    remembered_public: Cache<String, ()>,
    /// What anonymous callers cause.
    counted: Counted,
    /// Log lines about states that repeat.
    repeats: Repeats<&'static str>,
}

impl fmt::Debug for AuditTrail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditTrail").finish_non_exhaustive()
    }
}

impl AuditTrail {
    pub(crate) fn new(
        audit: Handle<EvaluationAudit>,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
        settings: AuditSettings,
    ) -> Self {
        let key = OnceLock::new();
        if let Some(given) = settings.key.clone() {
            key.get_or_init(|| given);
        }
        Self(Arc::new(Inner {
            audit,
            clock,
            randomness,
            settings,
            key,
            head: tokio::sync::Mutex::new(None),
            database_lane: Lane::default(),
            spool_lane: Lane::default(),
            public_spool_lane: Lane::default(),
            spooling: AtomicBool::new(false),
            refusing: Refusing::default(),
            turn: tokio::sync::RwLock::new(()),
            remembered: Cache::new(REMEMBERED),
            remembered_public: Cache::new(REMEMBERED),
            counted: Counted::default(),
            repeats: Repeats::default(),
        }))
    }

    /// An entry of this kind about what happens now.
    pub fn draft(&self, kind: AuditKind) -> Draft {
        Draft::new(self.0.randomness.id(), kind, self.0.clock.now())
    }

    /// Writes an entry, and waits until it is in the trail: for what must not be done without it.
    ///
    /// Repeating after an error is safe with the same draft: it is kept once. Dropping the future may leave it
    /// written.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer; the entry may be there nevertheless.
    pub async fn record(&self, draft: Draft) -> Result<(), StoreError> {
        self.through(Way::Database, draft).await
    }

    /// Whether the key was given, and not kept in the database beside the trail.
    pub fn has_own_key(&self) -> bool {
        self.0.settings.key.is_some()
    }

    /// The share of the spool that refused what it was given last: for want of room, or because the operating system says no.
    pub fn spool_refuses(&self) -> Option<SpoolShare> {
        self.0.refusing.share()
    }

    fn is_spooling(&self) -> bool {
        self.0.spooling.load(Ordering::Acquire)
    }

    /// The key; `None` where none was given and no entry was ever written.
    async fn key(&self) -> Result<Option<&AuditKey>, StoreError> {
        if let Some(key) = self.0.key.get() {
            return Ok(Some(key));
        }
        let find = Find::new(Query::Ids(vec![Bson::String(KEY.to_owned())]));
        let store = self.0.audit.store();
        let found = repeating(|| store.find(collection::CONTROL, &find)).await?;
        let Some(document) = found.first() else {
            return Ok(None);
        };
        let secret = document.get_str("key").map_err(|_| corrupt())?;
        let key = AuditKey::new(secret.as_bytes());
        Ok(Some(self.0.key.get_or_init(|| key)))
    }

    /// The key, made where there is none. Of two that make one at once, both use the first.
    async fn key_or_new(&self) -> Result<&AuditKey, StoreError> {
        if let Some(key) = self.key().await? {
            return Ok(key);
        }
        let secret = [(); 3].map(|()| self.0.randomness.id()).concat();
        let key = doc! { "_id": KEY, "kind": KEY, "key": secret };
        control::insert_if_absent(self.0.audit.store().as_ref(), collection::CONTROL, &key).await?;
        self.key().await?.ok_or_else(corrupt)
    }
}

/// What the database answered cannot be understood.
fn corrupt() -> StoreError {
    failed(Class::Corrupt, 0)
}

fn failed(class: Class, code: i32) -> StoreError {
    StoreError {
        database: Role::EvaluationAudit,
        operation: "audit",
        class,
        code,
    }
}
