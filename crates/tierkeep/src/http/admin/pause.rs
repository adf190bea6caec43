//! `POST /v1/admin/mover/pause`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::super::caller::Admin;
use super::super::openapi::AdminRefusals;
use super::super::problem::Problem;
use super::super::{HttpState, answer};

/// Stop the movement everywhere, in every process, until it is resumed. Idempotent.
#[utoipa::path(
    post,
    path = "/v1/admin/mover/pause",
    tag = "admin",
    operation_id = "pause_mover",
    responses(
        (status = 200, description = "paused; `changed` says whether it was not already", body = Object),
        AdminRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
) -> Result<Response, Problem> {
    admin.does(&state.audit, "pause", None, "over HTTP").await?;
    let changed = state.mover.service.pause().await?;
    answer::json(
        StatusCode::OK,
        &json!({ "paused": true, "changed": changed }),
    )
}
