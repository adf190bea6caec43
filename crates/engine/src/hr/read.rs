//! Reading records: from main, and from srie while main cannot be reached.

use std::sync::Arc;

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::bson;
use tierkeep_core::db::{Database, RaseenMainHr, Role};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, State};
use tierkeep_core::hr::{HrCollection, HrId};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Cursor, Find, Query, StoreError};
use tokio::time::timeout;
use tracing::{error, warn};

use crate::alerts::{AlertKind, Alerts};
use crate::databases::pages;
use crate::hr::{BACKUP_WAITS, Backup, HrError, HrFound, HrPage, HrRecords, one};

/// The most bytes of a page of records, give or take one record.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// How many documents are read at once while tombstones are passed over.
const READ_AT_ONCE: usize = 1_000;

impl HrRecords {
    /// The record; `None` where there is none.
    ///
    /// # Errors
    /// [`HrError::Unavailable`] when a database that may hold the record did not answer: never "not found" in its
    /// place.
    pub async fn read(
        &self,
        collection: &HrCollection,
        id: &HrId,
    ) -> Result<Option<HrFound>, HrError> {
        let _at_work = self.engine.requests().begin();
        let main = self.engine.databases.raseen_hr_db();
        let found = match one(main, collection, id, false).await {
            Ok(Some(found)) => Ok(Some(found)),
            // "Absent" must not rest on a primary that has been deposed.
            Ok(None) => one(main, collection, id, true).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(Some(record)) if is_shown(&record) && !is_sound(&record) => {
                self.tell_of_damage(collection, id).await;
                let intact = self.in_backup(collection, id).await;
                let intact = intact.filter(is_sound_and_shown);
                let record = intact.ok_or(HrError::Corrupt(RaseenMainHr::ROLE))?;
                warn_of_backup(
                    "an HR record is read from the backup because the copy in main is damaged",
                );
                Ok(Some(in_backup(record)))
            }
            Ok(Some(record)) => Ok(Some(record).filter(is_shown).map(|record| HrFound {
                record,
                source: RaseenMainHr::ROLE,
            })),
            // A deletion leaves main last, so what only srie holds was not deleted: main has lost it.
            Ok(None) => {
                let found = self.in_backup(collection, id).await.filter(is_shown);
                let Some(record) = found else {
                    return Ok(None);
                };
                if !is_sound(&record) {
                    self.tell_of_damage(collection, id).await;
                    return Err(HrError::Corrupt(Backup::ROLE));
                }
                warn_of_backup("an HR record is read from the backup because main has no copy");
                Ok(Some(in_backup(record)))
            }
            Err(main) => {
                failed(&main);
                let srie = self.engine.databases.srie_hr_db();
                let found = one(srie, collection, id, false).await.map_err(|error| {
                    failed(&error);
                    HrError::Unavailable(main.clone())
                })?;
                // If srie has no copy either, it is unknown whether the record exists.
                let record = found.filter(is_shown).ok_or(HrError::Unavailable(main))?;
                if !is_sound(&record) {
                    return Err(HrError::Corrupt(Backup::ROLE));
                }
                warn_of_backup("HR records are read from the backup while main is unavailable");
                Ok(Some(in_backup(record)))
            }
        }
    }

    /// What srie holds under the id; nothing while it is away.
    pub(super) async fn in_backup(
        &self,
        collection: &HrCollection,
        id: &HrId,
    ) -> Option<RawDocumentBuf> {
        let srie = self.engine.databases.srie_hr_db();
        let read = timeout(BACKUP_WAITS, one(srie, collection, id, false)).await;
        let found = read.ok()?.ok()??;
        (!document::is_of_user(&found)).then_some(found)
    }

    /// Whether main's record does not match its own digest.
    pub(crate) async fn is_damaged(
        &self,
        collection: &HrCollection,
        id: &HrId,
    ) -> Result<bool, StoreError> {
        let main = self.engine.databases.raseen_hr_db();
        let found = one(main, collection, id, false).await?;
        Ok(found.is_some_and(|record| !is_sound(&record)))
    }

