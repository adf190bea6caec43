//! `init`: owns the preparation of the seven databases.

use clap::Args;
use serde_json::json;
use tierkeep_core::db::Role;
use tierkeep_engine::Purpose;

use super::Context;
use crate::exit::Exit;

/// Arguments of `init`.
#[derive(Args, Clone, Copy, Debug)]
pub struct InitArgs {
    /// Accept an empty audit database in place of one that is permanently lost with its migration records and erasure
    /// ledger; afterwards, do not restore dumps that are older than an erasure
    #[arg(long)]
    pub new_audit: bool,
}

/// Creates what is missing in the seven databases.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub async fn run(args: InitArgs, context: &Context) -> anyhow::Result<Exit> {
    let purpose = if args.new_audit {
        Purpose::WorkWithNewAudit
    } else {
        Purpose::Work
    };
    let (_, opened) = context.open(&context.settings()?, purpose).await?;
    let ready: Vec<Role> = Role::ALL
        .into_iter()
        .filter(|role| !opened.away.contains(role))
        .collect();
    let result = json!({ "ready": ready, "away": opened.away });
    context.output().result(&result, |_| {
        let mut lines: Vec<String> = ready.iter().map(|role| format!("{role}  ready")).collect();
        lines.extend(
            opened
                .away
                .iter()
                .map(|role| format!("{role}  unavailable")),
        );
        lines.join("\n")
    })?;
    Ok(if opened.away.is_empty() {
        Exit::Done
    } else {
        Exit::Unreachable
    })
}
