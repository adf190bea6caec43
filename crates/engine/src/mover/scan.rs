//! Scanning temp: first what other programs wrote, which is adopted, then what is due, page by page past
//! parked and quarantined documents, so that bad ones never hold up the line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, doc};
use futures_util::{StreamExt as _, stream};
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{RaseenTempUser, UserDatabase, collection};
use tierkeep_core::document;
use tierkeep_core::mover::{
    Candidate, Item, Park, Planned, Record, Status, classify, record_field,
};
use tierkeep_core::store::{Class, Find, Query, StoreError, id_order};
use tierkeep_core::user::UserId;
use tracing::warn;

use crate::alerts::{AlertKind, Alerts};
use crate::claims::{Consistency, claims};
use crate::context::Engine;
use crate::context::MoveOutcome;
use crate::copies::adopt::{Adoption, adopt_in_temp};
use crate::databases::pages::Pages;
use crate::databases::retry::repeating;
use crate::mover::foreign;
use crate::mover::outcomes::{RunOutcomes, Tried};
use crate::mover::pause::PauseCheck;
use crate::mover::quarantine::Marks;
use crate::mover::queue::{ScanQueue, Stage};
use crate::mover::throttle::Size;
use crate::mover::{MigrationService, MoverSettings, RunOptions};

/// How often an adoption that lost a race is tried again within one pass.
const ADOPTION_ROUNDS: usize = 3;
/// How many documents of other programs are adopted at once.
const ADOPTIONS_AT_ONCE: usize = 32;
/// How many marks are looked at in one go.
const MARKS_AT_ONCE: usize = 500;

#[derive(Debug)]
pub(crate) struct Scan {
    service: MigrationService,
    options: RunOptions,
    now: DateTime,
    retention: Duration,
    marks: Marks,
    /// Whether any move was tried before this pass, and not completed: else no record parks a document.
    attempts: Option<bool>,
    queue: ScanQueue,
    taken: u64,
    adopted: u64,
    /// Documents without an `_id` that can be read were seen; they share one mark.
    nameless: bool,
    /// In a dry run, documents with marks are not written, only counted here.
    unmarked: u64,
}

