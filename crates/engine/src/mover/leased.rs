//! Runs under the mover's lease: one look of a service, and a run by hand beside it.

use crate::mover::lease::{Claim, LeaseObserver};
use crate::mover::sharing::Earlier;
use crate::mover::{MigrationService, MoveError, Progress, RunOptions, Summary};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Reports a run's progress to the lease and to the caller's own receiver.
pub(super) struct Told<'a> {
    claim: &'a Claim,
    progress: &'a dyn Progress,
}

impl MigrationService {
    /// One look of a service: moves what is due, unless another process holds the lease; then it answers `None`.
    ///
    /// A run whose lease is taken over finishes the batches at work and leaves the rest to the new holder.
    ///
    /// # Errors
    /// [`MoveError`] when a database was away.
    pub async fn run_with_lease(
        &self,
        observer: &mut LeaseObserver,
        stop: &CancellationToken,
    ) -> Result<Option<Summary>, MoveError> {
        let claimed = self.claim(observer).await.map_err(|error| MoveError {
            error,
            summary: Box::default(),
        })?;
        let Some(claim) = claimed else {
            debug!(
                user_type = "internal",
                "another process holds the mover's lease; this process checks again later"
            );
            return Ok(None);
        };
        let halt = stop.child_token();
        let service = self.sharing(claim.finds());
        let run = service.migrate_expired_data(RunOptions::default(), &claim, &halt);
        let outcome = claim.during(run, &halt).await;
        claim.release().await;
        outcome.map(Some)
    }

    /// Moves what is due even while another process does: with the lease if it is free, so that services need not move,
    /// and beside its holder otherwise. What another run is moving is left to that run, for 8 seconds at most.
    ///
    /// # Errors
    /// [`MoveError`] when a database was away.
    pub async fn run_beside_others(
        &self,
        options: RunOptions,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<Summary, MoveError> {
        let claim = if options.dry_run {
            None
        } else {
            // Without its lease the run is only less thrifty.
            self.claim(&mut LeaseObserver::default())
                .await
                .ok()
                .flatten()
        };
        let Some(claim) = claim else {
            return self
                .sharing(Earlier::Stand)
                .migrate_expired_data(options, progress, stop)
                .await;
        };
        let told = Told {
            claim: &claim,
            progress,
        };
        let service = self.sharing(claim.finds());
        let run = service.migrate_expired_data(options, &told, stop);
        let outcome = claim.during(run, &CancellationToken::new()).await;
        claim.release().await;
        outcome
    }

    /// The same service, which leaves to other runs what they are moving.
    fn sharing(&self, earlier: Earlier) -> Self {
        Self {
            sharing: Some(earlier),
            ..self.clone()
        }
    }
}

impl Progress for Told<'_> {
    fn report(&self, summary: &Summary) {
        self.claim.report(summary);
        self.progress.report(summary);
    }
}
