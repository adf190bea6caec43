//! The system at a glance.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, doc};
use futures_util::future::{join, join_all};
use serde::Serialize;
use tierkeep_core::breaker::BreakerState;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::{RaseenTempUser, Role, UserDatabase, collection};
use tierkeep_core::document;
use tierkeep_core::mover::{self, record_field};
use tierkeep_core::store::{Find, Query, StoreError};

use crate::connection::ConnectionManager;
use crate::hr::HrRecords;
use crate::layout::layout;
use crate::migration::{Backlog, MigrationService, Standing, Summary};
use crate::quarantine::Marks;

/// One database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DatabaseStatus {
    /// Its role.
    pub name: Role,
    /// Whether it answered.
    pub reachable: bool,
    /// How many documents it holds: of users, HR records with the deletions that are kept for a while, or all that
    /// `evaluation_audit` keeps. None while it is away.
    pub documents: Option<u64>,
    /// `closed` while calls go through, `open` while they do not, `half_open` while one of them finds out whether it
    /// is back.
    pub breaker: &'static str,
}

/// What the last run did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LastRun {
    /// Names the run.
    pub run_id: String,
    /// When it ended, RFC 3339.
    pub finished_at: String,
    /// Documents moved.
    pub moved: i64,
    /// Attempts that failed.
    pub failed: i64,
    /// Parked, or waiting for a database.
    pub deferred: i64,
}

/// What waits for its backup; none where the database that knows is away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct BackupPending {
    /// Moves that were begun and are not completed.
    pub user: Option<u64>,
    /// HR records and deletions that `srie_main_hr` lacks.
    pub hr: Option<u64>,
}

/// The system at a glance.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Status {
    /// All seven.
    pub databases: Vec<DatabaseStatus>,
    /// Documents in temp whose retention has passed.
    pub due: u64,
    /// Of these, due for longer than two scan intervals.
    pub overdue: u64,
    /// How long the oldest of them has been due, in seconds.
    pub lag_seconds: u64,
    /// Documents whose move has failed for good.
    pub failed: u64,
    /// Documents that cannot be moved.
    pub quarantined: u64,
    /// What waits for its backup.
    pub backup_pending: BackupPending,
    /// Nothing moves until it is resumed.
    pub paused: bool,
    /// What the last run that did something did.
    pub last_run: Option<LastRun>,
    /// What the mover is doing, and who.
    pub mover: Standing,
}

/// What waits, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waiting {
    /// Documents in temp whose retention has passed.
    pub due: u64,
    /// How long the oldest of them has been due.
    pub lag: Duration,
    /// Documents that cannot be moved.
    pub quarantined: u64,
    /// What waits for its backup.
    pub backup_pending: BackupPending,
}

/// One quarantined document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct QuarantineView {
    /// The document's `_id`, as relaxed Extended JSON.
    pub document_id: serde_json::Value,
    /// Why it is not moved.
    pub reason: String,
}

const LAST_RUN: &str = "last_run";
const FINISHED_AT: &str = "finished_at";
/// The control document that every mover looks at.
pub(crate) const MOVER: &str = "mover";
/// Its field that says whether anything moves.
pub(crate) const PAUSED: &str = "paused";

