//! `status`: owns the system at a glance.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use comfy_table::Table;
use indicatif::{HumanBytes, HumanDuration};
use serde::Serialize;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::Role;
use tierkeep_engine::{DatabaseContents, Inspector, MigrationService, MoverPhase, Status};

use super::Context;
use crate::config::{Settings, units};
use crate::exit::Exit;
use crate::open::Look;
use crate::output::Format;

/// Arguments of `status`.
#[derive(Args, Clone, Copy, Debug)]
pub struct StatusArgs {
    /// Refresh until Ctrl-C: redraw on a terminal, otherwise append; with --json, print one line each
    #[arg(long)]
    pub watch: bool,
    /// Refresh interval for --watch
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    #[arg(requires = "watch")]
    pub every: Duration,
    /// Also show the counts, sizes, ages and indexes of each collection; slow for large collections
    #[arg(long, conflicts_with = "watch")]
    pub contents: bool,
}

fn interval(text: &str) -> Result<Duration, &'static str> {
    let interval = units::duration(text)?;
    if interval < Duration::from_millis(100) {
        return Err("expected at least 100ms");
    }
    Ok(interval)
}

#[derive(Serialize)]
struct StatusReport {
    #[serde(flatten)]
    status: Status,
    /// When it was looked at, by the clock of this process, RFC 3339.
    at: String,
    /// How many alerts are open; `None` if that is unknown.
    open_alerts: Option<u64>,
    /// The shards that are away, of each database that lacks some.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    shards_away: BTreeMap<Role, Vec<String>>,
    /// What each database holds, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<Vec<DatabaseContents>>,
}

/// Shows every database, what is due and what went wrong.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub async fn run(args: StatusArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    if !args.watch {
        let look = context.look(&settings).await?;
        let report = read_status(&look, &settings, args.contents).await;
        context.output().result(&report, text)?;
        return look.ends();
    }
    // Waited for all the time: one that comes during a look counts too. A snapshot is written in one go.
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
        ended = watch(&settings, args.every, context) => ended,
    }
}

/// Shows it again and again, as long as it can be written. Each time the databases are opened again, so that an outage
/// ends nothing, and one that is back is seen.
async fn watch(settings: &Settings, every: Duration, context: &Context) -> anyhow::Result<Exit> {
    let redraws = context.format == Format::Text && io::stdout().is_terminal();
    let mut output = context.output();
    let mut told = BTreeMap::new();
    loop {
        let look = context.look_again(settings).await?;
        let report = read_status(&look, settings, false).await;
        if redraws {
            output.clear()?;
        }
        output.result(&report, text)?;
        look.warn(&mut told);
        drop(look);
        tokio::time::sleep(every).await;
        if context.format == Format::Text && !redraws {
            output.line("")?;
        }
    }
}

async fn read_status(look: &Look, settings: &Settings, contents: bool) -> StatusReport {
    let service = MigrationService::new(Arc::clone(&look.engine), settings.mover);
    let (inspector, alerts) = (Inspector::from(&service), service.alerts());
    let (status, open_alerts) = tokio::join!(
        inspector.status(settings.scan_interval),
        alerts.count_open(),
    );
    let databases = service.engine().databases();
    let lacking = Role::ALL.map(|role| (role, databases.shards_away(role)));
    let lacking = lacking.into_iter().filter(|(_, shards)| !shards.is_empty());
    StatusReport {
        status,
        shards_away: lacking.collect(),
        at: rfc3339(service.engine().clock().now()),
        open_alerts: open_alerts.ok(),
        contents: if contents {
            Some(service.engine().databases().contents().await)
        } else {
            None
        },
    }
}

