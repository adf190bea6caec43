//! `explain`: owns the account of one user.

use std::fmt::Write as _;
use std::sync::Arc;

use clap::Args;
use indicatif::HumanBytes;
use tierkeep_core::document::State;
use tierkeep_core::user::UserId;
use tierkeep_engine::{ErasureView, Explanation, Inspector};

use super::Context;
use crate::exit::{Exit, UsageError};
use crate::lookup::candidates;

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
pub async fn run(args: &ExplainArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let candidates = meant(&args.user)?;
    let look = context.look(&settings).await?;
    let inspector = Inspector::new(Arc::clone(&look.engine), settings.mover);
    for user in &candidates {
        let Some(explanation) = inspector.explain(user).await else {
            continue;
        };
        context.output().result(&explanation, text)?;
        return look.ends();
    }
    let looked: Vec<&str> = candidates.iter().map(UserId::as_str).collect();
    anyhow::bail!("no such user: {}", looked.join(" or "))
}

/// The ids that a text may mean: the likelier first, at least one.
///
/// # Errors
/// A text that names no user.
pub(super) fn meant(text: &str) -> Result<Vec<UserId>, UsageError> {
    let candidates = candidates(text);
    if candidates.is_empty() {
        return Err(UsageError {
            message: format!("{text:?} is not a valid user id or user name"),
            remedy: Some("give internal_… or external_…, 24 hex digits, or a user name".into()),
        });
    }
    Ok(candidates)
}

fn text(explanation: &Explanation) -> String {
    let mut text = format!("{} ({})\n", explanation.user_id, explanation.user_type);
    match explanation.authoritative {
        Some(role) => {
            let _ = writeln!(text, "current copy: {role}");
        }
        None if explanation.unreachable.is_empty() => text.push_str("current copy: none\n"),
        None => text.push_str("current copy: unknown\n"),
    }
    let _ = writeln!(text, "next: {}", explanation.next);
    if let Some(erasure) = &explanation.erasure {
        let _ = writeln!(text, "erased: {}", erased(erasure));
    }
    for role in &explanation.unreachable {
        let _ = writeln!(text, "unavailable: {role}");
    }
    if !explanation.copies.is_empty() {
        let mut table = super::table(&[
            "database", "version", "state", "staged", "updated", "size", "backup",
        ]);
        for copy in &explanation.copies {
            // The fence and the far date of a tombstone are marks for programs.
            let is_tombstone = copy.state == State::Erased.as_str();
            let date = |at: &Option<String>| at.clone().filter(|_| !is_tombstone);
            let version = copy.version.filter(|_| !is_tombstone);
            table.add_row([
                copy.database.to_string(),
                version.map_or_else(|| "none".into(), |version| version.to_string()),
                copy.state.to_owned(),
                date(&copy.staged_at).unwrap_or_default(),
                date(&copy.updated_at).unwrap_or_default(),
                HumanBytes(u64::try_from(copy.size).unwrap_or(u64::MAX)).to_string(),
                copy.backup_status.clone().unwrap_or_default(),
            ]);
        }
        let _ = writeln!(text, "\n{table}");
    }
    let records = explanation.records.as_deref();
    if records.is_none() {
        text.push_str("\nmoves: unknown\n");
    }
    if let Some(records) = records.filter(|records| !records.is_empty()) {
        let mut table =
            super::table(&["migration", "version", "status", "retries", "date", "error"]);
        for record in records {
            table.add_row([
                record.migration_id.clone(),
                record.version.to_string(),
                record.status.to_owned(),
                record.retry_count.to_string(),
                record.migration_date.clone().unwrap_or_default(),
                record.error.clone().unwrap_or_default(),
            ]);
        }
        let _ = writeln!(text, "\n{table}");
    }
    text
}

fn erased(erasure: &ErasureView) -> String {
    let times = match erasure.epoch {
        1 => "once".to_owned(),
        n => format!("{n} times"),
    };
    let last = erasure.requested_at.as_deref().unwrap_or("unknown");
    if erasure.pending.is_empty() {
        return format!("{times}, last requested at {last}, confirmed by every database");
    }
    let pending: Vec<&str> = erasure.pending.iter().map(|role| role.name()).collect();
    let pending = pending.join(", ");
    format!("{times}, last requested at {last}, not confirmed by {pending}")
}
