//! Adopting documents that other programs wrote: the steps around `tierkeep_core::adopt`.
//!
//! Every step is guarded by the whole document as it was read, so a foreign writer that comes in between
//! is never overwritten; the caller looks again.

use bson::Bson;
use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::adopt::{self, Foreign, Quarantine};
use tierkeep_core::bson;
use tierkeep_core::db::{Handle, RaseenTempUser, Role, UserDatabase};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Location, State};
use tierkeep_core::erasure::tombstone;
use tierkeep_core::mover::main_form;
use tierkeep_core::store::{Change, Class, Fault, Guard, Inserted, StoreError, Written};
use tierkeep_core::user::{UserId, UserType};
use tierkeep_core::version::Version;

use crate::claims::{Consistency, claims, copy_of, native};
use crate::context::Engine;
use crate::copies::staging::{Placed, as_entry, is_abandoned, place, withdraw};
use crate::databases::retry::repeating;
use crate::erasure::tombstones::{remove_foreign, rewrite_in};
use crate::ledger::Ledger;

/// What became of an adoption.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Adoption {
    /// The document is in its final form.
    Done,
    /// Something changed meanwhile: look again.
    Again,
    /// It cannot be adopted.
    Quarantined(Quarantine),
}

/// Gives a foreign document of temp its final form.
pub(crate) async fn adopt_in_temp(
    engine: &Engine,
    document: &RawDocument,
) -> Result<Adoption, StoreError> {
    let foreign = match adopt::foreign(document, UserType::Internal) {
        Ok(foreign) => foreign,
        Err(reason) => return Ok(Adoption::Quarantined(reason)),
    };
    let user = &foreign.user;
    let temp = engine.databases.raseen_temp_db();
    let erasure = engine.ledger().entry(user).await?;
    if erasure
        .as_ref()
        .is_some_and(|erasure| erasure.pending.contains(&Role::RaseenTempUser))
    {
        // An erasure is still clearing temp; what stands there afterwards is a new life.
        return Ok(Adoption::Again);
    }
    let fence = erasure.and_then(|erasure| erasure.fence());
    let claims = claims(temp, user, Consistency::Majority).await?;
    if !claims
        .iter()
        .any(|claim| claim.as_bytes() == document.as_bytes())
    {
        return Ok(Adoption::Again);
    }
    let rest: Vec<RawDocumentBuf> = claims
        .into_iter()
        .filter(|claim| claim.as_bytes() != document.as_bytes())
        .collect();
    let twin = native(&rest, user);
    let others = rest.len() - usize::from(twin.is_some());
    if others > 0 {
        return Ok(Adoption::Quarantined(Quarantine::SeveralClaims(
            user.clone(),
        )));
    }
    let adopted = adopt_copies(engine.ledger(), engine.databases.raseen_main_db(), user).await?;
    if adopted != Adoption::Done {
        return Ok(adopted);
    }
    let main = copy_of(
        engine.databases.raseen_main_db(),
        user,
        Consistency::Majority,
    )
    .await?;
    // srie being away blocks no writer; a move waits for srie and compares the versions again.
    let srie = match adopt_copies(engine.ledger(), engine.databases.srie_main_db(), user).await {
        Ok(Adoption::Done) => copy_of(engine.databases.srie_main_db(), user, Consistency::Majority)
            .await
            .unwrap_or_default(),
        Ok(other) => return Ok(other),
        Err(_) => None,
    };
    let from_this =
        |copy: &RawDocumentBuf| document::adopted_from(copy) == Some(foreign.fingerprint.as_str());
    // Removed without moving only when both copies prove to be this document's; srie must answer for that.
    let moved = match &main {
        Some(main) if from_this(main) => {
            copy_of(engine.databases.srie_main_db(), user, Consistency::Majority)
                .await?
                .is_some_and(|srie| {
                    from_this(&srie)
                        && document::version(&srie) == document::version(main)
                        && Digest::of(&srie) == Digest::of(main)
                })
        }
        Some(_) | None => false,
    };
    let tombstone = twin.filter(|twin| document::state(twin) == Some(State::Erased));
    let Some(twin) = twin.filter(|_| tombstone.is_none()) else {
        if moved {
            return remove(temp, document).await;
        }
        let seen = [
            main.as_deref(),
            srie.as_deref(),
            Some(document),
            tombstone.map(AsRef::as_ref),
        ]
        .map(|copy| copy.and_then(document::version));
        let Some(version) = Version::above(seen.into_iter().chain([fence])) else {
            return Ok(Adoption::Quarantined(Quarantine::VersionsUsedUp));
        };
        let adopted = adopt::final_form(document, &foreign, Location::Temp, version);
        if document::id(document) == Bson::String(user.to_string()) {
            return replace(temp, document, adopted).await;
        }
        let entry = StagingEntry {
            user,
            adopted,
            over: tombstone,
            main: seen[0],
            fence,
        };
        return enter_beside(engine, document, entry).await;
    };
    let live = document::state(twin) == Some(State::Live);
    if live && document::adopted_from(twin) == Some(&foreign.fingerprint) {
        return remove(temp, document).await;
    }
    if document::state(twin) == Some(State::Entering) {
        if is_abandoned(twin, engine.clock().now()) {
            withdraw(engine, user, document::nonce(twin).unwrap_or_default()).await?;
        }
        return Ok(Adoption::Again);
    }
    Ok(Adoption::Quarantined(Quarantine::SeveralClaims(
        user.clone(),
    )))
}

