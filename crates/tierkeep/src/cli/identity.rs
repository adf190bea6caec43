//! `identity`: owns what operators see and change of the GitHub accounts that internal users are bound to.

use clap::{Args, Subcommand};
use serde::Serialize;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::content::rfc3339;
use tierkeep_core::user::{UserId, UserType};
use tierkeep_engine::{Bindings, OnChange, Purpose};

use super::{Context, audit, explain};
use crate::exit::{Exit, UsageError};

/// What to do about the GitHub account of an internal user.
#[derive(Subcommand, Clone, Debug)]
pub enum IdentityCommand {
    /// Show whether a user is bound to a GitHub account and since when, and compare it with a given account
    ///
    /// The account is stored as a keyed hash: it can be compared, but not read. Exit code 1 if --github-id names an
    /// account other than the bound one.
    Show(ShowArgs),
    /// Remove a user's binding; the next GitHub account that the user signs in with becomes bound
    ///
    /// Running services may accept the old account for up to a minute. The removal is recorded in the audit trail.
    /// Exit code 1 if the user is not bound.
    Unbind(UnbindArgs),
}

/// Arguments of `identity show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// An internal user's id (internal_…) or the JWT's sub, 24 hex digits, in any letter case
    #[arg(value_name = "USER")]
    pub user: String,
    /// Compare with the account that has this number (`id` in the response of GitHub's GET /user)
    #[arg(long, value_name = "N")]
    pub github_id: Option<u64>,
}

/// Arguments of `identity unbind`.
#[derive(Args, Clone, Debug)]
pub struct UnbindArgs {
    /// An internal user's id (internal_…) or the JWT's sub, 24 hex digits, in any letter case
    #[arg(value_name = "USER")]
    pub user: String,
}

#[derive(Serialize)]
struct Shown {
    user_id: String,
    bound: bool,
    /// RFC 3339.
    since: Option<String>,
    /// Whether the bound account is the given one; `null` where none is bound or given.
    matches: Option<bool>,
}

#[derive(Serialize)]
struct Unbound {
    user_id: String,
    unbound: bool,
}

/// Does what the command says.
///
/// # Errors
/// Wrong usage or configuration, a user who is not bound, or databases that cannot be reached.
pub async fn run(command: &IdentityCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        IdentityCommand::Show(args) => show(args, context).await,
        IdentityCommand::Unbind(args) => unbind(args, context).await,
    }
}

async fn show(args: &ShowArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let user = internal(&args.user)?;
    let (engine, _) = context.open(&settings, Purpose::Look).await?;
    let bindings = Bindings::new(engine, OnChange::Refuse);
    let binding = bindings.find(&user, args.github_id).await?;
    let shown = Shown {
        user_id: user.to_string(),
        bound: binding.is_some(),
        since: binding.and_then(|it| it.since).map(rfc3339),
        matches: binding.and_then(|it| it.is_account),
    };
    context.output().result(&shown, text)?;
    let differs = args.github_id.is_some() && shown.matches == Some(false);
    Ok(if differs { Exit::Failed } else { Exit::Done })
}

async fn unbind(args: &UnbindArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let user = internal(&args.user)?;
    let (engine, _) = context.open(&settings, Purpose::Work).await?;
    let trail = engine.audit_trail().clone();
    let bindings = Bindings::new(engine, OnChange::Refuse);
    if bindings.find(&user, None).await?.is_none() {
        anyhow::bail!("{user} is not bound to a GitHub account");
    }
    audit::does(&trail, AuditKind::AdminAction, "unbind", Some(&user)).await?;
    let unbound = Unbound {
        user_id: user.to_string(),
        unbound: bindings.unbind(&user).await?,
    };
    let text = |it: &Unbound| {
        format!(
            "unbound {}: the next GitHub account that the user signs in with becomes bound",
            it.user_id
        )
    };
    context.output().result(&unbound, text)?;
    Ok(Exit::Done)
}

/// The internal user that the text names; public users have no GitHub account.
fn internal(text: &str) -> Result<UserId, UsageError> {
    let mut meant = explain::meant(text)?.into_iter();
    let internal = meant.find(|user| user.user_type() == UserType::Internal);
    internal.ok_or_else(|| UsageError {
        message: format!("{text:?} is a public user, which has no GitHub binding"),
        remedy: Some("give internal_… or the JWT's sub, 24 hex digits".into()),
    })
}

fn text(shown: &Shown) -> String {
    let user = &shown.user_id;
    if !shown.bound {
        return format!("{user} is not bound to a GitHub account");
    }
    let since = shown
        .since
        .as_ref()
        .map_or_else(String::new, |since| format!(" since {since}"));
    let which = match shown.matches {
        None => "a GitHub account",
        Some(true) => "this GitHub account",
        Some(false) => "a different GitHub account",
    };
    format!("{user} is bound to {which}{since}")
}
