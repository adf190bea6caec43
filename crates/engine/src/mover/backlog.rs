//! What waits in temp, in numbers: the one count behind every command, page, metric and alert.
//!
//! Documents of other programs count from their `created_at`. What is quarantined, or would be by the next run, is
//! neither due nor overdue. Only reads.

use std::collections::BTreeSet;
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{RaseenTempUser, Role, UserDatabase};
use tierkeep_core::document;
use tierkeep_core::mover::{Candidate, classify};
use tierkeep_core::store::{Find, Handle, Query, StoreError};

use crate::claims::by_user;
use crate::context::Engine;
use crate::databases::pages::Pages;
use crate::mover::marking::MARKS_AT_ONCE;
use crate::mover::quarantine::Marks;

/// How many of the oldest documents are read at once to find the first that is not quarantined.
const OLDEST_AT_ONCE: usize = 100;

/// What waits in temp.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Backlog {
    /// Documents whose retention has passed, parked and failed ones included.
    pub(crate) due: u64,
    /// Of these, due for longer than the time that counts as late.
    pub(crate) overdue: u64,
    /// Of the overdue ones, those of other programs.
    pub(crate) foreign_overdue: u64,
    /// How long the oldest of them has been due.
    pub(crate) lag: Duration,
    /// Documents that cannot be moved, those included that no run has looked at yet; none where `evaluation_audit`, which
    /// keeps the marks, is away. Then those that were marked count as due.
    pub(crate) quarantined: Option<u64>,
}

/// Counts what waits: what is due `late` longer than `retention` is overdue.
///
/// Indexes count what this program wrote; what other programs wrote, and what is quarantined, is read page by page.
pub(crate) async fn count(
    engine: &Engine,
    retention: Duration,
    late: Duration,
) -> Result<Backlog, StoreError> {
    let temp = engine.databases.raseen_temp_db();
    let now = temp.store().hello().await?.now;
    let cutoff = clock::before(now, retention);
    let marks = Marks::open(engine.databases.audit_db()).await;
    let mut counting = Counting {
        temp,
        marks: marks.ok(),
        quarantined: 0,
        now,
        retention,
        cutoff,
        late: clock::before(cutoff, late),
        oldest: None,
        backlog: Backlog::default(),
    };
    counting.natives().await?;
    counting.foreign().await?;
    let quarantined = match counting.marked().await {
        Ok(()) if counting.marks.is_some() => Some(counting.quarantined),
        Ok(()) => None,
        Err(error) if error.database == Role::EvaluationAudit => None,
        Err(error) => return Err(error),
    };
    let oldest = counting.oldest;
    let lag = oldest.map(|oldest| cutoff.saturating_duration_since(oldest));
    Ok(Backlog {
        lag: lag.unwrap_or_default(),
        quarantined,
        ..counting.backlog
    })
}

struct Counting<'a> {
    temp: &'a Handle<RaseenTempUser>,
    marks: Option<Marks>,
    quarantined: u64,
    now: DateTime,
    retention: Duration,
    cutoff: DateTime,
    late: DateTime,
    oldest: Option<DateTime>,
    backlog: Backlog,
}

