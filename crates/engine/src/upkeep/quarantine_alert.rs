//! The quarantine under watch: an alert when it holds more documents than it was known to, resolved when it is empty.
//! Copies that contradict each other are not counted: each has an alert of its own.

use std::sync::Arc;

use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::{Find, Query, StoreError};

use crate::alerts::{AlertKind, Alerts};
use crate::context::Engine;
use crate::databases::control;
use crate::databases::retry::repeating;
use crate::mover::quarantine::Marks;

/// The control document that says how many are known.
const WATCH: &str = "quarantine_watch";

/// Compares the number of quarantined documents with the one that was noted last, by whichever process.
///
/// # Errors
/// [`StoreError`] when `evaluation_audit` did not answer; repeating is safe, and may raise the alert twice.
pub(crate) async fn watch(engine: &Arc<Engine>) -> Result<(), StoreError> {
    let audit = engine.databases.audit_db();
    let store = audit.store();
    let conflicts = doc! {
        "kind": AlertKind::CopiesConflict.as_str(),
        "resolved_at": Bson::Null,
    };
    let conflicts = Query::Equal(conflicts);
    let conflicts = repeating(|| store.count(collection::ALERTS, &conflicts)).await?;
    let marked = Marks::open(audit).await?.count().await?;
    let marked = i64::try_from(marked.saturating_sub(conflicts)).unwrap_or(i64::MAX);
    let find = Find::new(Query::Ids(vec![Bson::String(WATCH.into())]));
    let noted = repeating(|| store.find(collection::CONTROL, &find)).await?;
    let known = noted.first().and_then(|noted| noted.get_i64("known").ok());
    if marked == known.unwrap_or(0) {
        return Ok(());
    }
    let alerts = Alerts::new(Arc::clone(engine));
    let subject = Role::RaseenTempUser.name();
    if marked > known.unwrap_or(0) {
        let more = marked - known.unwrap_or(0);
        let message = format!(
            "{marked} documents are quarantined and cannot be moved, {more} more than before; `tierkeep doctor` lists \
             them with the reasons"
        );
        alerts
            .raise(AlertKind::QuarantineGrowth, subject, &message)
            .await?;
    } else if marked == 0 {
        alerts.resolve(AlertKind::QuarantineGrowth, subject).await?;
    }
    // Noted last: a crash before this raises the alert once more, and never keeps it back.
    let first = doc! { "_id": WATCH, "kind": WATCH, "known": marked };
    if !control::insert_if_absent(store.as_ref(), collection::CONTROL, &first).await? {
        let (ids, when) = ([Bson::String(WATCH.into())], doc! { "known": known });
        let set = doc! { "known": marked };
        repeating(|| store.amend(collection::CONTROL, &ids, &when, &set)).await?;
    }
    Ok(())
}