/// Gives the foreign document of a user in main, srie or `external_users` its final form, where nothing else
/// competes for the `_id`. What is in main or srie of a user who was erased counts as nothing.
pub(crate) async fn adopt_copies<D: UserDatabase>(
    ledger: &Ledger,
    database: &Handle<D>,
    user: &UserId,
) -> Result<Adoption, StoreError> {
    let claims = claims(database, user, Consistency::Majority).await?;
    let foreign: Vec<&RawDocumentBuf> = claims
        .iter()
        .filter(|claim| !document::is_native(claim))
        .collect();
    let [copy] = foreign.as_slice() else {
        return Ok(if foreign.is_empty() {
            Adoption::Done
        } else {
            Adoption::Quarantined(Quarantine::SeveralClaims(user.clone()))
        });
    };
    let read = match adopt::foreign(copy, user.user_type()) {
        Ok(read) => read,
        Err(reason) => return Ok(Adoption::Quarantined(reason)),
    };
    // External users need no database but their own; a ledger that cannot be understood is no permission.
    let fence = match (ledger.fence(user).await, user.user_type()) {
        (Ok(fence), _) => fence,
        (Err(error), UserType::External) if error.class != Class::Corrupt => None,
        (Err(error), UserType::External | UserType::Internal) => return Err(error),
    };
    let adopted = match (user.user_type(), fence) {
        (UserType::External, _) => {
            let Some(version) = Version::above([fence]) else {
                return Ok(Adoption::Quarantined(Quarantine::VersionsUsedUp));
            };
            adopt::final_form(copy, &read, Location::External, version)
        }
        (UserType::Internal, Some(fence)) => {
            let tombstone = tombstone(user, fence, read.created_at);
            rewrite_in(ledger, database, &tombstone).await?;
            remove_foreign(database, copy, &tombstone).await?;
            return Ok(Adoption::Again);
        }
        (UserType::Internal, None) => {
            let adopted = adopt::final_form(copy, &read, Location::Main, Version::FIRST);
            main_form(&adopted, &Digest::of(&adopted))
        }
    };
    let outcome = place_copy(database, user, copy, &read, adopted).await?;
    // Whoever wrote what was erased meanwhile finds out by looking again.
    if outcome == Adoption::Done
        && user.user_type() == UserType::Internal
        && let Some(now) = ledger.fence(user).await?.filter(|now| Some(*now) != fence)
    {
        let tombstone = tombstone(user, now, read.created_at);
        rewrite_in(ledger, database, &tombstone).await?;
        return Ok(Adoption::Again);
    }
    Ok(outcome)
}

/// Puts the adopted form in the place of a foreign copy, or beside it and then removes the foreign one.
async fn place_copy<D: UserDatabase>(
    database: &Handle<D>,
    user: &UserId,
    copy: &RawDocument,
    read: &Foreign,
    adopted: RawDocumentBuf,
) -> Result<Adoption, StoreError> {
    if document::id(copy) == Bson::String(user.to_string()) {
        return replace(database, copy, adopted).await;
    }
    let store = database.store();
    let outcomes = repeating(|| store.insert(D::USERS, std::slice::from_ref(&adopted))).await?;
    match outcomes.into_iter().next() {
        Some(Inserted::Rejected(fault)) => return Ok(refused(&fault)),
        Some(Inserted::Unsettled(error)) => return Err(error),
        Some(Inserted::Stored | Inserted::Exists) | None => {}
    }
    let claims = claims(database, user, Consistency::Majority).await?;
    match native(&claims, user) {
        Some(native) if document::adopted_from(native) == Some(read.fingerprint.as_str()) => {
            remove(database, copy).await
        }
        // Content that exists nowhere else is never removed.
        Some(_) => Ok(Adoption::Quarantined(Quarantine::SeveralClaims(
            user.clone(),
        ))),
        None => Ok(Adoption::Again),
    }
}

