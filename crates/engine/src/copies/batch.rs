//! Copies in main and srie: put there without writing over anything newer, compared, and read back.

use std::collections::{BTreeMap, HashMap};

use bson::Bson;
use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::bson;
use tierkeep_core::db::UserDatabase;
use tierkeep_core::digest::Digest;
use tierkeep_core::document;
use tierkeep_core::mover::{Copied, Copies, Item, Seen, Verify};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Find, Query, StoreError};
use tracing::warn;

use crate::copies::adopt::{Adoption, adopt_copies};
use crate::copies::put::{self, InsertOutcome};
use crate::databases::retry::repeating;
use crate::ledger::Ledger;

/// About how many bytes of copies are read back at once, so that a batch does not take its size once more.
const READ_BACK_BYTES: usize = 1024 * 1024;

/// Inserts first; for those that are there already, skips equals and sends the others guarded.
pub(crate) async fn copy<D: UserDatabase>(
    ledger: &Ledger,
    target: &Handle<D>,
    copies: &Copies<'_>,
) -> Result<Vec<Copied>, StoreError> {
    let store = target.store().as_ref();
    let Copies { items, documents } = copies;
    let mut outcomes = put::insert(store, D::USERS, documents).await?;
    let existing: Vec<usize> = outcomes
        .iter()
        .enumerate()
        .filter(|(_, outcome)| **outcome == InsertOutcome::Exists)
        .map(|(index, _)| index)
        .collect();
    let mut odd = BTreeMap::new();
    if !existing.is_empty() {
        let existing_items: Vec<&Item> = existing.iter().map(|index| items[*index]).collect();
        let compared = compare(ledger, target, &existing_items).await?;
        for (index, compared) in existing.iter().zip(compared) {
            match compared {
                Compared::Older => continue,
                Compared::Equal => {}
                Compared::Odd(outcome) => {
                    odd.insert(*index, outcome);
                }
            }
            outcomes[*index] = InsertOutcome::Settled;
        }
        put::put_newer(store, D::USERS, documents, &mut outcomes).await?;
    }
    let copied = outcomes.into_iter().enumerate().map(|(index, outcome)| {
        if let Some(odd) = odd.remove(&index) {
            return odd;
        }
        match outcome {
            InsertOutcome::Settled | InsertOutcome::Exists => Copied::Settled,
            InsertOutcome::Rejected(fault) => Copied::Rejected(fault.to_string()),
            InsertOutcome::Unsettled(error) => unsettled(items[index], &error),
        }
    });
    Ok(copied.collect())
}

/// A document that waits for a later attempt alone, because of an error that says nothing about the others.
pub(crate) fn unsettled(item: &Item, error: &StoreError) -> Copied {
    warn!(
        user_id = %item.user,
        user_type = %item.user.user_type(),
        database = %error.database,
        error = error.class.as_str(),
        code = error.code,
        "error in moving data to {}, left for a later run",
        error.database,
    );
    Copied::Refused(format!(
        "{} reports only the code {}",
        error.database, error.code
    ))
}

/// What a target holds under the `_id` of a copy.
enum Compared {
    /// The same, by version and by the digest it claims; or something newer.
    Equal,
    /// An older version.
    Older,
    /// Nothing that may be written over.
    Odd(Copied),
}

/// Compares what is there with the copies, after giving legacy documents their final form.
async fn compare<D: UserDatabase>(
    ledger: &Ledger,
    target: &Handle<D>,
    items: &[&Item],
) -> Result<Vec<Compared>, StoreError> {
    let mut found = read(target, items, true).await?;
    let mut compared = Vec::with_capacity(items.len());
    for &item in items {
        let user = &item.user;
        if found
            .get(user.as_str())
            .is_some_and(|it| !document::is_native(it))
        {
            match adopt_copies(ledger, target, user).await? {
                Adoption::Done => found.extend(read(target, &[item], true).await?),
                Adoption::Again => {
                    compared.push(Compared::Odd(Copied::Unsettled));
                    continue;
                }
                Adoption::Quarantined(reason) => {
                    compared.push(Compared::Odd(Copied::Contradicted(reason)));
                    continue;
                }
            }
        }
        let head = found.get(user.as_str());
        compared.push(match head.and_then(|head| document::version(head)) {
            Some(version) if version > item.version => Compared::Equal,
            Some(version) if version == item.version => {
                let claimed = head.and_then(|head| Digest::claimed_by(head));
                if claimed.as_ref() == Some(&item.digest) {
                    Compared::Equal
                } else {
                    contradiction(target, item).await?
                }
            }
            Some(_) | None => Compared::Older,
        });
    }
    Ok(compared)
}

