//! `POST /v1/admin/migrations/run`.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Deserializer};
use tierkeep_core::store::StoreError;
use tierkeep_engine::{NoProgress, RunOptions, Summary};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use super::super::error::route_error;
use super::OVER_HTTP;
use super::task::Begun;
use crate::config::units;
use crate::http::openapi::schema::{BodyOf, amount, body, of, request};
use crate::http::request::body;
use crate::http::request::caller::Admin;
use crate::http::request::fields::{self, Amount, Flag};
use crate::http::response::answer;
use crate::http::response::problem::causes::{BodyError, InternalError, MoverPaused, RoleError};
use crate::http::state::HttpState;
use crate::http::state::mover::Mover;

route_error! {
    /// Why no run begins.
    RunMigrationError after [RoleError] also [UserNotFound, OutcomeUnknown] {
        /// The body cannot be read.
        Body(BodyError),
        /// The movement was stopped everywhere.
        Paused(MoverPaused),
        /// A database did not answer.
        Database(StoreError),
        /// An internal error occurred.
        Internal(InternalError),
    }
}

/// What to move.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RunRequest {
    #[serde(default)]
    dry_run: Flag,
    #[serde(default, deserialize_with = "older_than")]
    older_than: Option<Duration>,
    limit: Option<Amount>,
}

fn older_than<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let parse = |text: &str| units::duration(text).map_err(|form| format!("{form}, as a string"));
    fields::text(deserializer, parse).map(Some)
}

impl PartialSchema for RunRequest {
    fn schema() -> RefOr<Schema> {
        let older_than = of(Type::String)
            .description(Some("a duration that replaces the retention"))
            .pattern(Some("^[0-9]{1,4}(d|h|m|s|ms)$"))
            .examples(["30m"]);
        let fields = [
            ("dry_run", of(Type::Boolean).description(Some("only count"))),
            ("older_than", older_than),
            (
                "limit",
                amount().description(Some("the maximum number of documents")),
            ),
        ];
        RefOr::T(request(fields, &[]).into())
    }
}

impl ToSchema for RunRequest {}

impl From<RunRequest> for RunOptions {
    fn from(request: RunRequest) -> Self {
        Self {
            dry_run: request.dry_run.0,
            older_than: request.older_than,
            limit: request.limit.map(|Amount(limit)| limit),
            ..Self::default()
        }
    }
}

body! {
    /// The outcome of a run or a dry run.
    component Counted("Counted") from Summary {
        run_id: String,
        scanned: u64,
        due: u64,
        moved: u64,
        failed: u64,
        deferred: u64,
        quarantined: u64,
        bytes: u64,
        dry_run: bool,
        paused: bool,
        elapsed_ms: u64,
    }
}

/// Move due documents now, concurrently with other movers, or count them with `dry_run`.
#[utoipa::path(
    post,
    path = "/v1/admin/migrations/run",
    tag = "admin",
    operation_id = "run_migration",
    request_body(content = RunRequest, content_type = "application/json",
        description = "`dry_run`: only count; `older_than`: a duration such as 30m that replaces the retention; `limit`: the maximum number of documents"),
    responses(
        (status = 200, description = "a dry run: the same as `tierkeep migrate run --dry-run --json`", body = Counted),
        (status = 202, description = "started; `run_id` identifies the run in records and logs", body = Begun),
        RunMigrationError,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
    request: Request,
) -> Result<Response, RunMigrationError> {
    let options: RunRequest = body::optional(request, &state).await?;
    let options = RunOptions::from(options);
    if options.dry_run {
        let stop = state.mover.stop.child_token();
        let service = &state.mover.service;
        let counted = service.migrate_expired_data(options, &NoProgress, &stop);
        let counted = counted.await.map_err(|stopped| stopped.error)?;
        return Ok(answer::json(StatusCode::OK, &Counted::body_of(counted))?);
    }
    let run_id = run(&state, &admin, options, OVER_HTTP).await?;
    Ok(answer::json(StatusCode::ACCEPTED, &Begun { run_id })?)
}

/// Begins a run, after the audit trail has recorded it; answers its id.
///
/// # Errors
/// [`RunMigrationError::Paused`]; [`RunMigrationError::Database`] while `evaluation_audit` is away.
pub(in crate::http) async fn run(
    state: &HttpState,
    admin: &Admin,
    options: RunOptions,
    how: &str,
) -> Result<String, RunMigrationError> {
    if state.mover.service.is_paused().await? {
        return Err(MoverPaused.into());
    }
    admin.does(&state.audit, "run", None, how).await?;
    Ok(begin(&state.mover, options))
}

/// The run continues after the request; an error that stops it is logged where it happens.
fn begin(mover: &Mover, mut options: RunOptions) -> String {
    let (service, stop) = (mover.service.clone(), mover.stop.clone());
    let run_id = service.fresh_run_id();
    options.run_id = Some(run_id.clone());
    mover.runs.spawn(async move {
        service
            .run_beside_others(options, &NoProgress, &stop)
            .await
            .ok();
    });
    run_id
}
