//! Keeping watch over the trail inside a running service: delivering what was spooled, noting the head where it
//! can be compared with, and verifying the chain.

use std::sync::Arc;
use std::time::Duration;

use tierkeep_core::audit::{Found, Head, Verdict};
use tierkeep_core::store::StoreError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::alerts::{AlertKind, Alerts};
use crate::context::Engine;

/// How often it looks whether something can be delivered, or was counted and has to be written down.
const EVERY: Duration = Duration::from_secs(1);
/// How often it verifies the chain and notes the head.
const HOUR: Duration = Duration::from_hours(1);
/// How long the last delivery may take when the service stops.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// What an alert about the trail is about.
const SUBJECT: &str = "audit_trail";

/// Keeps watch over the trail.
#[derive(Debug)]
pub struct AuditKeeper {
    engine: Arc<Engine>,
    /// Where the trail ended at the last verification, to find a tail that was cut off since.
    noted: Option<Head>,
}

impl AuditKeeper {
    /// A watch over the trail of these databases.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            noted: None,
        }
    }

    /// Keeps watch until `stop` is cancelled; what can be delivered then still is.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut verified: Option<Instant> = None;
        while !stop.is_cancelled() {
            // What cannot be delivered now waits; the warning came when it was spooled.
            self.engine.audit_trail().deliver().await.ok();
            self.engine.audit_trail().note_counted().await;
            if verified.is_none_or(|at| at.elapsed() >= HOUR) && self.verify().await.is_ok() {
                verified = Some(Instant::now());
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    /// The last words of a service, once nothing more is decided: delivers what can be, and notes the head.
    pub async fn finish(engine: &Engine) {
        let trail = engine.audit_trail();
        let last = async {
            trail.note_all_counted().await;
            trail.deliver().await?;
            trail.head().await
        };
        if let Ok(Ok(head)) = tokio::time::timeout(LAST_WORDS, last).await {
            note(head);
        } else {
            warn!(
                user_type = "internal",
                "the head of the audit trail could not be recorded"
            );
        }
    }

    /// Verifies the chain, raises or resolves the alert about it, and notes the head.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn verify(&mut self) -> Result<Found, StoreError> {
        let found = self.engine.audit_trail().verify(self.noted).await?;
        report(&self.engine, &found).await?;
        if found.verdict == Verdict::Whole {
            self.noted = Some(found.head);
        }
        note(found.head);
        Ok(found)
    }
}

/// Raises the alert about a chain that does not hold, or resolves it.
///
/// # Errors
/// [`StoreError`] when `evaluation_audit` did not answer.
pub(crate) async fn report(engine: &Arc<Engine>, found: &Found) -> Result<(), StoreError> {
    let alerts = Alerts::new(Arc::clone(engine));
    let kind = AlertKind::AuditChainBroken;
    let Some(first) = found.violations.first() else {
        return alerts.resolve(kind, SUBJECT).await;
    };
    let message = format!("{first}; `tierkeep audit verify` lists everything");
    error!(
        user_type = "internal",
        error = %first,
        "broken audit chain",
    );
    alerts.raise(kind, SUBJECT, &message).await
}

fn note(head: Head) {
    info!(
        user_type = "internal",
        count = head.count,
        hash = %head.hash,
        %head,
        "the head of the audit trail",
    );
}
