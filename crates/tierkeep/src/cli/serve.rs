//! `serve`: owns the service's arguments.

use clap::Args;

use super::Context;
use crate::exit::Exit;

/// Arguments of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Listen on this address [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
}

/// Serves until it is told to stop.
///
/// # Errors
/// Wrong configuration, databases that cannot be reached, an address that is taken.
#[expect(clippy::unused_async, reason = "verbs share one shape")]
pub async fn run(_args: &ServeArgs, context: &Context) -> anyhow::Result<Exit> {
    context.service()?;
    anyhow::bail!("not built yet")
}
