//! Query parameters: owns how the parameters of lists are read.
//!
//! Parameters that a route does not know are ignored.

use axum::extract::Query;
use axum::http::Uri;
use tierkeep_core::user::UserId;

use crate::http::response::problem::causes::QueryError;

/// How many items a page has where the request does not say.
pub(in crate::http) const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;
/// The refusal of a cursor that no page gave out.
pub(in crate::http) const INVALID_CURSOR: QueryError =
    QueryError("cursor must be the next_cursor of the previous page");

/// The parameters of a query, in their order.
///
/// # Errors
/// [`QueryError`] where the query is not form-encoded UTF-8.
pub(in crate::http) fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, QueryError> {
    match Query::try_from_uri(uri) {
        Ok(Query(pairs)) => Ok(pairs),
        Err(_) => Err(QueryError("the query cannot be read")),
    }
}

/// The parameter `limit`.
///
/// # Errors
/// [`QueryError`] for anything but a whole number from 1 to 1000.
pub(in crate::http) fn limit(text: &str) -> Result<usize, QueryError> {
    let limit = text.parse().ok();
    limit
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or(QueryError("limit must be a whole number from 1 to 1000"))
}

/// The parameter `user`.
///
/// # Errors
/// [`QueryError`] for anything but a user id.
pub(in crate::http) fn user(text: &str) -> Result<UserId, QueryError> {
    UserId::parse(text).map_err(|_| QueryError("user must be a user id: internal_… or external_…"))
}
