//! `/v1/admin`: what an administrator sees of the movement and tells it. One route per file.
//!
//! Every route takes a JWT with the role admin, and looks at nothing else to know who is caller.

pub(in crate::http) mod alerts;
pub(in crate::http) mod audit;
pub(in crate::http) mod migrations;
pub(in crate::http) mod overview;
pub(in crate::http) mod pause;
pub(in crate::http) mod restore;
pub(in crate::http) mod resume;
pub(in crate::http) mod retry;
pub(in crate::http) mod run;
pub(in crate::http) mod user;
pub(in crate::http) mod verify;

use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use tierkeep_core::bson::{Bson, Document};
use tierkeep_core::content::InvalidBody;
use tierkeep_core::user::UserType;
use tierkeep_engine::{ConnectError, RestoreError, UsersError};
use tracing::{error, info};

use crate::http::limits::Limits;
use crate::http::request::body::{self, BodyFormat};
use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

/// How the audit trail says that an administrator came.
const OVER_HTTP: &str = "over HTTP";

/// The object that came along; empty where nothing did.
async fn optional_object(request: Request, limits: &Limits) -> Result<Document, Problem> {
    if request.body().is_end_stream() {
        return Ok(Document::new());
    }
    body::object(request, BodyFormat::Json, limits, UserType::Internal).await
}

/// A field of a body says something that it cannot.
fn wrong(what: String) -> Problem {
    Problem::Body(InvalidBody::Content(what))
}

/// Refuses fields that mean nothing here, which are most likely misspelt.
fn only(body: &Document, known: &[&str]) -> Result<(), Problem> {
    match body.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(wrong(format!(
            "the field {key:?} is not known here; the fields are {}",
            known.join(", ")
        ))),
        None => Ok(()),
    }
}

/// A field that is true or false; false where it is missing.
fn flag(body: &Document, name: &str) -> Result<bool, Problem> {
    match body.get(name) {
        None => Ok(false),
        Some(Bson::Boolean(flag)) => Ok(*flag),
        Some(_) => Err(wrong(format!("{name} is true or false"))),
    }
}

/// A field that is a whole number above 0; `None` where it is missing.
fn amount(body: &Document, name: &str) -> Result<Option<u64>, Problem> {
    let Some(value) = body.get(name) else {
        return Ok(None);
    };
    let above_0 = whole(value).filter(|amount| *amount > 0);
    let wrong = || wrong(format!("{name} is a whole number above 0"));
    Ok(Some(above_0.ok_or_else(wrong)?))
}

/// A whole number, however it is written: to JSON, `7.0` is the same as `7`.
fn whole(value: &Bson) -> Option<u64> {
    let text = match value.as_f64() {
        Some(float) => float.to_string(),
        None => value
            .as_i64()
            .or(value.as_i32().map(i64::from))?
            .to_string(),
    };
    text.parse().ok()
}

/// What became of work that may take longer than it is waited for.
pub(in crate::http) enum Outlived<T> {
    /// It is done.
    Done(T),
    /// It goes on under this id.
    GoesOn(String),
}

/// Work that may take longer than a request: its result where it is there in time, else a promise.
async fn outliving<T, E>(
    state: &HttpState,
    action: &'static str,
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<Response, Problem>
where
    T: Serialize + Send + 'static,
    E: Into<RestoreError> + Send + 'static,
{
    let patience = state.limits.request_timeout.mul_f64(0.75);
    match outlived(state, action, patience, work).await? {
        Outlived::Done(done) => answer::json(StatusCode::OK, &done),
        Outlived::GoesOn(run_id) => {
            answer::json(StatusCode::ACCEPTED, &json!({ "run_id": run_id }))
        }
    }
}

/// Waits for the work for as long as `patience`. It goes on either way, and when the caller hangs up.
async fn outlived<T, E>(
    state: &HttpState,
    action: &'static str,
    patience: Duration,
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<Outlived<T>, Problem>
where
    T: Send + 'static,
    E: Into<RestoreError> + Send + 'static,
{
    let run_id = state.mover.service.fresh_run_id();
    let (tell, told) = tokio::sync::oneshot::channel();
    let named = run_id.clone();
    state.mover.runs.spawn(async move {
        let outcome = work.await.map_err(Into::into);
        match &outcome {
            Ok(_) => info!(user_type = "internal", run_id = named, "{action}: done"),
            Err(RestoreError::Store(error)) => error!(
                user_type = "internal",
                run_id = named,
                database = %error.database,
                error = error.class.as_str(),
                "{action}: ended by a database",
            ),
            Err(RestoreError::Connect(error)) => error!(
                user_type = "internal",
                run_id = named,
                %error,
                "{action}: a database is another one now",
            ),
        }
        tell.send(outcome).ok();
    });
    match tokio::time::timeout(patience, told).await {
        Ok(Ok(Ok(done))) => Ok(Outlived::Done(done)),
        Ok(Ok(Err(
            RestoreError::Store(error) | RestoreError::Connect(ConnectError::Store(error)),
        ))) => Err(UsersError::Unavailable(error).into()),
        Ok(Ok(Err(RestoreError::Connect(_))) | Err(_)) => Err(Problem::Internal),
        Err(_) => Ok(Outlived::GoesOn(run_id)),
    }
}
