//! How a document of a dump enters temp: as an entry first, confirmed after main and the ledger were looked at once
//! more, so that it never hides what has moved meanwhile. Rule source: the protocol's section 2.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tierkeep_core::bson::Bson;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::db::{RaseenTempUser, UserDatabase};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, State};
use tierkeep_core::store::{Change, Fault, Guard, Inserted, StoreError, Written};
use tierkeep_core::version::Version;

use crate::claims::{Consistency, claims, native};
use crate::context::Engine;
use crate::copies::staging::{
    self, Entered, Insertion, Known, as_entry, insert_or_replace, is_abandoned, withdraw,
};
use crate::databases::retry::repeating;
use crate::transfer::dump::import::candidate::Candidate;
use crate::transfer::dump::import::{CONTESTED, DumpOutcome};

/// How many documents are confirmed at once.
const AT_ONCE: usize = 16;
/// How often, and how long apart, a document that another writer is putting there is waited for: longer than an entry
/// of a writer that has died stands.
const ROUNDS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(200);
/// What the nonces of imports begin with: any import may take such an entry over at once.
const NONCE: &str = "import-";

/// Puts live documents with versions into temp.
pub(crate) async fn enter(
    engine: &Engine,
    candidates: &[&Candidate],
) -> Result<Vec<(usize, DumpOutcome)>, StoreError> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let nonce = format!("{NONCE}{}", engine.randomness().id());
    let now = engine.clock().now();
    let entries: Vec<RawDocumentBuf> = candidates
        .iter()
        .map(|it| as_entry(&it.document, &nonce, now))
        .collect();
    let store = engine.databases.raseen_temp_db().store();
    let inserted = repeating(|| store.insert(RaseenTempUser::USERS, &entries)).await?;
    let mut outcomes = Vec::with_capacity(candidates.len());
    let mut placed = Vec::new();
    let mut contested = Vec::new();
    for (candidate, outcome) in candidates.iter().zip(inserted) {
        match outcome {
            Inserted::Stored => placed.push(*candidate),
            Inserted::Exists => contested.push(*candidate),
            Inserted::Rejected(fault) => outcomes.push((candidate.index, refused(&fault))),
            Inserted::Unsettled(error) => return Err(error),
        }
    }
    // A crash here leaves entries that no read shows; the next import takes them over, or the janitor removes them.
    let mut confirming = stream::iter(confirmable(engine, &placed).await?)
        .map(|(candidate, verdict)| {
            let nonce = nonce.as_str();
            async move {
                let outcome = settle(engine, candidate, nonce, verdict).await?;
                Ok::<_, StoreError>((candidate, outcome))
            }
        })
        .buffer_unordered(AT_ONCE);
    while let Some(settled) = confirming.next().await {
        match settled? {
            (candidate, Some(outcome)) => outcomes.push((candidate.index, outcome)),
            (candidate, None) => contested.push(candidate),
        }
    }
    drop(confirming);
    for candidate in contested {
        let outcome = enter_beside_others(engine, candidate, &nonce).await?;
        outcomes.push((candidate.index, outcome));
    }
    Ok(outcomes)
}

/// Whether each entry may be confirmed: `Some` says what becomes of a document that may not.
async fn confirmable<'a>(
    engine: &Engine,
    placed: &[&'a Candidate],
) -> Result<Vec<(&'a Candidate, Option<DumpOutcome>)>, StoreError> {
    let users: Vec<String> = placed.iter().map(|it| it.user.to_string()).collect();
    let known = staging::look_again(engine, &users).await?;
    Ok(placed
        .iter()
        .zip(known)
        .map(|(candidate, Known { main, fence })| {
            let verdict = if fence.is_some() && fence >= candidate.version {
                Some(DumpOutcome::Erased)
            } else if main >= candidate.version {
                Some(DumpOutcome::NewerKept)
            } else {
                None
            };
            (*candidate, verdict)
        })
        .collect())
}

