//! Backup: replicating to srie whatever main holds that has no completed backup.
//!
//! The mover writes srie before main, so there is nothing to do for what it moved; documents of other programs,
//! imports and a srie that was lost are what this is for. Whatever is cut off is taken up by the next run.

use std::sync::Arc;

use serde::Serialize;
use tierkeep_core::compare::Side;
use tierkeep_core::store::StoreError;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::backup::verify::pairs;
use crate::context::Engine;
use crate::copies::replicate::{PairSync, SyncCounts, Trouble};

/// The outcome of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct BackedUp {
    /// Documents of main that were looked at.
    pub checked: u64,
    /// Copied to srie, or found there and noted in main.
    pub backed_up: u64,
    /// srie had them.
    pub unchanged: u64,
    /// srie holds newer ones, which stay; `verify` says why.
    pub newer_in_backup: u64,
    /// Their users were erased and stay so.
    pub erased: u64,
    /// Main's copy is not what its own digest says; not copied.
    pub corrupt: u64,
    /// srie has other content of the same version, which stays.
    pub conflicts: u64,
    /// srie refuses them, or they cannot be interpreted.
    pub refused: u64,
    /// The first documents that were not copied, and the reasons.
    pub problems: Vec<Trouble>,
    /// It came to its end.
    pub complete: bool,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl BackedUp {
    /// How many documents could not be copied.
    pub fn failed(&self) -> u64 {
        self.corrupt + self.conflicts + self.refused
    }

    fn of(counts: &SyncCounts) -> Self {
        Self {
            checked: counts.checked,
            backed_up: counts.carried,
            unchanged: counts.unchanged,
            newer_in_backup: counts.newer,
            erased: counts.erased,
            corrupt: counts.corrupt,
            conflicts: counts.conflicts,
            refused: counts.refused,
            problems: counts.problems.clone(),
            ..Self::default()
        }
    }
}

/// Replicates main to srie.
#[derive(Clone, Debug)]
pub struct Backup {
    engine: Arc<Engine>,
}

impl Backup {
    /// A backup of these databases.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Copies to srie what main holds and srie lacks or holds older, users and HR records.
    ///
    /// Idempotent, in bounded memory, and safe beside writers and movers. `progress` is told the counts now and
    /// then; when `stop` is cancelled it ends early, and says so.
    ///
    /// # Errors
    /// [`StoreError`] when a database did not answer; what was copied stays, and the next run continues.
    #[doc(alias = "backup_to_srie")]
    pub async fn run(
        &self,
        progress: &(dyn Fn(&BackedUp) + Sync),
        stop: &CancellationToken,
    ) -> Result<BackedUp, StoreError> {
        let clock = self.engine.clock();
        let started = clock.now();
        let mut counts = SyncCounts::default();
        let told = |counts: &SyncCounts| progress(&BackedUp::of(counts));
        for pair in pairs(&self.engine) {
            let mut carrier = PairSync {
                pair: &pair,
                from: Side::Main,
                dry_run: false,
                counts: &mut counts,
            };
            carrier.all(&told, stop).await?;
        }
        let elapsed = clock.now().saturating_duration_since(started).as_millis();
        let backed_up = BackedUp {
            complete: !stop.is_cancelled(),
            elapsed_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
            ..BackedUp::of(&counts)
        };
        if backed_up.backed_up > 0 {
            info!(
                user_type = "internal",
                backed_up = backed_up.backed_up,
                unchanged = backed_up.unchanged,
                failed = backed_up.failed(),
                "documents were backed up to srie",
            );
        }
        Ok(backed_up)
    }
}
