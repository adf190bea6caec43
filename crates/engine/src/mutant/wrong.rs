//! What must never be done: the steps that run where a mutant has taken a guard away. Compiled for tests alone.

use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::db::UserDatabase;
use tierkeep_core::document;
use tierkeep_core::mover::{Action, Batch, Copies, Item, Observation, Phase, Seen, SeenInTemp};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Change, Fence, Guard, StoreError};
use tierkeep_core::user::UserId;
use tierkeep_core::version::{Version, Window};

use crate::databases::retry::repeating;
use crate::mutant::{Mutant, Mutation};

/// Changes what is stored of a user, newer lives included.
pub(crate) async fn overwrite<D: UserDatabase>(
    database: &Handle<D>,
    user: &UserId,
    change: Change,
) -> Result<(), StoreError> {
    write_any(database, &Bson::String(user.to_string()), &change).await
}

/// Deletes documents at whatever version they are.
pub(crate) async fn delete_any<D: UserDatabase>(
    database: &Handle<D>,
    fences: &[Fence],
) -> Result<(), StoreError> {
    for id in fences.iter().flat_map(Fence::ids) {
        write_any(database, &id, &Change::Remove).await?;
    }
    Ok(())
}

/// Takes what other programs wrote for unchanged, where the batch asks.
pub(crate) fn as_it_was_read(batch: &Batch) -> Option<Observation> {
    match (batch.phase(), batch.action()) {
        (Phase::Standing, Action::ReadTemp(items)) => {
            Some(Observation::Temp(vec![SeenInTemp::Same; items.len()]))
        }
        (_, _) => None,
    }
}

/// Replaces copies at whatever version they are.
pub(crate) async fn copy_over<D: UserDatabase>(
    database: &Handle<D>,
    copies: &Copies<'_>,
) -> Result<(), StoreError> {
    for document in copies.documents.iter() {
        let change = Change::Replace(document.clone());
        write_any(database, &document::id(document), &change).await?;
    }
    Ok(())
}

/// Every version of every life, where the engine lacks its window.
pub(crate) fn window(mutation: Mutation, window: Window) -> Window {
    match Version::new(i64::MAX) {
        Some(last) if mutation.has(Mutant::UnboundedWindow) => {
            Window::between(Version::FIRST, last)
        }
        Some(_) | None => window,
    }
}

async fn write_any<D: UserDatabase>(
    database: &Handle<D>,
    id: &Bson,
    change: &Change,
) -> Result<(), StoreError> {
    let (store, unguarded) = (database.store(), Guard::Fields(doc! {}));
    repeating(|| store.write(D::USERS, id, &unguarded, change)).await?;
    Ok(())
}

/// Takes a newer copy for proof of an older one, which it need not contain.
pub(crate) fn take_higher_for_equal(
    items: &[&Item],
    seen: Vec<(Option<Seen>, Option<Seen>)>,
) -> Vec<(Option<Seen>, Option<Seen>)> {
    let equal = |item: &Item, seen: Option<Seen>| {
        seen.map(|seen| {
            if seen.version <= item.version {
                return seen;
            }
            Seen {
                version: item.version,
                digest: item.digest.clone(),
                is_as_claimed: true,
            }
        })
    };
    items
        .iter()
        .zip(seen)
        .map(|(item, (srie, main))| (equal(item, srie), equal(item, main)))
        .collect()
}
