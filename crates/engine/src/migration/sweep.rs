//! Completing the records of moves that were cut off after their last deletion.

use std::sync::Arc;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::db::{Handle, RaseenMainUser, SrieMainUser, UserDatabase, collection};
use tierkeep_core::document::{self, State};
use tierkeep_core::erasure::tombstone;
use tierkeep_core::mover::{Record, Status, record_field};
use tierkeep_core::store::{Cursor, Find, Query, StoreError};
use tierkeep_core::user::UserId;
use tracing::error;

use crate::alerts::{AlertKind, Alerts};
use crate::connection::ConnectionManager;
use crate::erase::entomb;
use crate::mutant::Mutant;
use crate::retry::repeating;

/// Reads the pending records; where temp no longer holds the version and main and srie hold at least it,
/// the move is complete. Reads temp first, then main, then srie.
pub(super) async fn complete_what_moved(
    databases: &Arc<ConnectionManager>,
    run_id: &str,
) -> Result<(), StoreError> {
    let audit = databases.audit_db().store();
    let mut after: Option<Cursor> = None;
    loop {
        let pending = doc! { record_field::STATUS: Status::Pending.as_str() };
        let find = Find::new(Query::Equal(pending)).after(after.take());
        let page = repeating(|| audit.find(collection::MIGRATION_RECORDS, &find)).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(Cursor::after(last));
        let records: Vec<Record> = page
            .iter()
            .filter_map(|record| Record::read(record))
            .collect();
        let complete = moved(databases, records).await?;
        if complete.is_empty() {
            continue;
        }
        let when = doc! { record_field::STATUS: Status::Pending.as_str() };
        let set = Record::completed(run_id, databases.clock().now());
        repeating(|| audit.amend(collection::MIGRATION_RECORDS, &complete, &when, &set)).await?;
    }
}

async fn moved(
    databases: &Arc<ConnectionManager>,
    records: Vec<Record>,
) -> Result<Vec<Bson>, StoreError> {
    let (buried, records) = erased(databases, records).await?;
    let temp = heads(databases.raseen_temp_db(), &records).await?;
    let gone: Vec<Record> = records
        .into_iter()
        .filter(|record| {
            !find(&temp, &record.user).is_some_and(|document| {
                document::state(document) == Some(State::Live)
                    && document::version(document) == Some(record.version)
            })
        })
        .collect();
    let mut complete = buried;
    let mut incidents = Vec::new();
    if gone.is_empty() {
        return Ok(complete);
    }
    let main: Vec<RawDocumentBuf> =
        heads::<RaseenMainUser>(databases.raseen_main_db(), &gone).await?;
    let srie: Vec<RawDocumentBuf> = heads::<SrieMainUser>(databases.srie_main_db(), &gone).await?;
    for record in gone {
        let holds = |copies: &[RawDocumentBuf]| {
            find(copies, &record.user)
                .and_then(document::version)
                .is_some_and(|version| version >= record.version)
        };
        if holds(&main) && holds(&srie) {
            complete.push(Bson::ObjectId(record.id));
        } else if find(&temp, &record.user).is_none() {
            error!(
                user_id = record.user,
                user_type = "internal",
                record = %record.id,
                version = record.version.get(),
                in_main = holds(&main),
                in_srie = holds(&srie),
                "error in moving data to raseen_main_user: temp no longer holds what main and srie lack",
            );
            let message = format!(
                "temp no longer holds version {}, and main or srie lacks it",
                record.version
            );
            incidents.push((record.user, message));
        }
    }
    let alerts = Alerts::new(Arc::clone(databases));
    for (user, message) in incidents {
        alerts
            .raise(AlertKind::MigrationIncident, &user, &message)
            .await?;
    }
    Ok(complete)
}

/// Parts from the records those of users who were erased since, after putting their tombstones once more: the
/// move may have been cut off after it wrote.
async fn erased(
    databases: &ConnectionManager,
    records: Vec<Record>,
) -> Result<(Vec<Bson>, Vec<Record>), StoreError> {
    if databases.mutation().has(Mutant::NoLedgerAfterWriting) {
        return Ok((Vec::new(), records));
    }
    let users: Vec<&str> = records.iter().map(|record| record.user.as_str()).collect();
    let fences = databases.ledger().fences(&users).await?;
    let now = databases.clock().now();
    let (mut buried, mut stones, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for (record, fence) in records.into_iter().zip(fences) {
        let fence = fence.filter(|fence| *fence > record.version);
        match (fence, UserId::parse(&record.user)) {
            (Some(fence), Ok(user)) => {
                stones.push(tombstone(&user, fence, now));
                buried.push(Bson::ObjectId(record.id));
            }
            (Some(_) | None, _) => rest.push(record),
        }
    }
    if !stones.is_empty() {
        databases.ledger().reopen(&stones).await?;
        entomb(databases.raseen_temp_db(), &stones).await?;
        entomb(databases.raseen_main_db(), &stones).await?;
        entomb(databases.srie_main_db(), &stones).await?;
    }
    Ok((buried, rest))
}

async fn heads<D: UserDatabase>(
    database: &Handle<D>,
    records: &[Record],
) -> Result<Vec<RawDocumentBuf>, StoreError> {
    let ids = records
        .iter()
        .map(|record| Bson::String(record.user.clone()))
        .collect();
    let find = Find::new(Query::Ids(ids))
        .limit(records.len())
        .max_bytes(usize::MAX)
        .head();
    repeating(|| database.store().find(D::USERS, &find)).await
}

fn find<'a>(documents: &'a [RawDocumentBuf], user: &str) -> Option<&'a RawDocument> {
    documents
        .iter()
        .map(AsRef::as_ref)
        .find(|document: &&RawDocument| document::user_id(document) == Some(user))
}
