//! Counters that only grow, since the process began: for metrics, never for decisions.

use std::sync::atomic::{AtomicU64, Ordering};

use tierkeep_core::db::Role;

/// How often each database was tried again because it could not be reached: at the start, and while its breaker is
/// open.
#[derive(Debug, Default)]
pub struct ConnectRetries([AtomicU64; Role::ALL.len()]);

impl ConnectRetries {
    /// The retries of one database.
    pub fn of(&self, role: Role) -> u64 {
        self.0[role as usize].load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, role: Role) {
        self.0[role as usize].fetch_add(1, Ordering::Relaxed);
    }
}
