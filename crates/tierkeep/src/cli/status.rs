//! `status`: owns the system at a glance.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::HumanDuration;
use tierkeep_engine::{MigrationService, MoverPhase, Purpose, Status};

use super::Context;
use crate::exit::Exit;

/// Shows every database and what is due.
///
/// # Errors
/// Wrong configuration, or critical databases that cannot be reached.
pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let (databases, _) = context.open(&settings, Purpose::Look).await?;
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
    let mut text = format!("mover: {}\n", phase(status));
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
    if let Some(error) = &status.mover.last_error {
        let _ = writeln!(
            text,
            "last error: {} was away ({}), at {}",
            error.database, error.error, error.at
        );
    }
    text
}

fn phase(status: &Status) -> String {
    match status.mover.phase {
        MoverPhase::Idle => "idle, nothing is due".into(),
        MoverPhase::Waiting => {
            "waiting: a service moves what is due at its next look, `tierkeep migrate run` at once"
                .into()
        }
        MoverPhase::Moving => at_work("moving", status),
        MoverPhase::Stuck => at_work(
            "stuck: documents are overdue and nobody moves them; see the last error, and whether a service runs",
            status,
        ),
        MoverPhase::Paused => {
            "paused: nothing moves until it is resumed (tierkeep migrate resume)".into()
        }
    }
}

/// How fast the holder of the lease is, and how long that will take.
fn at_work(phase: &str, status: &Status) -> String {
    let Some(holder) = &status.mover.holder else {
        return phase.to_owned();
    };
    let mut text = format!("{phase}, by {} (claim {})", holder.holder, holder.fence);
    if let Some(run) = &holder.run {
        let _ = write!(text, ", {} moved, {:.0}/s", run.moved, run.per_second);
        if run.per_second >= 1.0 {
            let left = Duration::from_secs(status.due).div_f64(run.per_second);
            let _ = write!(text, ", {} left", HumanDuration(left));
        }
    }
    text
}
