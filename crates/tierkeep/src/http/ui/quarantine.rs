//! What an administrator decides about a quarantined document on the dashboard.

use std::path::Path;
use std::sync::Arc;

use axum::http::header::CONTENT_DISPOSITION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use tierkeep_core::brief::brief;
use tierkeep_core::user::UserId;
use tierkeep_engine::{Keep, QuarantineError, QuarantineReleased, QuarantineService};

use super::actions::HOW;
use super::operator::Operator;
use super::page::{PageResult, Place, guard, see};
use crate::config::private_directory;
use crate::http::response::answer;
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

/// The most bytes of BSON of a download; its text is held in memory.
const DOWNLOAD_BYTES: usize = 4 * 1024 * 1024;

/// Releases the document that `name` names, and says what came of it. `keep`: which copy counts from now on, where copies
/// contradict each other; all of them are written to a file first.
pub(super) async fn release(
    state: &HttpState,
    by: &Operator,
    name: &str,
    keep: Option<Keep>,
) -> Result<String, Problem> {
    let directory = match (keep, &state.copies_dir) {
        // Without a choice between copies no file is written.
        (None, _) => Path::new("."),
        (Some(_), Some(directory)) => directory,
        (Some(_), None) => {
            return Ok(
                "Not released: there is no directory for the file with the copies. Set TIERKEEP_SPOOL_DIR, or use \
                 tierkeep quarantine release."
                    .into(),
            );
        }
    };
    if keep.is_some()
        && let Err(error) = private_directory(directory)
    {
        let directory = directory.display();
        return Ok(format!(
            "Not released: {directory} cannot be created: {error}."
        ));
    }
    let actor = by.admin.user().as_str();
    let released = service(state).release(name, keep, directory, actor).await;
    match released {
        Ok(QuarantineReleased {
            kept: Some(role),
            file: Some(file),
            ..
        }) => Ok(format!(
            "Kept the copy in {role}. All copies as they were are in {} on the host of this process.",
            file.display()
        )),
        Ok(_) => Ok(format!("Released {name}. The next run checks it again.")),
        Err(QuarantineError::Store(error)) => Err(error.into()),
        Err(QuarantineError::ChoiceNeeded(whose, reason)) => Ok(format!(
            "Not released: copies of {whose} are in conflict ({reason}). Choose the current one."
        )),
        Err(QuarantineError::NoChoice(whose, reason)) => Ok(format!(
            "Not released: no copies of {whose} are in conflict ({reason}). Release the document instead."
        )),
        Err(error) => Ok(format!("Not released: {error}.")),
    }
}

/// The document and the copies of its user, as a file.
pub(super) async fn download(state: &HttpState, by: &Operator, name: &str) -> PageResult {
    match service(state).show_within(name, DOWNLOAD_BYTES).await {
        Ok(shown) => {
            let user = shown.entry.user_id.as_deref();
            let user = user.and_then(|user| UserId::parse(user).ok());
            let how = format!("{HOW}, {}", brief(name));
            let action = "quarantine export";
            by.admin
                .does(&state.audit, action, user.as_ref(), &how)
                .await?;
            let mut answer: Response = answer::json(StatusCode::OK, &shown)?;
            let headers = answer.headers_mut();
            let attached = HeaderValue::from_static("attachment; filename=\"quarantined.json\"");
            headers.insert(CONTENT_DISPOSITION, attached);
            guard(headers);
            Ok(answer)
        }
        Err(QuarantineError::Store(error)) => Err(Problem::from(error).into()),
        Err(error) => {
            state
                .sessions
                .tell(&by.session, format!("Not downloaded: {error}."));
            Ok(see(Place::Migrations.path()))
        }
    }
}

fn service(state: &HttpState) -> QuarantineService {
    QuarantineService::new(Arc::clone(state.mover.service.engine()))
}
