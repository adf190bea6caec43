//! `audit`: owns the grammar of the audit trail.
//!
//! Where to look: `list` (reading it), `verify` (its chain), `prune` (its beginning).

mod list;
mod prune;
mod verify;

use clap::Subcommand;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::store::StoreError;
use tierkeep_core::user::UserId;
use tierkeep_engine::AuditTrail;

use super::Context;
use crate::exit::Exit;

pub use list::ListArgs;
pub use prune::PruneArgs;
pub use verify::VerifyArgs;

/// The actor that the trail names for an operator at the command line.
pub(crate) const COMMAND_LINE: &str = "command line";

/// Writes into the trail what an operator at the command line is about to do; it must not be done without this entry.
///
/// # Errors
/// [`StoreError`] when `evaluation_audit` did not answer.
pub(super) async fn does(
    trail: &AuditTrail,
    kind: AuditKind,
    action: &str,
    whom: Option<&UserId>,
) -> Result<(), StoreError> {
    let draft = trail.draft(kind).about(whom);
    trail
        .record(draft.by(Some(COMMAND_LINE)).decided(action))
        .await
}

/// The most characters that the trail keeps of how something ended.
const OUTCOME_MAX: usize = 500;

/// Writes into the trail how it ended what [`does`] announced.
///
/// # Errors
/// [`StoreError`] when `evaluation_audit` did not answer.
pub(super) async fn ended(
    trail: &AuditTrail,
    kind: AuditKind,
    action: &str,
    outcome: &str,
) -> Result<(), StoreError> {
    let outcome: String = outcome.chars().take(OUTCOME_MAX).collect();
    let draft = trail.draft(kind).by(Some(COMMAND_LINE));
    trail
        .record(draft.decided(&format!("{action} ended")).because(&outcome))
        .await
}

/// What to do about the audit trail.
#[derive(Subcommand, Clone, Debug)]
pub enum AuditCommand {
    /// Show entries, oldest first
    List(ListArgs),
    /// Find entries that were changed, removed, moved or added
    Verify(VerifyArgs),
    /// Remove the oldest entries and leave a chained checkpoint in their place
    Prune(PruneArgs),
}

/// Does what the command says.
///
/// # Errors
/// Wrong usage or configuration, or databases that cannot be reached.
pub async fn run(command: &AuditCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        AuditCommand::List(args) => list::run(args, context).await,
        AuditCommand::Verify(args) => verify::run(args, context).await,
        AuditCommand::Prune(args) => prune::run(args, context).await,
    }
}
