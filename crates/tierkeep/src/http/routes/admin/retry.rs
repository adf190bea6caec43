//! `POST /v1/admin/migrations/retry`.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Deserializer};
use tierkeep_core::store::StoreError;
use tierkeep_core::user::UserId;
use tierkeep_engine::{Failed, Inspector, Retried};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use super::super::error::route_error;
use super::OVER_HTTP;
use crate::http::openapi::schema::{BodyOf, USER_ID, body, of, request};
use crate::http::request::caller::Admin;
use crate::http::request::{body, fields};
use crate::http::response::answer;
use crate::http::response::problem::causes::{BodyError, InternalError, RoleError, UserNotFound};
use crate::http::state::HttpState;

route_error! {
    /// Why failed moves are not tried again.
    RetryMigrationsError after [RoleError] also [MoverPaused, OutcomeUnknown] {
        /// The body cannot be read.
        Body(BodyError),
        /// No database holds anything about the user.
        NotFound(UserNotFound),
        /// `evaluation_audit` did not answer.
        Database(StoreError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

/// Which failed moves to try again.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RetryRequest {
    #[serde(default, deserialize_with = "user_id")]
    user_id: Option<UserId>,
}

fn user_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UserId>, D::Error> {
    let expected = |_| "a user id: internal_… or external_…".to_owned();
    fields::text(deserializer, |text| UserId::parse(text).map_err(expected)).map(Some)
}

impl PartialSchema for RetryRequest {
    fn schema() -> RefOr<Schema> {
        let user_id = of(Type::String)
            .pattern(Some(USER_ID))
            .description(Some("only this user's moves"));
        RefOr::T(request([("user_id", user_id)], &[]).into())
    }
}

impl ToSchema for RetryRequest {}

body! {
    /// The number of moves that are pending again.
    component RetriedBody("Retried") from Retried {
        retried: u64,
    }
}

/// Make moves that have failed permanently pending again, with all their retries.
#[utoipa::path(
    post,
    path = "/v1/admin/migrations/retry",
    tag = "admin",
    operation_id = "retry_migrations",
    request_body(content = RetryRequest, content_type = "application/json",
        description = "`user_id`: only this user's moves; without a body, all users'"),
    responses(
        (status = 200, description = "`retried`: the number of moves that are pending again", body = RetriedBody),
        RetryMigrationsError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
    request: Request,
) -> Result<Response, RetryMigrationsError> {
    let request: RetryRequest = body::optional(request, &state).await?;
    let which = request.user_id.map_or(Failed::All, Failed::Of);
    let retried = retry(&state, &admin, &which, OVER_HTTP).await?;
    Ok(answer::json(
        StatusCode::OK,
        &RetriedBody::body_of(retried),
    )?)
}

/// Makes failed moves ready to be tried again, after the audit trail has recorded it.
///
/// # Errors
/// [`RetryMigrationsError::NotFound`]; [`RetryMigrationsError::Database`] while `evaluation_audit` is away.
pub(in crate::http) async fn retry(
    state: &HttpState,
    admin: &Admin,
    which: &Failed,
    how: &str,
) -> Result<Retried, RetryMigrationsError> {
    let service = &state.mover.service;
    let about = match which {
        Failed::All => None,
        Failed::Of(user) => Some(user),
    };
    admin.does(&state.audit, "retry", about, how).await?;
    let retried = service.retry(which).await?;
    if retried.retried == 0
        && let Failed::Of(user) = which
        && Inspector::from(service).explain(user).await.is_none()
    {
        return Err(UserNotFound.into());
    }
    Ok(retried)
}
