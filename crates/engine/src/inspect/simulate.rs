//! What will move when: the same classification as a run's, over heads alone, changing nothing.
//!
//! Memory is bounded by a page of heads and one counter for each hour, whatever temp holds.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, oid::ObjectId};
use serde::Serialize;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::{RaseenTempUser, UserDatabase, collection};
use tierkeep_core::document;
use tierkeep_core::mover::{Candidate, Park, Record, classify};
use tierkeep_core::store::{Find, Query, StoreError, stored_size};

use crate::databases::pages::Pages;
use crate::databases::retry::repeating;
use crate::inspect::Inspector;
use crate::mover::backlog::{self, Contested};
use crate::mover::pause::is_paused;
use crate::mover::quarantine::Marks;

const HOUR: Duration = Duration::from_hours(1);
/// The longest window that is looked at.
pub const LONGEST_WINDOW: Duration = Duration::from_hours(31 * 24);
/// How many heads are in memory at once.
const PAGE: usize = 1_000;
/// About how many bytes of heads are in memory at once.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// A number of documents, and how large they are together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Amount {
    /// How many.
    pub documents: u64,
    /// Bytes of BSON.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.documents += 1;
        self.bytes += bytes;
    }
}

/// What comes due within one hour.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HourAhead {
    /// The hour begins after this, RFC 3339.
    pub from: String,
    /// And ends with this; the last may be shorter than an hour.
    pub to: String,
    /// What comes due in it.
    #[serde(flatten)]
    pub amount: Amount,
}

/// What will move within a window, by the hour.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Simulation {
    /// Now by the clock of `raseen_temp_user`, RFC 3339.
    pub from: String,
    /// The end of the window, RFC 3339.
    pub to: String,
    /// Nothing of this happens before the movement is resumed.
    pub paused: bool,
    /// Everything that will move within the window: what is due now and in each of the hours.
    pub total: Amount,
    /// Due already: moves with the next run.
    pub due_now: Amount,
    /// What comes due later, hour by hour.
    pub hours: Vec<HourAhead>,
    /// Waits for its next attempt after one that failed; part of no hour and not of the total.
    pub parked: Amount,
    /// The earliest of these attempts, RFC 3339.
    pub next_attempt_at: Option<String>,
    /// Has failed for good and waits for `migrate retry`; part of no hour and not of the total.
    pub failed: Amount,
    /// Cannot be moved until it is corrected; part of no hour and not of the total. All of them count, and the bytes of
    /// those that would come due within the window. One that was corrected since the last run still counts here.
    pub quarantined: Amount,
}

impl Inspector {
    /// Says what will move within `window`, at most [`LONGEST_WINDOW`], from now on by temp's own clock.
    ///
    /// Pages through the heads of what is due by then, oldest first, and of what other programs wrote. What
    /// is written or moved meanwhile may be counted or not.
    ///
    /// # Errors
    /// [`StoreError`] when `raseen_temp_user` or `evaluation_audit` did not answer.
    pub async fn simulate(&self, window: Duration) -> Result<Simulation, StoreError> {
        let temp = self.engine.databases.raseen_temp_db().store();
        let now = repeating(|| temp.hello()).await?.now;
        let until = clock::after(now, window.min(LONGEST_WINDOW));
        let backlog = backlog::count(&self.engine, self.settings.retention, Duration::ZERO).await?;
        let mut outlook = Outlook {
            contested: Contested::default(),
            retention: self.settings.retention,
            now,
            until,
            marks: Marks::open(self.engine.databases.audit_db()).await?,
            due_now: Amount::default(),
            hours: vec![Amount::default(); hours_between(now, until)],
            parked: Amount::default(),
            next_attempt_at: None,
            failed: Amount::default(),
            quarantined: Amount::default(),
        };
        let cutoff = clock::before(until, self.settings.retention);
        for query in [Query::Due(cutoff), Query::Unstaged] {
            let find = Find::new(query).sized().limit(PAGE).max_bytes(PAGE_BYTES);
            let mut pages = Pages::new(temp.as_ref(), RaseenTempUser::USERS, find);
            while let Some(page) = pages.next().await? {
                self.look(&page, &mut outlook).await?;
            }
        }
        let paused = repeating(|| is_paused(&self.engine)).await?;
        let mut simulation = outlook.simulation(paused);
        // The one count of them; the scan saw only those that come due within the window.
        if let Some(quarantined) = backlog.quarantined {
            simulation.quarantined.documents = quarantined;
        }
        Ok(simulation)
    }

