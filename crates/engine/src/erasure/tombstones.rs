//! Tombstones: writing them, and writing them again where what they cover may have come back.
//!
//! **Architecture invariant:** no other module writes a tombstone over a document. A writer that was stopped longer than
//! the tombstones stood may have written what was erased; [`check_after_writing`] is the look into the ledger that finds
//! out, and [`rewrite`] closes the gap. Each half alone fails.

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::bson;
use tierkeep_core::db::{Role, UserDatabase};
use tierkeep_core::document;
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
    pub(crate) user: &'a UserId,
    /// Its version; `None` for what counts as erased below any fence.
    pub(crate) version: Option<Version>,
}

/// Looks into the ledger after writing, and writes the tombstones again of those users whose documents are below their
/// fence. Answers which those are.
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
    let below = |it: &Written<'_>, fence: Option<Version>| {
        fence.filter(|fence| it.version.is_none_or(|version| version < *fence))
    };
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
        // Temp first: while its tombstone stands, nothing older in the others counts.
        write(databases.raseen_temp_db(), &internal).await?;
        write(databases.raseen_main_db(), &internal).await?;
        write(databases.srie_main_db(), &internal).await?;
    }
    if !external.is_empty() {
        engine.ledger().reopen(&external).await?;
        write(databases.external_db(), &external).await?;
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

/// Erases `user` in the database of `role`: writes the tombstone over everything older, other programs' documents
/// included, and reads back that only it or a newer life is left. Databases that hold no users are left alone.
///
/// # Errors
/// [`Class::Busy`] where others keep writing what is older.
pub(crate) async fn erase_in(
    engine: &Engine,
    role: Role,
    user: &UserId,
    fence: Version,
) -> Result<(), StoreError> {
    let tombstone = tombstone(user, fence, engine.clock().now());
    let databases = &engine.databases;
    match role {
        Role::ExternalUsers => erase(engine, databases.external_db(), user, &tombstone).await,
        Role::RaseenTempUser => erase(engine, databases.raseen_temp_db(), user, &tombstone).await,
        Role::RaseenMainUser => erase(engine, databases.raseen_main_db(), user, &tombstone).await,
        Role::SrieMainUser => erase(engine, databases.srie_main_db(), user, &tombstone).await,
        Role::RaseenMainHr | Role::SrieMainHr | Role::EvaluationAudit => Ok(()),
    }
}

#[cfg_attr(
    not(feature = "mutants"),
    expect(unused_variables, reason = "only mutants ask the engine")
)]
async fn erase<D: UserDatabase>(
    engine: &Engine,
    database: &Handle<D>,
    user: &UserId,
    tombstone: &RawDocumentBuf,
) -> Result<(), StoreError> {
    let store = database.store();
    #[cfg(feature = "mutants")]
    if engine.mutation().has(Mutant::ErasureWithoutTombstones) {
        return wrong::overwrite(database, user, Change::Remove).await;
    }
    #[cfg(feature = "mutants")]
    if engine.mutation().has(Mutant::UnguardedTombstones) {
        wrong::overwrite(database, user, Change::Replace(tombstone.clone())).await?;
    }
    let fence = document::version(tombstone);
    let failed = |class| StoreError {
        database: store.role(),
        operation: "erase",
        class,
        code: 0,
    };
    for _ in 0..ROUNDS {
        write(database, std::slice::from_ref(tombstone)).await?;
        let found = claims(database, user, Consistency::Majority).await?;
        let older = |document: &&RawDocumentBuf| {
            !document::is_native(document) || document::version(document) < fence
        };
        let older: Vec<&RawDocumentBuf> = found.iter().filter(older).collect();
        if older.is_empty() && !found.is_empty() {
            return Ok(());
        }
        for document in older {
            remove_foreign(database, document, tombstone).await?;
        }
    }
    Err(failed(Class::Busy))
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

/// Removes a document of another program exactly as it was read, or puts the tombstone in its place.
///
/// Kept apart from [`write`] because a foreign document has no version to be older by.
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
