//! What happened since the process began, as numbers that only grow: for metrics, never for decisions.

use std::sync::atomic::{AtomicU64, Ordering};

use tierkeep_core::db::Role;

/// What became of an attempt to move a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveOutcome {
    /// It moved.
    Moved,
    /// It failed for its own reasons and is tried again.
    Retried,
    /// It failed once more than it may.
    Failed,
    /// It waits for a later look: somebody wrote it meanwhile, or a database was away.
    Deferred,
    /// It is left alone until it changes.
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

/// Numbers that only grow.
#[derive(Debug, Default)]
pub struct Tally {
    connect_retries: [AtomicU64; Role::ALL.len()],
    moves: [AtomicU64; MoveOutcome::ALL.len()],
}

impl Tally {
    /// How often a database was tried again because it could not be reached: at the start, and while its breaker is
    /// open.
    pub fn connect_retries(&self, role: Role) -> u64 {
        self.connect_retries[role as usize].load(Ordering::Relaxed)
    }

    /// How many attempts to move a document came out in this way.
    pub fn moves(&self, outcome: MoveOutcome) -> u64 {
        self.moves[outcome as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn connect_retried(&self, role: Role) {
        self.connect_retries[role as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn move_ended(&self, outcome: MoveOutcome) {
        self.moves[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}
