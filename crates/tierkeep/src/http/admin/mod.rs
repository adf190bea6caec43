//! `/v1/admin`: what an administrator sees of the movement and tells it. One route per file.
//!
//! Every route takes a JWT with the role admin, and looks at nothing else to know who is asking.

pub(super) mod audit;
pub(super) mod migrations;
pub(super) mod overview;
pub(super) mod pause;
pub(super) mod resume;
pub(super) mod retry;
pub(super) mod run;
pub(super) mod user;

use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::Request;
use tierkeep_core::bson::Document;
use tierkeep_core::content::InvalidBody;
use tierkeep_core::user::UserType;
use tierkeep_engine::MigrationService;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Limits;
use super::body::{self, Kind};
use super::problem::Problem;

/// The mover as administrators reach it. Clones share it.
#[derive(Clone, Debug)]
pub struct Mover {
    /// What moves.
    pub service: MigrationService,
    /// How often the service looks by itself.
    pub scan_interval: Duration,
    /// Cancelled when the service stops: runs at work finish their batches.
    pub stop: CancellationToken,
    /// The runs that administrators began.
    pub runs: TaskTracker,
}

impl Mover {
    /// A mover without runs, that stops with `stop`.
    pub fn new(
        service: MigrationService,
        scan_interval: Duration,
        stop: CancellationToken,
    ) -> Self {
        Self {
            service,
            scan_interval,
            stop,
            runs: TaskTracker::new(),
        }
    }

    /// Waits until no run that an administrator began is at work.
    pub async fn finished(&self) {
        self.runs.close();
        self.runs.wait().await;
    }
}

/// The object that came along; empty where nothing did.
async fn optional_object(request: Request, limits: &Limits) -> Result<Document, Problem> {
    if request.body().is_end_stream() {
        return Ok(Document::new());
    }
    body::object(request, Kind::Section, limits, UserType::Internal).await
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
