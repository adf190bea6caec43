//! `/health`: whether the process lives and whether it is fit to serve.
//!
//! Must never change anything, take longer than its time-out, or name a host.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::join_all;
use serde::Serialize;
use tierkeep_core::clock;
use tierkeep_core::db::{Database, RaseenTempUser, Role, UserDatabase};
use tierkeep_core::store::{Find, Query};
use tierkeep_engine::ConnectionManager;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;

use super::problem::Problem;
use super::{HttpState, answer};

/// How long a database may take to say hello.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer is repeated before the databases are asked again.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Where the process stands in its life, once its databases are open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// At work.
    Serving,
    /// Requests in flight are finished, and no more should be sent.
    Draining,
}

/// Whether the service is fit to serve. Clones share what they found.
#[derive(Clone, Debug)]
pub struct HealthSource {
    databases: Arc<ConnectionManager>,
    phase: watch::Receiver<Phase>,
    overdue_after: Duration,
    found: Arc<Mutex<Option<(Instant, Findings)>>>,
}

impl HealthSource {
    /// Health of these databases. Documents that have been in temp for `overdue_after` (the retention and
    /// two scan intervals) count as overdue.
    pub fn new(
        databases: Arc<ConnectionManager>,
        phase: watch::Receiver<Phase>,
        overdue_after: Duration,
    ) -> Self {
        Self {
            databases,
            phase,
            overdue_after,
            found: Arc::default(),
        }
    }

    /// The phase and the databases as one word, with reasons.
    async fn health(&self) -> Health {
        let phase = *self.phase.borrow();
        match phase {
            Phase::Draining => Health::of("draining", vec!["the service is shutting down".into()]),
            Phase::Serving => self.findings().await.health(),
        }
    }

    /// What was found within the last second, else what is found now. Callers that come together share
    /// one look.
    async fn findings(&self) -> Findings {
        let mut found = self.found.lock().await;
        if let Some((at, findings)) = &*found
            && at.elapsed() < REMEMBERED
        {
            return findings.clone();
        }
        let findings = self.look().await;
        *found = Some((Instant::now(), findings.clone()));
        findings
    }

    async fn look(&self) -> Findings {
        let probes = Role::ALL.map(|role| self.answers(role));
        let (answers, overdue) = tokio::join!(join_all(probes), self.overdue());
        let away = Role::ALL
            .into_iter()
            .zip(answers)
            .filter_map(|(role, answers)| (!answers).then_some(role))
            .collect();
        Findings { away, overdue }
    }

    /// Whether the database says hello and is the one it was configured as.
    async fn answers(&self, role: Role) -> bool {
        let Some(store) = self.databases.store(role) else {
            return false;
        };
        let hello = timeout(PROBE_TIMEOUT, store.hello()).await;
        matches!(hello, Ok(Ok(_))) && !self.databases.away().contains(&role)
    }

    async fn overdue(&self) -> bool {
        let store = self.databases.raseen_temp_db().store();
        let look = async {
            let now = store.hello().await.ok()?.now;
            let late = Query::Due(clock::before(now, self.overdue_after));
            let find = Find::new(late).limit(1).head();
            let found = store.find(RaseenTempUser::USERS, &find).await.ok()?;
            Some(!found.is_empty())
        };
        matches!(timeout(PROBE_TIMEOUT, look).await, Ok(Some(true)))
    }
}

/// What a look at the databases found.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Findings {
    away: Vec<Role>,
    overdue: bool,
}

impl Findings {
    fn health(&self) -> Health {
        let mut reasons: Vec<String> = self
            .away
            .iter()
            .map(|role| format!("{role} is away"))
            .collect();
        if self.overdue {
            reasons.push(format!("documents in {} are overdue", RaseenTempUser::ROLE));
        }
        let status = if self.away.iter().any(|role| role.critical()) {
            "down"
        } else if reasons.is_empty() {
            "ok"
        } else {
            "degraded"
        };
        Health::of(status, reasons)
    }
}

/// Whether the service is fit to serve.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct Health {
    /// `ok`, `degraded`, `starting`, `draining` or `down`.
    status: &'static str,
    /// What is wrong, in no particular words.
    reasons: Vec<String>,
}

impl Health {
    /// Of a service whose databases are not open yet.
    pub(super) fn starting() -> Self {
        Self::of("starting", vec!["the databases are not open yet".into()])
    }

    fn of(status: &'static str, reasons: Vec<String>) -> Self {
        Self { status, reasons }
    }

    pub(super) fn code(&self) -> StatusCode {
        match self.status {
            "ok" | "degraded" => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Whether the process lives.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "health",
    operation_id = "live",
    responses((status = 200, description = "it does", body = Health)),
)]
pub(super) async fn live() -> Result<Response, Problem> {
    answer::json(StatusCode::OK, &Health::of("ok", Vec::new()))
}

/// Whether requests should be sent here.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "health",
    operation_id = "ready",
    responses(
        (status = 200, description = "`ok` or `degraded`", body = Health),
        (status = 503, description = "`starting`, `draining` or `down`", body = Health),
    ),
)]
pub(super) async fn ready(State(state): State<HttpState>) -> Result<Response, Problem> {
    let health = state.health.health().await;
    answer::json(health.code(), &health)
}
