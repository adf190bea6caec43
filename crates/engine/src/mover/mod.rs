//! The migration service: moves what is due from temp to main with its backup, and reports what it did.
//!
//! A run fixes its cut-off by temp's own clock when it starts and ends when nothing that was due then is
//! left in temp unparked. Any number of runs may work at once: correctness depends on versions alone. Rule
//! source: the mission's Properties 3 and 6.

pub(crate) mod backlog;
mod control;
mod executor;
pub(crate) mod foreign;
pub(crate) mod lease;
mod leased;
mod marking;
mod outcomes;
pub(crate) mod pause;
pub(crate) mod quarantine;
mod queue;
mod recover;
mod run;
pub(crate) mod run_log;
mod scan;
mod schedule;
mod sharing;
mod throttle;
mod unadopted;
pub(crate) mod worker;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tierkeep_core::mover::Verify;
use tierkeep_core::store::StoreError;
use tierkeep_core::user::UserId;
use tokio_util::sync::CancellationToken;

use crate::context::Engine;
pub use control::{Failed, Retried};
pub use lease::{CLAIM_LASTS, Claim, LeaseObserver, RunView};
use run::Part;
use sharing::Earlier;
use throttle::Throttle;

/// How the mover works.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MoverSettings {
    /// How long a document stays in temp.
    pub retention: Duration,
    /// The most documents in a batch.
    pub batch_documents: usize,
    /// About the most bytes in a batch.
    pub batch_bytes: usize,
    /// The most batches at work at once; together they hold about as many bytes as this many full batches.
    pub batches_in_flight: usize,
    /// About the most documents moved in a second, by all batches of this service together.
    pub max_rate: Option<NonZeroU32>,
    /// After a batch none begins for this many times the duration of that batch.
    pub pause_factor: u32,
    /// The wait before a document's first retry; doubles, up to an hour.
    pub retry_backoff: Duration,
    /// What is compared before a document leaves temp.
    pub verify: Verify,
    /// Other programs may write documents into temp at any time; they bump no version.
    pub foreign_writers: bool,
}

impl Default for MoverSettings {
    fn default() -> Self {
        Self {
            retention: Duration::from_hours(24),
            batch_documents: 1_000,
            batch_bytes: 4 * 1024 * 1024,
            batches_in_flight: 4,
            max_rate: None,
            pause_factor: 0,
            retry_backoff: Duration::from_secs(30),
            verify: Verify::Full,
            foreign_writers: false,
        }
    }
}

/// What a run should do.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RunOptions {
    /// Only count.
    pub dry_run: bool,
    /// In place of the retention.
    pub older_than: Option<Duration>,
    /// Only this user.
    pub user: Option<UserId>,
    /// At most this many documents.
    pub limit: Option<u64>,
    /// In place of the rate of the settings.
    pub max_rate: Option<NonZeroU32>,
    /// The id of the run, if it was announced already.
    pub run_id: Option<String>,
}

/// What a run did.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Summary {
    /// Names the run in records and logs.
    pub run_id: String,
    /// Documents looked at.
    pub scanned: u64,
    /// Of these, due.
    pub due: u64,
    /// Moved: in main and srie, gone from temp, record complete.
    pub moved: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Parked, or waiting for a database.
    pub deferred: u64,
    /// Documents that cannot be moved and were not touched.
    pub quarantined: u64,
    /// Bytes of BSON moved, or due in a dry run.
    pub bytes: u64,
    /// Nothing was written.
    pub dry_run: bool,
    /// The movement was paused everywhere, so nothing was begun, or no more.
    pub paused: bool,
    /// How long the run took, in milliseconds.
    pub elapsed_ms: u64,
}

/// Receives the progress of a run.
pub trait Progress: Send + Sync {
    /// Called after each batch with the counts so far.
    fn report(&self, summary: &Summary);
}

/// Discards the progress reports.
#[derive(Clone, Copy, Debug)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn report(&self, _: &Summary) {}
}

/// A run ended because a database was away. Nothing is lost; what is due moves with a later run.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct MoveError {
    /// The database's error.
    pub error: StoreError,
    /// What was done until then.
    pub summary: Box<Summary>,
}

/// Moves documents from temp to main and srie.
#[derive(Clone, Debug)]
#[doc(alias = "DataMigrationService")]
pub struct MigrationService {
    pub(crate) engine: Arc<Engine>,
    pub(crate) settings: MoverSettings,
    pace: Pace,
    /// Whether it leaves to other runs what they are moving, and from when on.
    sharing: Option<Earlier>,
    throttle: Arc<Throttle>,
}

/// How much of the databases a service takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// What its settings say.
    Full,
    /// These only if this process has served no request for a while: otherwise small batches, one at a time, with
    /// pauses.
    BesideRequests,
}

impl MigrationService {
    /// A service over these databases.
    pub fn new(engine: Arc<Engine>, settings: MoverSettings) -> Self {
        Self {
            engine,
            settings,
            pace: Pace::Full,
            sharing: None,
            throttle: Arc::default(),
        }
    }

    /// The databases it moves between.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Moves what is due: to srie, to main, read back, then removed from temp.
    ///
    /// Idempotent, and safe beside any other run. When `stop` is cancelled or the movement is paused, batches
    /// at work are finished and no more are begun. Dropping the future is as harmless as a crash.
    ///
    /// # Errors
    /// [`MoveError`] when a database was away.
    pub async fn migrate_expired_data(
        &self,
        options: RunOptions,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<Summary, MoveError> {
        self.run(options, None, progress, stop).await
    }

    /// Copies what is due to srie, and no further: the first step of a move by itself.
    ///
    /// # Errors
    /// [`MoveError`] when a database was away.
    pub async fn backup_to_srie(
        &self,
        options: RunOptions,
        stop: &CancellationToken,
    ) -> Result<Summary, MoveError> {
        self.run(options, Some(Part::Backup), &NoProgress, stop)
            .await
    }

    /// Removes from temp what is due and already proves equal in main and srie: the last step of a move by
    /// itself. What does not prove equal stays.
    ///
    /// # Errors
    /// [`MoveError`] when a database was away.
    pub async fn cleanup_temp_data(
        &self,
        options: RunOptions,
        stop: &CancellationToken,
    ) -> Result<Summary, MoveError> {
        self.run(options, Some(Part::CleanUp), &NoProgress, stop)
            .await
    }
}