impl MigrationService {
    /// Looks at everything once, changing nothing. Databases that are away are reported as such; what only
    /// they know counts as zero.
    pub async fn status(&self, scan_interval: Duration) -> Status {
        let databases = join_all(Role::ALL.map(|role| self.database_status(role))).await;
        let audit = self.databases.audit_db();
        let mut marks = Marks::open(audit).await.ok();
        let (due, overdue, lag) = self
            .backlog(scan_interval, marks.as_mut())
            .await
            .unwrap_or_default();
        let failed = doc! { record_field::STATUS: mover::Status::Failed.as_str() };
        let failed = audit
            .store()
            .count(collection::MIGRATION_RECORDS, &Query::Equal(failed))
            .await;
        let quarantined = match marks {
            Some(marks) => marks.count().await.unwrap_or(0),
            None => 0,
        };
        let paused = self.is_paused().await.unwrap_or(false);
        let last_run = self.control(LAST_RUN).await.ok().flatten();
        let backlog = Backlog {
            due,
            overdue,
            paused,
            last_run: last_run
                .as_ref()
                .and_then(|run| run.get_datetime(FINISHED_AT).ok()),
        };
        Status {
            databases,
            due,
            overdue,
            lag_seconds: lag.as_secs(),
            failed: failed.unwrap_or(0),
            quarantined,
            backup_pending: self.backup_pending().await,
            paused,
            last_run: last_run.and_then(|run| last_run_of(&run)),
            mover: self.standing(backlog, scan_interval).await,
        }
    }

    /// What waits, in numbers that indexes answer.
    ///
    /// # Errors
    /// [`StoreError`] when temp or `evaluation_audit` did not answer.
    pub async fn waiting(&self, scan_interval: Duration) -> Result<Waiting, StoreError> {
        let audit = self.databases.audit_db();
        let mut marks = Marks::open(audit).await?;
        let (due, _, lag) = self.backlog(scan_interval, Some(&mut marks)).await?;
        Ok(Waiting {
            due,
            lag,
            quarantined: marks.count().await?,
            backup_pending: self.backup_pending().await,
        })
    }

    /// What waits for its backup, in numbers that indexes answer.
    async fn backup_pending(&self) -> BackupPending {
        let begun = doc! { record_field::STATUS: mover::Status::Pending.as_str() };
        let begun = Query::Equal(begun);
        let audit = self.databases.audit_db().store();
        let records = HrRecords::new(Arc::clone(&self.databases));
        let (user, hr) = join(
            audit.count(collection::MIGRATION_RECORDS, &begun),
            records.pending(),
        )
        .await;
        BackupPending {
            user: user.ok(),
            hr: hr.ok(),
        }
    }

    async fn database_status(&self, role: Role) -> DatabaseStatus {
        let reachable = match self.databases.store(role) {
            Some(store) => store.hello().await.is_ok(),
            None => false,
        };
        let documents = if reachable {
            self.databases.documents(role).await.ok()
        } else {
            None
        };
        // Without a breaker calls go through as long as there is a database.
        let unguarded = if reachable {
            BreakerState::Closed
        } else {
            BreakerState::Open
        };
        let breaker = self.databases.breaker(role).unwrap_or(unguarded);
        DatabaseStatus {
            name: role,
            reachable,
            documents,
            breaker: breaker.as_str(),
        }
    }

    /// (due, overdue, how long the oldest has been due).
    async fn backlog(
        &self,
        scan_interval: Duration,
        marks: Option<&mut Marks>,
    ) -> Result<(u64, u64, Duration), StoreError> {
        let store = self.databases.raseen_temp_db().store();
        let now = store.hello().await?.now;
        let cutoff = clock::before(now, self.settings.retention);
        let staged = store
            .count(RaseenTempUser::USERS, &Query::Due(cutoff))
            .await?;
        let late = clock::before(cutoff, scan_interval.saturating_mul(2));
        let overdue = store
            .count(RaseenTempUser::USERS, &Query::Due(late))
            .await?;
        let oldest = Find::new(Query::Due(cutoff)).limit(1).head();
        let oldest = store.find(RaseenTempUser::USERS, &oldest).await?;
        let lag = oldest
            .first()
            .and_then(|document| document::staged_at(document))
            .map_or(Duration::ZERO, |staged| {
                cutoff.saturating_duration_since(staged)
            });
        let foreign = self.due_foreign(cutoff, marks).await?;
        Ok((staged + foreign, overdue, lag))
    }

