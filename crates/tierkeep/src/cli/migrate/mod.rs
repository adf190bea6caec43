//! `migrate`: owns the grammar of the movement by hand.
//!
//! Where to look: `run` (moving now), `show` (where it stands), `control` (pause, resume, retry).

mod control;
mod run;
mod show;

use clap::Subcommand;

use super::Context;
use crate::exit::Exit;

pub use control::RetryArgs;
pub use run::RunArgs;

/// What to do about the movement.
#[derive(Subcommand, Clone, Debug)]
pub enum MigrateCommand {
    /// Move what is due now, beside a running service or without one
    Run(RunArgs),
    /// Show what the mover is doing, and what has failed or is quarantined, with the reasons
    Status,
    /// Try moves that have failed for good again: all of them, or one user's
    Retry(RetryArgs),
    /// Stop the movement everywhere, in every process, until it is resumed
    Pause,
    /// Let the movement go on everywhere
    Resume,
}

/// Does what the command says.
///
/// # Errors
/// Wrong usage or configuration, or databases that cannot be reached.
pub async fn run(command: &MigrateCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        MigrateCommand::Run(args) => run::run(args, context).await,
        MigrateCommand::Status => show::run(context).await,
        MigrateCommand::Retry(args) => control::retry(args, context).await,
        MigrateCommand::Pause => control::switch(true, context).await,
        MigrateCommand::Resume => control::switch(false, context).await,
    }
}
