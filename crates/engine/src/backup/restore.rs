//! Restore: bringing documents back from srie to main, one user's, a list's, or everything.
//!
//! Guarded by versions and tombstones: a newer document in main stays, who was erased stays erased, and what temp
//! holds goes on to count. Whatever is cut off is taken up by the next run. Rule source: the protocol's section 5.

use std::sync::Arc;

use serde::Serialize;
use tierkeep_core::compare::Side;
use tierkeep_core::db::Role;
use tierkeep_core::store::StoreError;
use tierkeep_core::user::UserId;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::backup::verify::{Pair, pairs};
use crate::context::Engine;
use crate::copies::replicate::{PairSync, SyncCounts, Trouble};
use crate::databases::error::ConnectError;

/// Whose documents are restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RestoreScope {
    /// Those of these internal users.
    Users(Vec<UserId>),
    /// Those of all users, and all HR records.
    All,
}

/// What a restore should do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestoreOptions {
    /// Whose documents.
    pub whom: RestoreScope,
    /// Only count.
    pub dry_run: bool,
}

/// What a restore did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Restored {
    /// Documents of srie that were looked at.
    pub checked: u64,
    /// Restored to main, or to be restored in a dry run.
    pub restored: u64,
    /// Main had them.
    pub unchanged: u64,
    /// Main had newer ones, which stay.
    pub newer_in_main: u64,
    /// Temp holds them too; temp's document remains the current one.
    pub shadowed: u64,
    /// Their users were erased and stay so.
    pub erased: u64,
    /// srie's copy is not what its own digest says; not restored.
    pub corrupt: u64,
    /// Main has other content of the same version, which stays.
    pub conflicts: u64,
    /// Main refuses them, or they cannot be interpreted.
    pub refused: u64,
    /// Users that were asked for and that srie does not have.
    pub missing: u64,
    /// The first documents that were not restored, and the reasons.
    pub problems: Vec<Trouble>,
    /// Nothing was written.
    pub dry_run: bool,
    /// It came to its end.
    pub complete: bool,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl Restored {
    /// How many documents could not be restored.
    pub fn failed(&self) -> u64 {
        self.corrupt + self.conflicts + self.refused + self.missing
    }

    fn of(counts: &SyncCounts) -> Self {
        Self {
            checked: counts.checked,
            restored: counts.carried,
            unchanged: counts.unchanged,
            newer_in_main: counts.newer,
            shadowed: counts.shadowed,
            erased: counts.erased,
            corrupt: counts.corrupt,
            conflicts: counts.conflicts,
            refused: counts.refused,
            missing: counts.missing,
            problems: counts.problems.clone(),
            ..Self::default()
        }
    }
}

/// Why a restore ended early. What was restored stays, and the next run continues.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Main is not what it was configured as.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Brings documents back from srie.
#[derive(Clone, Debug)]
pub struct Restoration {
    engine: Arc<Engine>,
}

impl Restoration {
    /// A restoration of these databases.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Restores what main lacks, or holds in an older version.
    ///
    /// Idempotent, and safe beside writers, movers and another restore. Collections, indexes and the stamp of a
    /// main that was emptied are made again first. `progress` gets the counts from time to time; when `stop` is
    /// cancelled it ends early, and says so.
    ///
    /// # Errors
    /// [`RestoreError`] when a database did not answer or is another one now.
    pub async fn run(
        &self,
        options: &RestoreOptions,
        progress: &(dyn Fn(&Restored) + Sync),
        stop: &CancellationToken,
    ) -> Result<Restored, RestoreError> {
        let clock = self.engine.clock();
        let started = clock.now();
        if !options.dry_run {
            let roles: &[Role] = match options.whom {
                RestoreScope::Users(_) => &[Role::RaseenMainUser],
                RestoreScope::All => &[Role::RaseenMainUser, Role::RaseenMainHr],
            };
            self.engine.databases.recreate(roles).await?;
        }
        let mut counts = SyncCounts::default();
        let told = |counts: &SyncCounts| progress(&Restored::of(counts));
        match &options.whom {
            RestoreScope::Users(users) => {
                let pair = Pair::users(&self.engine);
                let names: Vec<String> = users.iter().map(UserId::to_string).collect();
                let mut carrier = carrier(&pair, options, &mut counts);
                carrier.named(&names, true).await?;
            }
            RestoreScope::All => {
                for pair in pairs(&self.engine) {
                    carrier(&pair, options, &mut counts)
                        .all(&told, stop)
                        .await?;
                }
            }
        }
        let elapsed = clock.now().saturating_duration_since(started).as_millis();
        let restored = Restored {
            dry_run: options.dry_run,
            complete: !stop.is_cancelled(),
            elapsed_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
            ..Restored::of(&counts)
        };
        if restored.restored > 0 && !restored.dry_run {
            info!(
                user_type = "internal",
                restored = restored.restored,
                unchanged = restored.unchanged,
                failed = restored.failed(),
                "documents were restored from srie",
            );
        }
        Ok(restored)
    }
}

fn carrier<'a>(
    pair: &'a Pair,
    options: &RestoreOptions,
    counts: &'a mut SyncCounts,
) -> PairSync<'a> {
    PairSync {
        pair,
        from: Side::Srie,
        dry_run: options.dry_run,
        counts,
    }
}
