//! `migrate pause`, `resume` and `retry`: owns what an operator tells the mover.

use clap::Args;
use serde::Serialize;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::user::UserId;
use tierkeep_engine::{AuditTrail, Failed, Inspector, MigrationService, Purpose};

use super::super::{Context, audit};
use crate::exit::{Exit, UsageError};

/// Arguments of `migrate retry`.
#[derive(Args, Clone, Debug)]
pub struct RetryArgs {
    /// Every move that has failed permanently
    #[arg(long, conflicts_with = "user")]
    pub all: bool,
    /// Only this user's
    #[arg(long, value_name = "ID", value_parser = UserId::parse)]
    pub user: Option<UserId>,
}

#[derive(Serialize)]
struct Switched {
    paused: bool,
    changed: bool,
}

/// Pauses the mover everywhere, or resumes it.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub(super) async fn switch(paused: bool, context: &Context) -> anyhow::Result<Exit> {
    let (service, trail) = service(context).await?;
    let action = if paused { "pause" } else { "resume" };
    audit::does(&trail, AuditKind::AdminAction, action, None).await?;
    let changed = if paused {
        service.pause().await?
    } else {
        service.resume().await?
    };
    let switched = Switched { paused, changed };
    context
        .output()
        .result(&switched, |it| said(it).to_owned())?;
    Ok(Exit::Done)
}

fn said(switched: &Switched) -> &'static str {
    match (switched.paused, switched.changed) {
        (true, true) => {
            "paused: every mover completes its batches in progress and starts no more\n\
             resume with: tierkeep migrate resume"
        }
        (true, false) => {
            "already paused\n\
             resume with: tierkeep migrate resume"
        }
        (false, true) => {
            "resumed: `tierkeep serve` moves due documents at its next scan, `tierkeep migrate run` at once"
        }
        (false, false) => "it was not paused",
    }
}

/// Makes moves that have failed for good ready to be tried again.
///
/// # Errors
/// Neither `--all` nor `--user`; a user without any data; wrong configuration; databases that cannot
/// be reached.
pub(super) async fn retry(args: &RetryArgs, context: &Context) -> anyhow::Result<Exit> {
    let which = match (&args.user, args.all) {
        (Some(user), _) => Failed::Of(user.clone()),
        (None, true) => Failed::All,
        (None, false) => {
            return Err(UsageError {
                message: "`migrate retry` needs --user ID or --all".into(),
                remedy: Some(
                    "give --user ID for one user's failed move, or --all for every failed move; \
                     `tierkeep migrate status` lists them"
                        .into(),
                ),
            }
            .into());
        }
    };
    let (service, trail) = service(context).await?;
    let whom = match &which {
        Failed::All => None,
        Failed::Of(user) => Some(user),
    };
    audit::does(&trail, AuditKind::AdminAction, "retry", whom).await?;
    let retried = service.retry(&which).await?;
    if retried.retried == 0
        && let Failed::Of(user) = &which
        && Inspector::from(&service).explain(user).await.is_none()
    {
        anyhow::bail!("no such user: {user}");
    }
    context.output().result(&retried, |it| match it.retried {
        0 => "no moves have failed permanently: nothing to retry".to_owned(),
        n => format!(
            "{n} failed {} will be retried by the next run, with all retries",
            if n == 1 { "move" } else { "moves" }
        ),
    })?;
    Ok(Exit::Done)
}

async fn service(context: &Context) -> anyhow::Result<(MigrationService, AuditTrail)> {
    let settings = context.settings()?;
    let (engine, _) = context.open(&settings, Purpose::Work).await?;
    let trail = engine.audit_trail().clone();
    Ok((MigrationService::new(engine, settings.mover), trail))
}