/// A document in its final form that enters temp with the date of staging that it has: beside the foreign one it
/// was adopted from, or taken in from elsewhere.
pub(crate) struct StagingEntry<'a> {
    pub(crate) user: &'a UserId,
    pub(crate) adopted: RawDocumentBuf,
    /// The tombstone that has the `_id`.
    pub(crate) over: Option<&'a RawDocumentBuf>,
    /// What main held, and what the ledger said, when it was made.
    pub(crate) main: Option<Version>,
    pub(crate) fence: Option<Version>,
}

/// What became of a document that was to enter temp.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Entered {
    /// It lives there.
    Done,
    /// Something changed meanwhile: look again.
    Again,
    /// The database refuses it.
    Refused(Fault),
}

async fn enter_beside(
    engine: &Engine,
    document: &RawDocument,
    beside: StagingEntry<'_>,
) -> Result<Adoption, StoreError> {
    if document::staged_at(&beside.adopted).is_none() {
        return Ok(Adoption::Quarantined(Quarantine::NoCreatedAt));
    }
    match enter(engine, &beside).await? {
        // A crash here leaves both; the next adoption knows the twin by its fingerprint.
        Entered::Done => remove(engine.databases.raseen_temp_db(), document).await,
        Entered::Again => Ok(Adoption::Again),
        Entered::Refused(fault) => Ok(refused(&fault)),
    }
}

/// Enters temp in two steps: the entry, another look at main and the ledger, the confirmation.
pub(crate) async fn enter(
    engine: &Engine,
    beside: &StagingEntry<'_>,
) -> Result<Entered, StoreError> {
    let temp = engine.databases.raseen_temp_db();
    let user = beside.user;
    let Some(staged_at) = document::staged_at(&beside.adopted) else {
        return Ok(Entered::Again);
    };
    let nonce = engine.randomness().id();
    let entry = as_entry(&beside.adopted, &nonce, engine.clock().now());
    let (store, users) = (temp.store(), RaseenTempUser::USERS);
    let over = beside.over.map(AsRef::as_ref);
    match place(store.as_ref(), users, &entry, over).await? {
        Placed::Ours => {}
        Placed::ImportOutcome => return Ok(Entered::Again),
        Placed::Refused(fault) => return Ok(Entered::Refused(fault)),
    }
    // A crash here leaves an entry that nobody sees and whoever comes next withdraws.
    let main = copy_of(
        engine.databases.raseen_main_db(),
        user,
        Consistency::Linearizable,
    )
    .await?;
    let fence = engine.ledger().fence(user).await?;
    if main.as_deref().and_then(document::version) != beside.main || fence != beside.fence {
        withdraw(engine, user, &nonce).await?;
        return Ok(Entered::Again);
    }
    let id = Bson::String(user.to_string());
    let guard = Guard::Entry { nonce };
    let admit = Change::Admit { staged_at };
    match repeating(|| {
        temp.store()
            .write(RaseenTempUser::USERS, &id, &guard, &admit)
    })
    .await?
    {
        Written::Applied(_) => Ok(Entered::Done),
        Written::Rejected(fault) => {
            let nonce = document::nonce(&entry).unwrap_or_default();
            withdraw(engine, user, nonce).await?;
            Ok(Entered::Refused(fault))
        }
        Written::Unmatched | Written::TooLarge => Ok(Entered::Again),
    }
}

async fn replace<D: UserDatabase>(
    database: &Handle<D>,
    document: &RawDocument,
    by: RawDocumentBuf,
) -> Result<Adoption, StoreError> {
    whole(database, document, Change::Replace(by)).await
}

async fn remove<D: UserDatabase>(
    database: &Handle<D>,
    document: &RawDocument,
) -> Result<Adoption, StoreError> {
    whole(database, document, Change::Remove).await
}

async fn whole<D: UserDatabase>(
    database: &Handle<D>,
    document: &RawDocument,
    change: Change,
) -> Result<Adoption, StoreError> {
    let id = document::id(document);
    let guard = Guard::Whole(document.to_owned());
    let written = repeating(|| database.store().write(D::USERS, &id, &guard, &change)).await?;
    Ok(match written {
        Written::Applied(_) => Adoption::Done,
        Written::Rejected(fault) => refused(&fault),
        Written::Unmatched | Written::TooLarge => Adoption::Again,
    })
}

fn refused(fault: &Fault) -> Adoption {
    Adoption::Quarantined(Quarantine::Refused(fault.to_string()))
}
