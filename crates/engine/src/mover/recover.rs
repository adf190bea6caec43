//! Completing the records of moves that were cut off after their last deletion.

use std::sync::Arc;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::db::{RaseenMainUser, SrieMainUser, UserDatabase, collection};
use tierkeep_core::document::{self, State};
use tierkeep_core::mover::{Record, Status, record_field};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Change, Find, Guard, Query, StoreError};
use tierkeep_core::user::UserId;
use tracing::{error, warn};

use crate::alerts::{AlertKind, Alerts};
use crate::claims::by_user;
use crate::context::Engine;
use crate::databases::pages::Pages;
use crate::databases::retry::repeating;
use crate::erasure::tombstones::{self, Written};
use crate::intents;

/// The most bytes of heads that are read at once.
const MOST_HEAD_BYTES: usize = 4 * 1024 * 1024;

/// Expands the intents of batches that were cut off and reads the pending records; where temp no longer holds the version
/// and main and srie hold at least it, the move is complete. Reads temp first, then main, then srie.
pub(crate) async fn complete_what_moved(
    engine: &Arc<Engine>,
    run_id: &str,
) -> Result<(), StoreError> {
    let without_record = intents::expand(engine).await?;
    let alerts = Alerts::new(Arc::clone(engine));
    for it in without_record {
        let message = format!(
            "evaluation_audit does not store the record of the move of version {}",
            it.version
        );
        alerts
            .raise(AlertKind::MigrationIncident, &it.user, &message)
            .await?;
    }
    let audit = engine.databases.audit_db().store();
    let pending = doc! { record_field::STATUS: Status::Pending.as_str() };
    let find = Find::new(Query::Equal(pending));
    let mut pages = Pages::new(audit.as_ref(), collection::MIGRATION_RECORDS, find);
    while let Some(page) = pages.next().await? {
        let records: Vec<Record> = page
            .iter()
            .filter_map(|record| Record::read(record))
            .collect();
        let complete = moved(engine, records).await?;
        if complete.is_empty() {
            continue;
        }
        let when = doc! { record_field::STATUS: Status::Pending.as_str() };
        let set = Record::completed(run_id, engine.clock().now());
        repeating(|| audit.amend(collection::MIGRATION_RECORDS, &complete, &when, &set)).await?;
    }
    Ok(())
}

async fn moved(engine: &Arc<Engine>, records: Vec<Record>) -> Result<Vec<Bson>, StoreError> {
    let (erased_records, records) = erased(engine, records).await?;
    let users: Vec<String> = records.iter().map(|record| record.user.clone()).collect();
    let whole_page = Find::new(Query::All).max_bytes(MOST_HEAD_BYTES).head();
    let temp = by_user(engine.databases.raseen_temp_db(), &users, whole_page).await?;
    // What another program wrote may be what the record is about, whatever version it will get.
    let may_move = |record: &Record, it: &RawDocument| {
        document::state(it) == Some(State::Live)
            && (document::version(it) == Some(record.version) || !document::is_native(it))
    };
    let stands = |record: &Record| {
        let claims = temp.get(&record.user);
        claims.is_some_and(|claims| claims.iter().any(|it| may_move(record, it)))
    };
    let gone = records.into_iter().filter(|record| !stands(record));
    let gone: Vec<Record> = gone.collect();
    let mut complete = erased_records;
    let mut incidents = Vec::new();
    if gone.is_empty() {
        return Ok(complete);
    }
    let main: Vec<RawDocumentBuf> =
        heads::<RaseenMainUser>(engine.databases.raseen_main_db(), &gone).await?;
    let srie: Vec<RawDocumentBuf> =
        heads::<SrieMainUser>(engine.databases.srie_main_db(), &gone).await?;
    for record in gone {
        let holds = |copies: &[RawDocumentBuf]| {
            find(copies, &record.user)
                .and_then(document::version)
                .is_some_and(|version| version >= record.version)
        };
        if holds(&main) && holds(&srie) {
            complete.push(Bson::ObjectId(record.id));
        } else if temp.contains_key(&record.user) {
            // A later document of the user is there, and completes this record when it has moved.
        } else if record.adopted_from.is_some() && !holds(&main) && !holds(&srie) {
            withdrawn(engine, &record).await?;
        } else {
            error!(
                user_id = record.user,
                user_type = "internal",
                record = %record.id,
                version = record.version.get(),
                in_main = holds(&main),
                in_srie = holds(&srie),
                "error in moving data to raseen_main_user: temp no longer holds the document, and main or srie lacks \
                 it",
            );
            let message = format!(
                "temp no longer holds version {}, and main or srie lacks it",
                record.version
            );
            incidents.push((record.user, message));
        }
    }
    let alerts = Alerts::new(Arc::clone(engine));
    for (user, message) in incidents {
        alerts
            .raise(AlertKind::MigrationIncident, &user, &message)
            .await?;
    }
    Ok(complete)
}

/// Another program took its document back before anything was copied: nothing was moved and nothing is missing.
async fn withdrawn(engine: &Engine, record: &Record) -> Result<(), StoreError> {
    warn!(
        user_id = record.user,
        user_type = "internal",
        record = %record.id,
        version = record.version.get(),
        "a document of another program left raseen_temp_user before it was copied",
    );
    let audit = engine.databases.audit_db().store();
    let id = Bson::ObjectId(record.id);
    let pending = Guard::Fields(doc! { record_field::STATUS: Status::Pending.as_str() });
    let records = collection::MIGRATION_RECORDS;
    repeating(|| audit.write(records, &id, &pending, &Change::Remove)).await?;
    Ok(())
}

/// Parts from the records those of users who were erased since, and whose tombstones were rewritten: the move may have
/// been cut off after it wrote.
async fn erased(
    engine: &Engine,
    records: Vec<Record>,
) -> Result<(Vec<Bson>, Vec<Record>), StoreError> {
    let (mut of_users, mut rest) = (Vec::new(), Vec::new());
    for record in records {
        match UserId::parse(&record.user) {
            Ok(user) => of_users.push((user, record)),
            Err(_) => rest.push(record),
        }
    }
    let written: Vec<Written<'_>> = of_users
        .iter()
        .map(|(user, record)| Written::live(user, Some(record.version)))
        .collect();
    let erased = tombstones::check_after_writing(engine, &written).await?;
    let mut erased_records = Vec::new();
    for ((_, record), erased) in of_users.into_iter().zip(erased) {
        if erased {
            erased_records.push(Bson::ObjectId(record.id));
        } else {
            rest.push(record);
        }
    }
    Ok((erased_records, rest))
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
