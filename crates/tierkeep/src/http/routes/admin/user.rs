//! `GET /v1/admin/users/{user_id}`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use tierkeep_core::user::UserId;
use tierkeep_engine::UsersError;

use crate::http::openapi::AdminRefusals;
use crate::http::request::caller::Admin;
use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

/// One user: every copy, which one counts, why, and what happens next. The same as `tierkeep explain --json`.
#[utoipa::path(
    get,
    path = "/v1/admin/users/{user_id}",
    tag = "admin",
    operation_id = "explain_user",
    params(("user_id" = String, Path, description = "internal_… or external_…")),
    responses(
        (status = 200, description = "every copy but its content", body = ref("#/components/schemas/Explanation")),
        AdminRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn get(
    State(state): State<HttpState>,
    _admin: Admin,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    // What is no user id is the id of nobody.
    let user = id.ok().and_then(|Path(id)| UserId::parse(&id).ok());
    let user = user.ok_or(UsersError::NotFound)?;
    let explanation = state.mover.service.explain(&user).await;
    answer::json(StatusCode::OK, &explanation.ok_or(UsersError::NotFound)?)
}
