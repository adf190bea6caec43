//! The pause of the movement everywhere, and the check that a run makes before each batch: whether its caller stopped
//! it, and whether the movement is paused.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::doc;
use tierkeep_core::bson;
use tierkeep_core::store::StoreError;
use tokio_util::sync::CancellationToken;

use crate::context::Engine;
use crate::databases::control;
use crate::databases::retry::repeating;
use crate::mover::{MigrationService, RunOptions};

/// The document of `control` that every mover reads.
const MOVER: &str = "mover";
/// Its field that says whether the movement is paused.
const PAUSED: &str = "paused";

/// Whether the movement is paused everywhere.
pub(crate) async fn is_paused(engine: &Engine) -> Result<bool, StoreError> {
    let found = control::read(engine.databases.audit_db(), MOVER).await?;
    Ok(found.is_some_and(|control| control.get_bool(PAUSED).unwrap_or(false)))
}

/// Pauses the movement everywhere, or lets it go on.
pub(super) async fn set_paused(engine: &Engine, paused: bool) -> Result<(), StoreError> {
    let set = doc! { "kind": MOVER, PAUSED: paused, "since": engine.clock().now() };
    control::set(engine.databases.audit_db(), MOVER, &set).await
}

/// A child of the caller's token that is also cancelled once the movement is paused.
#[derive(Debug)]
pub(crate) struct PauseCheck {
    service: MigrationService,
    halt: CancellationToken,
    found_paused: AtomicBool,
    /// A dry run writes nothing, so a pause does not stop it.
    is_dry_run: bool,
}

impl PauseCheck {
    pub(crate) fn of(
        service: &MigrationService,
        options: &RunOptions,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            service: service.clone(),
            halt: stop.child_token(),
            found_paused: AtomicBool::new(false),
            is_dry_run: options.dry_run,
        }
    }

    /// Whether more may be begun, asked anew each time: a pause takes effect before the next batch.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer: then it is unknown.
    pub(crate) async fn may_begin(&self) -> Result<bool, StoreError> {
        if self.halt.is_cancelled() {
            return Ok(false);
        }
        if !self.is_dry_run && repeating(|| is_paused(&self.service.engine)).await? {
            self.found_paused.store(true, Ordering::Release);
            self.halt.cancel();
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether the run met a pause.
    pub(crate) fn was_paused(&self) -> bool {
        self.found_paused.load(Ordering::Acquire)
    }
}

impl Deref for PauseCheck {
    type Target = CancellationToken;

    fn deref(&self) -> &CancellationToken {
        &self.halt
    }
}
