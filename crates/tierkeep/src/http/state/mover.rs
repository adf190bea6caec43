//! The mover as administrators reach it: owns the runs that they began.

use std::time::Duration;

use tierkeep_engine::MigrationService;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The mover as administrators reach it. Clones share it.
#[derive(Clone, Debug)]
pub struct Mover {
    /// What moves.
    pub service: MigrationService,
    /// How often the service looks by itself.
    pub scan_interval: Duration,
    /// Cancelled when the service stops: runs at work finish their batches.
    pub stop: CancellationToken,
    /// The runs that administrators began.
    pub runs: TaskTracker,
}

impl Mover {
    /// A mover without runs, that stops with `stop`.
    pub fn new(
        service: MigrationService,
        scan_interval: Duration,
        stop: CancellationToken,
    ) -> Self {
        Self {
            service,
            scan_interval,
            stop,
            runs: TaskTracker::new(),
        }
    }

    /// Waits until no run that an administrator began is at work.
    pub async fn finished(&self) {
        self.runs.close();
        self.runs.wait().await;
    }
}
