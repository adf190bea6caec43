//! Entries: documents that hold an `_id` in temp, or in `external_users`, before they count.
//!
//! Owns how one is made, put there and taken out again. It never confirms one: who put it there does, after
//! looking at main and at the erasure ledger once more.

use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime};
use tierkeep_core::bson;
use tierkeep_core::db::{RaseenTempUser, UserDatabase};
use tierkeep_core::document::{self, Edit, State, field};
use tierkeep_core::erasure::{Stage, tombstone};
use tierkeep_core::store::{
    Change, Fault, Find, Guard, Inserted, Query, Store, StoreError, Written,
};
use tierkeep_core::user::UserId;

use crate::context::Engine;
use crate::databases::retry::repeating;

/// How long an entry may stand before another writer takes its place. No step's safety rests on it.
const ABANDONED_AFTER: Duration = Duration::from_secs(5);

/// Whether an entry has stood long enough to be taken over.
pub(crate) fn is_abandoned(entry: &RawDocument, now: DateTime) -> bool {
    document::entered_at(entry).is_none_or(|at| now.saturating_duration_since(at) > ABANDONED_AFTER)
}

/// `document` as an entry: invisible until it is confirmed, and found among what is not staged.
pub(crate) fn as_entry(document: &RawDocument, nonce: &str, now: DateTime) -> RawDocumentBuf {
    Edit::new()
        .set_meta(field::STATE, State::Entering.as_str())
        .set_meta(field::NONCE, nonce)
        .set_meta(field::ENTERED_AT, now)
        .unset_meta(field::STAGED_AT)
        .apply(document)
}

/// What became of a document that was to take its `_id`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Placed {
    /// It is there.
    Ours,
    /// Somebody else's document has the `_id`: a race was lost.
    ImportOutcome,
    /// The database refuses it.
    Refused(Fault),
}

/// Inserts `document`, or puts it in the place of a tombstone or an entry by compare-and-set. One that is found
/// there exactly was put there by a call whose answer was lost.
pub(crate) async fn place(
    store: &dyn Store,
    users: &str,
    document: &RawDocumentBuf,
    over: Option<&RawDocument>,
) -> Result<Placed, StoreError> {
    let Some(over) = over else {
        let outcomes = repeating(|| store.insert(users, std::slice::from_ref(document))).await?;
        return match outcomes.into_iter().next() {
            Some(Inserted::Stored) => Ok(Placed::Ours),
            Some(Inserted::Exists) | None => who_has_it(store, users, document).await,
            Some(Inserted::Rejected(fault)) => Ok(Placed::Refused(fault)),
            Some(Inserted::Unsettled(error)) => Err(error),
        };
    };
    let guard = match (
        document::state(over),
        document::version(over),
        document::nonce(over),
    ) {
        (Some(State::Erased), Some(version), _) => Guard::Tombstone(version),
        (Some(State::Entering), _, Some(nonce)) => Guard::Entry {
            nonce: nonce.to_owned(),
        },
        _ => return Ok(Placed::ImportOutcome),
    };
    let change = Change::Replace(document.clone());
    let id = document::id(document);
    match repeating(|| store.write(users, &id, &guard, &change)).await? {
        Written::Applied(_) => Ok(Placed::Ours),
        Written::Rejected(fault) => Ok(Placed::Refused(fault)),
        Written::Unmatched | Written::TooLarge => who_has_it(store, users, document).await,
    }
}

async fn who_has_it(
    store: &dyn Store,
    users: &str,
    document: &RawDocumentBuf,
) -> Result<Placed, StoreError> {
    let find = Find::new(Query::Ids(vec![document::id(document)]));
    let found = repeating(|| store.find(users, &find)).await?;
    Ok(if found.first() == Some(document) {
        Placed::Ours
    } else {
        Placed::ImportOutcome
    })
}

/// Takes an entry out of temp again; where the user was erased, the tombstone comes back in its place.
pub(crate) async fn withdraw(
    engine: &Engine,
    user: &UserId,
    nonce: &str,
) -> Result<(), StoreError> {
    let erasure = engine.ledger().entry(user).await?;
    let fence = erasure
        .filter(|erasure| erasure.stage != Stage::Closed)
        .and_then(|erasure| erasure.fence());
    let change = fence.map_or(Change::Remove, |fence| {
        Change::Replace(tombstone(user, fence, engine.clock().now()))
    });
    let id = Bson::String(user.to_string());
    let guard = Guard::Entry {
        nonce: nonce.to_owned(),
    };
    let store = engine.databases.raseen_temp_db().store();
    repeating(|| store.write(RaseenTempUser::USERS, &id, &guard, &change)).await?;
    Ok(())
}
