//! Alerts: what operators must be told, one document for each kind and subject in
//! `evaluation_audit.alerts`, resolved when the cause is gone.
//!
//! An alert that cannot be stored is kept in memory and sent from there (`telling_held`) until it can. `delivery`
//! tells people of those that are stored: what has not been told yet is marked in the alert itself.

pub(crate) mod channel;
mod channel_state;
pub(crate) mod delivery;
pub(crate) mod list;
mod telling_held;

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocument;
use bson::{Bson, DateTime, Document, doc};
use serde::Serialize;
use tierkeep_core::brief::brief;
use tierkeep_core::bson;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::collection;
use tierkeep_core::document;
use tierkeep_core::store::{Cursor, Find, Query, StoreError};
use tokio::time::timeout;

use channel::ChannelKind;

use crate::context::Engine;
use crate::databases::control;
use crate::databases::pages::{self, Pages};
use crate::databases::retry::repeating;
use crate::held_alerts::Held;

/// How often a count that a concurrent writer raised meanwhile is read again.
const ROUNDS: u32 = 8;
/// How long storing an alert may take before it is kept in memory.
pub(crate) const STORED_WITHIN: Duration = Duration::from_secs(5);
/// The time when an alert was last sent, through any channel.
pub(crate) const TOLD_AT: &str = "told_at";

/// What an alert is about, and who says that its cause is gone.
///
/// Upkeep asks the databases about those whose cause can be looked up there. An alert of a breaker belongs to a
/// process: each process raises its own in each round, and one that no process has raised for a minute is over. The
/// others ([`AlertKind::BackupLag`], [`AlertKind::VerificationDifference`], [`AlertKind::AuditChainBroken`]) are known
/// only to the watcher that raised them: the same watcher calls [`Alerts::resolve`] when it looks again and finds
/// nothing wrong, also in its first look after a start, since a process that has ended may have raised the alert.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// The retries of a document's move are used up; the subject is the user.
    MigrationFailed,
    /// Copies of a document contradict each other; the subject is the user.
    CopiesConflict,
    /// A copy does not match its own digest; the subject is the user, or the HR record as `collection/id`. Upkeep
    /// resolves it.
    CorruptDocument,
    /// Temp no longer holds what main and srie lack; the subject is the user.
    MigrationIncident,
    /// An erasure could not be finished for a day; the subject is the user.
    ErasurePending,
    /// The audit trail was tampered with; the subject is the trail. The audit keeper resolves it.
    AuditChainBroken,
    /// A backup is behind what it backs up; the subject is the backup's database. The HR reconciler resolves it.
    BackupLag,
    /// A database is left alone after repeated failures, or because another one answers for it; the subject is the
    /// database. Upkeep resolves it.
    BreakerOpen,
    /// A copy and its backup differ; the subject is the backup's database. The next verification that finds nothing
    /// resolves it.
    VerificationDifference,
    /// More documents are quarantined than before; the subject is the database. Upkeep raises and resolves it.
    QuarantineGrowth,
    /// Documents have been due for more than an hour; the subject is the database. The watch resolves it.
    DocumentsOverdue,
    /// The movement has been paused for more than a day; the subject is the mover. The watch resolves it.
    MoverPaused,
    /// Documents are due, and no mover takes them; the subject is the mover. The watch resolves it.
    MoverStalled,
    /// A collection's own index or option makes the server delete or confuse documents; the subject is the database. The
    /// watch resolves it.
    DatabaseHazard,
}

impl AlertKind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::MigrationFailed,
        Self::CopiesConflict,
        Self::CorruptDocument,
        Self::MigrationIncident,
        Self::ErasurePending,
        Self::AuditChainBroken,
        Self::BackupLag,
        Self::BreakerOpen,
        Self::VerificationDifference,
        Self::QuarantineGrowth,
        Self::DocumentsOverdue,
        Self::MoverPaused,
        Self::MoverStalled,
        Self::DatabaseHazard,
    ];

    /// The text as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MigrationFailed => "migration_failed",
            Self::CopiesConflict => "copies_conflict",
            Self::CorruptDocument => "corrupt_document",
            Self::MigrationIncident => "migration_incident",
            Self::ErasurePending => "erasure_pending",
            Self::AuditChainBroken => "audit_chain_broken",
            Self::BackupLag => "backup_lag",
            Self::BreakerOpen => "breaker_open",
            Self::VerificationDifference => "verification_difference",
            Self::QuarantineGrowth => "quarantine_growth",
            Self::DocumentsOverdue => "documents_overdue",
            Self::MoverPaused => "mover_paused",
            Self::MoverStalled => "mover_stalled",
            Self::DatabaseHazard => "database_hazard",
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
    /// The user, database or channel that the alert is about.
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

/// How telling people through a channel went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelView {
    /// When a message arrived last, RFC 3339.
    pub last_told: Option<String>,
    /// How many attempts have failed since.
    pub failures: u32,
}

/// The alerts of a deployment.
#[derive(Clone, Debug)]
pub struct Alerts {
    engine: Arc<Engine>,
}

