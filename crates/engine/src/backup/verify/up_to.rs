//! The moment up to which everything was verified: when the last pass over everything began that found no difference.
//!
//! By the clock of `evaluation_audit`, kept beside the pass of the watch in its `control`, whose other fields it never
//! changes: a build that does not know the field leaves it alone.

use std::sync::Arc;

use bson::{Bson, DateTime, doc};
use tierkeep_core::bson;
use tierkeep_core::db::collection;
use tierkeep_core::store::StoreError;

use crate::backup::verify::Verified;
use crate::backup::verify::watch::PASS;
use crate::context::Engine;
use crate::databases::control::insert_if_absent;
use crate::databases::lease::Lease;
use crate::databases::retry::repeating;

/// The field.
const UP_TO: &str = "verified_up_to";
/// How often a change that another process makes meanwhile is followed.
const ROUNDS: u32 = 8;

/// The moment; `None` while no pass has ended without a difference.
///
/// # Errors
/// [`StoreError`] when `evaluation_audit` did not answer.
pub(crate) async fn verified_up_to(engine: &Arc<Engine>) -> Result<Option<DateTime>, StoreError> {
    let audit = engine.databases.audit_db().store();
    let found = Lease::new(audit.as_ref(), PASS, "rev").read().await?;
    Ok(found.and_then(|found| found.get_datetime(UP_TO).ok()))
}

/// Keeps `began`, unless a later moment is kept. Idempotent; of several processes the latest moment stays.
///
/// # Errors
/// [`StoreError`] when `evaluation_audit` did not answer.
pub(crate) async fn keep(engine: &Arc<Engine>, began: DateTime) -> Result<(), StoreError> {
    let audit = engine.databases.audit_db().store();
    for _ in 0..ROUNDS {
        let kept = verified_up_to(engine).await?;
        if kept.is_some_and(|kept| kept >= began) {
            return Ok(());
        }
        let first = doc! { "_id": PASS, "kind": PASS, "rev": 0_i64, UP_TO: began };
        if insert_if_absent(audit.as_ref(), collection::CONTROL, &first).await? {
            return Ok(());
        }
        let ids = [Bson::String(PASS.to_owned())];
        let when = doc! { UP_TO: kept.map_or(Bson::Null, Bson::DateTime) };
        let set = doc! { UP_TO: began };
        if repeating(|| audit.amend(collection::CONTROL, &ids, &when, &set)).await? > 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// The present moment, by the clock of `evaluation_audit`.
///
/// # Errors
/// [`StoreError`] when it did not answer.
pub(crate) async fn now(engine: &Arc<Engine>) -> Result<DateTime, StoreError> {
    let audit = engine.databases.audit_db().store();
    Ok(repeating(|| audit.hello()).await?.now)
}

impl Verified {
    /// Whether no document differs, those included that were mended.
    pub(super) fn is_without_difference(&self) -> bool {
        self.missing_in_backup + self.missing_in_main + self.different == 0
    }
}