fn text(report: &StatusReport) -> String {
    let status = &report.status;
    let mut text = format!("{}\n\n", clock(&report.at));
    let mut table = super::table(&["database", "reachable", "breaker", "documents"]);
    for database in &status.databases {
        table.add_row([
            database.name.to_string(),
            match report.shards_away.get(&database.name) {
                Some(shards) => format!("not {}", shards.join(", ")),
                None if database.reachable => "yes".to_owned(),
                None => "no".to_owned(),
            },
            database.breaker.to_owned(),
            database
                .documents
                .map_or_else(unknown, |documents| documents.to_string()),
        ]);
    }
    let _ = write!(text, "{table}\n\n");
    text.push_str(&movement(status));
    let up_to = status.verified_up_to.as_deref();
    let _ = writeln!(
        text,
        "verified up to: {}",
        up_to.map_or_else(unknown, clock)
    );
    match report.open_alerts {
        Some(0) => text.push_str("alerts: none open\n"),
        Some(open) => {
            let _ = writeln!(text, "alerts: {open} open (tierkeep alerts list)");
        }
        None => text.push_str("alerts: unknown, evaluation_audit is unavailable\n"),
    }
    if let Some(contents) = &report.contents {
        let _ = writeln!(text, "\n{}", contents_table(contents));
    }
    text
}

fn contents_table(contents: &[DatabaseContents]) -> Table {
    let mut table = super::table(&[
        "database",
        "collection",
        "documents",
        "size",
        "oldest",
        "newest",
        "indexes",
    ]);
    for database in contents {
        let name = database.name.to_string();
        let Some(collections) = &database.collections else {
            table.add_row([name, "did not answer".into()]);
            continue;
        };
        for collection in collections {
            let date = |at: &Option<String>| at.clone().unwrap_or_default();
            table.add_row([
                name.clone(),
                collection.name.clone(),
                collection.documents.to_string(),
                HumanBytes(collection.bytes).to_string(),
                date(&collection.oldest),
                date(&collection.newest),
                collection.indexes.join("\n"),
            ]);
        }
    }
    table
}

/// The status of the mover, a line each.
pub(super) fn movement(status: &Status) -> String {
    let mut text = format!("mover: {}\n", phase(status));
    text.push_str(&due(status));
    let number = |number: Option<u64>| number.map_or_else(unknown, |number| number.to_string());
    let _ = writeln!(text, "failed: {}", number(status.failed));
    let _ = writeln!(text, "quarantined: {}", number(status.quarantined));
    let _ = writeln!(
        text,
        "backup pending: {} moves started, {} HR records",
        number(status.backup_pending.user),
        number(status.backup_pending.hr),
    );
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
            "last error: {} was unavailable ({}), at {}",
            error.database, error.error, error.at
        );
    }
    text
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn due(status: &Status) -> String {
    let (Some(due), Some(overdue), Some(lag)) = (status.due, status.overdue, status.lag_seconds)
    else {
        return "due: unknown, raseen_temp_user is unavailable\n".to_owned();
    };
    if due == 0 {
        return "due: 0 (overdue 0)\n".to_owned();
    }
    let oldest = HumanDuration(Duration::from_secs(lag));
    format!("due: {due} (overdue {overdue}, the oldest by {oldest})\n")
}

/// An RFC 3339 date to the second.
fn clock(rfc3339: &str) -> String {
    let to_the_second: String = rfc3339.chars().take(19).collect();
    format!("{} UTC", to_the_second.replace('T', " "))
}

fn phase(status: &Status) -> String {
    match status.mover.phase {
        MoverPhase::Idle => "idle, no documents are due".into(),
        MoverPhase::Waiting => {
            "waiting: a service moves due documents at its next scan, `tierkeep migrate run` at once"
                .into()
        }
        MoverPhase::Moving => at_work("moving", status),
        MoverPhase::Stuck => at_work(
            "stuck: documents are overdue and no process moves them; see the last error, and check that a service runs",
            status,
        ),
        MoverPhase::Paused => {
            "paused: no documents move until the mover is resumed (tierkeep migrate resume)".into()
        }
        MoverPhase::Unknown => "unknown: a database that is needed to tell is unavailable".into(),
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
        if let Some(left) = status.time_left() {
            let _ = write!(text, ", {} left", HumanDuration(left));
        }
    }
    text
}