    /// Alerts that a record does not match its own digest.
    async fn tell_of_damage(&self, collection: &HrCollection, id: &HrId) {
        error!(
            user_type = "internal",
            database = %RaseenMainHr::ROLE,
            record = %format!("{collection}/{id}"),
            "an HR record does not match its digest",
        );
        let subject = format!("{collection}/{id}");
        let message = "the record in raseen_main_hr does not match its digest";
        let alerts = Alerts::new(Arc::clone(&self.engine));
        alerts
            .tell(AlertKind::CorruptDocument, &subject, message)
            .await;
    }

    /// One page of at most `limit` records, of those after `after`, ordered by id. It ends early where the records
    /// are large.
    ///
    /// # Errors
    /// [`HrError::Unavailable`] when neither main nor srie answered.
    pub async fn list(
        &self,
        collection: &HrCollection,
        after: Option<&HrId>,
        limit: usize,
    ) -> Result<HrPage, HrError> {
        let _at_work = self.engine.requests().begin();
        match page(
            self.engine.databases.raseen_hr_db(),
            collection,
            after,
            limit,
        )
        .await
        {
            Ok(page) => self.without_damage(collection, page).await,
            Err(main) => {
                failed(&main);
                let srie = self.engine.databases.srie_hr_db();
                let page = page(srie, collection, after, limit).await;
                let page = page.map_err(|error| {
                    failed(&error);
                    HrError::Unavailable(main)
                })?;
                warn_of_backup("HR records are read from the backup while main is unavailable");
                Ok(page)
            }
        }
    }
}

impl HrRecords {
    /// Of a page from main, a record that does not match its own digest is read from srie.
    async fn without_damage(
        &self,
        collection: &HrCollection,
        mut page: HrPage,
    ) -> Result<HrPage, HrError> {
        for record in &mut page.records {
            if is_sound(record) {
                continue;
            }
            let Some(id) = HrId::of(record) else {
                continue;
            };
            if let Some(intact) = self.read(collection, &id).await? {
                *record = intact.record;
            }
        }
        Ok(page)
    }
}

async fn page<D: Database>(
    database: &Handle<D>,
    collection: &HrCollection,
    after: Option<&HrId>,
    limit: usize,
) -> Result<HrPage, StoreError> {
    let mut page = HrPage {
        records: Vec::new(),
        next: None,
        source: D::ROLE,
    };
    let mut cursor = after.map(|id| Cursor {
        staged_at: bson::Bson::Null,
        id: id.to_bson(),
    });
    let mut bytes = 0;
    loop {
        let find = Find::new(Query::All)
            .limit(READ_AT_ONCE.min(limit.saturating_add(1)))
            .max_bytes(PAGE_BYTES)
            .after(cursor.clone());
        let store = database.store().as_ref();
        let (read, next) = pages::page(store, collection.as_str(), &find).await?;
        for record in read {
            if !is_shown(&record) || HrId::of(&record).is_none() {
                continue;
            }
            if page.records.len() >= limit || bytes >= PAGE_BYTES {
                page.next = page.records.last().and_then(|last| HrId::of(last));
                return Ok(page);
            }
            bytes += record.as_bytes().len();
            page.records.push(record);
        }
        if next.is_none() {
            return Ok(page);
        }
        cursor = next;
    }
}

/// Whether a record is there for readers.
pub(super) fn is_shown(record: &RawDocumentBuf) -> bool {
    document::state(record) == Some(State::Live) && !tierkeep_core::document::is_of_user(record)
}

/// Whether the content of a record matches the digest that it carries; one of another program carries none.
pub(super) fn is_sound(record: &RawDocument) -> bool {
    Digest::claimed_by(record).is_none_or(|claimed| claimed == Digest::of_hr_record(record))
}

fn is_sound_and_shown(record: &RawDocumentBuf) -> bool {
    is_shown(record) && is_sound(record)
}

fn in_backup(record: RawDocumentBuf) -> HrFound {
    HrFound {
        record,
        source: Backup::ROLE,
    }
}

fn warn_of_backup(what: &'static str) {
    warn!(user_type = "internal", database = %Role::SrieMainHr, "{what}");
}

fn failed(error: &StoreError) {
    error!(
        user_type = "internal",
        database = %error.database,
        error = error.class.as_str(),
        code = error.code,
        "error in fetching from {}",
        error.database,
    );
}
