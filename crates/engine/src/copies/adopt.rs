//! Adopting documents that other programs wrote: the steps around `tierkeep_core::adopt`.
//!
//! Every step is guarded by the whole document as it was read, so a foreign writer that comes in between
//! is never overwritten; the caller looks again.

use bson::Bson;
use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::adopt::{self, Foreign, Quarantine};
use tierkeep_core::bson;
use tierkeep_core::db::{Role, UserDatabase};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Edit, Location, State, field};
use tierkeep_core::erasure::{Erasure, Stage, tombstone};
use tierkeep_core::mover::main_form;
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Change, Class, Fault, Guard, Inserted, StoreError, Written};
use tierkeep_core::user::{UserId, UserType};
use tierkeep_core::version::Version;

use crate::claims::{Consistency, claims, copy_of, native};
use crate::context::Engine;
use crate::copies::staging::{
    self, Entered, Known, OpenMove, StagingEntry, is_abandoned, withdraw,
};
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
    let erasure = engine.ledger().entry(user).await?;
    let is_being_erased = |erasure: &Erasure| erasure.pending.contains(&Role::RaseenTempUser);
    if erasure.as_ref().is_some_and(is_being_erased) {
        // An erasure is still clearing temp; a document that is there afterwards was created after it.
        return Ok(Adoption::Again);
    }
    let fence = erasure.and_then(|erasure| erasure.fence());
    let mut others = claims(
        engine.databases.raseen_temp_db(),
        user,
        Consistency::Majority,
    )
    .await?;
    let before = others.len();
    others.retain(|claim| claim.as_bytes() != document.as_bytes());
    if others.len() == before {
        return Ok(Adoption::Again);
    }
    let twin = native(&others, user);
    if others.len() > usize::from(twin.is_some()) {
        return Ok(several_claims(user));
    }
    // After the document was read and before main is: a move of another document of the user is seen here while it is open, and
    // in main once it is complete. See `Phase::Standing`.
    let open_moves = staging::open_moves(engine, user).await?;
    let (main, srie) = match copies_of(engine, user).await? {
        Ok(copies) => copies,
        Err(unfinished) => return Ok(unfinished),
    };
    // Removed without moving only when both copies prove to be this document's; srie must answer for that.
    let moved = has_moved(engine, &foreign, main.as_deref()).await?;
    let tombstone = match twin {
        Some(twin) if document::state(twin) == Some(State::Erased) => Some(twin),
        Some(twin) => return beside_twin(engine, document, &foreign, twin).await,
        None => None,
    };
    if moved {
        return remove(engine.databases.raseen_temp_db(), document).await;
    }
    let copies: Vec<&RawDocument> = main.as_deref().into_iter().chain(srie.as_deref()).collect();
    let others = [tombstone.and_then(|it| document::version(it)), fence];
    let Some(next) = adopt::next_version(document, &foreign, &copies, &others) else {
        return Ok(Adoption::Quarantined(Quarantine::VersionsUsedUp));
    };
    let Some(version) = above_open_moves(next.get(), &foreign, &open_moves) else {
        return Ok(Adoption::Quarantined(Quarantine::VersionsUsedUp));
    };
    let adopted = adopt::final_form(document, &foreign, Location::Temp, version);
    if document::id(document) == Bson::String(user.to_string()) {
        return replace(engine.databases.raseen_temp_db(), document, adopted).await;
    }
    let main = main.as_deref().and_then(document::version);
    let staging = StagingEntry {
        user,
        document: adopted,
        over: tombstone.map(AsRef::as_ref),
        known: Known { main, fence },
        open_moves: Some(open_moves),
    };
    enter_beside(engine, document, staging).await
}

/// `version`, or above what other documents of the user move under; that of a move of this very document.
fn above_open_moves(version: Version, foreign: &Foreign, open: &[OpenMove]) -> Option<Version> {
    match open.last() {
        Some(last) if last.version >= version => {
            let is_this = last.adopted_from.as_ref() == Some(&foreign.fingerprint);
            if is_this {
                Some(last.version)
            } else {
                last.version.next()
            }
        }
        Some(_) | None => Some(version),
    }
}

fn several_claims(user: &UserId) -> Adoption {
    Adoption::Quarantined(Quarantine::SeveralClaims(user.clone()))
}

type Copies = (Option<RawDocumentBuf>, Option<RawDocumentBuf>);

