//! `POST /v1/admin/backup`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use tierkeep_engine::{BackedUp, Backup};

use super::OVER_HTTP;
use super::restore::TroubleBody;
use super::task::{self, Begun, TaskError};
use crate::http::openapi::schema::body;
use crate::http::request::caller::Admin;
use crate::http::state::HttpState;

body! {
    /// The outcome of a backup.
    component BackedUpBody("BackedUp") from BackedUp {
        checked: u64,
        backed_up: u64,
        unchanged: u64,
        newer_in_backup: u64,
        erased: u64,
        corrupt: u64,
        conflicts: u64,
        refused: u64,
        /// The first documents that were not copied, and the reasons.
        problems: Vec<TroubleBody>,
        complete: bool,
        elapsed_ms: u64,
    }
}

/// Copy users' documents and HR records that have no backup from main to srie. Keeps newer documents in srie.
#[utoipa::path(
    post,
    path = "/v1/admin/backup",
    tag = "admin",
    operation_id = "backup",
    responses(
        (status = 200, description = "the same as `tierkeep backup --json`: `checked`, `backed_up`, `unchanged`, `newer_in_backup`, `erased`, `corrupt`, `conflicts`, `refused`, and the first `problems`", body = BackedUpBody),
        (status = 202, description = "still running; `run_id` identifies it in the log", body = Begun),
        TaskError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
) -> Result<Response, TaskError> {
    admin.does(&state.audit, "backup", None, OVER_HTTP).await?;
    let backup = Backup::new(Arc::clone(state.mover.service.engine()));
    let stop = state.mover.stop.clone();
    let work = async move { backup.run(&|_| (), &stop).await };
    let longest_wait = task::longest_wait(&state.limits);
    let done = task::run(&state, "backup", longest_wait, work).await?;
    Ok(task::answer_of::<_, BackedUpBody>(done)?)
}
