//! `POST /v1/admin/mover/pause`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::OVER_HTTP;
use crate::http::openapi::AdminRefusals;
use crate::http::request::caller::Admin;
use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

/// Stop the movement everywhere, in every process, until it is resumed. Idempotent.
#[utoipa::path(
    post,
    path = "/v1/admin/mover/pause",
    tag = "admin",
    operation_id = "pause_mover",
    responses(
        (status = 200, description = "paused; `changed` says whether it was not already", body = ref("#/components/schemas/Pausing")),
        AdminRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
) -> Result<Response, Problem> {
    let changed = pause(&state, &admin, OVER_HTTP).await?;
    answer::json(
        StatusCode::OK,
        &json!({ "paused": true, "changed": changed }),
    )
}

/// Pauses the movement, after the audit trail says so; answers whether it was not already.
pub(in crate::http) async fn pause(
    state: &HttpState,
    admin: &Admin,
    how: &str,
) -> Result<bool, Problem> {
    admin.does(&state.audit, "pause", None, how).await?;
    Ok(state.mover.service.pause().await?)
}
