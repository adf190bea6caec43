//! `audit prune`: owns how the beginning of the trail is removed.

use std::time::Duration;

use clap::Args;
use tierkeep_engine::{Pruned, Purpose};

use super::super::Context;
use super::COMMAND_LINE;
use crate::config::units;
use crate::exit::Exit;

/// Arguments of `audit prune`.
#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    /// Remove entries older than this (365d, 24h)
    #[arg(long, value_name = "DURATION", default_value = "365d", value_parser = units::duration)]
    pub older_than: Duration,
    /// Only count the entries that would be removed
    #[arg(long)]
    pub dry_run: bool,
}

/// Removes what is old.
///
/// # Errors
/// A chain that does not hold, wrong configuration, or databases that cannot be reached.
pub(super) async fn run(args: &PruneArgs, context: &Context) -> anyhow::Result<Exit> {
    let purpose = if args.dry_run {
        Purpose::Look
    } else {
        Purpose::Work
    };
    let (engine, _) = context.open(&context.settings()?, purpose).await?;
    let trail = engine.audit_trail();
    let pruned = trail.prune(args.older_than, COMMAND_LINE, args.dry_run);
    context.output().result(&pruned.await?, |it| text(*it))?;
    Ok(Exit::Done)
}

fn text(pruned: Pruned) -> String {
    match pruned {
        Pruned { pruned: 0, .. } => "no entries are that old".to_owned(),
        Pruned {
            pruned,
            through,
            dry_run,
        } => {
            let verb = if dry_run { "would remove" } else { "removed" };
            format!("{verb} {pruned} entries, through entry {through}")
        }
    }
}
