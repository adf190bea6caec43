//! `erase`: owns the erasure of one user by an operator.

use clap::Args;
use serde::Serialize;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::db::Role;
use tierkeep_core::erasure::tiers;
use tierkeep_core::user::UserId;
use tierkeep_engine::{ErasureService, Purpose};

use super::{Context, audit};
use crate::exit::Exit;

/// Arguments of `erase`.
#[derive(Args, Clone, Debug)]
pub struct EraseArgs {
    /// The user's whole id (`internal_…` or `external_…`); `tierkeep explain` finds it by name
    #[arg(value_name = "USER_ID", value_parser = UserId::parse)]
    pub user: UserId,
}

#[derive(Serialize)]
struct ErasureReport {
    user_id: String,
    pending: Vec<Role>,
}

/// Erases one user from every database.
///
/// # Errors
/// A user of whom nothing is known; wrong configuration; databases that cannot be reached, and then nothing was
/// erased.
pub async fn run(args: &EraseArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let (engine, _) = context.open(&settings, Purpose::Work).await?;
    let trail = engine.audit_trail().clone();
    let erasures = ErasureService::new(engine);
    let user = &args.user;
    if !erasures.is_known(user).await? {
        anyhow::bail!("there is no user {user}");
    }
    audit::does(&trail, AuditKind::Erasure, "erase", Some(user)).await?;
    let pending = erasures.erase(user).await?.pending;
    let exit = if pending.is_empty() {
        Exit::Done
    } else {
        Exit::Unreachable
    };
    let outcome = ErasureReport {
        user_id: user.to_string(),
        pending,
    };
    context.output().result(&outcome, |it| text(user, it))?;
    Ok(exit)
}

fn text(user: &UserId, outcome: &ErasureReport) -> String {
    let names = |roles: &[Role]| {
        let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
        names.join(", ")
    };
    if outcome.pending.is_empty() {
        let everywhere = names(tiers(user.user_type()));
        return format!("erased {user} from {everywhere}");
    }
    format!(
        "erased {user}, but not confirmed by {}\n`tierkeep serve` finishes it when they are back, and so does \
         erasing again",
        names(&outcome.pending)
    )
}
