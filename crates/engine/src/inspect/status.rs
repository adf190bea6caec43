//! The state of the system.

use std::sync::Arc;
use std::time::Duration;

use bson::{DateTime, doc};
use futures_util::future::join_all;
use serde::Serialize;
use tierkeep_core::breaker::BreakerState;
use tierkeep_core::brief::brief;
use tierkeep_core::bson;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::mover::{self, record_field};
use tierkeep_core::store::{Query, StoreError};

use crate::backup::verify::up_to::verified_up_to;
use crate::hr::HrRecords;
use crate::inspect::Inspector;
use crate::inspect::mover_status::{Known, MoverStatus};
use crate::intents;
use crate::mover::backlog::{self, Backlog};
use crate::mover::pause::is_paused;
use crate::mover::quarantine::Marks;
use crate::mover::run_log::{self, LastRun};

/// One database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DatabaseStatus {
    /// Its role.
    pub name: Role,
    /// Whether it answered, with all its shards where it has shards.
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

/// The state of the system.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Status {
    /// All seven.
    pub databases: Vec<DatabaseStatus>,
    /// Documents in temp whose retention has passed; those of other programs count from their `created_at`. None of these
    /// numbers where the database that knows is away.
    pub due: Option<u64>,
    /// Of these, due for longer than two scan intervals.
    pub overdue: Option<u64>,
    /// How long the oldest of them has been due, in seconds.
    pub lag_seconds: Option<u64>,
    /// Documents whose move has failed for good.
    pub failed: Option<u64>,
    /// Documents that cannot be moved, those included that no run has looked at yet.
    pub quarantined: Option<u64>,
    /// What waits for its backup.
    pub backup_pending: BackupPending,
    /// Nothing moves until it is resumed; none while `evaluation_audit` is away.
    pub paused: Option<bool>,
    /// When the last verification of everything began that found no difference, RFC 3339, by the clock of
    /// `evaluation_audit`. None before the first, and while `evaluation_audit` is away.
    pub verified_up_to: Option<String>,
    /// What the last run that did something did.
    pub last_run: Option<LastRun>,
    /// The state of the mover, and the process that runs it.
    pub mover: MoverStatus,
}

/// What waits, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waiting {
    /// Documents in temp whose retention has passed.
    pub due: u64,
    /// Of these, due for longer than two scan intervals.
    pub overdue: u64,
    /// How long the oldest of them has been due.
    pub lag: Duration,
    /// Documents that cannot be moved; none while `evaluation_audit` is away.
    pub quarantined: Option<u64>,
    /// What waits for its backup.
    pub backup_pending: BackupPending,
    /// As [`Status::verified_up_to`].
    pub verified_up_to: Option<DateTime>,
}

/// What waits in temp, and the status of the mover.
pub(crate) struct Movement {
    pub(crate) known: Known,
    /// What the last run that did something did.
    pub(crate) last_run: Option<LastRun>,
    pub(crate) status: MoverStatus,
}

/// One quarantined document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct QuarantineView {
    /// The document's `_id`, as relaxed Extended JSON.
    pub document_id: serde_json::Value,
    /// The user that it says it is of.
    pub user_id: Option<String>,
    /// Whether copies contradict each other: an operator must say which one counts.
    pub conflict: bool,
    /// Why it is not moved.
    pub reason: String,
    /// Since when, RFC 3339.
    pub marked_at: Option<String>,
    /// What [`QuarantineService`] finds it by; none where the `_id` is too long to type.
    ///
    /// [`QuarantineService`]: crate::QuarantineService
    #[serde(skip)]
    pub name: Option<String>,
}

impl Status {
    /// How long what is due takes at the present rate of the run at work; none where either is unknown, or below one
    /// document a second.
    pub fn time_left(&self) -> Option<Duration> {
        let run = self.mover.holder.as_ref()?.run.as_ref()?;
        let due = Duration::from_secs(self.due?);
        (run.per_second >= 1.0).then(|| due.div_f64(run.per_second))
    }
}

