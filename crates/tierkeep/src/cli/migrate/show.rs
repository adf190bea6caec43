//! `migrate status`: owns where the movement stands.

use std::fmt::Write as _;

use serde::Serialize;
use tierkeep_core::mover;
use tierkeep_engine::{Inspector, MigrationView, Purpose, QuarantineView, RecordFilter, Status};

use super::super::{Context, status};
use crate::exit::Exit;

/// How many failed moves and how many quarantined documents are listed.
const LISTED: usize = 100;

/// Where the movement stands.
#[derive(Serialize)]
struct Movement {
    #[serde(flatten)]
    status: Status,
    /// At most [`LISTED`].
    failures: Vec<MigrationView>,
    /// At most [`LISTED`].
    quarantine: Vec<QuarantineView>,
}

/// Shows what the mover is doing, and what has failed or is quarantined, with the reasons.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let (engine, _) = context.open(&settings, Purpose::Look).await?;
    let inspector = Inspector::new(engine, settings.mover);
    let failed = RecordFilter {
        status: Some(mover::Status::Failed),
        user: None,
    };
    let movement = Movement {
        status: inspector.status(settings.scan_interval).await,
        failures: inspector.migrations(&failed, None, LISTED).await?.records,
        quarantine: inspector.quarantined(LISTED).await?,
    };
    context.output().result(&movement, text)?;
    Ok(Exit::Done)
}

fn text(movement: &Movement) -> String {
    let mut text = status::movement(&movement.status);
    if !movement.failures.is_empty() {
        text.push_str("\nfailed for good, until `tierkeep migrate retry`:\n");
        for record in &movement.failures {
            let error = record.error.as_deref().unwrap_or("unknown");
            let _ = writeln!(text, "  {}: {error}", record.user_id);
        }
        more(&mut text, movement.status.failed, movement.failures.len());
    }
    if !movement.quarantine.is_empty() {
        text.push_str("\nquarantined, until they are mended:\n");
        for document in &movement.quarantine {
            let _ = writeln!(text, "  {}: {}", document.document_id, document.reason);
        }
        let all = movement.status.quarantined;
        more(&mut text, all, movement.quarantine.len());
    }
    text
}

fn more(text: &mut String, all: u64, listed: usize) {
    let left = all.saturating_sub(u64::try_from(listed).unwrap_or(u64::MAX));
    if left > 0 {
        let _ = writeln!(text, "  and {left} more");
    }
}