impl Alerts {
    /// Alerts in these databases.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
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
        let now = self.engine.clock().now();
        self.store(&Held::new(kind.as_str(), subject, &brief(message), now))
            .await
    }

    /// As [`Alerts::raise`]; one that `evaluation_audit` does not take is kept in memory, sent from there and stored
    /// later. For what is found again after a crash.
    pub async fn tell(&self, kind: AlertKind, subject: &str, message: &str) {
        let stored = timeout(STORED_WITHIN, self.raise(kind, subject, message)).await;
        if !stored.is_ok_and(|stored| stored.is_ok()) {
            let now = self.engine.clock().now();
            let held = self.engine.held_alerts();
            held.raise(Held::new(kind.as_str(), subject, &brief(message), now));
        }
    }

    /// Stores an alert, over one that is stored already.
    pub(crate) async fn store(&self, held: &Held) -> Result<(), StoreError> {
        let store = self.engine.databases.audit_db().store();
        let id = format!("{}/{}", held.kind, held.subject);
        let resolved_at = held.resolved_at.map_or(Bson::Null, Bson::DateTime);
        let mut first = doc! {
            "_id": &id,
            "kind": held.kind,
            "subject": &held.subject,
            "first_at": held.first_at,
            "last_at": held.last_at,
            "count": held.count,
            "resolved_at": &resolved_at,
            "message": &held.message,
        };
        first.extend(untold());
        first.extend(told(&held.told));
        if control::insert_if_absent(store.as_ref(), collection::ALERTS, &first).await? {
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
            let was_resolved = found
                .first()
                .and_then(|alert| alert.get_datetime("resolved_at").ok());
            let when = doc! { "count": count, "resolved_at": was_resolved };
            let mut set = doc! {
                "count": count.saturating_add(held.count),
                "last_at": held.last_at,
                "resolved_at": &resolved_at,
                "message": &held.message,
            };
            // One that is open was sent, or will be.
            if was_resolved.is_some() || held.resolved_at.is_some() {
                set.extend(untold());
            }
            set.extend(told(&held.told));
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
        if self
            .engine
            .held_alerts()
            .resolve(kind.as_str(), subject, self.engine.clock().now())
        {
            return Ok(());
        }
        let store = self.engine.databases.audit_db().store();
        let ids = [Bson::String(id_of(kind, subject))];
        let open = doc! { "resolved_at": Bson::Null };
        let mut set = doc! { "resolved_at": self.engine.clock().now() };
        set.extend(untold());
        repeating(|| store.amend(collection::ALERTS, &ids, &open, &set)).await?;
        Ok(())
    }

    /// Has the open alerts sent again that were last sent before `before`. Answers how many.
    pub(crate) async fn remind(&self, before: DateTime) -> Result<usize, StoreError> {
        let store = self.engine.databases.audit_db().store();
        let open = Find::new(Query::Equal(doc! { "resolved_at": Bson::Null }));
        let mut pages = Pages::new(store.as_ref(), collection::ALERTS, open);
        let mut reminded = 0;
        while let Some(page) = pages.next().await? {
            let old = page.iter().filter(|alert| {
                let told_at = alert.get_datetime(TOLD_AT);
                told_at.is_ok_and(|at| at <= before)
            });
            let ids: Vec<Bson> = old.map(|alert| document::id(alert)).collect();
            if ids.is_empty() {
                continue;
            }
            let mut set = untold();
            set.insert(TOLD_AT, Bson::Null);
            let open = doc! { "resolved_at": Bson::Null };
            repeating(|| store.amend(collection::ALERTS, &ids, &open, &set)).await?;
            reminded += ids.len();
        }
        Ok(reminded)
    }

    /// The alerts that this process could not store yet, by kind and subject.
    pub fn in_memory(&self) -> Vec<Alert> {
        let held = self.engine.held_alerts().all();
        held.iter().filter_map(telling_held::shown).collect()
    }

    /// How telling people through a channel went; none where it was never tried.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn channel(&self, kind: ChannelKind) -> Result<Option<ChannelView>, StoreError> {
        let state = channel_state::look(&self.engine, &kind.control()).await?;
        Ok(state.map(|state| ChannelView {
            last_told: state.told.values().max().copied().map(rfc3339),
            failures: state.failures,
        }))
    }

    /// Whether such an alert is open.
    pub(crate) async fn is_open(&self, kind: AlertKind, subject: &str) -> Result<bool, StoreError> {
        let store = self.engine.databases.audit_db().store();
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
        let store = self.engine.databases.audit_db().store();
        let open = doc! { "resolved_at": Bson::Null };
        let find = Find::new(Query::Equal(open)).after(after.take());
        let (page, next) = pages::page(store.as_ref(), collection::ALERTS, &find).await?;
        *after = next;
        Ok(page.iter().filter_map(|alert| read(alert)).collect())
    }
}

/// The fields that mark the alert's current state as undelivered on every channel.
fn untold() -> Document {
    let fields = ChannelKind::ALL.map(ChannelKind::field);
    fields
        .into_iter()
        .map(|field| (field.to_owned(), Bson::String(delivery::UNTOLD.to_owned())))
        .collect()
}

/// The fields that mark it as delivered on these channels.
fn told(fields: &[&'static str]) -> Document {
    let fields = fields.iter();
    fields
        .map(|field| ((*field).to_owned(), Bson::Null))
        .collect()
}

fn id_of(kind: AlertKind, subject: &str) -> String {
    format!("{}/{subject}", kind.as_str())
}

fn read(alert: &RawDocument) -> Option<Alert> {
    let at = |name: &str| -> Option<DateTime> { alert.get_datetime(name).ok() };
    Some(Alert {
        kind: AlertKind::parse(alert.get_str("kind").ok()?)?,
        subject: brief(alert.get_str("subject").ok()?),
        first_at: rfc3339(at("first_at")?),
        last_at: rfc3339(at("last_at")?),
        count: alert.get_i64("count").ok()?,
        resolved_at: at("resolved_at").map(rfc3339),
        message: brief(alert.get_str("message").ok()?),
    })
}
