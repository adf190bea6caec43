//! `init`: owns the preparation of the seven databases.

use super::Context;
use crate::exit::Exit;

/// Creates what is missing in the seven databases.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
#[expect(clippy::unused_async, reason = "verbs share one shape")]
pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    context.settings()?;
    anyhow::bail!("not built yet")
}