impl Counting<'_> {
    /// What this program wrote, by index; marked documents too, which [`Counting::marked`] takes out again.
    async fn natives(&mut self) -> Result<(), StoreError> {
        let store = self.temp.store();
        let users = RaseenTempUser::USERS;
        self.backlog.due = store.count(users, &Query::Due(self.cutoff)).await?;
        self.backlog.overdue = store.count(users, &Query::Due(self.late)).await?;
        let heads = Find::new(Query::Due(self.cutoff)).limit(OLDEST_AT_ONCE);
        let mut pages = Pages::new(store.as_ref(), users, heads.head());
        while let Some(page) = pages.next().await? {
            self.look(&page).await;
            let mut movable = page.iter().filter(|it| !self.is_marked(it));
            if let Some(oldest) = movable.find_map(|it| document::staged_at(it)) {
                self.oldest = Some(oldest);
                break;
            }
        }
        Ok(())
    }

    /// What other programs wrote.
    async fn foreign(&mut self) -> Result<(), StoreError> {
        let store = self.temp.store();
        let heads = Find::new(Query::Unstaged).head();
        let mut pages = Pages::new(store.as_ref(), RaseenTempUser::USERS, heads);
        while let Some(page) = pages.next().await? {
            self.look(&page).await;
            let contested = Contested::among(self.temp, &page).await?;
            for head in &page {
                if self.is_marked(head) {
                    continue;
                }
                if contested.has(head) {
                    self.quarantined += 1;
                    continue;
                }
                match classify(head, self.now, self.retention) {
                    Candidate::Adopt(foreign) => self.foreign_due(foreign.created_at),
                    Candidate::Quarantine(_) => self.quarantined += 1,
                    Candidate::Due(_) | Candidate::Young | Candidate::Hidden => {}
                }
            }
        }
        Ok(())
    }

    /// Reads the marks of these documents. Where they cannot be read none counts any more.
    async fn look(&mut self, page: &[RawDocumentBuf]) {
        if let Some(marks) = &mut self.marks
            && marks.look(page).await.is_err()
        {
            self.marks = None;
        }
    }

    fn is_marked(&self, document: &RawDocument) -> bool {
        let marks = self.marks.as_ref();
        marks.is_some_and(|marks| marks.has(&document::id(document)))
    }

    fn foreign_due(&mut self, created_at: DateTime) {
        let is_late = u64::from(created_at <= self.late);
        self.backlog.due += 1;
        self.backlog.overdue += is_late;
        self.backlog.foreign_overdue += is_late;
        self.oldest = self.oldest.into_iter().chain([created_at]).min();
    }

    /// What a run has marked.
    async fn marked(&mut self) -> Result<(), StoreError> {
        let store = self.temp.store();
        let Some(marks) = &mut self.marks else {
            return Ok(());
        };
        let mut after = None;
        while let Some(next) = marks.next(after, MARKS_AT_ONCE).await? {
            let ids: Vec<Bson> = marks.near().map(|mark| mark.document.clone()).collect();
            self.quarantined += u64::try_from(ids.len()).unwrap_or(u64::MAX);
            let find = Find::new(Query::Ids(ids)).head();
            let mut pages = Pages::new(store.as_ref(), RaseenTempUser::USERS, find);
            while let Some(page) = pages.next().await? {
                for staged in page.iter().filter_map(|it| document::staged_at(it)) {
                    let (due, overdue) = (staged <= self.cutoff, staged <= self.late);
                    let backlog = &mut self.backlog;
                    backlog.due = backlog.due.saturating_sub(u64::from(due));
                    backlog.overdue = backlog.overdue.saturating_sub(u64::from(overdue));
                }
            }
            after = Some(next);
        }
        Ok(())
    }
}

/// The users that several documents of other programs claim: none of these documents is adopted.
#[derive(Debug, Default)]
pub(crate) struct Contested(BTreeSet<String>);

impl Contested {
    /// The users that a document of `page` and another one in temp claim.
    pub(crate) async fn among(
        temp: &Handle<RaseenTempUser>,
        page: &[RawDocumentBuf],
    ) -> Result<Self, StoreError> {
        let foreign = page.iter().filter(|it| !document::is_native(it));
        let users: BTreeSet<&str> = foreign.filter_map(|it| document::user_id(it)).collect();
        if users.is_empty() {
            return Ok(Self::default());
        }
        let users: Vec<String> = users.into_iter().map(str::to_owned).collect();
        let claims = by_user(temp, &users, Find::new(Query::All).head()).await?;
        let several = claims.into_iter().filter(|(_, claims)| {
            let foreign = claims.iter().filter(|it| !document::is_native(it));
            foreign.count() > 1
        });
        Ok(Self(several.map(|(user, _)| user).collect()))
    }

    /// Whether `document` is one of several of other programs that claim its user.
    pub(crate) fn has(&self, document: &RawDocument) -> bool {
        !document::is_native(document)
            && document::user_id(document).is_some_and(|user| self.0.contains(user))
    }
}
