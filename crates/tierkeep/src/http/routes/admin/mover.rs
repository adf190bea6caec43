//! `POST /v1/admin/mover/pause` and `/resume`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tierkeep_core::store::StoreError;

use super::super::error::route_error;
use super::OVER_HTTP;
use crate::http::openapi::schema::body;
use crate::http::request::caller::Admin;
use crate::http::response::answer;
use crate::http::response::problem::causes::{InternalError, RoleError};
use crate::http::state::HttpState;

route_error! {
    /// Why the movement is neither paused nor resumed.
    SwitchMoverError after [RoleError] also [UserNotFound, OutcomeUnknown] {
        /// `evaluation_audit` did not answer.
        Database(StoreError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

/// The movement as administrators switch it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum MoverSwitch {
    /// No process begins another batch.
    Pause,
    /// Every process resumes.
    Resume,
}

body! {
    /// Whether the mover is paused.
    component Pausing("Pausing") {
        paused: bool,
        /// whether the state changed
        changed: bool,
    }
}

/// Stop the mover in every process until it is resumed. Idempotent.
#[utoipa::path(
    post,
    path = "/v1/admin/mover/pause",
    tag = "admin",
    operation_id = "pause_mover",
    responses(
        (status = 200, description = "paused; `changed` is false if the mover was already paused", body = Pausing),
        SwitchMoverError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn pause(
    State(state): State<HttpState>,
    admin: Admin,
) -> Result<Response, SwitchMoverError> {
    switched(&state, &admin, MoverSwitch::Pause).await
}

/// Resume the mover in every process. Idempotent.
#[utoipa::path(
    post,
    path = "/v1/admin/mover/resume",
    tag = "admin",
    operation_id = "resume_mover",
    responses(
        (status = 200, description = "resumed; `changed` is false if the mover was not paused", body = Pausing),
        SwitchMoverError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn resume(
    State(state): State<HttpState>,
    admin: Admin,
) -> Result<Response, SwitchMoverError> {
    switched(&state, &admin, MoverSwitch::Resume).await
}

async fn switched(
    state: &HttpState,
    admin: &Admin,
    to: MoverSwitch,
) -> Result<Response, SwitchMoverError> {
    let pausing = Pausing {
        paused: to == MoverSwitch::Pause,
        changed: switch(state, admin, to, OVER_HTTP).await?,
    };
    Ok(answer::json(StatusCode::OK, &pausing)?)
}

/// Pauses or resumes the movement, after the audit trail has recorded it; answers whether that changed anything.
///
/// # Errors
/// [`StoreError`] while `evaluation_audit` is away.
pub(in crate::http) async fn switch(
    state: &HttpState,
    admin: &Admin,
    to: MoverSwitch,
    how: &str,
) -> Result<bool, StoreError> {
    let service = &state.mover.service;
    match to {
        MoverSwitch::Pause => {
            admin.does(&state.audit, "pause", None, how).await?;
            service.pause().await
        }
        MoverSwitch::Resume => {
            admin.does(&state.audit, "resume", None, how).await?;
            service.resume().await
        }
    }
}
