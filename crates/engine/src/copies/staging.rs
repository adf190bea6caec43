//! Staging: entering temp in two steps, so that a document never hides what moved while it was on its way.
//!
//! First the whole document is put into temp as an entry, which holds the `_id` and which no reader or mover sees. While
//! it is there nothing else can enter temp, so main cannot change under it. Then main and the erasure ledger are read
//! once more, and only if neither changed is the entry confirmed, by compare-and-set on its nonce; else it is withdrawn.
//! An abandoned entry is replaced, never confirmed. Rule source: the protocol's section 2.

use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, doc};
use tierkeep_core::bson;
use tierkeep_core::db::{RaseenTempUser, UserDatabase, collection};
use tierkeep_core::document::{self, Edit, State, field};
use tierkeep_core::erasure::{Erasure, Stage, tombstone};
use tierkeep_core::mover::{Record, Status, record_field};
use tierkeep_core::store::{
    Change, Fault, Find, Guard, Inserted, Query, Store, StoreError, Written,
};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use crate::claims::versions;
use crate::context::Engine;
use crate::databases::retry::repeating;
use crate::intents;
use crate::mutant::Mutant;

/// The most bytes of heads that are read at once.
const MOST_HEAD_BYTES: usize = 4 * 1024 * 1024;
/// How long an entry may exist before another writer may replace it. No step's safety depends on it.
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

/// A document in its final form that is to enter temp, and what was known when it was made.
pub(crate) struct StagingEntry<'a> {
    pub(crate) user: &'a UserId,
    pub(crate) document: RawDocumentBuf,
    /// The tombstone or abandoned entry that has the `_id`.
    pub(crate) over: Option<&'a RawDocument>,
    /// What main held, and what the ledger said.
    pub(crate) known: Known,
    /// For what is adopted: the moves of its user that were begun and are not complete.
    pub(crate) open_moves: Option<Vec<OpenMove>>,
}

/// A move that was begun and is not complete, as its record says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct OpenMove {
    /// The version that moves.
    pub(crate) version: Version,
    /// The fingerprint of what moves without having been adopted.
    pub(crate) adopted_from: Option<String>,
}

/// The moves of a user that were begun and are not complete, in the order of their versions. Who adopts a document begins above
/// those of other documents, because what is copied by them may reach main and srie at any time.
pub(crate) async fn open_moves(
    engine: &Engine,
    user: &UserId,
) -> Result<Vec<OpenMove>, StoreError> {
    let mut open = Vec::new();
    if engine.mutation().has(Mutant::OpenMovesUnseen) {
        return Ok(open);
    }
    // Before the records: an intent is removed only once its moves have records.
    for intent in intents::open(engine).await? {
        let of_user = intent.of_user(user.as_str());
        open.extend(of_user.map(|it| OpenMove {
            version: it.version,
            adopted_from: None,
        }));
    }
    let store = engine.databases.audit_db().store();
    for status in [Status::Pending, Status::Failed] {
        let of_user = doc! {
            record_field::USER_ID: user.as_str(),
            record_field::STATUS: status.as_str(),
        };
        let find = Find::new(Query::Equal(of_user));
        let found = repeating(|| store.find(collection::MIGRATION_RECORDS, &find)).await?;
        let records = found.iter().filter_map(|record| Record::read(record));
        open.extend(records.map(|record| OpenMove {
            version: record.version,
            adopted_from: record.adopted_from,
        }));
    }
    open.sort();
    open.dedup();
    Ok(open)
}

/// What decides whether an entry may be confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    /// The version of main's own document, live or erased.
    pub(crate) main: Option<Version>,
    /// Below which the ledger says that content counts as erased.
    pub(crate) fence: Option<Version>,
}

/// What became of a document that was to enter temp.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Entered {
    /// It lives there, as answered.
    Done(RawDocumentBuf),
    /// Something changed meanwhile: look again.
    Again,
    /// The entry was no longer there: replaced by another writer, or confirmed by a call whose answer was lost.
    Unmatched,
    /// The database refuses it.
    Refused(Fault),
}

/// Enters temp in two steps; `confirmation` makes the entry live.
///
/// # Errors
/// [`StoreError`] where a database did not answer; the entry is withdrawn as far as temp can be reached, and is
/// invisible in any case.
pub(crate) async fn enter(
    engine: &Engine,
    staging: &StagingEntry<'_>,
    confirmation: Change,
) -> Result<Entered, StoreError> {
    let user = staging.user;
    let temp = engine.databases.raseen_temp_db().store().as_ref();
    let nonce = engine.randomness().id();
    #[cfg(feature = "mutants")]
    if engine.mutation().has(Mutant::EnterInOneStep) {
        let (users, document) = (RaseenTempUser::USERS, &staging.document);
        return Ok(
            match insert_or_replace(temp, users, document, staging.over).await? {
                Insertion::Ours => Entered::Done(document.clone()),
                Insertion::Occupied => Entered::Again,
                Insertion::Refused(fault) => Entered::Refused(fault),
            },
        );
    }
    let entry = as_entry(&staging.document, &nonce, engine.clock().now());
    match insert_or_replace(temp, RaseenTempUser::USERS, &entry, staging.over).await? {
        Insertion::Ours => {}
        Insertion::Occupied => return Ok(Entered::Again),
        Insertion::Refused(fault) => return Ok(Entered::Refused(fault)),
    }
    // A crash here leaves an entry that is invisible; the next writer replaces it, or the janitor withdraws it.
    match is_as_known(engine, staging).await {
        Ok(true) => confirm(engine, user, &nonce, &confirmation).await,
        Ok(false) => {
            withdraw(engine, user, &nonce).await?;
            Ok(Entered::Again)
        }
        Err(error) => {
            withdraw(engine, user, &nonce).await.ok();
            Err(error)
        }
    }
}

