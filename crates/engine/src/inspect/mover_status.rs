//! The status of the mover: which process moves and how fast, what stopped the last run, whether anything is
//! stuck. Changes nothing but the memory of the last error.

use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, doc};
use serde::Serialize;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{RaseenTempUser, UserDatabase, collection};
use tierkeep_core::document;
use tierkeep_core::mover::{Candidate, Park, Record, classify};
use tierkeep_core::store::{Find, Query, StoreError};

use crate::databases::pages::Pages;
use crate::inspect::Inspector;
use crate::mover::backlog::{self, Backlog};
use crate::mover::lease::{self, RunView};
use crate::mover::quarantine::Marks;
use crate::mover::run_log::LastError;
use crate::mover::{RunOptions, run_log};

/// What the mover is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MoverPhase {
    /// Nothing is due.
    Idle,
    /// Documents are due; a service moves them at its next look.
    Waiting,
    /// A process holds the lease and moves documents.
    Moving,
    /// Documents have been due for longer than two scan intervals, no reason of their own keeps them, and no process
    /// moves them.
    Stuck,
    /// The movement was stopped everywhere.
    Paused,
    /// A database that knows is away.
    Unknown,
}

impl MoverPhase {
    /// The phase as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Moving => "moving",
            Self::Stuck => "stuck",
            Self::Paused => "paused",
            Self::Unknown => "unknown",
        }
    }
}

/// The process at work.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Holder {
    /// Names the claim; another with each.
    pub holder: String,
    /// Rises with every claim.
    pub fence: i64,
    /// How far its run is; none within its first seconds.
    pub run: Option<RunView>,
}

/// The status of the mover.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct MoverStatus {
    /// What the mover is doing.
    pub phase: MoverPhase,
    /// The process at work, if there is one. Runs started by hand beside a service are not shown.
    pub holder: Option<Holder>,
    /// What stopped a run last, however long ago.
    pub last_error: Option<LastError>,
}

/// What is known of the movement; none where the database that knows is away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) backlog: Option<Backlog>,
    pub(crate) paused: Option<bool>,
    /// When the last run that did something ended.
    pub(crate) last_run: Option<DateTime>,
}

impl Inspector {
    /// How many documents a run with these options would find due, parked ones included. One count by index,
    /// and a look at every document that other programs wrote.
    ///
    /// # Errors
    /// [`StoreError`] when `raseen_temp_user` or `evaluation_audit` did not answer.
    pub async fn due(&self, options: &RunOptions) -> Result<u64, StoreError> {
        if let Some(user) = &options.user {
            let temp = self.engine.databases.raseen_temp_db().store();
            let query = Query::Users(vec![user.to_string()]);
            return temp.count(RaseenTempUser::USERS, &query).await;
        }
        let retention = options.older_than.unwrap_or(self.settings.retention);
        let due = backlog::count(&self.engine, retention, Duration::ZERO)
            .await?
            .due;
        Ok(options.limit.map_or(due, |limit| due.min(limit)))
    }

    pub(crate) async fn standing(&self, known: Known, scan_interval: Duration) -> MoverStatus {
        let holder = self.holder().await;
        let phase = match (known.paused, &holder, known.backlog) {
            (Some(true), _, _) => MoverPhase::Paused,
            (Some(false), Ok(holder), Some(backlog)) => {
                let standing = (known, backlog, scan_interval);
                self.phase(holder.as_ref(), standing).await
            }
            _ => MoverPhase::Unknown,
        };
        let holder = holder.ok().flatten();
        MoverStatus {
            phase,
            holder,
            last_error: run_log::last_error(&self.engine).await,
        }
    }

    async fn phase(
        &self,
        holder: Option<&Holder>,
        (known, backlog, scan_interval): (Known, Backlog, Duration),
    ) -> MoverPhase {
        let moves = |run: &RunView| run.per_second > 0.0;
        let is_fast = |holder: &Holder| holder.run.as_ref().is_none_or(moves);
        if holder.is_some_and(is_fast) {
            return MoverPhase::Moving;
        }
        if holder.is_none() && backlog.due == 0 {
            return MoverPhase::Idle;
        }
        match (self.is_stuck(known, backlog, scan_interval).await, holder) {
            (true, _) => MoverPhase::Stuck,
            (false, Some(_)) => MoverPhase::Moving,
            (false, None) => MoverPhase::Waiting,
        }
    }

    async fn holder(&self) -> Result<Option<Holder>, StoreError> {
        let now = self.engine.databases.audit_db().store().hello().await?.now;
        let lease = lease::read(&self.engine)
            .await?
            .filter(|lease| lease.stands(now));
        Ok(lease.map(|lease| Holder {
            holder: lease.holder,
            fence: lease.fence,
            run: lease.run,
        }))
    }

    /// Whether something is overdue that nothing of its own keeps, and the last run is long over.
    async fn is_stuck(&self, known: Known, backlog: Backlog, scan_interval: Duration) -> bool {
        let two_looks = scan_interval.saturating_mul(2);
        let now = self.engine.clock().now();
        let recently = known
            .last_run
            .is_some_and(|at| now.saturating_duration_since(at) <= two_looks);
        if backlog.overdue == 0 || recently {
            return false;
        }
        // What other programs wrote has no record that could park it.
        backlog.foreign_overdue > 0 || self.some_are_movable(two_looks).await.unwrap_or(false)
    }

    /// Whether a document has been due for longer than `late` and is neither parked, failed nor quarantined.
    async fn some_are_movable(&self, late: Duration) -> Result<bool, StoreError> {
        let temp = self.engine.databases.raseen_temp_db().store();
        let now = temp.hello().await?.now;
        let mut marks = Marks::open(self.engine.databases.audit_db()).await?;
        let overdue = Query::Due(clock::before(
            now,
            self.settings.retention.saturating_add(late),
        ));
        let heads = Find::new(overdue).head();
        let mut pages = Pages::new(temp.as_ref(), RaseenTempUser::USERS, heads);
        while let Some(page) = pages.next().await? {
            marks.look(&page).await?;
            if self.movable_of(&page, &marks, now).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn movable_of(
        &self,
        page: &[RawDocumentBuf],
        marks: &Marks,
        now: DateTime,
    ) -> Result<bool, StoreError> {
        let mut records = Vec::new();
        for head in page {
            if marks.has(&document::id(head)) {
                continue;
            }
            match classify(head, now, self.settings.retention) {
                Candidate::Due(planned) => records.push(Bson::ObjectId(planned.item.record)),
                Candidate::Adopt(_) => return Ok(true),
                Candidate::Quarantine(_) | Candidate::Young | Candidate::Hidden => {}
            }
        }
        let movable = records.len();
        if movable == 0 {
            return Ok(false);
        }
        let find = Find::new(Query::Ids(records)).limit(movable);
        let audit = self.engine.databases.audit_db().store();
        let found = audit.find(collection::MIGRATION_RECORDS, &find).await?;
        let parked = found
            .iter()
            .filter_map(|record| Record::read(record))
            .filter(|record| Park::of(record, now).is_some())
            .count();
        Ok(parked < movable)
    }
}
