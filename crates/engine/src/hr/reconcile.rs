//! The reconciler: delivers what is pending, in every process that serves, until nothing is.
//!
//! It holds one page at a time. A record that srie refuses is parked, and keeps no other from being delivered; a
//! database that is away ends the round, and the next one begins where the marks are. Never deletes anything but
//! tombstones whose grace is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bson::DateTime;
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{Database, RaseenMainHr, Role};
use tierkeep_core::document::{self, State};
use tierkeep_core::hr::{self, BackupStatus, HrCollection, HrId, marked};
use tierkeep_core::repeats::Repeats;
use tierkeep_core::store::{Find, Query, StoreError};
use tierkeep_core::version::Version;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::alerts::{AlertKind, Alerts};
use crate::context::Engine;
use crate::databases::pages::Pages;
use crate::hr::Backup;
use crate::hr::deliver::{DeliveryOutcome, deliver};
use crate::hr::tombstones;

/// The most records and bytes in a page.
const PAGE_RECORDS: usize = 200;
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// How often a record that was put in order first is tried again in one round.
const TRIES: u32 = 4;
/// How often srie is looked at while it is away, so that delivery begins when it returns.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// What is pending for longer is alerted.
const LATE: Duration = Duration::from_mins(10);
/// How often tombstones are looked at.
const TOMBSTONES_EVERY: Duration = Duration::from_mins(10);
/// How long a record that srie refused is left alone: doubles, up to an hour.
const PARKED_FOR: Duration = Duration::from_secs(30);
const LONGEST_PARKED: Duration = Duration::from_hours(1);
/// The most parked records that are remembered; what is forgotten is tried again sooner.
const PARKED_MOST: usize = 10_000;

/// What a round did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reconciled {
    /// How many records and deletions were delivered.
    pub delivered: u64,
    /// How many stay pending for a reason of their own.
    pub held: u64,
    /// How long ago the oldest of those that stay pending was written.
    pub lag: Duration,
}

#[derive(Debug)]
struct Parked {
    version: Option<Version>,
    tries: u32,
    until: DateTime,
}

/// Delivers what is pending. Any number of processes may run one.
#[derive(Debug)]
pub struct Reconciler {
    engine: Arc<Engine>,
    alerts: Alerts,
    interval: Duration,
    grace: Duration,
    parked: BTreeMap<(HrCollection, String), Parked>,
    /// Since when no round reached its end.
    failing: Option<DateTime>,
    /// Whether the alert is known to be open or not.
    alerted: Option<bool>,
    looked_at_tombstones: Option<DateTime>,
    /// Which databases the alert waits for, as the log says.
    alert_waits: Repeats<Role>,
}

impl Reconciler {
    /// A reconciler that looks every `interval`. Tombstones stay for `grace` after the deletion.
    pub fn new(engine: Arc<Engine>, interval: Duration, grace: Duration) -> Self {
        Self {
            alerts: Alerts::new(Arc::clone(&engine)),
            engine,
            interval,
            grace,
            parked: BTreeMap::new(),
            failing: None,
            alerted: None,
            looked_at_tombstones: None,
            alert_waits: Repeats::default(),
        }
    }

    /// Works until `stop` is cancelled; a page at work is finished.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if self
                .engine
                .databases
                .away()
                .iter()
                .any(|role| [RaseenMainHr::ROLE, Backup::ROLE].contains(role))
            {
                self.engine.databases.heal().await;
            }
            let wait = match self.round().await {
                Ok(_) => self.interval,
                Err(_) => self.interval.min(LOOKS_EVERY),
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    /// Delivers everything that is pending and not parked, and removes tombstones whose grace is over.
    ///
    /// # Errors
    /// [`StoreError`] when a database did not answer; what was not delivered stays pending.
    pub async fn round(&mut self) -> Result<Reconciled, StoreError> {
        let mut done = Reconciled::default();
        let outcome = self.deliver_all(&mut done).await;
        let now = self.engine.clock().now();
        match &outcome {
            Ok(()) => {
                if self.failing.take().is_some() {
                    info!(
                        user_type = "internal",
                        database = %Backup::ROLE,
                        delivered = done.delivered,
                        "the delivery of HR records has resumed",
                    );
                }
            }
            Err(error) => {
                if self.failing.is_none() {
                    error!(
                        user_type = "internal",
                        database = %error.database,
                        error = error.class.as_str(),
                        code = error.code,
                        "error in storing to {}; HR records are pending until a database is available again",
                        Backup::ROLE,
                    );
                }
                let since = *self.failing.get_or_insert(now);
                done.lag = done.lag.max(now.saturating_duration_since(since));
            }
        }
        self.alert(&done).await;
        outcome?;
        let due = self
            .looked_at_tombstones
            .is_none_or(|at| clock::after(at, TOMBSTONES_EVERY) <= now);
        if due {
            self.remove_tombstones().await?;
            self.looked_at_tombstones = Some(now);
        }
        Ok(done)
    }

    /// Removes tombstones that srie holds too, once their grace is over: from srie first.
    ///
    /// # Errors
    /// [`StoreError`] when a database did not answer; repeating is safe.
    pub async fn remove_tombstones(&self) -> Result<u64, StoreError> {
        let mut removed = 0;
        for collection in self.engine.databases.hr_collections() {
            removed += tombstones::remove(&self.engine, collection, self.grace).await?;
        }
        Ok(removed)
    }

    async fn deliver_all(&mut self, done: &mut Reconciled) -> Result<(), StoreError> {
        let engine = Arc::clone(&self.engine);
        for collection in engine.databases.hr_collections() {
            for state in [State::Live, State::Erased] {
                let pending = marked(state, BackupStatus::Pending);
                let find = Find::new(pending).limit(PAGE_RECORDS).max_bytes(PAGE_BYTES);
                let main = engine.databases.raseen_hr_db().store();
                let mut pages = Pages::new(main.as_ref(), collection.as_str(), find);
                while let Some(page) = pages.next().await? {
                    self.deliver_page(collection, page, done).await?;
                }
            }
        }
        Ok(())
    }

    async fn deliver_page(
        &mut self,
        collection: &HrCollection,
        mut page: Vec<RawDocumentBuf>,
        done: &mut Reconciled,
    ) -> Result<(), StoreError> {
        let now = self.engine.clock().now();
        page.retain(|record| {
            let parked = self.is_parked(collection, record, now);
            if parked {
                done.held += 1;
                done.note_lag(record, now);
            }
            !parked
        });
        for left in (0..TRIES).rev() {
            if page.is_empty() {
                return Ok(());
            }
            let delivered = self.sent(collection, &page).await;
            let outcomes = match delivered {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    for record in &page {
                        done.note_lag(record, now);
                    }
                    return Err(error);
                }
            };
            let mut again = Vec::new();
            for (record, outcome) in page.iter().zip(outcomes) {
                match outcome {
                    DeliveryOutcome::Completed => {
                        done.delivered += 1;
                        self.parked.remove(&key(collection, record));
                    }
                    DeliveryOutcome::Superseded => {}
                    DeliveryOutcome::Again if left > 0 => again.push(document::id(record)),
                    DeliveryOutcome::Again => done.note_lag(record, now),
                    DeliveryOutcome::Held(reason) => {
                        done.held += 1;
                        done.note_lag(record, now);
                        self.park(collection, record, &reason, now);
                    }
                }
            }
            page = self.still_pending(collection, again).await?;
        }
        Ok(())
    }

