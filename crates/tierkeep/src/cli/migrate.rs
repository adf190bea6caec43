//! `migrate`: owns the movement by hand.

use std::time::Duration;

use clap::{Args, Subcommand};
use tierkeep_core::user::UserId;

use super::Context;
use crate::config::units;
use crate::exit::Exit;

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
#[expect(clippy::unused_async, reason = "verbs share one shape")]
pub async fn run(_command: &MigrateCommand, context: &Context) -> anyhow::Result<Exit> {
    context.settings()?;
    anyhow::bail!("not built yet")
}
