//! The migration service: moves what is due from temp to main with its backup, and reports what it did.
//!
//! A run fixes its cut-off by temp's own clock when it starts and ends when nothing that was due then is
//! left in temp unparked. Any number of runs may work at once: correctness rests on versions alone. Rule
//! source: the mission's Properties 3 and 6.

mod control;
mod executor;
pub(crate) mod foreign;
pub(crate) mod lease;
mod outcomes;
pub(crate) mod pause;
pub(crate) mod quarantine;
mod queue;
mod recover;
pub(crate) mod run_log;
mod scan;
mod schedule;
mod throttle;
pub(crate) mod worker;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tierkeep_core::mover::{Batch, Phase, Planned, Verify};
use tierkeep_core::store::StoreError;
use tierkeep_core::user::UserId;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::context::Engine;
use crate::mover::executor::{Movement, Stopped};
pub use control::{Failed, Retried};
pub use lease::{CLAIM_LASTS, Claim, LeaseObserver, RunView};
use outcomes::RunOutcomes;
use pause::PauseCheck;
use scan::Scan;
use throttle::{Begun, Throttle};

/// How the mover works.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MoverSettings {
    /// How long a document stays in temp.
    pub retention: Duration,
    /// The most documents in a batch.
    pub batch_documents: usize,
    /// About the most bytes in a batch.
    pub batch_bytes: usize,
    /// The most batches at work at once; together they hold about as many bytes as so many full ones.
    pub batches_in_flight: usize,
    /// About the most documents moved in a second, by all batches of this service together.
    pub max_rate: Option<NonZeroU32>,
    /// After a batch none begins for so many times as long as it took.
    pub rests: u32,
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
            rests: 0,
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
    /// The id of the run, where somebody was told it already.
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

/// Is told how a run goes on.
pub trait Progress: Send + Sync {
    /// Called after each batch with the counts so far.
    fn report(&self, summary: &Summary);
}

/// Nobody wants to know.
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
    throttle: Arc<Throttle>,
}

/// After this many passes in a row without progress, a run leaves the rest to a later one.
const IDLE_PASSES: u32 = 40;

