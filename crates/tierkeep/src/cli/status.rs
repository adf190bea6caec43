//! `status`: owns the system at a glance.

use std::fmt::Write as _;

use tierkeep_engine::{MigrationService, Purpose, Status};

use super::Context;
use crate::exit::Exit;
use crate::open::open;

/// Shows every database and what is due.
///
/// # Errors
/// Wrong configuration, or critical databases that cannot be reached.
pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let (databases, _) = open(&settings, Purpose::Look).await?;
    let service = MigrationService::new(databases, settings.mover);
    let status = service.status(settings.scan_interval).await;
    context.output().result(&status, text)?;
    Ok(Exit::Done)
}

fn text(status: &Status) -> String {
    let mut table = super::table(&["database", "reachable", "documents"]);
    for database in &status.databases {
        table.add_row([
            database.name.to_string(),
            if database.reachable { "yes" } else { "no" }.to_owned(),
            database
                .documents
                .map_or_else(String::new, |documents| documents.to_string()),
        ]);
    }
    let mut text = format!("{table}\n\n");
    text.push_str(&movement(status));
    text
}

/// Where the movement stands, a line each.
pub(super) fn movement(status: &Status) -> String {
    let mut text = String::new();
    if status.paused {
        text.push_str("paused: nothing moves until it is resumed\n");
    }
    let _ = writeln!(
        text,
        "due: {} (overdue {}, the oldest for {} s)",
        status.due, status.overdue, status.lag_seconds
    );
    let _ = writeln!(text, "failed: {}", status.failed);
    let _ = writeln!(text, "quarantined: {}", status.quarantined);
    if let Some(run) = &status.last_run {
        let _ = writeln!(
            text,
            "last run: {} moved, {} failed, {} deferred, at {}",
            run.moved, run.failed, run.deferred, run.finished_at
        );
    }
    text
}
