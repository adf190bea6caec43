//! `POST /v1/admin/mover/resume`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::super::caller::Admin;
use super::super::openapi::AdminRefusals;
use super::super::problem::Problem;
use super::super::{HttpState, answer};

/// Let the movement go on everywhere. Idempotent.
#[utoipa::path(
    post,
    path = "/v1/admin/mover/resume",
    tag = "admin",
    operation_id = "resume_mover",
    responses(
        (status = 200, description = "resumed; `changed` says whether it was not already", body = Object),
        AdminRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
) -> Result<Response, Problem> {
    admin
        .does(&state.audit, "resume", None, "over HTTP")
        .await?;
    let changed = state.mover.service.resume().await?;
    answer::json(
        StatusCode::OK,
        &json!({ "paused": false, "changed": changed }),
    )
}