impl MigrationService {
    /// A service over these databases.
    pub fn new(engine: Arc<Engine>, settings: MoverSettings) -> Self {
        Self {
            engine,
            settings,
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

    async fn run(
        &self,
        options: RunOptions,
        part: Option<Part>,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<Summary, MoveError> {
        let clock = self.engine.clock();
        let started = clock.now();
        let summary = Summary {
            run_id: options
                .run_id
                .clone()
                .unwrap_or_else(|| self.engine.randomness().id()),
            dry_run: options.dry_run,
            ..Summary::default()
        };
        let mut outcomes = RunOutcomes::new(self, summary);
        let pause = PauseCheck::of(self, &options, stop);
        let outcome = self
            .passes(&options, part, &mut outcomes, progress, &pause)
            .await;
        let elapsed = clock.now().saturating_duration_since(started).as_millis();
        let mut summary = outcomes.into_summary();
        summary.elapsed_ms = u64::try_from(elapsed).unwrap_or(u64::MAX);
        summary.paused = pause.was_paused();
        match outcome {
            Ok(()) => {
                if summary.moved + summary.failed > 0 {
                    info!(
                        user_type = "internal",
                        run_id = summary.run_id,
                        moved = summary.moved,
                        failed = summary.failed,
                        deferred = summary.deferred,
                        quarantined = summary.quarantined,
                        bytes = summary.bytes,
                        "documents were moved to raseen_main_user",
                    );
                }
                if !options.dry_run && part.is_none() {
                    run_log::keep_run(&self.engine, &summary).await;
                }
                Ok(summary)
            }
            Err(error) => {
                // What was due and did not move waits for the database.
                summary.deferred = summary.due.saturating_sub(summary.moved + summary.failed);
                error!(
                    user_type = "internal",
                    run_id = summary.run_id,
                    database = %error.database,
                    error = error.class.as_str(),
                    code = error.code,
                    "error in moving data to {}",
                    error.database,
                );
                if !options.dry_run {
                    run_log::keep_error(&self.engine, &summary.run_id, &error).await;
                }
                Err(MoveError {
                    error,
                    summary: Box::new(summary),
                })
            }
        }
    }

    /// Scans again until nothing that was due at the start is left unparked.
    async fn passes(
        &self,
        options: &RunOptions,
        part: Option<Part>,
        outcomes: &mut RunOutcomes,
        progress: &dyn Progress,
        stop: &PauseCheck,
    ) -> Result<(), StoreError> {
        let retention = options.older_than.unwrap_or(self.settings.retention);
        let now = self
            .engine
            .databases
            .raseen_temp_db()
            .store()
            .hello()
            .await?
            .now;
        let mut scan = Scan::start(self, options, now, retention).await?;
        let mut idle = 0;
        loop {
            outcomes.begin_pass();
            self.pass(&mut scan, part, outcomes, progress, stop).await?;
            let again = part.is_none()
                && !options.dry_run
                && outcomes.is_unfinished()
                && !scan.limit_reached()
                && !stop.is_cancelled();
            if !again {
                break;
            }
            idle = if outcomes.has_progressed() {
                0
            } else {
                idle + 1
            };
            if idle > IDLE_PASSES {
                break;
            }
            let wait = Duration::from_millis(25 * u64::from(idle.min(20)));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => break,
            }
            scan.rewind();
        }
        outcomes.settle_pass();
        if part.is_none() && !options.dry_run && !stop.is_cancelled() {
            scan.release_mended().await?;
            recover::complete_what_moved(&self.engine, &outcomes.run_id()).await?;
        }
        outcomes.quarantined(scan.quarantined().await?);
        Ok(())
    }

    /// One scan: several batches at work at once, each on its own task, as fast as the throttle lets them.
    async fn pass(
        &self,
        scan: &mut Scan,
        part: Option<Part>,
        outcomes: &mut RunOutcomes,
        progress: &dyn Progress,
        stop: &PauseCheck,
    ) -> Result<(), StoreError> {
        let settings = scan.settings();
        let movement = Movement::new(&self.engine, &outcomes.run_id(), &settings);
        let mut at_work = AtWork::default();
        let mut failure = None;
        loop {
            let size = self.throttle.size(&settings);
            let begins = failure.is_none()
                && !scan.is_over()
                && !stop.is_cancelled()
                && Throttle::has_room(&settings, size, at_work.tasks.len(), at_work.bytes());
            let opens_at = self.throttle.opens_at(Instant::now());
            if begins && (opens_at.is_none() || scan.is_dry_run()) {
                match scan.next_batch(outcomes, stop, size).await {
                    Ok(Some(planned)) if scan.is_dry_run() => outcomes.would_move(&planned),
                    Ok(Some(planned)) => {
                        let begun = self
                            .throttle
                            .begin(&settings, planned.len(), Instant::now());
                        at_work.begin(begun, planned, |planned| {
                            work(movement.clone(), planned, part)
                        });
                    }
                    Ok(None) => {}
                    Err(error) => failure = Some(error),
                }
                continue;
            }
            if at_work.tasks.is_empty() && !begins {
                break;
            }
            let finished = tokio::select! {
                Some(finished) = at_work.tasks.join_next_with_id() => finished,
                () = tokio::time::sleep_until(opens_at.unwrap_or_else(Instant::now)), if begins => continue,
                () = stop.cancelled(), if begins => continue,
            };
            let (one, batch) = at_work.end(finished);
            let batch = match batch {
                Some(Ok(batch)) => {
                    if let Some(one) = one {
                        self.throttle.done(&settings, one.begun, Instant::now());
                    }
                    Some(batch)
                }
                Some(Err(stopped)) => {
                    if let Some(one) = one {
                        self.throttle.stopped(one.begun);
                    }
                    failure.get_or_insert(stopped.error);
                    stopped.batch
                }
                None => {
                    outcomes.left(one.map_or(0, |one| one.documents));
                    None
                }
            };
            if let Some(batch) = batch
                && let Err(error) = outcomes.take(batch, scan).await
            {
                failure.get_or_insert(error);
            }
            progress.report(outcomes.summary());
        }
        failure.map_or(Ok(()), Err)
    }
}

type Worked = Result<Batch, Box<Stopped>>;

/// The batches at work.
#[derive(Debug, Default)]
struct AtWork {
    tasks: JoinSet<Worked>,
    batches: HashMap<task::Id, One>,
}

/// What is known of one batch at work.
#[derive(Clone, Copy, Debug)]
struct One {
    documents: u64,
    bytes: usize,
    begun: Begun,
}

impl AtWork {
    /// The bytes of all of them.
    fn bytes(&self) -> usize {
        self.batches.values().map(|one| one.bytes).sum()
    }

    fn begin<F>(
        &mut self,
        begun: Begun,
        planned: Vec<Planned>,
        work: impl FnOnce(Vec<Planned>) -> F,
    ) where
        F: Future<Output = Worked> + Send + 'static,
    {
        let one = One {
            documents: u64::try_from(planned.len()).unwrap_or(u64::MAX),
            bytes: planned.iter().map(|plan| plan.copy.as_bytes().len()).sum(),
            begun,
        };
        let task = self.tasks.spawn(work(planned));
        self.batches.insert(task.id(), one);
    }

    /// What was known of the batch that finished, and how it ended; `None` where its task panicked.
    fn end(
        &mut self,
        finished: Result<(task::Id, Worked), JoinError>,
    ) -> (Option<One>, Option<Worked>) {
        match finished {
            Ok((task, worked)) => (self.batches.remove(&task), Some(worked)),
            Err(panicked) => {
                error!(user_type = "internal", %panicked, "a batch ended early");
                (self.batches.remove(&panicked.id()), None)
            }
        }
    }
}

/// A part of a move by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Backup,
    CleanUp,
}

async fn work(
    movement: Movement,
    planned: Vec<Planned>,
    part: Option<Part>,
) -> Result<Batch, Box<Stopped>> {
    match part {
        None => movement.advance(Batch::new(planned), None).await,
        Some(Part::Backup) => {
            movement
                .advance(Batch::new(planned), Some(Phase::Promote))
                .await
        }
        Some(Part::CleanUp) => movement.advance(Batch::to_clean_up(planned), None).await,
    }
}
