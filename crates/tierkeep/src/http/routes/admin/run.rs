//! `POST /v1/admin/migrations/run`.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use tierkeep_core::bson::Document;
use tierkeep_engine::{NoProgress, RunOptions, UsersError};

use super::{OVER_HTTP, amount, flag, only, optional_object, wrong};
use crate::config::units;
use crate::http::openapi::AdminWriteRefusals;
use crate::http::request::caller::Admin;
use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;
use crate::http::state::mover::Mover;

/// Move what is due now, beside every other mover; or see what would move.
#[utoipa::path(
    post,
    path = "/v1/admin/migrations/run",
    tag = "admin",
    operation_id = "run_migration",
    request_body(content = ref("#/components/schemas/RunRequest"), content_type = "application/json",
        description = "`dry_run`: only count; `older_than`: a duration such as 30m in place of the retention; `limit`: at most so many documents"),
    responses(
        (status = 200, description = "a dry run: the same as `tierkeep migrate run --dry-run --json`", body = ref("#/components/schemas/Counted")),
        (status = 202, description = "begun; `run_id` names the run in records and logs", body = ref("#/components/schemas/Begun")),
        AdminWriteRefusals,
    ),
    security(("jwt" = [])),
)]
pub(in crate::http) async fn post(
    State(state): State<HttpState>,
    admin: Admin,
    request: Request,
) -> Result<Response, Problem> {
    let options = options(&optional_object(request, &state.limits).await?)?;
    let service = &state.mover.service;
    if options.dry_run {
        let stop = state.mover.stop.child_token();
        let counted = service.migrate_expired_data(options, &NoProgress, &stop);
        let counted = counted
            .await
            .map_err(|stopped| UsersError::Unavailable(stopped.error))?;
        return answer::json(StatusCode::OK, &counted);
    }
    let run_id = run(&state, &admin, options, OVER_HTTP).await?;
    answer::json(StatusCode::ACCEPTED, &json!({ "run_id": run_id }))
}

/// Begins a run, after the audit trail says so; answers its id.
pub(in crate::http) async fn run(
    state: &HttpState,
    admin: &Admin,
    options: RunOptions,
    how: &str,
) -> Result<String, Problem> {
    if state.mover.service.is_paused().await? {
        return Err(Problem::MoverPaused);
    }
    admin.does(&state.audit, "run", None, how).await?;
    Ok(begin(&state.mover, options))
}

/// The run outlives the request; what stops it is logged where it happens.
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

fn options(body: &Document) -> Result<RunOptions, Problem> {
    only(body, &["dry_run", "older_than", "limit"])?;
    let mut options = RunOptions {
        dry_run: flag(body, "dry_run")?,
        limit: amount(body, "limit")?,
        ..RunOptions::default()
    };
    if let Some(older_than) = body.get("older_than") {
        let text = older_than.as_str().unwrap_or_default();
        let read = units::duration(text);
        options.older_than =
            Some(read.map_err(|form| wrong(format!("older_than is {form}, as a text")))?);
    }
    Ok(options)
}