/// Confirms an entry, or takes it out again; `None` where it was no longer there.
async fn settle(
    engine: &Engine,
    candidate: &Candidate,
    nonce: &str,
    verdict: Option<DumpOutcome>,
) -> Result<Option<DumpOutcome>, StoreError> {
    if let Some(outcome) = verdict {
        withdraw(engine, &candidate.user, nonce).await?;
        return Ok(Some(outcome));
    }
    let live = Change::Replace(candidate.document.clone());
    Ok(
        match staging::confirm(engine, &candidate.user, nonce, &live).await? {
            Entered::Done(_) => Some(DumpOutcome::Imported),
            Entered::Refused(fault) => Some(refused(&fault)),
            // Its answer was lost, or another writer has replaced it: what temp holds says which.
            Entered::Unmatched | Entered::Again => None,
        },
    )
}

/// Enters where something is stored under the `_id` already.
async fn enter_beside_others(
    engine: &Engine,
    candidate: &Candidate,
    nonce: &str,
) -> Result<DumpOutcome, StoreError> {
    let temp = engine.databases.raseen_temp_db();
    let (store, users) = (temp.store(), RaseenTempUser::USERS);
    let (user, Some(version)) = (&candidate.user, candidate.version) else {
        return Ok(DumpOutcome::Refused("it has no version".to_owned()));
    };
    for _ in 0..ROUNDS {
        let found = claims(temp, user, Consistency::Linearizable).await?;
        if found.iter().any(|it| !document::is_native(it)) {
            return Ok(DumpOutcome::Refused(
                "the stored document of this user is another program's and has no version to compare with"
                    .to_owned(),
            ));
        }
        let there = native(&found, user);
        let stands = there.and_then(|it| document::version(it));
        let state = there.and_then(|it| document::state(it));
        if let (Some(there), Some(State::Live)) = (there, state) {
            if let Some(outcome) = compare(there, candidate, stands, version) {
                return Ok(outcome);
            }
            let id = Bson::String(user.to_string());
            let guard = Guard::Whole(there.clone());
            let change = Change::Replace(candidate.document.clone());
            match repeating(|| store.write(users, &id, &guard, &change)).await? {
                Written::Applied(_) => return Ok(DumpOutcome::Imported),
                Written::Rejected(fault) => return Ok(refused(&fault)),
                Written::Unmatched | Written::TooLarge => continue,
            }
        }
        if state == Some(State::Erased) && stands >= Some(version) {
            return Ok(DumpOutcome::Erased);
        }
        if let (Some(entry), Some(State::Entering)) = (there, state) {
            let is_import = document::nonce(entry).is_some_and(|it| it.starts_with(NONCE));
            if !is_import && !is_abandoned(entry, engine.clock().now()) {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        let entry = as_entry(&candidate.document, nonce, engine.clock().now());
        let over = there.map(AsRef::as_ref);
        match insert_or_replace(store.as_ref(), users, &entry, over).await? {
            Insertion::Ours => {}
            Insertion::Occupied => continue,
            Insertion::Refused(fault) => return Ok(refused(&fault)),
        }
        for (candidate, verdict) in confirmable(engine, &[candidate]).await? {
            if let Some(outcome) = settle(engine, candidate, nonce, verdict).await? {
                return Ok(outcome);
            }
        }
    }
    Ok(DumpOutcome::Refused(CONTESTED.to_owned()))
}

/// What becomes of a document whose user is live in temp; `None`: it takes the place of an older version.
fn compare(
    there: &RawDocumentBuf,
    candidate: &Candidate,
    stands: Option<Version>,
    version: Version,
) -> Option<DumpOutcome> {
    if stands > Some(version) {
        return Some(DumpOutcome::NewerKept);
    }
    if stands < Some(version) {
        return None;
    }
    let is_same =
        *there == candidate.document || Digest::of(there) == Digest::of(&candidate.document);
    Some(if is_same {
        DumpOutcome::Imported
    } else {
        DumpOutcome::Refused(format!(
            "version {version} is stored with different content"
        ))
    })
}

fn refused(fault: &Fault) -> DumpOutcome {
    DumpOutcome::Refused(format!("raseen_temp_user refuses it: {fault}"))
}
