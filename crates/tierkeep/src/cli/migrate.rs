//! `migrate`: owns the movement by hand.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tierkeep_core::user::UserId;
use tierkeep_engine::{
    MigrationService, MoveError, NoProgress, Progress, Purpose, QuarantineView, RunOptions, Status,
    Summary,
};
use tokio_util::sync::CancellationToken;

use super::{Context, status};
use crate::config::units;
use crate::exit::Exit;
use crate::lifecycle;
use crate::open::open;
use crate::output::Format;

/// How many quarantined documents `migrate status` lists.
const LISTED: usize = 100;

/// What to do about the movement.
#[derive(Subcommand, Clone, Debug)]
pub enum MigrateCommand {
    /// Move what is due now, beside a running service or without one
    Run(RunArgs),
    /// Show what is due, and what the last runs did
    Status,
}

/// Arguments of `migrate run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Only count what would move
    #[arg(long)]
    pub dry_run: bool,
    /// Take documents for due after this time in place of the retention (24h, 30m, 0s)
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub older_than: Option<Duration>,
    /// Move only this user
    #[arg(long, value_name = "ID", value_parser = UserId::parse)]
    pub user: Option<UserId>,
    /// Move this many documents at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// Runs the mover once, or shows where it stands.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub async fn run(command: &MigrateCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        MigrateCommand::Run(args) => run_once(args, context).await,
        MigrateCommand::Status => show(context).await,
    }
}

async fn run_once(args: &RunArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let purpose = if args.dry_run {
        Purpose::Look
    } else {
        Purpose::Work
    };
    let (databases, _) = open(&settings, purpose).await?;
    let service = MigrationService::new(databases, settings.mover);
    let options = RunOptions {
        dry_run: args.dry_run,
        older_than: args.older_than,
        user: args.user.clone(),
        limit: args.limit,
    };
    let stop = CancellationToken::new();
    lifecycle::cancel_on_signal(stop.clone());
    let visible = context.format == Format::Text && io::stderr().is_terminal();
    let outcome = if visible {
        let bar = Bar::new();
        let outcome = service.migrate_expired_data(options, &bar, &stop).await;
        bar.0.finish_and_clear();
        outcome
    } else {
        service
            .migrate_expired_data(options, &NoProgress, &stop)
            .await
    };
    let mut output = context.output();
    match outcome {
        Ok(summary) => {
            output.result(&summary, text)?;
            Ok(if summary.failed > 0 {
                Exit::Failed
            } else {
                Exit::Done
            })
        }
        Err(MoveError { error, summary }) => {
            output.result(&summary, |summary| text(summary))?;
            Err(error.into())
        }
    }
}

fn text(summary: &Summary) -> String {
    let verb = if summary.dry_run {
        "would move"
    } else {
        "moved"
    };
    let documents = if summary.dry_run {
        summary.due
    } else {
        summary.moved
    };
    format!(
        "{verb} {documents} of {} documents that are due, {} bytes, in {} ms\n\
         failed: {}, deferred: {}, quarantined: {}",
        summary.due,
        summary.bytes,
        summary.elapsed_ms,
        summary.failed,
        summary.deferred,
        summary.quarantined,
    )
}

/// Progress on a terminal, with the rate.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({per_sec}, {elapsed})") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Progress for Bar {
    fn report(&self, summary: &Summary) {
        self.0.set_position(summary.moved);
        self.0.set_message(format!(
            "{} moved, {} failed",
            summary.moved, summary.failed
        ));
    }
}

/// Where the movement stands.
#[derive(Serialize)]
struct Movement {
    #[serde(flatten)]
    status: Status,
    quarantine: Vec<QuarantineView>,
}

async fn show(context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let (databases, _) = open(&settings, Purpose::Look).await?;
    let service = MigrationService::new(databases, settings.mover);
    let movement = Movement {
        status: service.status(settings.scan_interval).await,
        quarantine: service.quarantined(LISTED).await?,
    };
    context.output().result(&movement, |movement| {
        let mut text = status::movement(&movement.status);
        for document in &movement.quarantine {
            let _ = writeln!(text, "  {}: {}", document.document_id, document.reason);
        }
        text
    })?;
    Ok(Exit::Done)
}
