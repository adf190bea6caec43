//! `POST /v1/admin/migrations/retry`.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tierkeep_core::user::UserId;
use tierkeep_engine::{Failed, Retried, UsersError};

use super::{OVER_HTTP, only, optional_object, wrong};
use crate::http::openapi::AdminWriteRefusals;
use crate::http::request::caller::Admin;
use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

/// Make moves that have failed for good ready to be tried again, with all their retries.
#[utoipa::path(
    post,
    path = "/v1/admin/migrations/retry",
    tag = "admin",
    operation_id = "retry_migrations",
    request_body(content = ref("#/components/schemas/RetryRequest"), content_type = "application/json",
        description = "`user_id`: only this user's; without a body everybody's"),
    responses(
        (status = 200, description = "`retried`: how many are pending again", body = ref("#/components/schemas/Retried")),
        AdminWriteRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
    request: Request,
) -> Result<Response, Problem> {
    let body = optional_object(request, &state.limits).await?;
    only(&body, &["user_id"])?;
    let which = match body.get("user_id") {
        None => Failed::All,
        Some(id) => {
            let user = id.as_str().and_then(|id| UserId::parse(id).ok());
            let wrong = || wrong("user_id is a user id: internal_… or external_…".into());
            Failed::Of(user.ok_or_else(wrong)?)
        }
    };
    let retried = retry(&state, &admin, &which, OVER_HTTP).await?;
    answer::json(StatusCode::OK, &retried)
}

/// Makes failed moves ready to be tried again, after the audit trail says so.
pub(in crate::http) async fn retry(
    state: &HttpState,
    admin: &Admin,
    which: &Failed,
    how: &str,
) -> Result<Retried, Problem> {
    let service = &state.mover.service;
    let whom = match which {
        Failed::All => None,
        Failed::Of(user) => Some(user),
    };
    admin.does(&state.audit, "retry", whom, how).await?;
    let retried = service.retry(which).await?;
    if retried.retried == 0
        && let Failed::Of(user) = which
        && service.explain(user).await.is_none()
    {
        return Err(UsersError::NotFound.into());
    }
    Ok(retried)
}
