//! Migration records as an operator sees them, page by page.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, doc, oid::ObjectId};
use serde::Serialize;
use tierkeep_core::brief::brief;
use tierkeep_core::bson;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::collection;
use tierkeep_core::mover::{Move, Status, record_field};
use tierkeep_core::store::{Cursor, Find, Query, StoreError};
use tierkeep_core::user::UserId;

use crate::context::Engine;
use crate::databases::retry::repeating;
use crate::inspect::Inspector;
use crate::intents;

/// Which records are wanted.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RecordFilter {
    /// Only of this status.
    pub status: Option<Status>,
    /// Only of this user.
    pub user: Option<UserId>,
}

/// One migration record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MigrationView {
    /// The record's id.
    pub migration_id: String,
    /// Whose document.
    pub user_id: String,
    /// Where it was.
    pub source_db: String,
    /// Where it goes.
    pub target_db: String,
    /// Where its backup goes.
    pub backup_db: String,
    /// When it completed, else when it was last tried, RFC 3339.
    pub migration_date: Option<String>,
    /// `pending`, `completed` or `failed`.
    pub status: String,
    /// Bytes of BSON.
    pub data_size: i64,
    /// Failed attempts so far.
    pub retry_count: i32,
    /// The version that moved or moves.
    pub version: i64,
    /// The run that last worked on it.
    pub run_id: Option<String>,
    /// When the move was first tried, RFC 3339.
    pub started_at: Option<String>,
    /// When it completed or failed, RFC 3339.
    pub finished_at: Option<String>,
    /// Not before this time is it tried again, RFC 3339.
    pub next_attempt_at: Option<String>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

impl MigrationView {
    fn read(record: &RawDocument) -> Option<Self> {
        let text = |name: &str| record.get_str(name).ok().map(brief);
        let date = |name: &str| record.get_datetime(name).ok().map(rfc3339);
        Some(Self {
            migration_id: record.get_object_id("_id").ok()?.to_hex(),
            user_id: text(record_field::USER_ID)?,
            source_db: text("source_db").unwrap_or_default(),
            target_db: text("target_db").unwrap_or_default(),
            backup_db: text("backup_db").unwrap_or_default(),
            migration_date: date(record_field::MIGRATION_DATE),
            status: text(record_field::STATUS)?,
            data_size: record.get_i64(record_field::DATA_SIZE).ok()?,
            retry_count: record.get_i32(record_field::RETRY_COUNT).ok()?,
            version: record.get_i64(record_field::VERSION).ok()?,
            run_id: text(record_field::RUN_ID),
            started_at: date(record_field::STARTED_AT),
            finished_at: date(record_field::FINISHED_AT),
            next_attempt_at: date(record_field::NEXT_ATTEMPT_AT),
            error: text(record_field::ERROR),
        })
    }
}

/// One page of migration records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordPage {
    /// The records, from the highest id down: those whose documents entered temp last come first.
    pub records: Vec<MigrationView>,
    /// The id below which the next page begins; `None` at the end.
    pub next: Option<ObjectId>,
}

impl Inspector {
    /// At most `limit` records with ids below `after`.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn migrations(
        &self,
        filter: &RecordFilter,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<RecordPage, StoreError> {
        let mut fields = doc! {};
        if let Some(status) = filter.status {
            fields.insert(record_field::STATUS, status.as_str());
        }
        if let Some(user) = &filter.user {
            fields.insert(record_field::USER_ID, user.as_str());
        }
        // Before the records: an intent is removed only once its moves have records.
        let announced = self.announced(filter, after, limit).await?;
        let after = after.map(|id| Cursor {
            staged_at: Bson::DateTime(DateTime::MIN),
            id: Bson::ObjectId(id),
        });
        // One more than wanted says whether there are more.
        let find = Find::new(Query::Newest(fields))
            .after(after)
            .limit(limit.saturating_add(1));
        let audit = self.engine.databases.audit_db().store();
        let mut page = repeating(|| audit.find(collection::MIGRATION_RECORDS, &find)).await?;
        if !announced.is_empty() {
            page.extend(without_record(&self.engine, announced).await?);
            page.sort_by_cached_key(|record| Reverse(record.get_object_id("_id").ok()));
        }
        let more = page.len() > limit;
        page.truncate(limit);
        let last = page
            .last()
            .and_then(|record| record.get_object_id("_id").ok());
        Ok(RecordPage {
            records: page
                .iter()
                .filter_map(|record| MigrationView::read(record))
                .collect(),
            next: last.filter(|_| more),
        })
    }

    /// The moves that intents name, as pending records: the first ones of a page, and one more.
    async fn announced(
        &self,
        filter: &RecordFilter,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        if filter.status.is_some_and(|it| it != Status::Pending) {
            return Ok(Vec::new());
        }
        let is_wanted = |it: &&Move| {
            let is_user = |user: &UserId| user.as_str() == it.user;
            filter.user.as_ref().is_none_or(is_user) && after.is_none_or(|after| it.record < after)
        };
        let mut page = Vec::new();
        for intent in intents::open(&self.engine).await? {
            let wanted = intent.moves.iter().filter(is_wanted);
            page.extend(wanted.map(|it| (it.record, it.pending(&intent.run_id, intent.begun_at))));
        }
        page.sort_unstable_by_key(|(id, _)| Reverse(*id));
        page.truncate(limit.saturating_add(1));
        Ok(page.into_iter().map(|(_, record)| record).collect())
    }
}

/// Those of `announced` that have no record yet.
async fn without_record(
    engine: &Engine,
    announced: Vec<RawDocumentBuf>,
) -> Result<Vec<RawDocumentBuf>, StoreError> {
    let id = |record: &RawDocumentBuf| record.get_object_id("_id").ok();
    let ids = announced.iter().filter_map(id);
    let find = Find::new(Query::Ids(ids.map(Bson::ObjectId).collect()))
        .limit(announced.len())
        .keys();
    let audit = engine.databases.audit_db().store();
    let found = repeating(|| audit.find(collection::MIGRATION_RECORDS, &find)).await?;
    let found: BTreeSet<ObjectId> = found.iter().filter_map(id).collect();
    let is_new = |record: &RawDocumentBuf| id(record).is_some_and(|id| !found.contains(&id));
    Ok(announced.into_iter().filter(is_new).collect())
}
