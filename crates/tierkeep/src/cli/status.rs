//! `status`: owns the system at a glance.

use super::Context;
use crate::exit::Exit;

/// Shows every database and what is due.
///
/// # Errors
/// Wrong configuration.
#[expect(clippy::unused_async, reason = "verbs share one shape")]
pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    context.settings()?;
    anyhow::bail!("not built yet")
}