    async fn look(&self, page: &[RawDocumentBuf], outlook: &mut Outlook) -> Result<(), StoreError> {
        let mut moving = Vec::new();
        outlook.marks.look(page).await?;
        let temp = self.engine.databases.raseen_temp_db();
        outlook.contested = Contested::among(temp, page).await?;
        for head in page {
            moving.extend(outlook.sort(head));
        }
        let records = self.attempts(&moving).await?;
        for moves in moving {
            let record = moves.record.and_then(|id| records.get(&id));
            outlook.count(&moves, record);
        }
        Ok(())
    }

    /// The records of earlier attempts.
    async fn attempts(&self, moving: &[Moves]) -> Result<BTreeMap<ObjectId, Record>, StoreError> {
        let ids: Vec<Bson> = moving
            .iter()
            .filter_map(|moves| moves.record.map(Bson::ObjectId))
            .collect();
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let find = Find::new(Query::Ids(ids)).limit(PAGE);
        let audit = self.engine.databases.audit_db().store();
        let found = repeating(|| audit.find(collection::MIGRATION_RECORDS, &find)).await?;
        Ok(found
            .iter()
            .filter_map(|record| Record::read(record))
            .map(|record| (record.id, record))
            .collect())
    }
}

/// A document that comes due within the window.
struct Moves {
    due_at: DateTime,
    bytes: u64,
    /// The record of its earlier attempts, if there were any.
    record: Option<ObjectId>,
}

/// What is known so far.
struct Outlook {
    retention: Duration,
    now: DateTime,
    until: DateTime,
    marks: Marks,
    /// Among the page that was looked at last.
    contested: Contested,
    due_now: Amount,
    hours: Vec<Amount>,
    parked: Amount,
    next_attempt_at: Option<DateTime>,
    failed: Amount,
    quarantined: Amount,
}

impl Outlook {
    /// What a document comes to when the window ends, judged as a run would judge it then.
    fn sort(&mut self, head: &RawDocument) -> Option<Moves> {
        let bytes = stored_size(head).unwrap_or(0);
        if self.marks.has(&document::id(head)) || self.contested.has(head) {
            self.quarantined.add(bytes);
            return None;
        }
        let (staged_at, record) = match classify(head, self.until, self.retention) {
            Candidate::Due(planned) => (document::staged_at(head), Some(planned.item.record)),
            Candidate::Adopt(foreign) => (Some(foreign.created_at), None),
            Candidate::Quarantine(_) => {
                self.quarantined.add(bytes);
                return None;
            }
            Candidate::Young | Candidate::Hidden => return None,
        };
        Some(Moves {
            due_at: clock::after(staged_at?, self.retention),
            bytes,
            record,
        })
    }

    fn count(&mut self, moves: &Moves, record: Option<&Record>) {
        match record.and_then(|record| Park::of(record, self.now)) {
            Some(Park::Failed) => return self.failed.add(moves.bytes),
            Some(Park::Waiting) => {
                let at = record.and_then(|record| record.next_attempt_at);
                self.next_attempt_at = self.next_attempt_at.into_iter().chain(at).min();
                return self.parked.add(moves.bytes);
            }
            None => {}
        }
        if moves.due_at <= self.now {
            return self.due_now.add(moves.bytes);
        }
        // An hour ends with its last millisecond and begins after the one before it.
        let hour = hours_between(self.now, moves.due_at).saturating_sub(1);
        if let Some(hour) = self.hours.get_mut(hour) {
            hour.add(moves.bytes);
        }
    }

    fn simulation(self, paused: bool) -> Simulation {
        let mut total = self.due_now;
        let mut hours = Vec::with_capacity(self.hours.len());
        let mut from = self.now;
        for amount in self.hours {
            total.documents += amount.documents;
            total.bytes += amount.bytes;
            let to = clock::after(from, HOUR).min(self.until);
            hours.push(HourAhead {
                from: rfc3339(from),
                to: rfc3339(to),
                amount,
            });
            from = to;
        }
        Simulation {
            from: rfc3339(self.now),
            to: rfc3339(self.until),
            paused,
            total,
            due_now: self.due_now,
            hours,
            parked: self.parked,
            next_attempt_at: self.next_attempt_at.map(rfc3339),
            failed: self.failed,
            quarantined: self.quarantined,
        }
    }
}

/// How many hours, begun ones included, lie between the two.
fn hours_between(from: DateTime, to: DateTime) -> usize {
    let hours = to
        .saturating_duration_since(from)
        .as_millis()
        .div_ceil(HOUR.as_millis());
    usize::try_from(hours).unwrap_or(usize::MAX)
}
