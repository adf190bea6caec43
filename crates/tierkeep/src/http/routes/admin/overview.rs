//! `GET /v1/admin/overview`.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tierkeep_engine::{Alert, Simulation, Status};

use crate::http::openapi::AdminRefusals;
use crate::http::request::caller::Admin;
use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

const DAY: Duration = Duration::from_hours(24);

#[derive(Serialize)]
struct Overview {
    #[serde(flatten)]
    status: Status,
    /// The open alerts, at most a page; none where nobody could say.
    alerts: Option<Vec<Alert>>,
    /// What will move, by the hour; none where nobody could say.
    next_24_hours: Option<Simulation>,
}

/// The system at a glance: the same as `tierkeep status --json`, with each database's breaker, the open alerts and
/// what will move within the next 24 hours. `alerts` and `next_24_hours` are null while a database they need is away.
#[utoipa::path(
    get,
    path = "/v1/admin/overview",
    tag = "admin",
    operation_id = "overview",
    responses(
        (status = 200, description = "the system as it is now", body = ref("#/components/schemas/Overview")),
        AdminRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _admin: Admin,
) -> Result<Response, Problem> {
    let service = &state.mover.service;
    let overview = Overview {
        status: service.status(state.mover.scan_interval).await,
        alerts: service.open_alerts().await.ok(),
        next_24_hours: service.simulate(DAY).await.ok(),
    };
    answer::json(StatusCode::OK, &overview)
}
