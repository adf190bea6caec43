//! `restore`: owns bringing documents back from srie by hand.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use tierkeep_core::audit::AuditKind;
use tierkeep_core::db::Role;
use tierkeep_core::user::{UserId, UserType};
use tierkeep_engine::{Purpose, Restoration, RestoreOptions, RestoreScope, Restored, Trouble};
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::{Context, audit};
use crate::config::small_file;
use crate::exit::{Exit, UsageError};
use crate::lifecycle;
use crate::terminal::harmless;

/// What everything is restored from.
const BACKUPS: [Role; 2] = [Role::SrieMainUser, Role::SrieMainHr];
/// How many documents that were not restored a person is shown.
const SHOWN: usize = 50;

/// Arguments of `restore`.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("whom").required(true).args(["user", "users_file", "all"]))]
pub struct RestoreArgs {
    /// Restore this user
    #[arg(long, value_name = "ID", value_parser = UserId::parse)]
    pub user: Option<UserId>,
    /// Restore the users in this file, one id per line; # starts a comment
    #[arg(long, value_name = "FILE")]
    pub users_file: Option<PathBuf>,
    /// Restore all users and all HR records
    #[arg(long)]
    pub all: bool,
    /// Only count the documents that would be restored
    #[arg(long)]
    pub dry_run: bool,
}

/// Brings documents back from srie to main.
///
/// # Errors
/// Wrong usage or configuration, or databases that cannot be reached.
pub async fn run(args: &RestoreArgs, context: &Context) -> anyhow::Result<Exit> {
    let whom = whom(args)?;
    let settings = context.settings()?;
    let purpose = if args.dry_run {
        Purpose::Look
    } else {
        Purpose::Work
    };
    let (engine, _) = context.open(&settings, purpose).await?;
    if !args.dry_run {
        let trail = engine.audit_trail();
        audit::does(trail, AuditKind::Restore, "restore", args.user.as_ref()).await?;
    }
    let stop = CancellationToken::new();
    lifecycle::cancel_on_signal(stop.clone());
    let options = RestoreOptions {
        whom,
        dry_run: args.dry_run,
    };
    let progress = Progress::of(context, "checked");
    let progress = match &options.whom {
        RestoreScope::All => progress.counting(&engine, &BACKUPS).await,
        RestoreScope::Users(_) => progress,
    };
    let restoration = Restoration::new(engine);
    let told = |restored: &Restored| {
        progress.at(
            restored.checked,
            format!(", {} restored", restored.restored),
        );
    };
    let restored = restoration.run(&options, &told, &stop).await;
    drop(progress);
    let restored = restored?;
    context.output().result(&restored, text)?;
    for problem in restored.problems.iter().filter(|_| args.user.is_some()) {
        let said = format!("error: {}: {}\n", problem.id, problem.reason);
        // If stderr is closed, no output is left to report that on.
        let _ = io::Write::write_all(&mut io::stderr(), harmless(&said).as_bytes());
    }
    Ok(if restored.failed() > 0 || !restored.complete {
        Exit::Failed
    } else {
        Exit::Done
    })
}

fn whom(args: &RestoreArgs) -> Result<RestoreScope, UsageError> {
    let users = match (&args.user, &args.users_file) {
        (Some(user), _) => vec![user.clone()],
        (None, Some(path)) => listed(path)?,
        (None, None) => return Ok(RestoreScope::All),
    };
    match users
        .iter()
        .find(|user| user.user_type() == UserType::External)
    {
        None => Ok(RestoreScope::Users(users)),
        Some(external) => Err(UsageError {
            message: format!("{external} is an external user; external users have no backup"),
            remedy: Some("give ids of internal users: internal_ and 24 hex digits".into()),
        }),
    }
}

/// The ids in a file; empty lines and comments (`#`) mean nothing.
fn listed(path: &Path) -> Result<Vec<UserId>, UsageError> {
    let shown = path.display();
    let text = small_file::read(path).map_err(|error| UsageError {
        message: format!("{shown} cannot be read: {error}"),
        remedy: None,
    })?;
    let mut users = Vec::new();
    for (number, line) in small_file::lines(&text) {
        users.push(UserId::parse(line).map_err(|error| UsageError {
            message: format!("{shown}, line {number}: {error}"),
            remedy: Some("write one user id per line: internal_ and 24 hex digits".into()),
        })?);
    }
    Ok(users)
}

fn text(restored: &Restored) -> String {
    let verb = if restored.dry_run {
        "would restore"
    } else {
        "restored"
    };
    let mut text = format!(
        "{verb} {} of {} documents, in {} ms\n\
         unchanged: {}, newer in main: {}, erased: {}, shadowed by temp: {}\n\
         corrupt: {}, conflicts: {}, refused: {}, missing: {}",
        restored.restored,
        restored.checked,
        restored.elapsed_ms,
        restored.unchanged,
        restored.newer_in_main,
        restored.erased,
        restored.shadowed,
        restored.corrupt,
        restored.conflicts,
        restored.refused,
        restored.missing,
    );
    if !restored.complete {
        text.push_str("\nstopped before the end; repeat the command to continue");
    }
    text.push_str(&troubles(&restored.problems));
    text
}

/// The first of the documents that were left out, as a table below what was said.
pub(super) fn troubles(problems: &[Trouble]) -> String {
    if problems.is_empty() {
        return String::new();
    }
    let mut table = super::table(&["collection", "id", "reason"]);
    for problem in problems.iter().take(SHOWN) {
        table.add_row([&problem.collection, &problem.id, &problem.reason]);
    }
    let mut text = format!("\n\n{table}");
    if problems.len() > SHOWN {
        let _ = write!(text, "\nand more; --json lists up to a thousand");
    }
    text
}
