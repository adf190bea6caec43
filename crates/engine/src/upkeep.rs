//! What goes on beside the moves, also while they are paused: clearing abandoned entries, finishing
//! erasures, removing tombstones whose grace is over, resolving alerts whose cause is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{RaseenTempUser, UserDatabase, collection};
use tierkeep_core::document;
use tierkeep_core::erasure::Stage;
use tierkeep_core::mover::{Record, Status, record_field};
use tierkeep_core::store::{Find, Query, StoreError};
use tierkeep_core::user::UserId;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::alerts::{Alert, AlertKind, Alerts};
use crate::connection::ConnectionManager;
use crate::erase::ErasureService;
use crate::janitor::Janitor;
use crate::quarantine::is_marked;
use crate::retry::repeating;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(15);
/// An erasure that is pending for longer is alerted.
const LATE: Duration = Duration::from_hours(24);

/// Keeps the databases tidy.
#[derive(Debug)]
pub struct Upkeep {
    databases: Arc<ConnectionManager>,
    janitor: Janitor,
    erasures: ErasureService,
    alerts: Alerts,
    grace: Duration,
}

impl Upkeep {
    /// Upkeep of these databases. Tombstones stay for `grace` after an erasure was verified everywhere.
    pub fn new(databases: Arc<ConnectionManager>, grace: Duration) -> Self {
        Self {
            janitor: Janitor::new(Arc::clone(&databases)),
            erasures: ErasureService::new(Arc::clone(&databases)),
            alerts: Alerts::new(Arc::clone(&databases)),
            databases,
            grace,
        }
    }

    /// Looks every 15 seconds until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let began = Instant::now();
        while !stop.is_cancelled() {
            self.round(began.elapsed()).await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    /// Does everything once; what a database that is away keeps from being done waits for the next round.
    /// `now` is as in [`Janitor::round`].
    pub async fn round(&mut self, now: Duration) {
        let cleared = self.janitor.round(now).await.map(|_| ());
        let finished = self.erasures.finish_pending().await.map(|_| ());
        let removed = self
            .erasures
            .remove_tombstones(self.grace)
            .await
            .map(|_| ());
        let alerted = self.alert_late_erasures().await;
        let resolved = self.resolve_alerts().await;
        for outcome in [cleared, finished, removed, alerted, resolved] {
            if let Err(error) = outcome {
                error!(
                    user_type = "internal",
                    database = %error.database,
                    error = error.class.as_str(),
                    code = error.code,
                    "the upkeep waits for a database",
                );
            }
        }
    }

    async fn alert_late_erasures(&self) -> Result<(), StoreError> {
        let before = clock::before(self.databases.clock().now(), LATE);
        let kind = AlertKind::ErasurePending;
        for late in self.erasures.pending_since(before).await? {
            if !self.alerts.is_open(kind, late.as_str()).await? {
                let message = "the erasure could not be finished for 24 hours; a database is away";
                self.alerts.raise(kind, late.as_str(), message).await?;
            }
        }
        Ok(())
    }

    async fn resolve_alerts(&self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.alerts.open(&mut after).await?;
            if page.is_empty() {
                return Ok(());
            }
            for alert in page {
                if !self.still_stands(&alert).await? {
                    self.alerts.resolve(alert.kind, &alert.subject).await?;
                }
            }
        }
    }

    async fn still_stands(&self, alert: &Alert) -> Result<bool, StoreError> {
        match alert.kind {
            AlertKind::MigrationFailed => {
                let failed = self.records(&alert.subject, Status::Failed).await?;
                self.is_in_temp(&alert.subject, &failed).await
            }
            AlertKind::MigrationIncident => {
                let pending = self.records(&alert.subject, Status::Pending).await?;
                Ok(!pending.is_empty())
            }
            AlertKind::CopiesConflict => {
                let id = Bson::String(alert.subject.clone());
                is_marked(self.databases.audit_db(), &id).await
            }
            // Whoever verifies the chain resolves it.
            AlertKind::AuditChainBroken => Ok(true),
            AlertKind::ErasurePending => {
                let Ok(user) = UserId::parse(&alert.subject) else {
                    return Ok(false);
                };
                let erasure = self.databases.ledger().entry(&user).await?;
                Ok(erasure.is_some_and(|erasure| erasure.stage == Stage::Pending))
            }
        }
    }

    async fn records(&self, user: &str, status: Status) -> Result<Vec<Record>, StoreError> {
        let store = self.databases.audit_db().store();
        let of_user = doc! {
            record_field::USER_ID: user,
            record_field::STATUS: status.as_str(),
        };
        let find = Find::new(Query::Equal(of_user));
        let found = repeating(|| store.find(collection::MIGRATION_RECORDS, &find)).await?;
        Ok(found
            .iter()
            .filter_map(|record| Record::read(record))
            .collect())
    }

    /// Whether temp still holds the version of one of these records.
    async fn is_in_temp(&self, user: &str, records: &[Record]) -> Result<bool, StoreError> {
        let id = Bson::String(user.to_owned());
        let find = Find::new(Query::Ids(vec![id])).head();
        let store = self.databases.raseen_temp_db().store();
        let found = repeating(|| store.find(RaseenTempUser::USERS, &find)).await?;
        let version = found
            .first()
            .and_then(|document| document::version(document));
        Ok(records.iter().any(|record| Some(record.version) == version))
    }
}