    pub(crate) async fn due_foreign(
        &self,
        cutoff: DateTime,
        mut marks: Option<&mut Marks>,
    ) -> Result<u64, StoreError> {
        let store = self.databases.raseen_temp_db().store();
        let mut due = 0;
        let mut after = None;
        loop {
            let find = Find::new(Query::Unstaged).head().after(after.take());
            let page = store.find(RaseenTempUser::USERS, &find).await?;
            let Some(last) = page.last() else {
                return Ok(due);
            };
            after = Some(tierkeep_core::store::Cursor::after(last));
            if let Some(marks) = &mut marks {
                marks.look(&page).await?;
            }
            for document in &page {
                let marked = marks
                    .as_ref()
                    .is_some_and(|marks| marks.has(&document::id(document)));
                due += u64::from(!marked && is_due_foreign(document, cutoff));
            }
        }
    }

    /// The quarantined documents of temp, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn quarantined(&self, limit: usize) -> Result<Vec<QuarantineView>, StoreError> {
        let mut marks = Marks::open(self.databases.audit_db()).await?;
        marks.next(None, limit).await?;
        let view = |mark: &crate::quarantine::Mark| QuarantineView {
            document_id: tierkeep_core::content::show(mark.document.clone()),
            reason: mark.reason.clone(),
        };
        Ok(marks.near().take(limit).map(view).collect())
    }

    /// Whether the movement was stopped everywhere.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn is_paused(&self) -> Result<bool, StoreError> {
        let found = self.control(MOVER).await?;
        Ok(found.is_some_and(|control| control.get_bool(PAUSED).unwrap_or(false)))
    }

    pub(crate) async fn control(&self, id: &str) -> Result<Option<RawDocumentBuf>, StoreError> {
        let store = self.databases.audit_db().store();
        let find = Find::new(Query::Ids(vec![Bson::String(id.to_owned())]));
        Ok(store
            .find(collection::CONTROL, &find)
            .await?
            .into_iter()
            .next())
    }

    /// Keeps what a run did, where it did something.
    pub(crate) async fn remember(&self, summary: &Summary) {
        if summary.moved + summary.failed == 0 {
            return;
        }
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let set = doc! {
            "kind": LAST_RUN,
            "run_id": &summary.run_id,
            FINISHED_AT: self.databases.clock().now(),
            "moved": number(summary.moved),
            "failed": number(summary.failed),
            "deferred": number(summary.deferred),
        };
        // A run is no less done because nobody remembers it.
        self.put_control(LAST_RUN, &set).await.ok();
    }
}

impl ConnectionManager {
    /// How many documents a database holds, without its stamp: of users, HR records with the deletions that are kept
    /// for a while, or all that `evaluation_audit` keeps.
    ///
    /// # Errors
    /// [`StoreError`] when it did not answer.
    pub async fn documents(&self, role: Role) -> Result<u64, StoreError> {
        let Some(store) = self.store(role) else {
            return Ok(0);
        };
        let mut documents = 0;
        for kept in layout(role, self.hr_collections()).collections {
            if kept.name != collection::IDENTITY {
                documents += store.count(&kept.name, &Query::All).await?;
            }
        }
        Ok(documents)
    }
}

fn last_run_of(run: &RawDocument) -> Option<LastRun> {
    Some(LastRun {
        run_id: run.get_str("run_id").ok()?.to_owned(),
        finished_at: rfc3339(run.get_datetime(FINISHED_AT).ok()?),
        moved: run.get_i64("moved").ok()?,
        failed: run.get_i64("failed").ok()?,
        deferred: run.get_i64("deferred").ok()?,
    })
}

fn is_due_foreign(document: &RawDocument, cutoff: DateTime) -> bool {
    document
        .get("created_at")
        .ok()
        .flatten()
        .and_then(|value| Bson::try_from(value).ok())
        .and_then(|value| tierkeep_core::adopt::date(&value))
        .is_some_and(|created| created <= cutoff)
}
