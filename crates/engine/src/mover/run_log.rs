//! What is kept of the last runs: what the last one that did something did, and what stopped one.
//!
//! Two documents of the collection `control`. A run is no less done where they cannot be written.

use bson::doc;
use serde::Serialize;
use tierkeep_core::brief::brief;
use tierkeep_core::bson;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::Role;
use tierkeep_core::store::StoreError;

use crate::context::Engine;
use crate::databases::control;
use crate::mover::Summary;

const LAST_RUN: &str = "last_run";
const LAST_ERROR: &str = "last_error";
const FINISHED_AT: &str = "finished_at";

/// What the last run did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LastRun {
    /// Names the run.
    pub run_id: String,
    /// When it ended, RFC 3339.
    pub finished_at: String,
    /// Documents moved.
    pub moved: i64,
    /// Attempts that failed.
    pub failed: i64,
    /// Parked, or waiting for a database.
    pub deferred: i64,
}

/// What stopped a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LastError {
    /// When, RFC 3339.
    pub at: String,
    /// The run.
    pub run_id: String,
    /// The database that was away.
    pub database: String,
    /// The class of its error.
    pub error: String,
}

/// Keeps what a run did, if it did something.
pub(super) async fn keep_run(engine: &Engine, summary: &Summary) {
    if summary.moved + summary.failed == 0 {
        return;
    }
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let set = doc! {
        "kind": LAST_RUN,
        "run_id": &summary.run_id,
        FINISHED_AT: engine.clock().now(),
        "moved": number(summary.moved),
        "failed": number(summary.failed),
        "deferred": number(summary.deferred),
    };
    control::set(engine.databases.audit_db(), LAST_RUN, &set)
        .await
        .ok();
}

/// Keeps what stopped a run, unless it was the database that would keep it.
pub(super) async fn keep_error(engine: &Engine, run_id: &str, error: &StoreError) {
    if error.database == Role::EvaluationAudit {
        return;
    }
    let set = doc! {
        "kind": LAST_ERROR,
        "at": engine.clock().now(),
        "run_id": run_id,
        "database": error.database.name(),
        "error": error.class.as_str(),
    };
    control::set(engine.databases.audit_db(), LAST_ERROR, &set)
        .await
        .ok();
}

/// The last run that did something, and when it finished by the clock of its process; `None` where that is unknown.
pub(crate) async fn last_run(engine: &Engine) -> Option<(LastRun, bson::DateTime)> {
    let run = control::read(engine.databases.audit_db(), LAST_RUN)
        .await
        .ok()??;
    let finished_at = run.get_datetime(FINISHED_AT).ok()?;
    let shown = LastRun {
        run_id: run.get_str("run_id").ok()?.to_owned(),
        finished_at: rfc3339(finished_at),
        moved: run.get_i64("moved").ok()?,
        failed: run.get_i64("failed").ok()?,
        deferred: run.get_i64("deferred").ok()?,
    };
    Some((shown, finished_at))
}

/// What stopped a run last; `None` where that is unknown.
pub(crate) async fn last_error(engine: &Engine) -> Option<LastError> {
    let kept = control::read(engine.databases.audit_db(), LAST_ERROR)
        .await
        .ok()??;
    Some(LastError {
        at: rfc3339(kept.get_datetime("at").ok()?),
        run_id: kept.get_str("run_id").ok()?.to_owned(),
        database: kept.get_str("database").ok()?.to_owned(),
        error: brief(kept.get_str("error").ok()?),
    })
}
