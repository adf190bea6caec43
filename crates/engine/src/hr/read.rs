//! Reading records: from main, and from srie while main cannot be reached.

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::db::{Database, RaseenMainHr, Role};
use tierkeep_core::document::{self, State};
use tierkeep_core::hr::{HrCollection, HrId};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Cursor, Find, Query, StoreError};
use tracing::{error, warn};

use crate::hr::{Backup, HrError, HrFound, HrPage, HrRecords, one};

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
        let main = self.engine.databases.raseen_hr_db();
        let found = match one(main, collection, id, false).await {
            Ok(Some(found)) => Ok(Some(found)),
            // "Absent" must not rest on a primary that has been deposed.
            Ok(None) => one(main, collection, id, true).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => Ok(found.filter(is_shown).map(|record| HrFound {
                record,
                source: RaseenMainHr::ROLE,
            })),
            Err(main) => {
                failed(&main);
                let srie = self.engine.databases.srie_hr_db();
                let found = one(srie, collection, id, false).await.map_err(|error| {
                    failed(&error);
                    HrError::Unavailable(main.clone())
                })?;
                // Where srie has nothing either, nobody knows.
                let record = found.filter(is_shown).ok_or(HrError::Unavailable(main))?;
                warn_of_backup();
                Ok(Some(HrFound {
                    record,
                    source: Backup::ROLE,
                }))
            }
        }
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
        match page(
            self.engine.databases.raseen_hr_db(),
            collection,
            after,
            limit,
        )
        .await
        {
            Ok(page) => Ok(page),
            Err(main) => {
                failed(&main);
                let srie = self.engine.databases.srie_hr_db();
                let page = page(srie, collection, after, limit).await;
                let page = page.map_err(|error| {
                    failed(&error);
                    HrError::Unavailable(main)
                })?;
                warn_of_backup();
                Ok(page)
            }
        }
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
        let read = database.store().find(collection.as_str(), &find).await?;
        let next = Cursor::after_page(&read);
        if next.is_none() || next == cursor {
            return Ok(page);
        }
        cursor = next;
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
    }
}

/// Whether a record is there for readers.
pub(super) fn is_shown(record: &RawDocumentBuf) -> bool {
    document::state(record) == Some(State::Live) && !tierkeep_core::document::is_of_user(record)
}

fn warn_of_backup() {
    warn!(
        user_type = "internal",
        database = %Role::SrieMainHr,
        "HR records are read from the backup while main is away",
    );
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
