//! Long tasks: owns how long a request waits for work that may take longer, and what it answers then.
//!
//! The work continues when the request ends, also when the caller disconnects.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tierkeep_core::store::StoreError;
use tierkeep_engine::{ConnectError, RestoreError};
use tracing::{error, info};

use super::super::error::route_error;
use crate::http::limits::Limits;
use crate::http::openapi::schema::{BodyOf, body};
use crate::http::response::answer;
use crate::http::response::problem::causes::{BodyError, InternalError, RoleError};
use crate::http::state::HttpState;

/// The part of a request's time that is spent waiting for the result.
const WAITED: f64 = 0.75;

route_error! {
    /// Why a long task did not begin, or ended without a result.
    TaskError after [RoleError] also [UserNotFound, MoverPaused, OutcomeUnknown] {
        /// The body cannot be read.
        Body(BodyError),
        /// A database did not answer.
        Database(StoreError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

body! {
    /// The run's id in records and logs.
    component Begun("Begun") {
        run_id: String,
    }
}

/// The state of a task when the wait for it ends.
pub(in crate::http) enum TaskState<T> {
    /// It is done.
    Done(T),
    /// It continues under this run id.
    Running(String),
}

/// How long a request waits for a task.
pub(super) fn longest_wait(limits: &Limits) -> Duration {
    limits.request_timeout.mul_f64(WAITED)
}

/// The answer to a request for a task: 200 with the result, or 202 while it continues.
pub(super) fn answer_of<T, B: BodyOf<T> + Serialize>(
    state: TaskState<T>,
) -> Result<Response, InternalError> {
    match state {
        TaskState::Done(done) => answer::json(StatusCode::OK, &B::body_of(done)),
        TaskState::Running(run_id) => answer::json(StatusCode::ACCEPTED, &Begun { run_id }),
    }
}

/// Spawns the work, and waits `longest` at most for its result.
///
/// # Errors
/// [`TaskError`] when the work ended with an error within that time.
pub(super) async fn run<T, E>(
    state: &HttpState,
    action: &'static str,
    longest: Duration,
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<TaskState<T>, TaskError>
where
    T: Send + 'static,
    E: Into<RestoreError> + Send + 'static,
{
    let run_id = state.mover.service.fresh_run_id();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let named = run_id.clone();
    state.mover.runs.spawn(async move {
        let outcome = work.await.map_err(Into::into);
        match &outcome {
            Ok(_) => info!(user_type = "internal", run_id = named, "{action}: done"),
            Err(error) => log(action, &named, error),
        }
        sender.send(outcome).ok();
    });
    match tokio::time::timeout(longest, receiver).await {
        Ok(Ok(Ok(done))) => Ok(TaskState::Done(done)),
        Ok(Ok(Err(
            RestoreError::Store(error) | RestoreError::Connect(ConnectError::Store(error)),
        ))) => Err(error.into()),
        Ok(Ok(Err(RestoreError::Connect(_))) | Err(_)) => Err(InternalError.into()),
        Err(_) => Ok(TaskState::Running(run_id)),
    }
}

fn log(action: &str, run_id: &str, error: &RestoreError) {
    match error {
        RestoreError::Store(error) => error!(
            user_type = "internal",
            run_id,
            database = %error.database,
            error = error.class.as_str(),
            "{action}: ended by a database",
        ),
        RestoreError::Connect(error) => error!(
            user_type = "internal",
            run_id,
            %error,
            "{action}: a different database answers now",
        ),
    }
}
