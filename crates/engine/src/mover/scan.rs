//! Scanning temp: first what other programs wrote, then what is due, page by page past parked and quarantined documents, so
//! that bad ones never hold up the line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{DateTime, doc};
use futures_util::{StreamExt as _, stream};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::collection;
use tierkeep_core::document;
use tierkeep_core::mover::{Candidate, Park, Planned, Status, classify, record_field};
use tierkeep_core::store::{Class, Find, Query, StoreError};
use tracing::warn;

use crate::context::Engine;
use crate::copies::adopt::{Adoption, adopt_in_temp};
use crate::databases::retry::repeating;
use crate::mover::backlog::Contested;
use crate::mover::executor::records_of;
use crate::mover::marking::short;
use crate::mover::outcomes::{RunOutcomes, Tried};
use crate::mover::pause::PauseCheck;
use crate::mover::quarantine::Marks;
use crate::mover::queue::{ScanQueue, Stage};
use crate::mover::sharing::Sharing;
use crate::mover::throttle::Size;
use crate::mover::unadopted::{self, Unadopted};
use crate::mover::{MigrationService, MoverSettings, RunOptions};

/// How often an adoption that lost a race is tried again within one pass.
const ADOPTION_ROUNDS: usize = 3;
/// How many documents of other programs are adopted at once.
const ADOPTIONS_AT_ONCE: usize = 32;

#[derive(Debug)]
pub(crate) struct Scan {
    pub(super) service: MigrationService,
    pub(super) options: RunOptions,
    pub(super) now: DateTime,
    pub(super) retention: Duration,
    pub(super) marks: Marks,
    /// Whether any move was tried before this pass, and not completed: else no record parks a document.
    attempts: Option<bool>,
    queue: ScanQueue,
    taken: u64,
    adopted: u64,
    /// Documents without an `_id` that can be read were seen; they share one mark.
    pub(super) nameless: bool,
    /// In a dry run, the users that several documents of the page claim: a run finds them when it adopts.
    contested: Contested,
    /// What other runs are moving; none where this one does not look.
    sharing: Option<Arc<Sharing>>,
    /// Whether this pass left documents to other runs.
    has_met_claims: bool,
    /// In a dry run, documents with marks are not written, only counted here.
    pub(super) unmarked: u64,
}

impl Scan {
    pub(crate) async fn start(
        service: &MigrationService,
        options: &RunOptions,
        now: DateTime,
        retention: Duration,
        sharing: Option<Arc<Sharing>>,
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
            contested: Contested::default(),
            sharing,
            has_met_claims: false,
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

    /// The settings of the service as they are now, as far as the options do not say otherwise.
    pub(crate) fn settings(&self) -> MoverSettings {
        let settings = self.service.paced_settings();
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
        self.has_met_claims = false;
    }

    pub(crate) fn sharing(&self) -> Option<&Arc<Sharing>> {
        self.sharing.as_ref()
    }

    /// Whether this pass left documents to other runs.
    pub(crate) fn has_met_claims(&self) -> bool {
        self.has_met_claims
    }

    /// Leaves out what other runs are moving.
    async fn unclaimed(
        &mut self,
        mut page: Vec<RawDocumentBuf>,
        outcomes: &mut RunOutcomes,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let Some(sharing) = &self.sharing else {
            return Ok(page);
        };
        let claimed = sharing.claimed(&self.service.engine).await?;
        if claimed.is_empty() {
            return Ok(page);
        }
        let read = page.len();
        page.retain(|it| document::user_id(it).is_none_or(|user| !claimed.has(user)));
        let left = read - page.len();
        self.has_met_claims |= left > 0;
        outcomes.left(u64::try_from(left).unwrap_or(u64::MAX));
        Ok(page)
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
            let page = self.unclaimed(page, outcomes).await?;
            if page.is_empty() {
                continue;
            }
            self.marks.look(&page).await?;
            if self.options.dry_run {
                let temp = self.service.engine.databases.raseen_temp_db();
                self.contested = Contested::among(temp, &page).await?;
            }
            let mut planned = Vec::new();
            let mut foreign = Vec::new();
            for document in page {
                planned.extend(self.candidate(document, &mut foreign, outcomes).await?);
            }
            if self.options.dry_run {
                self.would_adopt(&foreign, outcomes);
            } else {
                let open = !foreign.is_empty() && self.some_were_tried().await?;
                let plans = Box::pin(unadopted::plan(&self.service.engine, foreign, open)).await?;
                outcomes.left(plans.left);
                outcomes.scanned(plans.moves.len());
                planned.extend(plans.moves);
                self.adopt(plans.adopts, stage, outcomes).await?;
            }
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
        foreign: &mut Vec<Unadopted>,
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
        if self.contested.has(&document) {
            self.unmarked += 1;
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
            Candidate::Adopt(what_it_says) => {
                foreign.push((document, what_it_says));
                Ok(None)
            }
            Candidate::Young | Candidate::Hidden => Ok(None),
        }
    }

    /// In a dry run, counts what other programs wrote.
    fn would_adopt(&mut self, foreign: &[Unadopted], outcomes: &mut RunOutcomes) {
        for (document, _) in self.within_limit(foreign) {
            outcomes.would_adopt(document.as_bytes().len());
        }
        self.taken = self.taken.max(self.adopted);
    }

    /// Those of `documents` that the limit still lets be adopted; they count.
    fn within_limit<'a, T>(&mut self, documents: &'a [T]) -> &'a [T] {
        let left = self.options.limit.map_or(usize::MAX, |limit| {
            let left = limit.saturating_sub(self.taken.max(self.adopted));
            usize::try_from(left).unwrap_or(usize::MAX)
        });
        let within = documents.get(..left).unwrap_or(documents);
        self.adopted += u64::try_from(within.len()).unwrap_or(u64::MAX);
        within
    }

    /// Adopts documents of other programs that cannot move as they are, many at once; they move when they are scanned
    /// again.
    async fn adopt(
        &mut self,
        foreign: Vec<RawDocumentBuf>,
        stage: Stage,
        outcomes: &mut RunOutcomes,
    ) -> Result<(), StoreError> {
        let foreign = self.within_limit(&foreign).to_vec();
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
                // It is gone, it has changed, or a writer is entering it: the next pass looks again.
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
            let audit = self.service.engine.databases.audit_db();
            records_of(audit, planned.iter().map(|plan| plan.item.record)).await?
        } else {
            BTreeMap::new()
        };
        let mut free = Vec::with_capacity(planned.len());
        for plan in planned {
            if outcomes.has_failed(&plan.item) {
                continue;
            }
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
