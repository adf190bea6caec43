//! `/health`: whether the process lives, whether it is fit to serve, and each database for itself.
//!
//! Must never change anything, take longer than its time-out, or name a host. Where to look: `databases` (a row for each
//! database), `state::probe` (what is probed, and how often).

pub(in crate::http) mod databases;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tierkeep_core::db::{Database, RaseenTempUser, Role};
use tierkeep_engine::SpoolShare;
use utoipa::ToSchema;

use crate::http::response::answer;
use crate::http::response::problem::causes::InternalError;
use crate::http::state::HttpState;
use crate::http::state::probe::{Findings, Phase};

/// Health of the service.
#[derive(Serialize, ToSchema, Debug)]
pub(in crate::http) struct Health {
    /// `ok`, `degraded`, `starting`, `draining` or `down`.
    status: &'static str,
    /// The reasons, as text without a fixed form.
    reasons: Vec<String>,
}

impl Health {
    /// Of a service whose databases are not open yet.
    pub(in crate::http) fn starting() -> Self {
        Self::of("starting", vec!["the databases are not open yet".into()])
    }

    /// Of a service that ends.
    fn draining() -> Self {
        Self::of("draining", vec!["the service is shutting down".into()])
    }

    /// Of a service at work that found this.
    fn found(findings: &Findings) -> Self {
        let in_part: Vec<Role> = findings.in_part().collect();
        let is_away = |role| {
            let what = if in_part.contains(&role) {
                "a shard of "
            } else {
                ""
            };
            format!("{what}{role} is unavailable")
        };
        let mut reasons: Vec<String> = findings.away().map(is_away).collect();
        let unwritable = findings.unwritable.iter();
        reasons.extend(unwritable.map(|(role, why)| format!("{role} refuses writes ({why})")));
        reasons.extend(findings.spool_refuses.map(|share| {
            let whose = match share {
                SpoolShare::Public => "about public callers",
                SpoolShare::Reserved => "about internal users",
            };
            format!("the spool of the audit trail is full for decisions {whose}")
        }));
        let temp = RaseenTempUser::ROLE;
        if findings.overdue {
            reasons.push(format!("documents in {temp} are overdue"));
        }
        if findings.quarantined {
            reasons.push(format!("documents in {temp} are quarantined"));
        }
        reasons.extend(findings.warnings.iter().map(|(_, text)| text.clone()));
        let status = if findings.is_down() {
            "down"
        } else if reasons.is_empty() {
            "ok"
        } else {
            "degraded"
        };
        Self::of(status, reasons)
    }

    fn of(status: &'static str, reasons: Vec<String>) -> Self {
        Self { status, reasons }
    }

    pub(in crate::http) fn code(&self) -> StatusCode {
        match self.status {
            "ok" | "degraded" => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Whether the process is running.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "health",
    operation_id = "live",
    responses((status = 200, description = "the process is running", body = Health)),
)]
pub(in crate::http) async fn live(
    State(state): State<HttpState>,
) -> Result<Response, InternalError> {
    let warnings = state.health.warnings().into_iter();
    let reasons = warnings.map(|(_, text)| text).collect();
    answer::json(StatusCode::OK, &Health::of("ok", reasons))
}

/// The same, before the databases are open.
pub(in crate::http) async fn live_without_databases() -> Result<Response, InternalError> {
    answer::json(StatusCode::OK, &Health::of("ok", Vec::new()))
}

/// Whether this process accepts requests.
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
pub(in crate::http) async fn ready(
    State(state): State<HttpState>,
) -> Result<Response, InternalError> {
    let health = match state.health.phase() {
        Phase::Draining => Health::draining(),
        Phase::Serving => Health::found(&state.health.findings().await),
    };
    answer::json(health.code(), &health)
}