/// Whether everything is still as it was known when the document was made. Main is read last: a move that is complete by the time
/// its record is looked for is found there.
async fn is_as_known(engine: &Engine, staging: &StagingEntry<'_>) -> Result<bool, StoreError> {
    if let Some(known) = &staging.open_moves
        && open_moves(engine, staging.user).await? != *known
    {
        return Ok(false);
    }
    let seen = look_again(engine, &[staging.user.to_string()]).await?;
    Ok(seen.first() == Some(&staging.known))
}

/// Reads main, linearizably, and the ledger once more, after entries of these users were put into temp.
pub(crate) async fn look_again(
    engine: &Engine,
    users: &[String],
) -> Result<Vec<Known>, StoreError> {
    let heads = Find::new(Query::All)
        .max_bytes(MOST_HEAD_BYTES)
        .head()
        .linearizable();
    let main = versions(engine.databases.raseen_main_db(), users, heads).await?;
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let fences = engine.ledger().fences(&names).await?;
    Ok(users
        .iter()
        .zip(fences)
        .map(|(user, fence)| Known {
            main: main.get(user).copied(),
            fence,
        })
        .collect())
}

/// Makes the entry with this nonce live; one that the database refuses is withdrawn.
pub(crate) async fn confirm(
    engine: &Engine,
    user: &UserId,
    nonce: &str,
    confirmation: &Change,
) -> Result<Entered, StoreError> {
    let store = engine.databases.raseen_temp_db().store();
    let id = Bson::String(user.to_string());
    let guard = Guard::Entry {
        nonce: nonce.to_owned(),
    };
    let written =
        repeating(|| store.write(RaseenTempUser::USERS, &id, &guard, confirmation)).await?;
    Ok(match written {
        Written::Applied(document) => Entered::Done(document),
        Written::Rejected(fault) => {
            withdraw(engine, user, nonce).await?;
            Entered::Refused(fault)
        }
        Written::Unmatched | Written::TooLarge => Entered::Unmatched,
    })
}

/// What became of a document that was to take its `_id`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Insertion {
    /// The document is there.
    Ours,
    /// Another document has the `_id`: a race was lost.
    Occupied,
    /// The database refuses it.
    Refused(Fault),
}

/// Inserts `document`, or puts it in the place of a tombstone or an entry by compare-and-set. One that is found
/// there exactly was put there by a call whose answer was lost.
pub(crate) async fn insert_or_replace(
    store: &dyn Store,
    users: &str,
    document: &RawDocumentBuf,
    over: Option<&RawDocument>,
) -> Result<Insertion, StoreError> {
    let Some(over) = over else {
        let outcomes = repeating(|| store.insert(users, std::slice::from_ref(document))).await?;
        return match outcomes.into_iter().next() {
            Some(Inserted::Stored) => Ok(Insertion::Ours),
            Some(Inserted::Exists) | None => who_has_it(store, users, document).await,
            Some(Inserted::Rejected(fault)) => Ok(Insertion::Refused(fault)),
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
        _ => return Ok(Insertion::Occupied),
    };
    let change = Change::Replace(document.clone());
    let id = document::id(document);
    match repeating(|| store.write(users, &id, &guard, &change)).await? {
        Written::Applied(_) => Ok(Insertion::Ours),
        Written::Rejected(fault) => Ok(Insertion::Refused(fault)),
        Written::Unmatched | Written::TooLarge => who_has_it(store, users, document).await,
    }
}

async fn who_has_it(
    store: &dyn Store,
    users: &str,
    document: &RawDocumentBuf,
) -> Result<Insertion, StoreError> {
    let find = Find::new(Query::Ids(vec![document::id(document)]));
    let found = repeating(|| store.find(users, &find)).await?;
    Ok(if found.first() == Some(document) {
        Insertion::Ours
    } else {
        Insertion::Occupied
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
    // The erasure may have been closed since it was read, and nothing removes a tombstone after that.
    if let Some(fence) = fence {
        let now = engine.ledger().entry(user).await?;
        let is_closed =
            |entry: Erasure| entry.stage == Stage::Closed && entry.fence() == Some(fence);
        if now.is_some_and(is_closed) {
            let tombstone = Guard::Tombstone(fence);
            repeating(|| store.write(RaseenTempUser::USERS, &id, &tombstone, &Change::Remove))
                .await?;
        }
    }
    Ok(())
}
