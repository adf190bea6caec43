//! Storing copies without overwriting anything newer: inserted first, and put over what exists only where that is older.
//!
//! Inserting first costs half of an upsert in the usual case, a first copy. [`put`] does it on one side of a pair and
//! looks into the erasure ledger afterwards.

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::compare::{CopyKind, Side};
use tierkeep_core::document::{self, State};
use tierkeep_core::hr::BackupStatus;
use tierkeep_core::store::{
    Change, Fault, Find, Guard, Inserted, Put, Query, Store, StoreError, Written,
};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use crate::copies::pair::Pair;
use crate::databases::retry::repeating;
use crate::erasure::tombstones;

/// What became of one document that was to be stored.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum InsertOutcome {
    /// It is stored, or something of its version or newer is.
    Settled,
    /// A document with its `_id` exists; whether that is older is not known yet.
    Exists,
    /// The database refuses it.
    Rejected(Fault),
    /// It is not stored, because of an error that says nothing about the others.
    Unsettled(StoreError),
}

/// Inserts those of `documents` whose `_id` does not exist.
pub(crate) async fn insert(
    store: &dyn Store,
    collection: &str,
    documents: &[RawDocumentBuf],
) -> Result<Vec<InsertOutcome>, StoreError> {
    let inserted = repeating(|| store.insert(collection, documents)).await?;
    let outcome = |inserted| match inserted {
        Inserted::Stored => InsertOutcome::Settled,
        Inserted::Exists => InsertOutcome::Exists,
        Inserted::Rejected(fault) => InsertOutcome::Rejected(fault),
        Inserted::Unsettled(error) => InsertOutcome::Unsettled(error),
    };
    Ok(inserted.into_iter().map(outcome).collect())
}

/// Puts those of `documents` whose outcome is [`InsertOutcome::Exists`] over older copies, and determines their
/// outcomes.
pub(crate) async fn put_newer(
    store: &dyn Store,
    collection: &str,
    documents: &[RawDocumentBuf],
    outcomes: &mut [InsertOutcome],
) -> Result<(), StoreError> {
    let existing: Vec<RawDocumentBuf> = documents
        .iter()
        .zip(outcomes.iter())
        .filter(|(_, outcome)| **outcome == InsertOutcome::Exists)
        .map(|(document, _)| document.clone())
        .collect();
    if existing.is_empty() {
        return Ok(());
    }
    let put = repeating(|| store.put_newer(collection, &existing)).await?;
    settle_existing(outcomes, put);
    Ok(())
}

fn settle_existing(outcomes: &mut [InsertOutcome], put: Vec<Put>) {
    let existing = outcomes
        .iter_mut()
        .filter(|outcome| **outcome == InsertOutcome::Exists);
    for (outcome, put) in existing.zip(put) {
        *outcome = match put {
            Put::Settled => InsertOutcome::Settled,
            Put::Rejected(fault) => InsertOutcome::Rejected(fault),
            Put::Unsettled(error) => InsertOutcome::Unsettled(error),
        };
    }
}

/// What became of one copy on a side of a pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PutOutcome {
    /// It is stored, or something of its version or newer is.
    Stored,
    /// Its user was erased, and the tombstones were rewritten.
    Erased,
    /// The database does not take it.
    Refused(String),
}

/// Puts `documents` on side `to`. Idempotent; a crash leaves some of them there.
pub(crate) async fn put(
    pair: &Pair,
    to: Side,
    documents: &[RawDocumentBuf],
) -> Result<Vec<PutOutcome>, StoreError> {
    let (store, collection) = (pair.store(to).as_ref(), pair.collection.as_str());
    let mut outcomes = insert(store, collection, documents).await?;
    match pair.kind {
        CopyKind::Users => put_newer(store, collection, documents, &mut outcomes).await?,
        CopyKind::Hr => put_newer_records(pair, to, documents, &mut outcomes).await?,
    }
    let mut placed: Vec<PutOutcome> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            InsertOutcome::Settled | InsertOutcome::Exists => PutOutcome::Stored,
            InsertOutcome::Rejected(fault) => PutOutcome::Refused(fault.to_string()),
            InsertOutcome::Unsettled(error) => PutOutcome::Refused(error.to_string()),
        })
        .collect();
    // A crash here leaves copies whose users may have been erased meanwhile: a verification finds them, and a
    // repetition writes their tombstones again.
    let erased = check_erasures(pair, documents).await?;
    for (placed, erased) in placed.iter_mut().zip(erased) {
        if erased {
            *placed = PutOutcome::Erased;
        }
    }
    Ok(placed)
}

