//! Background work beside the moves, also while they are paused: clearing abandoned entries, finishing
//! erasures, removing tombstones whose grace and records whose retention is over, watching the quarantine, resolving
//! alerts whose cause is gone.

pub(crate) mod abandoned;
pub(crate) mod audit_chain;
pub(crate) mod old_records;
pub(crate) mod quarantine_alert;
pub(crate) mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::raw::RawDocument;
use bson::{Bson, doc};
use jiff::Timestamp;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{RaseenTempUser, Role, UserDatabase, collection};
use tierkeep_core::document;
use tierkeep_core::erasure::Stage;
use tierkeep_core::hr::{HrCollection, HrId};
use tierkeep_core::mover::{Record, Status, record_field};
use tierkeep_core::repeats::Repeats;
use tierkeep_core::store::{Find, Query, StoreError};
use tierkeep_core::user::UserId;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::alerts::{Alert, AlertKind, Alerts};
use crate::claims::{Consistency, claims};
use crate::context::Engine;
use crate::copies::sound::is_sound;
use crate::databases::retry::repeating;
use crate::erasure::service::ErasureService;
use crate::hr::HrRecords;
use crate::intents;
use crate::mover::quarantine::is_marked;
use crate::upkeep::abandoned::Janitor;
use crate::upkeep::old_records::Retirement;
use crate::upkeep::watch::is_given_up;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(15);
/// An erasure that is pending for longer is alerted.
const LATE: Duration = Duration::from_hours(24);
/// An open alert that was sent longer ago is sent again.
const REMINDED_AFTER: Duration = Duration::from_hours(24);
/// How often it looks for such.
const REMINDED_EVERY: Duration = Duration::from_mins(10);
/// A process that has given up a database says so in each of its rounds.
const SAID_LATELY: Duration = Duration::from_mins(1);

/// Keeps the databases tidy.
#[derive(Debug)]
pub struct Upkeep {
    engine: Arc<Engine>,
    janitor: Janitor,
    erasures: ErasureService,
    alerts: Alerts,
    grace: Duration,
    retirement: Option<Retirement>,
    /// When it last looked which alerts are to be told again.
    reminded: Option<Duration>,
    /// Which databases it waits for, as the log says.
    waits: Repeats<Role>,
}

impl Upkeep {
    /// Upkeep of these databases. Tombstones stay for `grace` after an erasure was verified everywhere.
    pub fn new(engine: Arc<Engine>, grace: Duration) -> Self {
        Self {
            janitor: Janitor::new(Arc::clone(&engine)),
            erasures: ErasureService::new(Arc::clone(&engine)),
            alerts: Alerts::new(Arc::clone(&engine)),
            engine,
            grace,
            retirement: None,
            reminded: None,
            waits: Repeats::default(),
        }
    }

    /// Removes completed migration records once they are older than this; `None` keeps them indefinitely.
    #[must_use]
    pub fn with_record_retention(mut self, retention: Option<Duration>) -> Self {
        self.retirement =
            retention.map(|retention| Retirement::new(Arc::clone(&self.engine), retention));
        self
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
        let watched = quarantine_alert::watch(&self.engine).await;
        let reminded = self.remind(now).await;
        let resolved = self.resolve_alerts().await;
        let retired = match &mut self.retirement {
            Some(retirement) => retirement.round(now).await.map(|_| ()),
            None => Ok(()),
        };
        let outcomes = [
            cleared, finished, removed, alerted, watched, reminded, resolved, retired,
        ];
        for outcome in outcomes {
            let Err(error) = outcome else { continue };
            let now = self.engine.clock().now();
            if let Some(more) = self.waits.due(error.database, now) {
                error!(
                    user_type = "internal",
                    database = %error.database,
                    error = error.class.as_str(),
                    code = error.code,
                    more,
                    "the upkeep is waiting for a database",
                );
            }
        }
    }

    async fn alert_late_erasures(&self) -> Result<(), StoreError> {
        let before = clock::before(self.engine.clock().now(), LATE);
        let kind = AlertKind::ErasurePending;
        for late in self.erasures.pending_since(before).await? {
            if !self.alerts.is_open(kind, late.as_str()).await? {
                let message =
                    "the erasure has been pending for 24 hours; a database is unavailable";
                self.alerts.raise(kind, late.as_str(), message).await?;
            }
        }
        Ok(())
    }

    /// Whether this process has given the database up, or another one has said so lately.
    fn is_given_up_somewhere(&self, alert: &Alert) -> bool {
        let long_ago = clock::before(self.engine.clock().now(), SAID_LATELY);
        Role::by_name(&alert.subject).is_some_and(|role| {
            is_given_up(&self.engine, role)
                || alert
                    .last_at
                    .parse::<Timestamp>()
                    .is_ok_and(|at| at.as_millisecond() > long_ago.timestamp_millis())
        })
    }

