//! Scanning temp: first what other programs wrote, which is adopted, then what is due, page by page past
//! parked and quarantined documents, so that bad ones never hold up the line.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime};
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{RaseenTempUser, UserDatabase, collection};
use tierkeep_core::document;
use tierkeep_core::mover::{Candidate, Item, Park, Planned, Record, classify};
use tierkeep_core::store::{Cursor, Find, Query, StoreError};
use tierkeep_core::user::UserId;
use tracing::warn;

use super::account::Account;
use super::{MigrationService, RunOptions};
use crate::adoption::{Adoption, adopt_in_temp};
use crate::quarantine::Marks;
use crate::retry::repeating;

/// How often an adoption that lost a race is tried again within one pass.
const ADOPTION_ROUNDS: usize = 3;

/// Where a scan is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Unstaged,
    Due,
    Over,
}

#[derive(Debug)]
pub(super) struct Scan {
    service: MigrationService,
    options: RunOptions,
    now: DateTime,
    retention: Duration,
    marks: Marks,
    stage: Stage,
    after: Option<Cursor>,
    taken: u64,
    /// In a dry run, documents with marks are not written, only counted here.
    unmarked: u64,
}

impl Scan {
    pub(super) async fn start(
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
            marks: Marks::load(service.databases.audit_db()).await?,
            stage: Stage::Unstaged,
            after: None,
            taken: 0,
            unmarked: 0,
        })
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.options.dry_run
    }

    pub(super) fn limit_reached(&self) -> bool {
        self.options.limit.is_some_and(|limit| self.taken >= limit)
    }

    pub(super) fn rewind(&mut self) {
        self.stage = Stage::Unstaged;
        self.after = None;
        self.unmarked = 0;
    }

    pub(super) fn quarantined(&self) -> u64 {
        u64::try_from(self.marks.len())
            .unwrap_or(u64::MAX)
            .saturating_add(self.unmarked)
    }

    /// The next documents to move; `None` at the end.
    pub(super) async fn next_batch(
        &mut self,
        account: &mut Account,
    ) -> Result<Option<Vec<Planned>>, StoreError> {
        while self.stage != Stage::Over && !self.limit_reached() {
            let page = self.page().await?;
            let Some(last) = page.last() else {
                self.next_stage();
                continue;
            };
            self.after = Some(Cursor::after(last));
            account.scanned(page.len());
            let stage = self.stage;
            let mut planned = Vec::new();
            for document in page {
                match stage {
                    Stage::Unstaged => self.unstaged(&document, account).await?,
                    Stage::Due | Stage::Over => {
                        planned.extend(self.candidate(&document, account).await?);
                    }
                }
            }
            if self.options.user.is_some() {
                self.next_stage();
            }
            let planned = self.unparked(planned, account).await?;
            if !planned.is_empty() {
                return Ok(Some(planned));
            }
        }
        Ok(None)
    }

    fn next_stage(&mut self) {
        self.after = None;
        self.stage = match self.stage {
            Stage::Unstaged => Stage::Due,
            Stage::Due | Stage::Over => Stage::Over,
        };
    }

    async fn page(&self) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let query = match (&self.options.user, self.stage) {
            (Some(user), _) => Query::Users(vec![user.to_string()]),
            (None, Stage::Unstaged) => Query::Unstaged,
            (None, _) => Query::Due(clock::before(self.now, self.retention)),
        };
        let left = self
            .options
            .limit
            .map_or(u64::MAX, |limit| limit.saturating_sub(self.taken));
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let find = Find::new(query)
            .limit(self.service.settings.batch_documents.clamp(1, left.max(1)))
            .max_bytes(self.service.settings.batch_bytes)
            .after(self.after.clone());
        let store = self.service.databases.raseen_temp_db().store();
        let mut page = repeating(|| store.find(RaseenTempUser::USERS, &find)).await?;
        if self.options.user.is_some() {
            let unstaged = self.stage == Stage::Unstaged;
            page.retain(|document| document::is_native(document) != unstaged);
        }
        Ok(page)
    }

    /// A document of another program: adopted when its time has come, so that the second stage moves it.
    async fn unstaged(
        &mut self,
        document: &RawDocument,
        account: &mut Account,
    ) -> Result<(), StoreError> {
        match classify(document, self.now, self.retention) {
            Candidate::Young | Candidate::Hidden | Candidate::Due(_) => Ok(()),
            Candidate::Quarantine(reason) => self.quarantine(document, &reason).await,
            Candidate::Adopt(foreign) if self.options.dry_run => {
                account.would_adopt(&foreign, document.as_bytes().len());
                self.taken += 1;
                Ok(())
            }
            Candidate::Adopt(_) => {
                for _ in 0..ADOPTION_ROUNDS {
                    match adopt_in_temp(&self.service.databases, document).await? {
                        Adoption::Done => return Ok(()),
                        Adoption::Again => {}
                        Adoption::Quarantined(reason) => {
                            return self.quarantine(document, &reason).await;
                        }
                    }
                }
                // Whether it is gone, changed, or somebody is entering: the next pass looks again.
                account.left();
                Ok(())
            }
        }
    }

    async fn candidate(
        &mut self,
        document: &RawDocument,
        account: &mut Account,
    ) -> Result<Option<Planned>, StoreError> {
        let id = document::id(document);
        if self.marks.reason(document).is_some() {
            return Ok(None);
        }
        match classify(document, self.now, self.retention) {
            Candidate::Due(planned) => {
                if !self.options.dry_run {
                    self.marks.release(&id).await?;
                }
                Ok(Some(planned))
            }
            Candidate::Quarantine(reason) => {
                self.quarantine(document, &reason).await?;
                Ok(None)
            }
            Candidate::Adopt(_) => {
                self.unstaged(document, account).await?;
                account.left();
                Ok(None)
            }
            Candidate::Young | Candidate::Hidden => Ok(None),
        }
    }

    /// Leaves out what waits for its next attempt or has failed for good.
    async fn unparked(
        &mut self,
        planned: Vec<Planned>,
        account: &mut Account,
    ) -> Result<Vec<Planned>, StoreError> {
        if planned.is_empty() {
            return Ok(planned);
        }
        let records = self.records(&planned).await?;
        let mut free = Vec::with_capacity(planned.len());
        for plan in planned {
            let record = records.get(&plan.item.record);
            let parked = record.and_then(|record| Park::of(record, self.now));
            account.due(
                &plan.item,
                parked,
                record.map_or(0, |record| record.retry_count),
            );
            if parked.is_none() {
                free.push(plan);
            }
        }
        self.taken += u64::try_from(free.len()).unwrap_or(u64::MAX);
        Ok(free)
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
        let store = self.service.databases.audit_db().store();
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

    /// Quarantines a document whose copies contradict each other, as temp holds it now.
    pub(super) async fn conflict(
        &mut self,
        item: &Item,
        reason: &Quarantine,
    ) -> Result<(), StoreError> {
        let store = self.service.databases.raseen_temp_db().store();
        let find = Find::new(Query::Ids(vec![Bson::String(item.user.to_string())]));
        let found = repeating(|| store.find(RaseenTempUser::USERS, &find)).await?;
        match found.first() {
            Some(document) if document::version(document) == Some(item.version) => {
                self.quarantine(document, reason).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Removes the marks of documents that are gone or were changed.
    pub(super) async fn release_mended(&mut self) -> Result<(), StoreError> {
        let marked: Vec<Bson> = self
            .marks
            .iter()
            .map(|mark| mark.document.clone())
            .collect();
        let store = self.service.databases.raseen_temp_db().store();
        for id in marked {
            let find = Find::new(Query::Ids(vec![id.clone()]));
            let found = repeating(|| store.find(RaseenTempUser::USERS, &find)).await?;
            let stands = found
                .first()
                .is_some_and(|document| self.marks.reason(document).is_some());
            if !stands {
                self.marks.release(&id).await?;
            }
        }
        Ok(())
    }
}

/// A user id of a document that may hold anything, for a log line.
fn known(text: &str) -> Option<String> {
    UserId::parse(text).ok().map(|user| user.to_string())
}

fn short(id: &Bson) -> String {
    id.to_string().chars().take(80).collect()
}
