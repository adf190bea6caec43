//! The context that every service of the engine is given: the databases, the erasure ledger, the audit trail, the clock
//! and the source of randomness.
//!
//! Decides nothing and performs nothing; it only holds what the rooms above share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tierkeep_core::clock::Clock;

use crate::audit::{AuditSettings, AuditTrail};
use crate::databases::manager::ConnectionManager;
use crate::databases::random::Randomness;
use crate::held_alerts::HeldAlerts;
use crate::ledger::Ledger;
use crate::mutant::Mutation;
use crate::requests::Requests;

/// The databases with what is shared by everything that works on them.
pub struct Engine {
    pub(crate) databases: ConnectionManager,
    ledger: Ledger,
    audit_trail: AuditTrail,
    moves: MoveCounters,
    mutation: Mutation,
    pending_known_for: Duration,
    held_alerts: HeldAlerts,
    requests: Requests,
}

/// How long a process relies on what it last read of pending erasures. An erasure that leaves a database pending is
/// answered after that long: then no process reads or writes what is left.
const PENDING_KNOWN_FOR: Duration = Duration::from_secs(2);

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over these databases, with their clock and randomness. They need not be open yet.
    pub fn new(databases: ConnectionManager) -> Self {
        Self::with_audit(databases, AuditSettings::default())
    }

    /// The same, keeping the audit trail by `settings`.
    pub fn with_audit(databases: ConnectionManager, settings: AuditSettings) -> Self {
        let audit = databases.audit_db();
        let clock = databases.clock();
        let randomness = Arc::clone(databases.randomness());
        Self {
            ledger: Ledger::new(audit.clone(), Arc::clone(clock)),
            audit_trail: AuditTrail::new(audit.clone(), Arc::clone(clock), randomness, settings),
            databases,
            moves: MoveCounters::default(),
            mutation: Mutation::default(),
            pending_known_for: PENDING_KNOWN_FOR,
            held_alerts: HeldAlerts::default(),
            requests: Requests::default(),
        }
    }

    /// Relies for this long, in place of two seconds, on what was read of pending erasures; an erasure that leaves a database
    /// pending takes at least as long. Every process on the same databases needs the same.
    #[must_use]
    pub fn with_pending_known_for(mut self, pending_known_for: Duration) -> Self {
        self.pending_known_for = pending_known_for;
        self
    }

    /// Takes a guard away, for a test that must notice.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with_mutant(mut self, mutant: crate::Mutant) -> Self {
        self.mutation = mutant.into();
        self
    }

    /// The requests of this process that are at work.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The seven databases.
    pub fn databases(&self) -> &ConnectionManager {
        &self.databases
    }

    /// The trail of decisions and actions.
    pub fn audit_trail(&self) -> &AuditTrail {
        &self.audit_trail
    }

    /// The clock of this process.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.databases.clock()
    }

    /// How the attempts to move documents ended, since the process began.
    pub fn moves(&self) -> &MoveCounters {
        &self.moves
    }

    /// The alerts that could not be stored.
    pub(crate) fn held_alerts(&self) -> &HeldAlerts {
        &self.held_alerts
    }

    /// The erasure ledger.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The source of ids and jitter.
    pub(crate) fn randomness(&self) -> &dyn Randomness {
        self.databases.randomness().as_ref()
    }

    /// How long what is known of pending erasures is relied on.
    pub(crate) fn pending_known_for(&self) -> Duration {
        self.pending_known_for
    }

    /// The guard that is missing, if any.
    pub(crate) fn mutation(&self) -> Mutation {
        self.mutation
    }
}

/// How an attempt to move a document ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveOutcome {
    /// The document moved.
    Moved,
    /// The attempt failed because of the document itself and is repeated later.
    Retried,
    /// The last permitted attempt failed.
    Failed,
    /// The document waits for a later run: it was written meanwhile, or a database was unavailable.
    Deferred,
    /// The document is left alone until it changes.
    Quarantined,
}

impl MoveOutcome {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Moved,
        Self::Retried,
        Self::Failed,
        Self::Deferred,
        Self::Quarantined,
    ];

    /// The outcome as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Retried => "retried",
            Self::Failed => "failed",
            Self::Deferred => "deferred",
            Self::Quarantined => "quarantined",
        }
    }
}

/// Attempts to move documents, counted by outcome: for metrics, never for decisions.
#[derive(Debug, Default)]
pub struct MoveCounters([AtomicU64; MoveOutcome::ALL.len()]);

impl MoveCounters {
    /// The attempts with this outcome.
    pub fn of(&self, outcome: MoveOutcome) -> u64 {
        self.0[outcome as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, outcome: MoveOutcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}
