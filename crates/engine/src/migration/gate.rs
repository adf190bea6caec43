//! The gate that a run looks at before it begins anything: whether the caller wants it to stop, and whether
//! the movement was stopped everywhere.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

use tierkeep_core::store::StoreError;
use tokio_util::sync::CancellationToken;

use super::{MigrationService, RunOptions};
use crate::retry::repeating;

/// Stands for the caller's token, and is cancelled besides once the movement is paused.
#[derive(Debug)]
pub(super) struct Gate {
    service: MigrationService,
    halt: CancellationToken,
    shut: AtomicBool,
    /// A dry run writes nothing, so nothing holds it up.
    only_looks: bool,
}

impl Gate {
    pub(super) fn of(
        service: &MigrationService,
        options: &RunOptions,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            service: service.clone(),
            halt: stop.child_token(),
            shut: AtomicBool::new(false),
            only_looks: options.dry_run,
        }
    }

    /// Whether more may be begun, asked anew each time: a pause takes effect before the next batch.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer: then nobody knows.
    pub(super) async fn is_open(&self) -> Result<bool, StoreError> {
        if self.halt.is_cancelled() {
            return Ok(false);
        }
        if !self.only_looks && repeating(|| self.service.is_paused()).await? {
            self.shut.store(true, Ordering::Release);
            self.halt.cancel();
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether the run met a pause.
    pub(super) fn was_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }
}

impl Deref for Gate {
    type Target = CancellationToken;

    fn deref(&self) -> &CancellationToken {
        &self.halt
    }
}
