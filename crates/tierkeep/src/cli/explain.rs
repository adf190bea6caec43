//! `explain`: owns the account of one user.

use clap::Args;

use super::Context;
use crate::exit::Exit;

/// Arguments of `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// A user id (internal_… or external_…), 24 hex digits, or a public user name, in any letter case
    #[arg(value_name = "USER")]
    pub user: String,
}

/// Shows every copy of one user's document.
///
/// # Errors
/// Wrong configuration, a text that names no user, or databases that cannot be reached.
#[expect(clippy::unused_async, reason = "verbs share one shape")]
pub async fn run(_args: &ExplainArgs, context: &Context) -> anyhow::Result<Exit> {
    context.settings()?;
    anyhow::bail!("not built yet")
}
