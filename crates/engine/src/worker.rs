//! The scheduler inside a running service: looks for due documents every scan interval and lets
//! databases in that were away.

use std::sync::Arc;
use std::time::Duration;

use bson::DateTime;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::migration::{MigrationService, NoProgress, RunOptions, Summary};

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

/// Runs the mover every scan interval.
#[derive(Debug)]
pub struct Worker {
    service: MigrationService,
    interval: Duration,
    state: Arc<watch::Sender<WorkerState>>,
}

impl Worker {
    /// A worker that looks every `interval`, give or take a tenth.
    pub fn new(service: MigrationService, interval: Duration) -> Self {
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
        while !stop.is_cancelled() {
            self.heal().await;
            self.tick(&stop).await;
            let fraction = self.service.databases.randomness().fraction();
            let wait = self.interval.mul_f64(0.9 + fraction / 10.0);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    async fn heal(&self) {
        match self.service.databases.heal().await {
            Ok(back) => {
                for role in back {
                    info!(
                        user_type = %role.user_type(),
                        database = %role,
                        "the database is back and was admitted",
                    );
                }
            }
            Err(error) => {
                error!(user_type = "internal", %error, "a database that is back was not admitted");
            }
        }
    }

    async fn tick(&self, stop: &CancellationToken) {
        match self.service.is_paused().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                self.state
                    .send_modify(|state| state.stopped_by = Some(error.database));
                return;
            }
        }
        let run = self
            .service
            .migrate_expired_data(RunOptions::default(), &NoProgress, stop)
            .await;
        let now = self.service.databases.clock().now();
        self.state.send_modify(|state| match run {
            Ok(summary) => {
                *state = WorkerState {
                    last_success: Some(now),
                    stopped_by: None,
                    last_run: Some(summary),
                };
            }
            Err(stopped) => {
                state.stopped_by = Some(stopped.error.database);
                state.last_run = Some(*stopped.summary);
            }
        });
    }
}
