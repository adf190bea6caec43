//! `/health/databases`: a row for each database.

use std::collections::BTreeMap;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tierkeep_core::db::Role;
use utoipa::openapi::{self, RefOr};
use utoipa::{IntoResponses, ToSchema};

use super::super::error::route_error;
use crate::http::openapi::refusals;
use crate::http::response::answer;
use crate::http::response::problem::causes::{Cause, InternalError, UnknownDatabase};
use crate::http::state::HttpState;
use crate::http::state::probe::DatabaseHealth;

route_error! {
    /// Why a database is not reported.
    ReadDatabaseError after [] also [] {
        /// The path names no database.
        Unknown(UnknownDatabase),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

/// The refusal that the document lists; a failure of the service is listed for no route of `/health`.
struct UnknownName;

impl IntoResponses for UnknownName {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        refusals::by_status(UnknownDatabase::CODES)
    }
}

/// One item per database.
#[derive(Serialize, ToSchema, Debug)]
pub(in crate::http) struct DatabasesHealth {
    /// All seven.
    databases: Vec<DatabaseHealth>,
}

/// Whether each of the seven databases answers, and how fast. `error` is a class, never a host or a server's message.
#[utoipa::path(
    get,
    path = "/health/databases",
    tag = "health",
    operation_id = "databases",
    responses(
        (status = 200, description = "every database that the service requires is up", body = DatabasesHealth),
        (status = 503, description = "a required database is down", body = DatabasesHealth),
    ),
)]
pub(in crate::http) async fn all(
    State(state): State<HttpState>,
) -> Result<Response, InternalError> {
    let findings = state.health.findings().await;
    let status = status(!findings.is_down());
    let databases = findings.databases;
    answer::json(status, &DatabasesHealth { databases })
}

/// Whether one database answers, and how fast.
#[utoipa::path(
    get,
    path = "/health/databases/{name}",
    tag = "health",
    operation_id = "database",
    params(("name" = String, Path, description = "the database's role, for example `raseen_temp_user`")),
    responses(
        (status = 200, description = "the database is up", body = DatabaseHealth),
        (status = 503, description = "the database is down", body = DatabaseHealth),
        UnknownName,
    ),
)]
pub(in crate::http) async fn one(
    State(state): State<HttpState>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, ReadDatabaseError> {
    // A name that cannot be decoded names no database either.
    let role = name.ok().and_then(|Path(name)| Role::by_name(&name));
    let role = role.ok_or(UnknownDatabase)?;
    let findings = state.health.findings().await;
    let mut rows = findings.databases.into_iter();
    let row = rows.find(|row| row.name == role);
    let row = row.ok_or(UnknownDatabase)?;
    Ok(answer::json(status(row.error.is_none()), &row)?)
}

fn status(up: bool) -> StatusCode {
    if up {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
