//! `/v1/route`: the decision, explained.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tierkeep_core::db::Role;
use tierkeep_core::route;
use utoipa::ToSchema;

use super::error::route_error;
use crate::http::request::caller::AuthenticatedCaller;
use crate::http::response::answer;
use crate::http::response::problem::causes::{CallerError, InternalError};

route_error! {
    /// Why the decision is not explained.
    ExplainRouteError after [CallerError] also [] {
        /// The service failed.
        Internal(InternalError),
    }
}

/// Who the caller is, and where reads and writes go.
#[derive(Serialize, ToSchema, Debug)]
pub(in crate::http) struct Route<'a> {
    /// `internal` or `external`.
    user_type: &'static str,
    /// The user's id, with its prefix.
    user_id: &'a str,
    /// Why the caller is taken for this user.
    reason: &'static str,
    /// The databases that reads look in, in order.
    reads: Vec<&'static str>,
    /// The database that writes go to.
    writes: &'static str,
}

/// Who the caller is, why, and which databases reads and writes go to.
#[utoipa::path(
    get,
    path = "/v1/route",
    tag = "user",
    operation_id = "explain_route",
    responses(
        (status = 200, description = "the decision", body = Route<'static>),
        ExplainRouteError,
    ),
    security((), ("jwt" = [], "github_token" = [])),
)]
pub(in crate::http) async fn get(
    caller: AuthenticatedCaller,
) -> Result<Response, ExplainRouteError> {
    let user_type = caller.user_type();
    let route = Route {
        user_type: user_type.as_str(),
        user_id: caller.user().as_str(),
        reason: caller.reason(),
        reads: route::reads(user_type)
            .iter()
            .map(|role| Role::name(*role))
            .collect(),
        writes: route::writes(user_type).name(),
    };
    Ok(answer::json(StatusCode::OK, &route)?)
}
