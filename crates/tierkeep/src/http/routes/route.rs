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
        /// An internal error occurred.
        Internal(InternalError),
    }
}

/// How the caller is identified, and where reads and writes go.
#[derive(Serialize, ToSchema, Debug)]
pub(in crate::http) struct Route<'a> {
    /// `internal` or `external`.
    user_type: &'static str,
    /// The user's id, with its prefix.
    user_id: &'a str,
    /// The reason for the decision.
    reason: &'static str,
    /// The databases that are read, in order.
    reads: Vec<&'static str>,
    /// The database that writes go to.
    writes: &'static str,
}

/// Show how the caller is identified, and which databases reads and writes go to.
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