    /// Has open alerts told again once a day.
    async fn remind(&mut self, now: Duration) -> Result<(), StoreError> {
        let lately = |last: Duration| now.saturating_sub(last) < REMINDED_EVERY;
        if self.reminded.is_some_and(lately) {
            return Ok(());
        }
        let before = clock::before(self.engine.clock().now(), REMINDED_AFTER);
        self.alerts.remind(before).await?;
        self.reminded = Some(now);
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
            AlertKind::BreakerOpen => Ok(self.is_given_up_somewhere(alert)),
            AlertKind::MigrationFailed => {
                // A pending one may be refused for a reason that is not known to be the document's.
                let mut open = self.records(&alert.subject, Status::Failed).await?;
                open.extend(self.records(&alert.subject, Status::Pending).await?);
                self.is_in_temp(&alert.subject, &open).await
            }
            AlertKind::MigrationIncident => {
                let pending = self.records(&alert.subject, Status::Pending).await?;
                Ok(!pending.is_empty() || self.is_announced(&alert.subject).await?)
            }
            AlertKind::CopiesConflict => self.is_marked(&alert.subject).await,
            AlertKind::CorruptDocument => self.is_damaged(&alert.subject).await,
            // Only what raised them knows when their cause is gone: the quarantine's watch, or `watch`.
            AlertKind::AuditChainBroken
            | AlertKind::BackupLag
            | AlertKind::VerificationDifference
            | AlertKind::QuarantineGrowth
            | AlertKind::DocumentsOverdue
            | AlertKind::MoverPaused
            | AlertKind::MoverStalled
            | AlertKind::DatabaseHazard => Ok(true),
            AlertKind::ErasurePending => {
                let Ok(user) = UserId::parse(&alert.subject) else {
                    return Ok(false);
                };
                let erasure = self.engine.ledger().entry(&user).await?;
                Ok(erasure.is_some_and(|erasure| erasure.stage == Stage::Pending))
            }
        }
    }

    /// Whether a document of this user in temp is quarantined, whatever its `_id`; or one that was there under the user's own.
    async fn is_marked(&self, user: &str) -> Result<bool, StoreError> {
        let databases = &self.engine.databases;
        let keys = Find::new(Query::Users(vec![user.to_owned()])).keys();
        let temp = databases.raseen_temp_db().store();
        let found = repeating(|| temp.find(RaseenTempUser::USERS, &keys)).await?;
        let ids = found.iter().map(|document| document::id(document));
        for id in ids.chain([Bson::String(user.to_owned())]) {
            if is_marked(databases.audit_db(), &id).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether main's copy of a user, or of an HR record named as `collection/id`, still does not match its own digest.
    async fn is_damaged(&self, subject: &str) -> Result<bool, StoreError> {
        if let Some((collection, id)) = subject.split_once('/') {
            let records = HrRecords::new(Arc::clone(&self.engine));
            let named = HrCollection::parse(collection)
                .ok()
                .zip(HrId::parse(id).ok());
            return match named {
                Some((collection, id)) => records.is_damaged(&collection, &id).await,
                None => Ok(false),
            };
        }
        let Ok(user) = UserId::parse(subject) else {
            return Ok(false);
        };
        let main = self.engine.databases.raseen_main_db();
        let copies = claims(main, &user, Consistency::Majority).await?;
        Ok(copies.iter().any(|copy| !is_sound(copy)))
    }

    async fn records(&self, user: &str, status: Status) -> Result<Vec<Record>, StoreError> {
        let store = self.engine.databases.audit_db().store();
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

    /// Whether an intent names a move of this user, which has no record then.
    async fn is_announced(&self, user: &str) -> Result<bool, StoreError> {
        let intents = intents::open(&self.engine).await?;
        Ok(intents.iter().any(|it| it.of_user(user).next().is_some()))
    }

    /// Whether temp still holds the version of one of these records, or what another program wrote and they may be about.
    async fn is_in_temp(&self, user: &str, records: &[Record]) -> Result<bool, StoreError> {
        let find = Find::new(Query::Users(vec![user.to_owned()])).head();
        let store = self.engine.databases.raseen_temp_db().store();
        let found = repeating(|| store.find(RaseenTempUser::USERS, &find)).await?;
        let is_about = |record: &Record, it: &RawDocument| {
            document::version(it) == Some(record.version) || !document::is_native(it)
        };
        Ok(records
            .iter()
            .any(|record| found.iter().any(|it| is_about(record, it))))
    }
}
