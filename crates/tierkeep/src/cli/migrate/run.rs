//! `migrate run`: owns the movement by hand.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, HumanDuration};
use tierkeep_core::audit::AuditKind;
use tierkeep_core::user::UserId;
use tierkeep_engine::{Inspector, MigrationService, MoveError, Purpose, RunOptions, Summary};
use tokio_util::sync::CancellationToken;

use super::super::progress::Progress;
use super::super::{Context, audit};
use crate::config::units;
use crate::exit::Exit;
use crate::lifecycle;

/// Arguments of `migrate run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Only count the documents that would move
    #[arg(long)]
    pub dry_run: bool,
    /// Treat documents older than this as due, ignoring the retention (24h, 30m, 0s)
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub older_than: Option<Duration>,
    /// Move only this user
    #[arg(long, value_name = "ID", value_parser = UserId::parse)]
    pub user: Option<UserId>,
    /// Move at most this many documents
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Move at most about this many documents per second, overriding the setting
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_rate: Option<u32>,
}

/// Runs the mover once.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub(super) async fn run(args: &RunArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let purpose = if args.dry_run {
        Purpose::Look
    } else {
        Purpose::Work
    };
    let (engine, _) = context.open(&settings, purpose).await?;
    if !args.dry_run {
        audit::does(
            engine.audit_trail(),
            AuditKind::AdminAction,
            "run",
            args.user.as_ref(),
        )
        .await?;
    }
    let service = MigrationService::new(engine, settings.mover);
    let options = RunOptions {
        dry_run: args.dry_run,
        older_than: args.older_than,
        user: args.user.clone(),
        limit: args.limit,
        max_rate: args.max_rate.and_then(NonZeroU32::new),
        run_id: None,
    };
    let stop = CancellationToken::new();
    lifecycle::cancel_on_signal(stop.clone());
    let progress = Progress::of(context, "moved");
    if progress.is_shown() {
        progress.expect(Inspector::from(&service).due(&options).await?);
    }
    let outcome = service.run_beside_others(options, &progress, &stop).await;
    drop(progress);
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
    let mut text = counts(summary);
    if summary.paused {
        text.push_str("\npaused: ");
        text.push_str(if summary.moved + summary.failed == 0 {
            "nothing was moved"
        } else {
            "no more batches were started"
        });
        text.push_str("; resume with: tierkeep migrate resume");
    }
    text
}

fn counts(summary: &Summary) -> String {
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
        "{verb} {documents} of {} due, {}, in {}\n\
         failed: {}, deferred: {}, quarantined: {}",
        summary.due,
        HumanBytes(summary.bytes),
        took(summary.elapsed_ms),
        summary.failed,
        summary.deferred,
        summary.quarantined,
    )
}

/// Short times to the millisecond.
fn took(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => HumanDuration(Duration::from_millis(millis)).to_string(),
    }
}