    /// Delivers a page. While srie is away a greeting is enough to know.
    async fn sent(
        &self,
        collection: &HrCollection,
        page: &[RawDocumentBuf],
    ) -> Result<Vec<DeliveryOutcome>, StoreError> {
        if self.failing.is_some() {
            self.engine.databases.srie_hr_db().store().hello().await?;
        }
        deliver(&self.engine, collection, page).await
    }

    async fn still_pending(
        &self,
        collection: &HrCollection,
        ids: Vec<bson::Bson>,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let find = Find::new(Query::Ids(ids));
        let store = self.engine.databases.raseen_hr_db().store();
        let mut found = store.find(collection.as_str(), &find).await?;
        found.retain(|record| BackupStatus::of(record) == Some(BackupStatus::Pending));
        Ok(found)
    }

    fn is_parked(&self, collection: &HrCollection, record: &RawDocumentBuf, now: DateTime) -> bool {
        self.parked
            .get(&key(collection, record))
            .is_some_and(|parked| parked.until > now && parked.version == document::version(record))
    }

    fn park(
        &mut self,
        collection: &HrCollection,
        record: &RawDocumentBuf,
        reason: &str,
        now: DateTime,
    ) {
        let key = key(collection, record);
        let version = document::version(record);
        let before = self.parked.get(&key).filter(|p| p.version == version);
        let tries = before.map_or(0, |parked| parked.tries.saturating_add(1));
        let wait = PARKED_FOR
            .saturating_mul(1 << tries.min(10))
            .min(LONGEST_PARKED);
        error!(
            user_type = "internal",
            database = %Backup::ROLE,
            collection = %collection,
            record = key.1.as_str(),
            reason,
            "error in storing to {}; the HR record will be retried",
            Backup::ROLE,
        );
        if self.parked.len() >= PARKED_MOST && !self.parked.contains_key(&key) {
            self.parked.pop_first();
        }
        let until = clock::after(now, wait);
        let parked = Parked {
            version,
            tries,
            until,
        };
        self.parked.insert(key, parked);
    }

    /// Raises the alert when something is pending for too long, and resolves it when nothing is. An alert that cannot
    /// be stored waits for the next round.
    async fn alert(&mut self, done: &Reconciled) {
        let (kind, subject) = (AlertKind::BackupLag, Role::SrieMainHr.name());
        let late = done.lag > LATE;
        if self.alerted == Some(late) {
            return;
        }
        let told = if late {
            let message = format!(
                "HR records have had no backup for more than {} minutes; {} are pending because of errors of their own \
                 (see the log), the others because {subject} is unavailable",
                LATE.as_secs() / 60,
                done.held,
            );
            self.alerts.raise(kind, subject, &message).await
        } else {
            self.alerts.resolve(kind, subject).await
        };
        match told {
            Ok(()) => self.alerted = Some(late),
            Err(error) => {
                let now = self.engine.clock().now();
                if let Some(more) = self.alert_waits.due(error.database, now) {
                    error!(
                        user_type = "internal",
                        database = %error.database,
                        error = error.class.as_str(),
                        more,
                        "the alert about HR backups is waiting for a database",
                    );
                }
            }
        }
    }
}

impl Reconciled {
    fn note_lag(&mut self, record: &RawDocumentBuf, now: DateTime) {
        if let Some(at) = hr::updated_at(record) {
            self.lag = self.lag.max(now.saturating_duration_since(at));
        }
    }
}

fn key(collection: &HrCollection, record: &RawDocumentBuf) -> (HrCollection, String) {
    let id = HrId::of(record).map_or_else(
        || document::id(record).to_string(),
        |id| id.as_str().to_owned(),
    );
    (collection.clone(), id)
}