impl Scan {
    pub(crate) async fn start(
        service: &MigrationService,
        options: &RunOptions,
        now: DateTime,
        retention: Duration,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            service: service.clone(),
            options: options.clone(),
            now,
            retention,
            marks: Marks::open(service.engine.databases.audit_db()).await?,
            attempts: None,
            queue: ScanQueue::new(options.user.clone(), clock::before(now, retention)),
            taken: 0,
            adopted: 0,
            nameless: false,
            unmarked: 0,
        })
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.options.dry_run
    }

    /// Temp's clock when the run began.
    pub(crate) fn now(&self) -> DateTime {
        self.now
    }

    /// The settings of the service, as far as the options do not say otherwise.
    pub(crate) fn settings(&self) -> MoverSettings {
        let settings = self.service.settings;
        MoverSettings {
            max_rate: self.options.max_rate.or(settings.max_rate),
            ..settings
        }
    }

    /// Whether this pass has no more to begin.
    pub(crate) fn is_over(&self) -> bool {
        self.queue.stage() == Stage::Over || self.limit_reached()
    }

    pub(crate) fn limit_reached(&self) -> bool {
        self.options.limit.is_some_and(|limit| self.taken >= limit)
    }

    pub(crate) fn rewind(&mut self) {
        self.queue.rewind();
        self.unmarked = 0;
        self.attempts = None;
    }

    pub(crate) async fn quarantined(&self) -> Result<u64, StoreError> {
        Ok(self.marks.count().await?.saturating_add(self.unmarked))
    }

    /// The next documents to move, no more than `size`; `None` at the end, or once the pause is shut.
    pub(crate) async fn next_batch(
        &mut self,
        outcomes: &mut RunOutcomes,
        pause: &PauseCheck,
        size: Size,
    ) -> Result<Option<Vec<Planned>>, StoreError> {
        while !self.is_over() && pause.may_begin().await? {
            let stage = self.queue.stage();
            let left = match self.options.limit {
                Some(limit) => {
                    usize::try_from(limit.saturating_sub(self.taken)).unwrap_or(usize::MAX)
                }
                None => usize::MAX,
            };
            let store = self.service.engine.databases.raseen_temp_db().store();
            let page = self.queue.page(store.as_ref(), size, left).await?;
            if page.is_empty() {
                continue;
            }
            self.marks.look(&page).await?;
            let mut planned = Vec::new();
            let mut foreign = Vec::new();
            for document in page {
                planned.extend(self.candidate(document, &mut foreign, outcomes).await?);
            }
            self.adopt(foreign, stage, outcomes).await?;
            let planned = self.unparked(planned, outcomes).await?;
            if !planned.is_empty() {
                return Ok(Some(planned));
            }
        }
        Ok(None)
    }

    /// The plan for a document that is due; one of another program joins `foreign`.
    async fn candidate(
        &mut self,
        document: RawDocumentBuf,
        foreign: &mut Vec<RawDocumentBuf>,
        outcomes: &mut RunOutcomes,
    ) -> Result<Option<Planned>, StoreError> {
        let candidate = classify(&document, self.now, self.retention);
        if !matches!(candidate, Candidate::Adopt(_) | Candidate::Hidden) {
            outcomes.scanned(1);
        }
        self.nameless |= !document::has_id(&document);
        if self.marks.reason(&document).is_some() {
            return Ok(None);
        }
        match candidate {
            Candidate::Due(planned) => {
                if !self.options.dry_run {
                    self.marks.release(&document::id(&document)).await?;
                }
                Ok(Some(planned))
            }
            Candidate::Quarantine(reason) => {
                self.quarantine(&document, &reason).await?;
                Ok(None)
            }
            Candidate::Adopt(_) => {
                foreign.push(document);
                Ok(None)
            }
            Candidate::Young | Candidate::Hidden => Ok(None),
        }
    }

    /// Adopts documents of other programs whose time has come, many at once, so that they move.
    async fn adopt(
        &mut self,
        mut foreign: Vec<RawDocumentBuf>,
        stage: Stage,
        outcomes: &mut RunOutcomes,
    ) -> Result<(), StoreError> {
        if let Some(limit) = self.options.limit {
            let left = limit.saturating_sub(self.taken.max(self.adopted));
            foreign.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        self.adopted += u64::try_from(foreign.len()).unwrap_or(u64::MAX);
        if self.options.dry_run {
            for document in &foreign {
                outcomes.would_adopt(document.as_bytes().len());
            }
            self.taken = self.taken.max(self.adopted);
            return Ok(());
        }
        let engine = Arc::clone(&self.service.engine);
        // All of them before the first is booked: an adoption that is not driven on holds its connections, and
        // booking needs one too.
        let adoptions: Vec<_> = stream::iter(foreign)
            .map(|document| {
                let engine = &engine;
                async move {
                    let outcome = adopt(engine, &document).await;
                    (document, outcome)
                }
            })
            .buffer_unordered(ADOPTIONS_AT_ONCE)
            .collect()
            .await;
        for (document, outcome) in adoptions {
            let outcome = match outcome {
                Err(error) if error.class == Class::Other => {
                    warn!(
                        document_id = %short(&document::id(&document)),
                        user_type = "internal",
                        database = %error.database,
                        code = error.code,
                        "a document of another program was not adopted, left for a later run",
                    );
                    Adoption::Again
                }
                outcome => outcome?,
            };
            match outcome {
                Adoption::Done => {
                    outcomes.adopted();
                    if stage != Stage::Unstaged {
                        // Its place among what is due may be behind the scan.
                        outcomes.left(1);
                    }
                }
                // Whether it is gone, changed, or somebody is entering: the next pass looks again.
                Adoption::Again => outcomes.left(1),
                Adoption::Quarantined(reason) => {
                    outcomes.scanned(1);
                    self.quarantine(&document, &reason).await?;
                }
            }
        }
        Ok(())
    }

    /// Leaves out what waits for its next attempt or has failed for good.
    async fn unparked(
        &mut self,
        planned: Vec<Planned>,
        outcomes: &mut RunOutcomes,
    ) -> Result<Vec<Planned>, StoreError> {
        if planned.is_empty() {
            return Ok(planned);
        }
        let records = if self.some_were_tried().await? {
            self.records(&planned).await?
        } else {
            BTreeMap::new()
        };
        let mut free = Vec::with_capacity(planned.len());
        for plan in planned {
            let record = records.get(&plan.item.record);
            let parked = record.and_then(|record| Park::of(record, self.now));
            outcomes.due(&plan.item, parked, Tried::of(record));
            if parked.is_none() {
                free.push(plan);
            }
        }
        self.taken += u64::try_from(free.len()).unwrap_or(u64::MAX);
        Ok(free)
    }

    /// Whether there are records that may park a document. One that another mover writes after this is not
    /// seen: then a document is tried before its time, and the attempt is not counted.
    async fn some_were_tried(&mut self) -> Result<bool, StoreError> {
        if let Some(known) = self.attempts {
            return Ok(known);
        }
        let store = self.service.engine.databases.audit_db().store();
        let mut some = false;
        for status in [Status::Pending, Status::Failed] {
            let open = doc! { record_field::STATUS: status.as_str() };
            let find = Find::new(Query::Equal(open)).keys().limit(1);
            let found = repeating(|| store.find(collection::MIGRATION_RECORDS, &find)).await?;
            some = some || !found.is_empty();
        }
        self.attempts = Some(some);
        Ok(some)
    }

    async fn records(
        &self,
        planned: &[Planned],
    ) -> Result<BTreeMap<bson::oid::ObjectId, Record>, StoreError> {
        let ids: Vec<Bson> = planned
            .iter()
            .map(|plan| Bson::ObjectId(plan.item.record))
            .collect();
        let find = Find::new(Query::Ids(ids)).limit(planned.len());
        let store = self.service.engine.databases.audit_db().store();
        let found = repeating(|| store.find(collection::MIGRATION_RECORDS, &find)).await?;
        Ok(found
            .iter()
            .filter_map(|record| Record::read(record))
            .map(|record| (record.id, record))
            .collect())
    }

    async fn quarantine(
        &mut self,
        document: &RawDocument,
        reason: &Quarantine,
    ) -> Result<(), StoreError> {
        if self.marks.reason(document).is_some() {
            return Ok(());
        }
        if self.options.dry_run {
            self.unmarked += 1;
            return Ok(());
        }
        self.service.engine.moves().add(MoveOutcome::Quarantined);
        warn!(
            user_id = document::user_id(document).and_then(known),
            user_type = "internal",
            document_id = %short(&document::id(document)),
            %reason,
            "a document in raseen_temp_user was quarantined",
        );
        self.marks
            .mark(document, &reason.to_string(), self.now)
            .await
    }

    /// Quarantines a document whose copies contradict each other, as temp holds it now; answers whether it
    /// moves again instead.
    pub(crate) async fn conflict(
        &mut self,
        item: &Item,
        reason: &Quarantine,
    ) -> Result<bool, StoreError> {
        let temp = self.service.engine.databases.raseen_temp_db();
        let store = temp.store();
        let find = Find::new(Query::Ids(vec![Bson::String(item.user.to_string())]));
        let found = repeating(|| store.find(RaseenTempUser::USERS, &find)).await?;
        let Some(document) = found
            .first()
            .filter(|document| document::version(document) == Some(item.version))
        else {
            return Ok(false);
        };
        if self.service.settings.foreign_writers && matches!(reason, Quarantine::Conflict { .. }) {
            // Another program changed it after it was copied: it moves again, under the next version.
            foreign::raise(temp, document, item).await?;
            return Ok(true);
        }
        self.marks.look(&found).await?;
        if self.marks.reason(document).is_none() {
            Alerts::new(Arc::clone(&self.service.engine))
                .raise(
                    AlertKind::CopiesConflict,
                    item.user.as_str(),
                    &reason.to_string(),
                )
                .await?;
        }
        self.quarantine(document, reason).await?;
        Ok(false)
    }

    /// Removes the marks of documents that are gone, were changed, or are their user's only ones again.
    pub(crate) async fn release_mended(&mut self) -> Result<(), StoreError> {
        let mut after = None;
        while let Some(next) = self.marks.next(after, MARKS_AT_ONCE).await? {
            let ids: Vec<Bson> = self
                .marks
                .near()
                .map(|mark| mark.document.clone())
                .collect();
            let mut stand = self.standing(&ids).await?;
            for id in &ids {
                let unnamed = *id == Bson::Null && self.nameless;
                if !stand.remove(&id_order(id)) && !unnamed {
                    self.marks.release(id).await?;
                }
            }
            after = Some(next);
        }
        Ok(())
    }

    /// Those of `ids` whose marks still stand.
    async fn standing(&self, ids: &[Bson]) -> Result<BTreeSet<Vec<u8>>, StoreError> {
        let store = self.service.engine.databases.raseen_temp_db().store();
        let mut stand = BTreeSet::new();
        let find = Find::new(Query::Ids(ids.to_vec()));
        let mut pages = Pages::new(store.as_ref(), RaseenTempUser::USERS, find);
        while let Some(page) = pages.next().await? {
            for document in &page {
                let Some(reason) = self.marks.reason(document) else {
                    continue;
                };
                if self.still_applies(reason, document).await? {
                    stand.insert(id_order(&document::id(document)));
                }
            }
        }
        Ok(stand)
    }

    /// A document that shares its user with others is mended when the others go, without changing itself.
    async fn still_applies(
        &self,
        reason: &str,
        document: &RawDocument,
    ) -> Result<bool, StoreError> {
        let user = document::user_id(document).and_then(|user| UserId::parse(user).ok());
        let Some(user) =
            user.filter(|user| reason == Quarantine::SeveralClaims(user.clone()).to_string())
        else {
            return Ok(true);
        };
        let claims = claims(
            self.service.engine.databases.raseen_temp_db(),
            &user,
            Consistency::Majority,
        )
        .await?;
        Ok(claims.len() > 1)
    }
}

/// Adopts one document, again where a race was lost.
async fn adopt(engine: &Engine, document: &RawDocument) -> Result<Adoption, StoreError> {
    for _ in 0..ADOPTION_ROUNDS {
        match adopt_in_temp(engine, document).await? {
            Adoption::Again => {}
            settled @ (Adoption::Done | Adoption::Quarantined(_)) => return Ok(settled),
        }
    }
    Ok(Adoption::Again)
}

/// A user id of a document that may hold anything, for a log line.
fn known(text: &str) -> Option<String> {
    UserId::parse(text).ok().map(|user| user.to_string())
}

fn short(id: &Bson) -> String {
    id.to_string().chars().take(80).collect()
}
