//! One run: passes over what is due until nothing is left, several batches at work at once.

use crate::mover::executor::{Movement, Stopped};
use crate::mover::outcomes::RunOutcomes;
use crate::mover::pause::PauseCheck;
use crate::mover::scan::Scan;
use crate::mover::sharing::Sharing;
use crate::mover::throttle::{Begun, Throttle};
use crate::mover::{MigrationService, MoveError, Progress, RunOptions, Summary, recover, run_log};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tierkeep_core::mover::{Batch, Phase, Planned};
use tierkeep_core::store::StoreError;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span, error, info};

/// After this many passes in a row without progress, a run leaves the rest to a later one.
pub(super) const IDLE_PASSES: u32 = 40;

/// The shortest wait before another pass where other runs are moving what is left.
const BESIDE_CLAIMS: Duration = Duration::from_millis(250);

pub(super) type Worked = Result<Batch, Box<Stopped>>;

/// The batches at work.
#[derive(Debug, Default)]
pub(super) struct AtWork {
    tasks: JoinSet<Worked>,
    batches: HashMap<task::Id, One>,
}

/// What is known of one batch at work.
#[derive(Clone, Copy, Debug)]
pub(super) struct One {
    documents: u64,
    bytes: usize,
    begun: Begun,
}

/// A part of a move by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Backup,
    CleanUp,
}

impl MigrationService {
    pub(super) async fn run(
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
    pub(super) async fn passes(
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
        let earlier = self.sharing.filter(|_| part.is_none() && !options.dry_run);
        let run_id = outcomes.run_id();
        let sharing = earlier.map(|earlier| Arc::new(Sharing::new(&run_id, earlier)));
        let mut scan = Scan::start(self, options, now, retention, sharing).await?;
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
            let mut wait = Duration::from_millis(25 * u64::from(idle.min(20)));
            if scan.has_met_claims() {
                wait = wait.max(BESIDE_CLAIMS);
            }
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
    pub(super) async fn pass(
        &self,
        scan: &mut Scan,
        part: Option<Part>,
        outcomes: &mut RunOutcomes,
        progress: &dyn Progress,
        stop: &PauseCheck,
    ) -> Result<(), StoreError> {
        let sharing = scan.sharing().cloned();
        let movement = Movement::new(&self.engine, &outcomes.run_id(), &self.settings, sharing);
        let mut at_work = AtWork::default();
        let mut failure = None;
        loop {
            let settings = scan.settings();
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
                            let batch = debug_span!("move.batch", run_id = %outcomes.run_id());
                            work(movement.clone(), planned, part).instrument(batch)
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
                    match *stopped {
                        Stopped::Database { batch, error } => {
                            failure.get_or_insert(error);
                            Some(batch)
                        }
                        Stopped::OutOfOrder(fault) => {
                            error!(user_type = "internal", %fault, "a batch ended early");
                            outcomes.left(one.map_or(0, |one| one.documents));
                            None
                        }
                    }
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
            bytes: planned.iter().map(Planned::bytes).sum(),
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

pub(super) async fn work(
    movement: Movement,
    planned: Vec<Planned>,
    part: Option<Part>,
) -> Result<Batch, Box<Stopped>> {
    let (batch, until) = match part {
        None => (Batch::new(planned), None),
        Some(Part::Backup) => (Batch::new(planned), Some(Phase::Promote)),
        Some(Part::CleanUp) => (Batch::to_clean_up(planned), None),
    };
    tokio::select! {
        done = movement.advance(batch, until) => done,
        never = movement.give_signs() => never,
    }
}
