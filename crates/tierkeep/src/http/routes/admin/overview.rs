//! `GET /v1/admin/overview`.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tierkeep_core::db::Role;
use tierkeep_engine::{
    Amount, BackupPending, DatabaseStatus, Holder, HourAhead, Inspector, LastError, LastRun,
    MoverPhase, MoverStatus, RunView, Simulation, Status,
};

use super::super::error::route_error;
use super::alerts::AlertBody;
use crate::http::openapi::schema::{BodyOf, Rfc3339, body};
use crate::http::request::caller::Admin;
use crate::http::response::answer;
use crate::http::response::problem::causes::{InternalError, RoleError};
use crate::http::state::HttpState;

const DAY: Duration = Duration::from_hours(24);

route_error! {
    /// Why there is no overview.
    OverviewError after [RoleError] also [UserNotFound] {
        /// An internal error occurred.
        Internal(InternalError),
    }
}

body! {
    /// The state of the system.
    component Overview("Overview") {
        databases: Vec<DatabaseBody>,
        due: Option<u64>,
        overdue: Option<u64>,
        lag_seconds: Option<u64>,
        failed: Option<u64>,
        quarantined: Option<u64>,
        backup_pending: BackupPendingBody,
        paused: Option<bool>,
        /// when the last verification of everything began that found no difference
        verified_up_to: Option<Rfc3339>,
        last_run: Option<LastRunBody>,
        mover: MoverBody,
        alerts: Option<Vec<AlertBody>>,
        next_24_hours: Option<SimulationBody>,
    }
}

body! {
    component DatabaseBody("DatabaseStatus") from DatabaseStatus {
        name: Role,
        reachable: bool,
        documents: Option<u64>,
        breaker: &'static str,
    }
}

body! {
    /// Pending backups: moves started and not completed, and HR records that are missing in `srie_main_hr`; null while
    /// the database that stores the count is unavailable.
    component BackupPendingBody("BackupPending") from BackupPending {
        user: Option<u64>,
        hr: Option<u64>,
    }
}

body! {
    component LastRunBody("LastRun") from LastRun {
        run_id: String,
        finished_at: Rfc3339,
        moved: i64,
        failed: i64,
        deferred: i64,
    }
}

body! {
    /// The progress of a run.
    component RunBody("Run") from RunView {
        run_id: String,
        moved: i64,
        failed: i64,
        bytes: i64,
        per_second: f64,
    }
}

body! {
    /// The state of the mover, and the process that runs it.
    component MoverBody("Standing") from MoverStatus {
        phase: MoverPhase,
        holder: Option<HolderBody>,
        last_error: Option<LastErrorBody>,
    }
}

body! {
    inline HolderBody("Holder") from Holder {
        holder: String,
        fence: i64,
        run: Option<RunBody>,
    }
}

body! {
    inline LastErrorBody("LastError") from LastError {
        at: Rfc3339,
        run_id: String,
        database: String,
        error: String,
    }
}

body! {
    /// A number of documents, and their BSON size in bytes.
    component AmountBody("Amount") from Amount {
        documents: u64,
        bytes: u64,
    }
}

body! {
    inline HourBody("Hour") {
        from: Rfc3339,
        to: Rfc3339,
        documents: u64,
        bytes: u64,
    }
}

impl BodyOf<HourAhead> for HourBody {
    fn body_of(HourAhead { from, to, amount }: HourAhead) -> Self {
        Self {
            from: Rfc3339::body_of(from),
            to: Rfc3339::body_of(to),
            documents: amount.documents,
            bytes: amount.bytes,
        }
    }
}

body! {
    /// The simulated moves.
    component SimulationBody("Simulation") from Simulation {
        from: Rfc3339,
        to: Rfc3339,
        paused: bool,
        total: AmountBody,
        due_now: AmountBody,
        hours: Vec<HourBody>,
        parked: AmountBody,
        next_attempt_at: Option<Rfc3339>,
        failed: AmountBody,
        quarantined: AmountBody,
    }
}

impl Overview {
    /// The status, with what only an overview has.
    fn of(
        status: Status,
        alerts: Option<Vec<AlertBody>>,
        next_24_hours: Option<SimulationBody>,
    ) -> Self {
        let Status {
            databases,
            due,
            overdue,
            lag_seconds,
            failed,
            quarantined,
            backup_pending,
            paused,
            verified_up_to,
            last_run,
            mover,
        } = status;
        Self {
            databases: BodyOf::body_of(databases),
            due,
            overdue,
            lag_seconds,
            failed,
            quarantined,
            backup_pending: BodyOf::body_of(backup_pending),
            paused,
            verified_up_to: BodyOf::body_of(verified_up_to),
            last_run: BodyOf::body_of(last_run),
            mover: BodyOf::body_of(mover),
            alerts,
            next_24_hours,
        }
    }
}

/// The state of the system: the same as `tierkeep status --json`, with each database's breaker, the open alerts and
/// the moves of the next 24 hours. Values that are unknown while a database is unavailable are null.
#[utoipa::path(
    get,
    path = "/v1/admin/overview",
    tag = "admin",
    operation_id = "overview",
    responses(
        (status = 200, description = "the current state of the system", body = Overview),
        OverviewError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _admin: Admin,
) -> Result<Response, OverviewError> {
    let service = &state.mover.service;
    let status = Inspector::from(service)
        .status(state.mover.scan_interval)
        .await;
    let alerts = service.open_alerts().await.ok();
    let next_24_hours = Inspector::from(service).simulate(DAY).await.ok();
    let overview = Overview::of(
        status,
        BodyOf::body_of(alerts),
        BodyOf::body_of(next_24_hours),
    );
    Ok(answer::json(StatusCode::OK, &overview)?)
}
