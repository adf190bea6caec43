//! `POST /v1/admin/mover/resume`.

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

/// Let the movement go on everywhere. Idempotent.
#[utoipa::path(
    post,
    path = "/v1/admin/mover/resume",
    tag = "admin",
    operation_id = "resume_mover",
    responses(
        (status = 200, description = "resumed; `changed` says whether it was not already", body = ref("#/components/schemas/Pausing")),
        AdminRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
) -> Result<Response, Problem> {
    let changed = resume(&state, &admin, OVER_HTTP).await?;
    answer::json(
        StatusCode::OK,
        &json!({ "paused": false, "changed": changed }),
    )
}

/// Lets the movement go on, after the audit trail says so; answers whether it was paused.
pub(in crate::http) async fn resume(
    state: &HttpState,
    admin: &Admin,
    how: &str,
) -> Result<bool, Problem> {
    admin.does(&state.audit, "resume", None, how).await?;
    Ok(state.mover.service.resume().await?)
}
