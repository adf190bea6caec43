//! Tombstones: writing them, and writing them again where what they cover may have come back.
//!
//! **Architecture invariant:** no other module writes a tombstone over a document. A writer that was stopped longer than
//! the tombstones stood may have written what was erased; [`check_after_writing`] is the look into the ledger that finds
//! out, and [`rewrite`] closes the gap. Each half alone fails.

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::bson;
use tierkeep_core::db::{Role, UserDatabase};
use tierkeep_core::document::{self, State};
use tierkeep_core::erasure::tombstone;
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Change, Class, Guard, Put, StoreError};
use tierkeep_core::user::{UserId, UserType};
use tierkeep_core::version::Version;

use crate::claims::{Consistency, claims};
use crate::context::Engine;
use crate::databases::retry::repeating;
use crate::ledger::Ledger;
use crate::mutant::Mutant;
#[cfg(feature = "mutants")]
use crate::mutant::wrong;

/// How often an erasure of one database that lost a race looks again.
const ROUNDS: u32 = 24;

/// What was written of one user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written<'a> {
    user: &'a UserId,
    /// Its version; `None` for what counts as erased below any fence.
    version: Option<Version>,
    is_tombstone: bool,
}

impl<'a> Written<'a> {
    /// A live document.
    pub(crate) fn live(user: &'a UserId, version: Option<Version>) -> Self {
        Self {
            user,
            version,
            is_tombstone: false,
        }
    }

    /// A tombstone, whose version is its fence.
    pub(crate) fn tombstone(user: &'a UserId, version: Option<Version>) -> Self {
        Self {
            user,
            version,
            is_tombstone: true,
        }
    }

    /// Whether an erasure with this fence covers it.
    fn is_covered_by(&self, fence: Version) -> bool {
        self.version
            .is_none_or(|version| version < fence || (version == fence && !self.is_tombstone))
    }
}

