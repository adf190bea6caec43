//! The scheduler inside a running service: looks for due documents every scan interval and lets
//! databases in that were away.

use std::sync::Arc;
use std::time::Duration;

use bson::DateTime;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::mover::schedule;
use crate::mover::{CLAIM_LASTS, LeaseObserver, MigrationService, MoverSettings, Pace, Summary};

/// What the worker did last.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct WorkerState {
    /// When it last looked and every database it needed was there.
    pub last_success: Option<DateTime>,
    /// The database that stopped the last run, if one did.
    pub stopped_by: Option<Role>,
    /// What the last run did.
    pub last_run: Option<Summary>,
}

/// The most documents and bytes of a batch that moves beside requests.
const BATCH_DOCUMENTS: usize = 100;
const BATCH_BYTES: usize = 1024 * 1024;
/// The pause after a batch, as a multiple of its duration: most requests arrive while nothing moves.
const PAUSE_FACTOR: u32 = 2;

/// After so long without a request the worker takes all that its settings allow. The first request that comes then waits for what is
/// at work; those after it find the worker resting again.
const QUIET: Duration = Duration::from_secs(5);

/// A write waits until the journal holds it and what others write meanwhile: so for one small batch at most.
fn beside_requests(settings: MoverSettings) -> MoverSettings {
    MoverSettings {
        batch_documents: settings.batch_documents.min(BATCH_DOCUMENTS),
        batch_bytes: settings.batch_bytes.min(BATCH_BYTES),
        batches_in_flight: 1,
        pause_factor: PAUSE_FACTOR,
        ..settings
    }
}

impl MigrationService {
    /// The settings that the present schedule allows.
    pub(crate) fn paced_settings(&self) -> MoverSettings {
        match self.pace {
            Pace::BesideRequests if !self.engine.requests().are_quiet_for(QUIET) => {
                beside_requests(self.settings)
            }
            Pace::BesideRequests | Pace::Full => self.settings,
        }
    }
}

/// Runs the mover every scan interval.
#[derive(Debug)]
pub struct Worker {
    service: MigrationService,
    interval: Duration,
    state: Arc<watch::Sender<WorkerState>>,
}

impl Worker {
    /// A worker that looks every `interval`, give or take a tenth, and in time for each document to move
    /// within one interval of the end of its retention.
    ///
    /// While requests of this process come it moves in small batches, one at a time, whatever larger ones the settings allow,
    /// and pauses after each, so that they are hardly delayed.
    pub fn new(mut service: MigrationService, interval: Duration) -> Self {
        service.pace = Pace::BesideRequests;
        Self {
            service,
            interval,
            state: Arc::new(watch::Sender::new(WorkerState::default())),
        }
    }

    /// What the worker did last, now and later.
    pub fn state(&self) -> watch::Receiver<WorkerState> {
        self.state.subscribe()
    }

    /// Works until `stop` is cancelled; a batch at work is finished.
    pub async fn run(self, stop: CancellationToken) {
        let mut observer = LeaseObserver::default();
        while !stop.is_cancelled() {
            let begun = Instant::now();
            self.service.engine.databases.heal().await;
            let tick = self.tick(&mut observer, &stop).await;
            let wait = match tick {
                Tick::Looked => self.next_look(begun).await,
                Tick::Elsewhere => self.interval.min(CLAIM_LASTS),
            };
            // A run may take longer than the interval.
            let next = (begun + wait).max(Instant::now() + self.interval / 10);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    /// How long after `begun`, the beginning of its last look, the worker looks again: the interval, give or
    /// take a tenth, and never more than an interval after a document came due.
    pub async fn next_look(&self, begun: Instant) -> Duration {
        schedule::next_look(&self.service, self.interval, begun).await
    }

    async fn tick(&self, observer: &mut LeaseObserver, stop: &CancellationToken) -> Tick {
        match self.service.is_paused().await {
            Ok(true) => return Tick::Looked,
            Ok(false) => {}
            Err(error) => {
                self.state
                    .send_modify(|state| state.stopped_by = Some(error.database));
                return Tick::Looked;
            }
        }
        let run = self.service.run_with_lease(observer, stop).await;
        let now = self.service.engine.clock().now();
        let mut tick = Tick::Looked;
        self.state.send_modify(|state| match run {
            Ok(Some(summary)) => {
                *state = WorkerState {
                    last_success: Some(now),
                    stopped_by: None,
                    last_run: Some(summary),
                };
            }
            Ok(None) => {
                state.stopped_by = None;
                tick = Tick::Elsewhere;
            }
            Err(stopped) => {
                state.stopped_by = Some(stopped.error.database);
                state.last_run = Some(*stopped.summary);
            }
        });
        tick
    }
}

/// What came of a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tick {
    /// What was due was moved, as far as the databases let it.
    Looked,
    /// Another process holds the lease.
    Elsewhere,
}
