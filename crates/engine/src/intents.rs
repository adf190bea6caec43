//! The intents of batches, in `evaluation_audit`: what is about to move is named there before anything is copied.
//!
//! An intent is one document for a batch in place of a pending record for each of its documents. A batch that ends well
//! inserts completed records and removes its intent. One that was cut off leaves its intent, and the next run expands it
//! into pending records, which it then completes like those of any other move. Records are only ever inserted where there
//! are none, so a batch that is still at work loses nothing when its intent is expanded.

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::db::collection;
use tierkeep_core::mover::{Intent, IntentHead, Move, record_field};
use tierkeep_core::store::{
    Change, Class, Find, Guard, Inserted, Query, Store, StoreError, Written,
};
use tracing::error;

use crate::context::Engine;
use crate::databases::pages::Pages;
use crate::databases::retry::repeating;

/// The most bytes of intents that are read at once.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Writes the intent; a repeat finds it there.
pub(crate) async fn announce(audit: &dyn Store, intent: &Intent) -> Result<(), StoreError> {
    let document = [intent.document()];
    let outcomes = repeating(|| audit.insert(collection::MIGRATION_INTENTS, &document)).await?;
    match outcomes.into_iter().next() {
        Some(Inserted::Stored | Inserted::Exists) => Ok(()),
        Some(Inserted::Unsettled(error)) => Err(error),
        Some(Inserted::Rejected(fault)) => {
            error!(user_type = "internal", %fault, "evaluation_audit refused the intent of a batch, nothing of it moves");
            Err(refused(audit, "insert", fault.code))
        }
        None => Err(refused(audit, "insert", 0)),
    }
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stored {
    /// It is stored now.
    New,
    /// There was one already, and it was left as it is.
    Existed,
    /// `evaluation_audit` does not take it.
    Refused,
}

/// Inserts records where there are none.
pub(crate) async fn insert_records(
    audit: &dyn Store,
    records: &[RawDocumentBuf],
) -> Result<Vec<Stored>, StoreError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let outcomes = repeating(|| audit.insert(collection::MIGRATION_RECORDS, records)).await?;
    let stored = outcomes.into_iter().zip(records).map(|(outcome, record)| {
        let why = match outcome {
            Inserted::Stored => return Stored::New,
            Inserted::Exists => return Stored::Existed,
            Inserted::Unsettled(error) => error.to_string(),
            Inserted::Rejected(fault) => fault.to_string(),
        };
        error!(
            user_id = record.get_str(record_field::USER_ID).unwrap_or_default(),
            user_type = "internal",
            error = why,
            "error in storing to evaluation_audit: the record of a move was refused, its intent stays",
        );
        Stored::Refused
    });
    Ok(stored.collect())
}

/// Removes the intent. Only once each of its moves has a record, or was not begun.
pub(crate) async fn remove(audit: &dyn Store, id: &str) -> Result<(), StoreError> {
    let (id, any) = (Bson::String(id.to_owned()), Guard::Fields(doc! {}));
    let remove = || audit.write(collection::MIGRATION_INTENTS, &id, &any, &Change::Remove);
    match repeating(remove).await? {
        Written::Applied(_) | Written::Unmatched => Ok(()),
        Written::TooLarge => Err(refused(audit, "write", 0)),
        Written::Rejected(fault) => Err(refused(audit, "write", fault.code)),
    }
}

/// Expands every intent into pending records and removes it, those of batches at work too: the records of these are then
/// completed in place. Returns the moves that have no record, because `evaluation_audit` does not take it; their
/// intents stay.
pub(crate) async fn expand(engine: &Engine) -> Result<Vec<Move>, StoreError> {
    let audit = engine.databases.audit_db().store().as_ref();
    let mut without_record = Vec::new();
    for intent in open(engine).await? {
        let stored = insert_records(audit, &intent.records()).await?;
        if !stored.contains(&Stored::Refused) {
            remove(audit, &intent.id).await?;
            continue;
        }
        let moves = intent.moves.into_iter().zip(stored);
        let refused = moves.filter(|(_, stored)| *stored == Stored::Refused);
        without_record.extend(refused.map(|(it, _)| it));
    }
    Ok(without_record)
}

/// The intents that were not removed yet.
pub(crate) async fn open(engine: &Engine) -> Result<Vec<Intent>, StoreError> {
    all(
        engine,
        Find::new(Query::All).max_bytes(MOST_BYTES),
        Intent::read,
    )
    .await
}

/// What is known of each intent without its moves.
pub(crate) async fn heads(engine: &Engine) -> Result<Vec<IntentHead>, StoreError> {
    all(engine, Find::new(Query::All).head(), IntentHead::read).await
}

/// Those of the intents with these ids that were not removed yet.
pub(crate) async fn read(engine: &Engine, ids: Vec<Bson>) -> Result<Vec<Intent>, StoreError> {
    all(
        engine,
        Find::new(Query::Ids(ids)).max_bytes(MOST_BYTES),
        Intent::read,
    )
    .await
}

async fn all<T>(
    engine: &Engine,
    find: Find,
    read: fn(&RawDocument) -> Option<T>,
) -> Result<Vec<T>, StoreError> {
    let audit = engine.databases.audit_db().store().as_ref();
    let mut pages = Pages::new(audit, collection::MIGRATION_INTENTS, find);
    let mut found = Vec::new();
    while let Some(page) = pages.next().await? {
        found.extend(page.iter().filter_map(|intent| read(intent)));
    }
    Ok(found)
}

/// Raises the beat of an intent: its batch is at work.
pub(crate) async fn give_sign(audit: &dyn Store, id: &str, beat: i64) -> Result<(), StoreError> {
    let ids = [Bson::String(id.to_owned())];
    let set = doc! { IntentHead::BEAT: beat };
    audit
        .amend(collection::MIGRATION_INTENTS, &ids, &doc! {}, &set)
        .await?;
    Ok(())
}

fn refused(audit: &dyn Store, operation: &'static str, code: i32) -> StoreError {
    StoreError {
        database: audit.role(),
        operation,
        class: Class::Other,
        code,
    }
}
