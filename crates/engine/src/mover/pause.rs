//! The pause of the movement everywhere, and the check that a run makes before each batch: whether its caller stopped
//! it, and whether the movement is paused.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, doc};
use tierkeep_core::bson;
use tierkeep_core::db::collection;
use tierkeep_core::store::{Class, StoreError};
use tokio_util::sync::CancellationToken;

use crate::context::Engine;
use crate::databases::control;
use crate::databases::retry::repeating;
use crate::mover::{MigrationService, RunOptions};

/// The document of `control` that every mover reads.
const MOVER: &str = "mover";
/// Its field that says whether the movement is paused.
const PAUSED: &str = "paused";
/// Its field that says since when.
const SINCE: &str = "since";

/// How many changes there were, this one included.
const NUMBER: &str = "change_number";
/// Names the change, so that one whose answer was lost is recognised.
const CHANGE: &str = "change";
/// How often a change that lost a race is made again.
const ROUNDS: u32 = 24;

/// Whether the movement is paused everywhere.
pub(crate) async fn is_paused(engine: &Engine) -> Result<bool, StoreError> {
    let found = control::read(engine.databases.audit_db(), MOVER).await?;
    Ok(found.is_some_and(|control| control.get_bool(PAUSED).unwrap_or(false)))
}

/// Since when the movement has been paused everywhere; none where it is not.
pub(crate) async fn paused_since(engine: &Engine) -> Result<Option<DateTime>, StoreError> {
    let found = control::read(engine.databases.audit_db(), MOVER).await?;
    let paused = found.filter(|control| control.get_bool(PAUSED).unwrap_or(false));
    Ok(paused.and_then(|control| control.get_datetime(SINCE).ok()))
}

/// Pauses the mover everywhere, or resumes it; answers whether that is a change.
///
/// Each change names the number of the one before it, so that a change that was given up and arrives late undoes nothing.
///
/// # Errors
/// [`StoreError`] when `evaluation_audit` did not answer; [`Class::Busy`] where others change it again and again.
pub(super) async fn set_paused(engine: &Engine, paused: bool) -> Result<bool, StoreError> {
    let audit = engine.databases.audit_db();
    let store = audit.store();
    let change = engine.randomness().id();
    let mut before = None;
    for _ in 0..ROUNDS {
        let found = repeating(|| control::read(audit, MOVER)).await?;
        let is_own = |it: &RawDocumentBuf| it.get_str(CHANGE).is_ok_and(|made| made == change);
        if let (Some(before), Some(true)) = (before, found.as_ref().map(is_own)) {
            return Ok(before != paused);
        }
        let was_paused = found
            .as_ref()
            .is_some_and(|it| it.get_bool(PAUSED).unwrap_or(false));
        before = Some(was_paused);
        let number = found.as_ref().map(|it| it.get_i64(NUMBER).ok());
        let next = number.flatten().unwrap_or_default() + 1;
        let since = found
            .as_ref()
            .filter(|_| was_paused == paused)
            .and_then(|it| it.get_datetime(SINCE).ok());
        let since = since.unwrap_or_else(|| engine.clock().now());
        let set = doc! {
            "kind": MOVER, PAUSED: paused, SINCE: since, NUMBER: next, CHANGE: &change,
        };
        let is_made = match number {
            None => {
                let mut first = doc! { "_id": MOVER };
                first.extend(set);
                control::insert_if_absent(store.as_ref(), collection::CONTROL, &first).await?
            }
            Some(number) => {
                let when = doc! { NUMBER: number.map_or(Bson::Null, Bson::Int64) };
                let ids = [Bson::String(MOVER.to_owned())];
                repeating(|| store.amend(collection::CONTROL, &ids, &when, &set)).await? > 0
            }
        };
        if is_made {
            return Ok(was_paused != paused);
        }
    }
    Err(StoreError {
        database: store.role(),
        operation: "pause",
        class: Class::Busy,
        code: 0,
    })
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

    /// Whether more may be begun, queried each time: a pause takes effect before the next batch.
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

    /// Whether the run was paused.
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
