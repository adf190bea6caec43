//! `alerts`: owns the grammar of alerts.
//!
//! Where to look: `list` (what is open), `test` (whether messages arrive).

mod list;
mod test;

use clap::Subcommand;

use super::Context;
use crate::exit::Exit;

pub use list::ListArgs;

/// What to do about alerts.
#[derive(Subcommand, Clone, Debug)]
pub enum AlertsCommand {
    /// Show open alerts
    List(ListArgs),
    /// Send a test message through every channel and report whether it was delivered
    ///
    /// Needs the settings of a webhook or of mail (see `tierkeep config template`), but no database. Exit code 1 if a
    /// message could not be delivered.
    Test,
}

/// Does what the command says.
///
/// # Errors
/// Wrong usage or configuration, or databases that cannot be reached.
pub async fn run(command: &AlertsCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        AlertsCommand::List(args) => list::run(args, context).await,
        AlertsCommand::Test => test::run(context).await,
    }
}
