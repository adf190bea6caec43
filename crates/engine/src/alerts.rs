//! Alerts: what an operator has to hear of, one document for each kind and subject in
//! `evaluation_audit.alerts`, resolved when the cause is gone.
//!
//! Delivers nothing; an alert that cannot be stored is still an error line in the log.

use std::sync::Arc;

use bson::raw::RawDocument;
use bson::{Bson, DateTime, doc};
use serde::Serialize;
use tierkeep_core::bson;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::collection;
use tierkeep_core::store::{Cursor, Find, Query, StoreError};

use crate::connection::ConnectionManager;
use crate::own;
use crate::retry::repeating;

/// How often a count that somebody else raised meanwhile is read again.
const ROUNDS: u32 = 8;

/// What an alert is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// The retries of a document's move are used up; the subject is the user.
    MigrationFailed,
    /// Copies of a document contradict each other; the subject is the user.
    CopiesConflict,
    /// Temp no longer holds what main and srie lack; the subject is the user.
    MigrationIncident,
    /// An erasure could not be finished for a day; the subject is the user.
    ErasurePending,
    /// The audit trail was tampered with; the subject is the trail.
    AuditChainBroken,
}

impl AlertKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::MigrationFailed,
        Self::CopiesConflict,
        Self::MigrationIncident,
        Self::ErasurePending,
        Self::AuditChainBroken,
    ];

    /// The text as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MigrationFailed => "migration_failed",
            Self::CopiesConflict => "copies_conflict",
            Self::MigrationIncident => "migration_incident",
            Self::ErasurePending => "erasure_pending",
            Self::AuditChainBroken => "audit_chain_broken",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// An alert as it is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Alert {
    /// What it is about.
    pub kind: AlertKind,
    /// Whom or what.
    pub subject: String,
    /// When it was raised first, RFC 3339.
    pub first_at: String,
    /// When it was raised last, RFC 3339.
    pub last_at: String,
    /// How often it was raised.
    pub count: i64,
    /// When its cause was gone, RFC 3339; none while it is open.
    pub resolved_at: Option<String>,
    /// What happened, without any content of a document.
    pub message: String,
}

/// The alerts of a deployment.
#[derive(Clone, Debug)]
pub struct Alerts {
    databases: Arc<ConnectionManager>,
}

impl Alerts {
    /// Alerts in these databases.
    pub fn new(databases: Arc<ConnectionManager>) -> Self {
        Self { databases }
    }

    /// Raises an alert, or raises it once more.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer; repeating may count it twice.
    pub async fn raise(
        &self,
        kind: AlertKind,
        subject: &str,
        message: &str,
    ) -> Result<(), StoreError> {
        let store = self.databases.audit_db().store();
        let now = self.databases.clock().now();
        let id = id_of(kind, subject);
        let first = doc! {
            "_id": &id,
            "kind": kind.as_str(),
            "subject": subject,
            "first_at": now,
            "last_at": now,
            "count": 1_i64,
            "resolved_at": Bson::Null,
            "message": message,
        };
        if own::make(store.as_ref(), collection::ALERTS, &first).await? {
            return Ok(());
        }
        let ids = [Bson::String(id)];
        for _ in 0..ROUNDS {
            let find = Find::new(Query::Ids(ids.to_vec()));
            let found = repeating(|| store.find(collection::ALERTS, &find)).await?;
            let count = found
                .first()
                .and_then(|alert| alert.get_i64("count").ok())
                .unwrap_or_default();
            let when = doc! { "count": count };
            let set = doc! {
                "count": count.saturating_add(1),
                "last_at": now,
                "resolved_at": Bson::Null,
                "message": message,
            };
            if repeating(|| store.amend(collection::ALERTS, &ids, &when, &set)).await? > 0 {
                break;
            }
        }
        Ok(())
    }

    /// Says that the cause of an alert is gone. Nothing happens where there is none, or none that is open.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer; repeating is safe.
    pub async fn resolve(&self, kind: AlertKind, subject: &str) -> Result<(), StoreError> {
        let store = self.databases.audit_db().store();
        let ids = [Bson::String(id_of(kind, subject))];
        let open = doc! { "resolved_at": Bson::Null };
        let set = doc! { "resolved_at": self.databases.clock().now() };
        repeating(|| store.amend(collection::ALERTS, &ids, &open, &set)).await?;
        Ok(())
    }

    /// Whether such an alert is open.
    pub(crate) async fn is_open(&self, kind: AlertKind, subject: &str) -> Result<bool, StoreError> {
        let store = self.databases.audit_db().store();
        let find = Find::new(Query::Ids(vec![Bson::String(id_of(kind, subject))]));
        let found = repeating(|| store.find(collection::ALERTS, &find)).await?;
        let alert = found.first().and_then(|alert| read(alert));
        Ok(alert.is_some_and(|alert| alert.resolved_at.is_none()))
    }

    /// One page of the open alerts, by kind and subject; `after` is where the page before ended.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn open(&self, after: &mut Option<Cursor>) -> Result<Vec<Alert>, StoreError> {
        let store = self.databases.audit_db().store();
        let open = doc! { "resolved_at": Bson::Null };
        let find = Find::new(Query::Equal(open)).after(after.take());
        let page = repeating(|| store.find(collection::ALERTS, &find)).await?;
        *after = page.last().map(|last| Cursor::after(last));
        Ok(page.iter().filter_map(|alert| read(alert)).collect())
    }
}

fn id_of(kind: AlertKind, subject: &str) -> String {
    format!("{}/{subject}", kind.as_str())
}

fn read(alert: &RawDocument) -> Option<Alert> {
    let at = |name: &str| -> Option<DateTime> { alert.get_datetime(name).ok() };
    Some(Alert {
        kind: AlertKind::parse(alert.get_str("kind").ok()?)?,
        subject: alert.get_str("subject").ok()?.to_owned(),
        first_at: rfc3339(at("first_at")?),
        last_at: rfc3339(at("last_at")?),
        count: alert.get_i64("count").ok()?,
        resolved_at: at("resolved_at").map(rfc3339),
        message: alert.get_str("message").ok()?.to_owned(),
    })
}
