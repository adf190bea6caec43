//! The system at a glance.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocument;
use bson::{Bson, DateTime, doc};
use futures_util::future::{join, join_all};
use serde::Serialize;
use tierkeep_core::breaker::BreakerState;
use tierkeep_core::brief::brief;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{RaseenTempUser, Role, UserDatabase, collection};
use tierkeep_core::document;
use tierkeep_core::mover::{self, record_field};
use tierkeep_core::store::{Find, Query, StoreError};

use crate::databases::pages::Pages;
use crate::hr::HrRecords;
use crate::inspect::Inspector;
use crate::inspect::mover_status::{Backlog, MoverStatus};
use crate::mover::pause::is_paused;
use crate::mover::quarantine::Marks;
use crate::mover::run_log::{self, LastRun};

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
    pub mover: MoverStatus,
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

impl Inspector {
    /// Looks at everything once, changing nothing. Databases that are away are reported as such; what only
    /// they know counts as zero.
    pub async fn status(&self, scan_interval: Duration) -> Status {
        let databases = join_all(Role::ALL.map(|role| self.database_status(role))).await;
        let audit = self.engine.databases.audit_db();
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
        let paused = is_paused(&self.engine).await.unwrap_or(false);
        let last_run = run_log::last_run(&self.engine).await;
        let backlog = Backlog {
            due,
            overdue,
            paused,
            last_run: last_run.as_ref().map(|(_, finished_at)| *finished_at),
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
            last_run: last_run.map(|(run, _)| run),
            mover: self.standing(backlog, scan_interval).await,
        }
    }

    /// What waits, in numbers that indexes answer.
    ///
    /// # Errors
    /// [`StoreError`] when temp or `evaluation_audit` did not answer.
    pub async fn waiting(&self, scan_interval: Duration) -> Result<Waiting, StoreError> {
        let audit = self.engine.databases.audit_db();
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
        let audit = self.engine.databases.audit_db().store();
        let records = HrRecords::new(Arc::clone(&self.engine));
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
        let reachable = match self.engine.databases.store(role) {
            Some(store) => {
                let is_wrong = self.engine.databases.out_of_service(role).is_some();
                store.hello().await.is_ok() && !is_wrong
            }
            None => false,
        };
        let documents = if reachable {
            self.engine.databases.documents(role).await.ok()
        } else {
            None
        };
        // Without a breaker calls go through as long as there is a database.
        let unguarded = if reachable {
            BreakerState::Closed
        } else {
            BreakerState::Open
        };
        let breaker = self.engine.databases.breaker(role).unwrap_or(unguarded);
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
        let store = self.engine.databases.raseen_temp_db().store();
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
        let store = self.engine.databases.raseen_temp_db().store();
        let mut due = 0;
        let heads = Find::new(Query::Unstaged).head();
        let mut pages = Pages::new(store.as_ref(), RaseenTempUser::USERS, heads);
        while let Some(page) = pages.next().await? {
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
        Ok(due)
    }

    /// The quarantined documents of temp, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn quarantined(&self, limit: usize) -> Result<Vec<QuarantineView>, StoreError> {
        let mut marks = Marks::open(self.engine.databases.audit_db()).await?;
        marks.next(None, limit).await?;
        let view = |mark: &crate::mover::quarantine::Mark| QuarantineView {
            document_id: brief_id(tierkeep_core::content::show(mark.document.clone())),
            reason: brief(&mark.reason),
        };
        Ok(marks.near().take(limit).map(view).collect())
    }
}

/// An `_id` of another program may be as large as a document.
fn brief_id(id: serde_json::Value) -> serde_json::Value {
    let whole = id.to_string();
    let shown = brief(&whole);
    if shown == whole {
        id
    } else {
        serde_json::Value::String(shown)
    }
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
