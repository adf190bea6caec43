//! `migrate`: owns the grammar of the movement by hand.
//!
//! Where to look: `run` (moving now), `show` (the status), `control` (pause, resume, retry).

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
    /// Move due documents now, with or without a running service
    Run(RunArgs),
    /// Show the state of the mover, and failed moves and quarantined documents with their reasons
    Status,
    /// Retry moves that have failed permanently: all of them, or one user's
    Retry(RetryArgs),
    /// Stop the mover in every process until it is resumed
    Pause,
    /// Resume the mover in every process
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
