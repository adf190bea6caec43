//! Removing from temp while other programs still write there (`TIERKEEP_FOREIGN_WRITERS=on`).
//!
//! They bump no version, so the version proves nothing: each document goes only if it is, byte for byte,
//! one whose content was proven. One that changed under an unchanged version gets the next version and
//! moves again.

use bson::Bson;
use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::bson;
use tierkeep_core::db::{RaseenTempUser, UserDatabase};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Edit, State, field};
use tierkeep_core::mover::Item;
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Change, Fence, Find, Guard, Query, StoreError};
use tierkeep_core::version::Version;

use crate::databases::retry::repeating;

/// Removes what is still exactly what was proven.
pub(crate) async fn delete(
    temp: &Handle<RaseenTempUser>,
    items: &[&Item],
) -> Result<(), StoreError> {
    let store = temp.store();
    let mut left = items.to_vec();
    while !left.is_empty() {
        let ids = left
            .iter()
            .map(|item| Bson::String(item.user.to_string()))
            .collect();
        let find = Find::new(Query::Ids(ids)).limit(left.len());
        let page = repeating(|| store.find(RaseenTempUser::USERS, &find)).await?;
        let (found, rest): (Vec<&Item>, Vec<&Item>) = left
            .into_iter()
            .partition(|item| page.iter().any(|document| is_of(document, item)));
        if found.is_empty() {
            break;
        }
        let mut proven = Vec::with_capacity(found.len());
        for document in page {
            let item = found.iter().find(|item| is_of(&document, item));
            match item.map(|item| step(&document, item)) {
                Some(Step::Remove) => proven.push(Fence::Whole(document)),
                Some(Step::Replace(raised)) => write(temp, &document, raised).await?,
                Some(Step::Nothing) | None => {}
            }
        }
        repeating(|| store.delete(RaseenTempUser::USERS, &proven)).await?;
        // A page may have ended before all of them.
        left = rest;
    }
    Ok(())
}

fn is_of(document: &RawDocument, item: &Item) -> bool {
    document
        .get_str(field::ID)
        .is_ok_and(|id| id == item.user.as_str())
}

/// Gives a document that changed under an unchanged version the next one.
pub(crate) async fn raise(
    temp: &Handle<RaseenTempUser>,
    found: &RawDocumentBuf,
    item: &Item,
) -> Result<(), StoreError> {
    match raised(found, item) {
        Some(raised) => write(temp, found, raised).await,
        None => Ok(()),
    }
}

/// What becomes of what temp holds now.
enum Step {
    /// It is what was proven, and goes.
    Remove,
    /// It changed under an unchanged version, and gets the next one.
    Replace(RawDocumentBuf),
    /// The version that was proven is gone.
    Nothing,
}

fn step(found: &RawDocument, item: &Item) -> Step {
    let same = document::state(found) == Some(State::Live)
        && document::version(found) == Some(item.version);
    if !same {
        return Step::Nothing;
    }
    if Digest::of(found) == item.digest {
        return Step::Remove;
    }
    raised(found, item).map_or(Step::Nothing, Step::Replace)
}

fn raised(found: &RawDocument, item: &Item) -> Option<RawDocumentBuf> {
    let next = item.version.next().map(Version::get)?;
    Some(Edit::new().set_meta(field::VERSION, next).apply(found))
}

async fn write(
    temp: &Handle<RaseenTempUser>,
    found: &RawDocumentBuf,
    raised: RawDocumentBuf,
) -> Result<(), StoreError> {
    let store = temp.store();
    let id = document::id(found);
    let guard = Guard::Whole(found.clone());
    let change = Change::Replace(raised);
    repeating(|| store.write(RaseenTempUser::USERS, &id, &guard, &change)).await?;
    Ok(())
}
