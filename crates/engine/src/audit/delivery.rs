//! What happens to decisions while `evaluation_audit` is away: they are spooled, and delivered in their order
//! when it is back. Each is kept once, however often it is delivered.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tierkeep_core::audit::{AuditKind, Draft};
use tierkeep_core::store::{Class, StoreError};
use tracing::{error, info, warn};

use crate::audit::append::{RUN, Way};
use crate::audit::spool::{Spool, SpoolShare};
use crate::audit::{AuditTrail, failed};

/// How long a decision waits for the database before it is spooled.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

impl AuditTrail {
    /// Writes a decision, and waits until it is in the trail or in this share of the spool.
    ///
    /// # Errors
    /// [`StoreError`] when it could be kept in neither.
    pub(super) async fn note(&self, draft: Draft, share: SpoolShare) -> Result<(), StoreError> {
        let turn = self.0.turn.read().await;
        if !self.is_spooling() {
            let recorded = self.record(draft.clone());
            let failure = match tokio::time::timeout(LONGEST_WAIT, recorded).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => failed(Class::Timeout, 0),
            };
            let begins = !self.0.spooling.swap(true, Ordering::AcqRel);
            if let Some(more) = begins.then(|| self.said("spooling")).flatten() {
                warn!(
                    user_type = "internal",
                    database = %failure.database,
                    error = failure.class.as_str(),
                    more,
                    "the audit trail cannot be written; decisions are spooled in the meantime",
                );
            }
        }
        // The one that may be in the trail by now has the same id there.
        let spooled = self.through(Way::Spool(share), draft).await;
        drop(turn);
        spooled
    }

    pub(super) async fn spool(
        &self,
        drafts: Vec<Draft>,
        share: SpoolShare,
    ) -> Result<(), StoreError> {
        let pushed = self
            .with_spool(move |spool| spool.push(&drafts, share))
            .await;
        self.0.refusing.note(share, pushed.is_err());
        pushed.map_err(|failure| {
            if let Some(more) = self.said(share.as_str()) {
                error!(
                    user_type = "internal",
                    error = %failure,
                    share = share.as_str(),
                    more,
                    "a decision could be written neither to the audit trail nor to the spool",
                );
            }
            failed(Class::DiskFull, 0)
        })
    }

    /// Whether a line about this state is due, and then for how many like it that line speaks.
    fn said(&self, state: &'static str) -> Option<u64> {
        self.0.repeats.due(state, self.0.clock.now())
    }

    fn unread(&self, failure: &io::Error) -> StoreError {
        if let Some(more) = self.said("unread") {
            error!(
                user_type = "internal",
                error = %failure,
                more,
                "the spool of the audit trail cannot be read",
            );
        }
        failed(Class::Other, 0)
    }

    async fn with_spool<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<dyn Spool>) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let spool = Arc::clone(&self.0.settings.spool);
        let done = tokio::task::spawn_blocking(move || work(spool)).await;
        done.unwrap_or_else(|ended| Err(io::Error::other(ended)))
    }

    /// Has decisions follow what an ended process may have left in the spool, until that is delivered: for a
    /// service at its start, whose [`AuditKeeper`](crate::audit::AuditKeeper) delivers at once.
    pub fn follow_spool(&self) {
        self.0.spooling.store(true, Ordering::Release);
    }

    /// Delivers what waits in the spool, in its order; answers how many entries were handed over.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer, or the spool cannot be read; what waits goes on
    /// waiting.
    pub async fn deliver(&self) -> Result<u64, StoreError> {
        let mut delivered = 0;
        loop {
            if let Some(portion) = self.take().await? {
                delivered += self.deliver_portion(portion).await?;
                continue;
            }
            if !self.is_spooling() {
                break;
            }
            // No writer may spool between the last look and the end of the spooling.
            let _turn = self.0.turn.write().await;
            if self.take().await?.is_none() {
                self.0.spooling.store(false, Ordering::Release);
                self.0.refusing.note(SpoolShare::Public, false);
                break;
            }
        }
        if delivered > 0 {
            info!(
                user_type = "internal",
                delivered, "spooled decisions were written to the audit trail"
            );
        }
        Ok(delivered)
    }

    async fn take(&self) -> Result<Option<crate::audit::Portion>, StoreError> {
        self.with_spool(|spool| spool.take())
            .await
            .map_err(|failure| self.unread(&failure))
    }

    async fn deliver_portion(&self, portion: crate::audit::Portion) -> Result<u64, StoreError> {
        for run in portion.drafts.chunks(RUN) {
            self.append(run).await?;
        }
        if portion.damaged > 0 {
            error!(
                user_type = "internal",
                lines = portion.damaged,
                "lines of the spool could not be read"
            );
            let reason = format!("{} lines of a spool could not be read", portion.damaged);
            let mut draft = self
                .draft(AuditKind::Decision)
                .decided("lost")
                .because(&reason);
            // A portion that is delivered again is reported once.
            draft.entry_id = format!("damaged {}", portion.name);
            self.append(&[draft]).await?;
        }
        let delivered = u64::try_from(portion.drafts.len()).unwrap_or(u64::MAX);
        let done = self.with_spool(move |spool| spool.done(&portion)).await;
        done.map_err(|failure| self.unread(&failure))?;
        Ok(delivered)
    }
}