/// The copies of a user in main and srie, in tierkeep's own form; what keeps them from it otherwise.
///
/// srie being away blocks no writer; a move waits for srie and compares the versions again.
async fn copies_of(engine: &Engine, user: &UserId) -> Result<Result<Copies, Adoption>, StoreError> {
    let (main, srie) = (
        engine.databases.raseen_main_db(),
        engine.databases.srie_main_db(),
    );
    // srie first: what is adopted in main says that its backup is complete.
    let in_srie = match adopt_copies(engine.ledger(), srie, user).await {
        Ok(Adoption::Done) => copy_of(srie, user, Consistency::Majority)
            .await
            .unwrap_or_default(),
        Ok(other) => return Ok(Err(other)),
        Err(_) => None,
    };
    let adopted = adopt_copies(engine.ledger(), main, user).await?;
    if adopted != Adoption::Done {
        return Ok(Err(adopted));
    }
    let in_main = copy_of(main, user, Consistency::Linearizable).await?;
    Ok(Ok((in_main, in_srie)))
}

/// Whether main and srie both hold what became of this document.
async fn has_moved(
    engine: &Engine,
    foreign: &Foreign,
    main: Option<&RawDocument>,
) -> Result<bool, StoreError> {
    let from_this =
        |copy: &RawDocument| document::adopted_from(copy) == Some(foreign.fingerprint.as_str());
    let Some(main) = main.filter(|main| from_this(main)) else {
        return Ok(false);
    };
    let srie = engine.databases.srie_main_db();
    let srie = copy_of(srie, &foreign.user, Consistency::Majority).await?;
    Ok(srie.is_some_and(|srie| {
        from_this(&srie)
            && document::version(&srie) == document::version(main)
            && Digest::of(&srie) == Digest::of(main)
    }))
}

/// What becomes of a foreign document beside a live or entering one of the same user.
async fn beside_twin(
    engine: &Engine,
    document: &RawDocument,
    foreign: &Foreign,
    twin: &RawDocument,
) -> Result<Adoption, StoreError> {
    let state = document::state(twin);
    if state == Some(State::Live)
        && document::adopted_from(twin) == Some(foreign.fingerprint.as_str())
    {
        return remove(engine.databases.raseen_temp_db(), document).await;
    }
    if state == Some(State::Entering) {
        if is_abandoned(twin, engine.clock().now()) {
            let nonce = document::nonce(twin).unwrap_or_default();
            withdraw(engine, &foreign.user, nonce).await?;
        }
        return Ok(Adoption::Again);
    }
    Ok(several_claims(&foreign.user))
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
    let mut is_ledger_seen = true;
    let fence = match (ledger.entry(user).await, user.user_type()) {
        // An erasure is still clearing the database: above its fence this would pass for a new life.
        (Ok(Some(entry)), UserType::External) if entry.stage == Stage::Pending => {
            return Ok(Adoption::Again);
        }
        (Ok(entry), _) => entry.and_then(|entry| entry.fence()),
        (Err(error), UserType::External) if error.class != Class::Corrupt => {
            is_ledger_seen = false;
            None
        }
        (Err(error), UserType::External | UserType::Internal) => return Err(error),
    };
    let adopted = match (user.user_type(), fence) {
        (UserType::External, _) => {
            let Some(version) = Version::above([fence]) else {
                return Ok(Adoption::Quarantined(Quarantine::VersionsUsedUp));
            };
            let adopted = adopt::final_form(copy, &read, Location::External, version);
            if is_ledger_seen {
                adopted
            } else {
                Edit::new()
                    .set_meta(field::LEDGER_UNSEEN, true)
                    .apply(&adopted)
            }
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
    // The user may have been erased while the copy was written: the ledger is read again.
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

/// Enters temp beside the document of another program, then removes that.
async fn enter_beside(
    engine: &Engine,
    document: &RawDocument,
    staging: StagingEntry<'_>,
) -> Result<Adoption, StoreError> {
    let Some(staged_at) = document::staged_at(&staging.document) else {
        return Ok(Adoption::Quarantined(Quarantine::NoCreatedAt));
    };
    match staging::enter(engine, &staging, Change::Admit { staged_at }).await? {
        // A crash here leaves both; the next adoption knows the twin by its fingerprint.
        Entered::Done(_) => remove(engine.databases.raseen_temp_db(), document).await,
        Entered::Again | Entered::Unmatched => Ok(Adoption::Again),
        Entered::Refused(fault) => Ok(refused(&fault)),
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
