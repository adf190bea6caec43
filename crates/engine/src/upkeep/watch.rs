//! The watch for stalled work: databases that are away, overdue documents, a pause that was forgotten, a mover that
//! does not move, options of collections that endanger documents. Tells people of each, also while `evaluation_audit` is away.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tierkeep_core::breaker::BreakerState;
use tierkeep_core::clock;
use tierkeep_core::db::Role;
use tierkeep_core::store::StoreError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::alerts::{AlertKind, Alerts};
use crate::context::Engine;
use crate::databases::error::ConnectError;
use crate::databases::open::refuse_hazards;
use crate::inspect::Inspector;
use crate::inspect::mover_status::MoverPhase;
use crate::mover::{MoverSettings, pause};

/// How often it looks which databases are away.
const EVERY: Duration = Duration::from_secs(5);
/// How often the alert of a database that stays away is renewed, so that other processes see that it is current.
const SAID_EVERY: Duration = Duration::from_secs(15);
/// How often it looks for stalled work.
const STANDING_EVERY: Duration = Duration::from_mins(1);
/// How often it looks at the options of collections.
const HAZARDS_EVERY: Duration = Duration::from_mins(10);
/// Documents that have been due for longer are alerted.
const OVERDUE: Duration = Duration::from_hours(1);
/// A pause that lasts longer is alerted.
const PAUSED: Duration = Duration::from_hours(24);
/// The subject of alerts about the movement.
const MOVER: &str = "mover";

/// Watches for stalled work.
#[derive(Debug)]
pub struct Watch {
    engine: Arc<Engine>,
    alerts: Alerts,
    inspector: Inspector,
    scan_interval: Duration,
}

/// When something was done last.
#[derive(Debug, Default)]
struct Last(Option<Instant>);

impl Last {
    /// Whether it is time again; then it counts as done now.
    fn is_over(&mut self, every: Duration) -> bool {
        let now = Instant::now();
        let over = self.0.is_none_or(|last| now.duration_since(last) >= every);
        if over {
            self.0 = Some(now);
        }
        over
    }
}

impl Watch {
    /// A watch over these databases, and movers that look every `scan_interval`.
    pub fn new(engine: Arc<Engine>, settings: MoverSettings, scan_interval: Duration) -> Self {
        Self {
            alerts: Alerts::new(Arc::clone(&engine)),
            inspector: Inspector::new(Arc::clone(&engine), settings),
            engine,
            scan_interval,
        }
    }

    /// Watches until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let databases = async {
            let mut said = Last::default();
            let mut known = Vec::new();
            loop {
                self.look_at_databases(&mut known, &mut said).await;
                tokio::time::sleep(EVERY).await;
            }
        };
        let standing = async {
            let mut hazards = Last::default();
            loop {
                // The first look leaves the mover a moment to take what is due.
                tokio::time::sleep(STANDING_EVERY).await;
                let mut looked = self.look_at_movement().await;
                if hazards.is_over(HAZARDS_EVERY) {
                    looked = looked.and(self.look_at_options().await);
                }
                if let Err(error) = looked {
                    debug!(database = %error.database, error = error.class.as_str(), "the stall monitor is waiting for \
                    a database");
                }
            }
        };
        let both = async { tokio::join!(databases, standing) };
        stop.run_until_cancelled(Box::pin(both)).await;
    }

    /// Tells of the databases that are away: at once where one is not among those that the look before found, `known`.
    async fn look_at_databases(&self, known: &mut Vec<Role>, said: &mut Last) {
        let away = self.away();
        let is_new = away.iter().any(|role| !known.contains(role));
        if said.is_over(SAID_EVERY) || is_new {
            self.tell_of_databases().await;
        }
        *known = away;
    }

    fn away(&self) -> Vec<Role> {
        let roles = Role::ALL.into_iter();
        roles
            .filter(|role| is_given_up(&self.engine, *role))
            .collect()
    }

    /// Tells of the databases that are away now, of all at once: telling may wait for one of them.
    pub async fn tell_of_databases(&self) {
        let away = self.away().into_iter();
        join_all(away.map(|role| self.tell_of(role))).await;
    }

    async fn tell_of(&self, role: Role) {
        let away =
            "the database is unavailable, and calls to it fail at once until it answers again";
        let wrong = self.engine.databases.out_of_service(role);
        let wrong = wrong.map(|why| format!("the database is out of service: {why}"));
        let message = wrong.as_deref().unwrap_or(away);
        self.alerts
            .tell(AlertKind::BreakerOpen, role.name(), message)
            .await;
    }

    /// Tells of overdue documents, a long pause and a mover that does not move, and that each is over. What a database
    /// that is away keeps from being known stays as it was told.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` is away.
    pub async fn look_at_movement(&self) -> Result<(), StoreError> {
        let movement = self.inspector.movement(self.scan_interval).await;
        if let Some(backlog) = movement.known.backlog {
            let message = format!(
                "the oldest document has been due for {} minutes; {} are due",
                backlog.lag.as_secs() / 60,
                backlog.due,
            );
            let overdue = (backlog.lag > OVERDUE).then_some(message);
            let about = (AlertKind::DocumentsOverdue, Role::RaseenTempUser.name());
            self.stands(about, overdue).await?;
            let message = format!(
                "{} documents are due, but no process moves them: check that `tierkeep serve` runs, and read its log",
                backlog.due,
            );
            let stalled = match movement.status.phase {
                MoverPhase::Stuck => Some(message),
                MoverPhase::Idle
                | MoverPhase::Waiting
                | MoverPhase::Moving
                | MoverPhase::Paused => None,
                MoverPhase::Unknown => return Ok(()),
            };
            self.stands((AlertKind::MoverStalled, MOVER), stalled)
                .await?;
        }
        let paused = pause::paused_since(&self.engine).await?;
        let now = self.engine.clock().now();
        let long = paused.filter(|since| clock::after(*since, PAUSED) < now);
        let message = long.map(|since| {
            let hours = now.saturating_duration_since(since).as_secs() / 3_600;
            format!("the mover has been paused for {hours} hours; resume it with `tierkeep migrate resume`")
        });
        self.stands((AlertKind::MoverPaused, MOVER), message).await
    }

    /// Tells of collections whose options endanger documents, and of databases that have none any more.
    ///
    /// # Errors
    /// [`StoreError`] when a database did not answer.
    pub async fn look_at_options(&self) -> Result<(), StoreError> {
        for role in Role::ALL {
            let Some(store) = self.engine.databases.store(role) else {
                continue;
            };
            let message = match refuse_hazards(store.as_ref()).await {
                Ok(()) => None,
                Err(ConnectError::Store(error)) => return Err(error),
                Err(hazard) => Some(hazard.to_string()),
            };
            let about = (AlertKind::DatabaseHazard, role.name());
            self.stands(about, message).await?;
        }
        Ok(())
    }

    /// Raises the alert with this message, or resolves it.
    async fn stands(
        &self,
        (kind, subject): (AlertKind, &str),
        message: Option<String>,
    ) -> Result<(), StoreError> {
        match message {
            Some(message) => {
                self.alerts.tell(kind, subject, &message).await;
                Ok(())
            }
            None => self.alerts.resolve(kind, subject).await,
        }
    }
}

/// Whether this process has given the database up.
pub(super) fn is_given_up(engine: &Engine, role: Role) -> bool {
    let state = engine.databases.breaker(role);
    state.is_some_and(|state| state != BreakerState::Closed)
        || engine.databases.out_of_service(role).is_some()
}