/// A copy of the same version that does not claim the same digest: only its content says whether it differs.
async fn contradiction<D: UserDatabase>(
    target: &Handle<D>,
    item: &Item,
) -> Result<Compared, StoreError> {
    let whole = read(target, &[item], false).await?;
    let Some(copy) = whole.get(item.user.as_str()) else {
        return Ok(Compared::Odd(Copied::Unsettled));
    };
    let differs = document::version(copy) == Some(item.version) && Digest::of(copy) != item.digest;
    Ok(if differs {
        Compared::Odd(Copied::Contradicted(Quarantine::Conflict {
            database: target.store().role().name(),
            version: item.version,
        }))
    } else {
        Compared::Equal
    })
}

/// Reads the copies back. A claim that agrees is taken for [`Verify::Version`]; one that does not is never
/// taken: only the content says whether the copy differs.
pub(crate) async fn read_back<D: UserDatabase>(
    database: &Handle<D>,
    copies: &Copies<'_>,
    verify: Verify,
) -> Result<Vec<Option<Seen>>, StoreError> {
    let items = &copies.items;
    match verify {
        Verify::Full => {
            let sent: Vec<(&Item, &RawDocumentBuf)> = copies.iter().collect();
            let mut all = Vec::with_capacity(sent.len());
            let mut rest = sent.as_slice();
            while !rest.is_empty() {
                let (some, others) = rest.split_at(read_at_once(rest));
                rest = others;
                let items: Vec<&Item> = some.iter().map(|(item, _)| *item).collect();
                let found = read(database, &items, false).await?;
                all.extend(some.iter().map(|(item, sent)| {
                    let stored = found.get(item.user.as_str())?;
                    // What is stored byte for byte as it was sent has the digest of what was sent.
                    let unchanged = stored.as_bytes() == sent.as_bytes();
                    seen(stored, |stored| {
                        if unchanged {
                            item.digest.clone()
                        } else {
                            Digest::of(stored)
                        }
                    })
                }));
            }
            Ok(all)
        }
        Verify::Version => {
            let heads = read(database, items, true).await?;
            let agrees = |item: &Item| {
                heads.get(item.user.as_str()).is_none_or(|head| {
                    document::version(head) != Some(item.version)
                        || Digest::claimed_by(head).as_ref() == Some(&item.digest)
                })
            };
            let doubtful: Vec<&Item> = items.iter().copied().filter(|item| !agrees(item)).collect();
            let whole = read(database, &doubtful, false).await?;
            Ok(items
                .iter()
                .map(|item| {
                    let user = item.user.as_str();
                    match whole.get(user) {
                        Some(copy) => seen(copy, Digest::of),
                        None => seen(heads.get(user)?, |_| item.digest.clone()),
                    }
                })
                .collect())
        }
    }
}

/// How many of these are read back at once: one at least, and no more than [`READ_BACK_BYTES`] hold.
fn read_at_once(sent: &[(&Item, &RawDocumentBuf)]) -> usize {
    let mut bytes = 0;
    let fits = sent.iter().take_while(|(_, copy)| {
        bytes += copy.as_bytes().len();
        bytes <= READ_BACK_BYTES
    });
    fits.count().max(1)
}

fn seen(copy: &RawDocument, digest: impl FnOnce(&RawDocument) -> Digest) -> Option<Seen> {
    let version = document::version(copy)?;
    let digest = digest(copy);
    Some(Seen {
        version,
        is_as_claimed: Digest::claimed_by(copy).as_ref() == Some(&digest),
        digest,
    })
}

/// Reads documents by `_id`; only their heads where that is enough.
pub(crate) async fn read<D: UserDatabase>(
    database: &Handle<D>,
    items: &[&Item],
    head: bool,
) -> Result<HashMap<String, RawDocumentBuf>, StoreError> {
    let mut found = HashMap::with_capacity(items.len());
    let mut missing: Vec<Bson> = items
        .iter()
        .map(|item| Bson::String(item.user.to_string()))
        .collect();
    while !missing.is_empty() {
        let mut find = Find::new(Query::Ids(missing.clone())).limit(missing.len());
        if head {
            find = find.head();
        }
        let page = repeating(|| database.store().find(D::USERS, &find)).await?;
        if page.is_empty() {
            break;
        }
        for document in page {
            if let Bson::String(id) = document::id(&document) {
                found.insert(id, document);
            }
        }
        let before = missing.len();
        missing.retain(|id| id.as_str().is_none_or(|id| !found.contains_key(id)));
        if missing.len() == before {
            break;
        }
    }
    Ok(found)
}