impl Inspector {
    /// Looks at everything once, changing nothing. Databases that are away are reported as such; what only
    /// they know is none.
    pub async fn status(&self, scan_interval: Duration) -> Status {
        let audit = self.engine.databases.audit_db().store();
        let failed = doc! { record_field::STATUS: mover::Status::Failed.as_str() };
        let failed = Query::Equal(failed);
        let (databases, movement, failed, backup_pending, up_to) = tokio::join!(
            join_all(Role::ALL.map(|role| self.database_status(role))),
            self.movement(scan_interval),
            audit.count(collection::MIGRATION_RECORDS, &failed),
            self.backup_pending(),
            verified_up_to(&self.engine),
        );
        let Known {
            backlog, paused, ..
        } = movement.known;
        Status {
            databases,
            due: backlog.map(|backlog| backlog.due),
            overdue: backlog.map(|backlog| backlog.overdue),
            lag_seconds: backlog.map(|backlog| backlog.lag.as_secs()),
            failed: failed.ok(),
            quarantined: backlog.and_then(|backlog| backlog.quarantined),
            backup_pending,
            paused,
            verified_up_to: up_to.ok().flatten().map(rfc3339),
            last_run: movement.last_run,
            mover: movement.status,
        }
    }

    /// What waits in temp, and the status of the mover.
    pub(crate) async fn movement(&self, scan_interval: Duration) -> Movement {
        let (backlog, paused, last_run) = tokio::join!(
            self.backlog(scan_interval),
            is_paused(&self.engine),
            run_log::last_run(&self.engine),
        );
        let known = Known {
            backlog: backlog.ok(),
            paused: paused.ok(),
            last_run: last_run.as_ref().map(|(_, finished_at)| *finished_at),
        };
        Movement {
            status: self.standing(known, scan_interval).await,
            last_run: last_run.map(|(run, _)| run),
            known,
        }
    }

    /// What waits, in numbers.
    ///
    /// # Errors
    /// [`StoreError`] when temp or `evaluation_audit` did not answer.
    pub async fn waiting(&self, scan_interval: Duration) -> Result<Waiting, StoreError> {
        let backlog = self.backlog(scan_interval).await?;
        Ok(Waiting {
            due: backlog.due,
            overdue: backlog.overdue,
            lag: backlog.lag,
            quarantined: backlog.quarantined,
            backup_pending: self.backup_pending().await,
            verified_up_to: verified_up_to(&self.engine).await.ok().flatten(),
        })
    }

    /// Documents that have been due for longer than two looks are overdue.
    async fn backlog(&self, scan_interval: Duration) -> Result<Backlog, StoreError> {
        let late = scan_interval.saturating_mul(2);
        backlog::count(&self.engine, self.settings.retention, late).await
    }

    /// What waits for its backup, in numbers that indexes answer.
    async fn backup_pending(&self) -> BackupPending {
        let begun = doc! { record_field::STATUS: mover::Status::Pending.as_str() };
        let begun = Query::Equal(begun);
        let audit = self.engine.databases.audit_db().store();
        let records = HrRecords::new(Arc::clone(&self.engine));
        let (user, announced, hr) = tokio::join!(
            audit.count(collection::MIGRATION_RECORDS, &begun),
            intents::heads(&self.engine),
            records.pending(),
        );
        let announced = announced.map(|heads| heads.iter().map(|head| head.moves).sum::<u64>());
        BackupPending {
            user: user
                .ok()
                .zip(announced.ok())
                .map(|(user, announced)| user + announced),
            hr: hr.ok(),
        }
    }

    async fn database_status(&self, role: Role) -> DatabaseStatus {
        // What was not admitted is not asked: its calls are refused, and a look has just waited for it.
        let is_admitted = !self.engine.databases.away().contains(&role);
        let reachable = match self.engine.databases.store(role) {
            Some(store) if is_admitted => {
                let is_wrong = self.engine.databases.out_of_service(role).is_some();
                let answers = store.hello().await.is_ok() && !is_wrong;
                let shards_away = if answers {
                    store.shards_away().await.ok()
                } else {
                    None
                };
                shards_away.is_some_and(|away| away.is_empty())
            }
            Some(_) | None => false,
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
        let guarded = self.engine.databases.breaker(role);
        let breaker = guarded.filter(|_| is_admitted).unwrap_or(unguarded);
        DatabaseStatus {
            name: role,
            reachable,
            documents,
            breaker: breaker.as_str(),
        }
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
            user_id: mark.user_id.as_deref().map(brief),
            conflict: mark.conflict,
            reason: brief(&mark.reason),
            marked_at: mark.at.map(rfc3339),
            name: Some(mark.name()).filter(|name| brief(name) == *name),
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