/// How often a record is looked at while a concurrent writer changes it.
const ROUNDS: u32 = 8;

/// As [`put_newer`], for HR records, which need no `user_id`.
async fn put_newer_records(
    pair: &Pair,
    to: Side,
    records: &[RawDocumentBuf],
    outcomes: &mut [InsertOutcome],
) -> Result<(), StoreError> {
    let mut put = Vec::new();
    for (record, outcome) in records.iter().zip(outcomes.iter()) {
        if *outcome == InsertOutcome::Exists {
            put.push(put_record(pair, to, record).await?);
        }
    }
    settle_existing(outcomes, put);
    Ok(())
}

/// Replaces exactly what was found older. What is pending in main stays, whatever its version: it was acknowledged
/// while srie was not looked at, and its delivery raises it above what srie holds.
async fn put_record(pair: &Pair, to: Side, record: &RawDocumentBuf) -> Result<Put, StoreError> {
    let Some(version) = document::version(record) else {
        return Ok(Put::Settled);
    };
    let store = pair.store(to);
    let (id, older) = (document::id(record), Guard::Older(version));
    let find = Find::new(Query::Ids(vec![id.clone()]));
    for _ in 0..ROUNDS {
        let found = repeating(|| store.find(&pair.collection, &find)).await?;
        let Some(there) = found.into_iter().next() else {
            return Ok(Put::Settled);
        };
        let pending = to == Side::Main && BackupStatus::of(&there) == Some(BackupStatus::Pending);
        if pending || !older.holds(&there) {
            return Ok(Put::Settled);
        }
        let guard = Guard::Whole(there);
        let change = Change::Replace(record.clone());
        match repeating(|| store.write(&pair.collection, &id, &guard, &change)).await? {
            Written::Applied(_) => return Ok(Put::Settled),
            // A concurrent writer was faster, or an answer was lost: the next look shows which.
            Written::Unmatched => {}
            Written::Rejected(fault) => return Ok(Put::Rejected(fault)),
            Written::TooLarge => return Ok(rejected("it is too large")),
        }
    }
    Ok(rejected("it is being changed by too many writers"))
}

fn rejected(reason: &str) -> Put {
    Put::Rejected(Fault {
        code: 0,
        reason: reason.to_owned(),
    })
}

/// Which of `documents`, just written to this pair, belong to users who were erased; their tombstones were rewritten.
pub(crate) async fn check_erasures(
    pair: &Pair,
    documents: &[RawDocumentBuf],
) -> Result<Vec<bool>, StoreError> {
    let mut erased = vec![false; documents.len()];
    if pair.kind == CopyKind::Hr {
        return Ok(erased);
    }
    let users: Vec<(usize, UserId, Option<Version>)> = documents
        .iter()
        .enumerate()
        .filter_map(|(index, document)| {
            let user = UserId::parse(document::user_id(document)?).ok()?;
            Some((index, user, document::version(document)))
        })
        .collect();
    let written: Vec<tombstones::Written<'_>> = users
        .iter()
        .map(|(index, user, version)| {
            let state = documents.get(*index).and_then(|it| document::state(it));
            if state == Some(State::Erased) {
                tombstones::Written::tombstone(user, *version)
            } else {
                tombstones::Written::live(user, *version)
            }
        })
        .collect();
    let below = tombstones::check_after_writing(pair.engine(), &written).await?;
    for ((index, ..), below) in users.iter().zip(below) {
        if let Some(erased) = erased.get_mut(*index) {
            *erased = below;
        }
    }
    Ok(erased)
}
