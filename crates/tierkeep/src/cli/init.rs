//! `init`: owns the preparation of the seven databases.

use serde_json::json;
use tierkeep_core::db::Role;
use tierkeep_engine::Purpose;

use super::Context;
use crate::exit::Exit;

/// Creates what is missing in the seven databases.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    let (_, opened) = context.open(&context.settings()?, Purpose::Work).await?;
    let ready: Vec<Role> = Role::ALL
        .into_iter()
        .filter(|role| !opened.away.contains(role))
        .collect();
    let result = json!({ "ready": ready, "away": opened.away });
    context.output().result(&result, |_| {
        let mut lines: Vec<String> = ready.iter().map(|role| format!("{role}  ready")).collect();
        lines.extend(opened.away.iter().map(|role| format!("{role}  away")));
        lines.join("\n")
    })?;
    Ok(if opened.away.is_empty() {
        Exit::Done
    } else {
        Exit::Unreachable
    })
}