/// Looks into the ledger after writing, and writes the tombstones again of those users whose documents are at or below
/// their fence. Answers which those are.
///
/// # Errors
/// [`StoreError`] where the ledger or a database did not answer: then nothing that was written may be relied on.
pub(crate) async fn check_after_writing(
    engine: &Engine,
    written: &[Written<'_>],
) -> Result<Vec<bool>, StoreError> {
    if written.is_empty() || engine.mutation().has(Mutant::NoLedgerAfterWriting) {
        return Ok(vec![false; written.len()]);
    }
    let users: Vec<&str> = written.iter().map(|it| it.user.as_str()).collect();
    let fences = engine.ledger().fences(&users).await?;
    let below =
        |it: &Written<'_>, fence: Option<Version>| fence.filter(|fence| it.is_covered_by(*fence));
    let fences: Vec<Option<Version>> = written
        .iter()
        .zip(fences)
        .map(|(it, fence)| below(it, fence))
        .collect();
    let erased: Vec<(UserId, Version)> = written
        .iter()
        .zip(&fences)
        .filter_map(|(it, fence)| Some((it.user.clone(), (*fence)?)))
        .collect();
    rewrite(engine, &erased).await?;
    Ok(fences.iter().map(Option::is_some).collect())
}

/// Reopens the ledger's entries of these users and writes their tombstones again, in every database that may hold them;
/// they stand for another grace.
pub(crate) async fn rewrite(
    engine: &Engine,
    erased: &[(UserId, Version)],
) -> Result<(), StoreError> {
    if erased.is_empty() {
        return Ok(());
    }
    let now = engine.clock().now();
    let of_type = |user_type| -> Vec<RawDocumentBuf> {
        erased
            .iter()
            .filter(|(user, _)| user.user_type() == user_type)
            .map(|(user, fence)| tombstone(user, *fence, now))
            .collect()
    };
    let (internal, external) = (of_type(UserType::Internal), of_type(UserType::External));
    let databases = &engine.databases;
    if !internal.is_empty() {
        engine.ledger().reopen(&internal).await?;
        // Temp first: while its tombstone exists, nothing older in the others counts.
        bury(databases.raseen_temp_db(), &internal).await?;
        bury(databases.raseen_main_db(), &internal).await?;
        bury(databases.srie_main_db(), &internal).await?;
    }
    if !external.is_empty() {
        engine.ledger().reopen(&external).await?;
        bury(databases.external_db(), &external).await?;
    }
    Ok(())
}

/// Writes tombstones over what is older, and in the place of what is live exactly at the fence; newer lives and
/// documents of other programs are left alone.
async fn bury<D: UserDatabase>(
    database: &Handle<D>,
    tombstones: &[RawDocumentBuf],
) -> Result<(), StoreError> {
    write(database, tombstones).await?;
    for tombstone in tombstones {
        let user = document::user_id(tombstone).and_then(|user| UserId::parse(user).ok());
        let Some(user) = user else {
            continue;
        };
        for found in claims(database, &user, Consistency::Majority).await? {
            let is_live =
                document::is_native(&found) && document::state(&found) != Some(State::Erased);
            if is_live && document::version(&found) == document::version(tombstone) {
                remove_foreign(database, &found, tombstone).await?;
            }
        }
    }
    Ok(())
}

/// Reopens the ledger's entry of one user and writes its tombstone again in one database.
pub(crate) async fn rewrite_in<D: UserDatabase>(
    ledger: &Ledger,
    database: &Handle<D>,
    tombstone: &RawDocumentBuf,
) -> Result<(), StoreError> {
    let one = std::slice::from_ref(tombstone);
    ledger.reopen(one).await?;
    write(database, one).await
}

/// Erases `user` in the database of `role`: writes the tombstone over everything live at or below it, other programs'
/// documents included, and reads back that only it or a newer life is left. Databases that hold no users are left alone.
///
/// # Errors
/// [`Class::Busy`] where others keep writing what is to be erased.
pub(crate) async fn erase_in(
    engine: &Engine,
    role: Role,
    user: &UserId,
    fence: Version,
) -> Result<(), StoreError> {
    let databases = &engine.databases;
    match role {
        Role::ExternalUsers => erase(engine, databases.external_db(), user, fence).await,
        Role::RaseenTempUser => erase(engine, databases.raseen_temp_db(), user, fence).await,
        Role::RaseenMainUser => erase(engine, databases.raseen_main_db(), user, fence).await,
        Role::SrieMainUser => erase(engine, databases.srie_main_db(), user, fence).await,
        Role::RaseenMainHr | Role::SrieMainHr | Role::EvaluationAudit => Ok(()),
    }
}

async fn erase<D: UserDatabase>(
    engine: &Engine,
    database: &Handle<D>,
    user: &UserId,
    fence: Version,
) -> Result<(), StoreError> {
    let tombstone_at = |version| tombstone(user, version, engine.clock().now());
    let tombstone = tombstone_at(fence);
    #[cfg(feature = "mutants")]
    if engine.mutation().has(Mutant::ErasureWithoutTombstones) {
        return wrong::overwrite(database, user, Change::Remove).await;
    }
    #[cfg(feature = "mutants")]
    if engine.mutation().has(Mutant::UnguardedTombstones) {
        wrong::overwrite(database, user, Change::Replace(tombstone.clone())).await?;
    }
    for _ in 0..ROUNDS {
        write(database, std::slice::from_ref(&tombstone)).await?;
        let found = claims(database, user, Consistency::Majority).await?;
        let left: Vec<&RawDocumentBuf> = found
            .iter()
            .filter(|it| is_at_or_below(it, fence))
            .collect();
        for document in &left {
            remove_foreign(database, document, &tombstone).await?;
        }
        let above: Vec<&RawDocumentBuf> =
            found.iter().filter(|it| is_live_above(it, fence)).collect();
        // Read after the copies: what was stored before this erasure is told from a newer life by the ledger alone.
        let predates = !above.is_empty() && predates_all(engine, D::ROLE, user, fence).await?;
        if left.is_empty() && !predates && !found.is_empty() {
            return Ok(());
        }
        for document in above.into_iter().filter(|_| predates) {
            let own = document::version(document).map_or_else(|| tombstone.clone(), tombstone_at);
            remove_foreign(database, document, &own).await?;
        }
    }
    Err(StoreError {
        database: D::ROLE,
        operation: "erase",
        class: Class::Busy,
        code: 0,
    })
}

/// Whether an erasure with this fence covers `document`: a live one at or below it, one of another program, or an older
/// tombstone.
fn is_at_or_below(document: &RawDocument, fence: Version) -> bool {
    let version = document::version(document);
    let is_tombstone = document::state(document) == Some(State::Erased);
    !document::is_native(document)
        || version < Some(fence)
        || (version == Some(fence) && !is_tombstone)
}

fn is_live_above(document: &RawDocument, fence: Version) -> bool {
    document::is_native(document)
        && document::state(document) != Some(State::Erased)
        && document::version(document) > Some(fence)
}

async fn predates_all(
    engine: &Engine,
    role: Role,
    user: &UserId,
    fence: Version,
) -> Result<bool, StoreError> {
    let entry = engine.ledger().entry(user).await?;
    Ok(entry.is_some_and(|entry| entry.fence() == Some(fence) && entry.predates_all_of(role)))
}

/// Writes tombstones over what is older; newer lives are left alone.
async fn write<D: UserDatabase>(
    database: &Handle<D>,
    tombstones: &[RawDocumentBuf],
) -> Result<(), StoreError> {
    let store = database.store();
    let put = repeating(|| store.put_newer(D::USERS, tombstones)).await?;
    match put.into_iter().find(|put| *put != Put::Settled) {
        Some(Put::Rejected(fault)) => Err(StoreError {
            database: store.role(),
            operation: "erase",
            class: Class::Other,
            code: fault.code,
        }),
        Some(Put::Unsettled(error)) => Err(error),
        Some(Put::Settled) | None => Ok(()),
    }
}

/// Removes a document exactly as it was read, or puts the tombstone in its place.
///
/// Kept apart from [`write`] because a document of another program has no version to be older by, and one at the fence
/// or above it is not older.
pub(crate) async fn remove_foreign<D: UserDatabase>(
    database: &Handle<D>,
    document: &RawDocument,
    tombstone: &RawDocumentBuf,
) -> Result<(), StoreError> {
    let id = document::id(document);
    let change = if id == document::id(tombstone) {
        Change::Replace(tombstone.clone())
    } else {
        Change::Remove
    };
    let guard = Guard::Whole(document.to_owned());
    let store = database.store();
    repeating(|| store.write(D::USERS, &id, &guard, &change)).await?;
    Ok(())
}
