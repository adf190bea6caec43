//! The line of documents in temp that a scan goes along: first those of other programs, then what is due.
//!
//! What is due comes in windows, those that are due longest first, and within a window in the order of the `_id`s, from
//! the oldest document on and round. Neighbours share pages of indexes, in temp, main, srie and the records, so a batch
//! touches few of them however long the line is.
//!
//! Reads and nothing else: it decides what is looked at next, never what becomes of it.

use std::collections::{BTreeSet, VecDeque};

use bson::raw::{RawBsonRef, RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime};
use tierkeep_core::bson;
use tierkeep_core::db::{RaseenTempUser, UserDatabase};
use tierkeep_core::document::{self, field};
use tierkeep_core::store::{Cursor, Find, Query, Store, StoreError, id_order};
use tierkeep_core::user::UserId;

use crate::databases::pages;
use crate::databases::retry::repeating;
use crate::mover::throttle::Size;

/// How many full batches a window has. With fewer of them each touches more pages of indexes, with more it deletes from more
/// pages of temp, and the oldest wait longer.
const WINDOW: usize = 4;
/// The most documents and bytes of places in a window, whatever the settings say: it is held in memory.
const MOST_PLACES: usize = 16_000;
const MOST_PLACES_BYTES: usize = 4 * 1024 * 1024;

/// Where a scan is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Unstaged,
    Due,
    Over,
}

/// The line, and the place in it.
#[derive(Debug)]
pub(crate) struct ScanQueue {
    /// Only what is this user's.
    user: Option<UserId>,
    /// What entered temp at or before this time is due.
    before: DateTime,
    stage: Stage,
    after: Option<Cursor>,
    /// What is due next and was not looked at yet: `_id`s, in their order.
    window: VecDeque<Bson>,
}

impl ScanQueue {
    pub(crate) fn new(user: Option<UserId>, before: DateTime) -> Self {
        Self {
            user,
            before,
            stage: Stage::Unstaged,
            after: None,
            window: VecDeque::new(),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Goes back to the beginning.
    pub(crate) fn rewind(&mut self) {
        *self = Self::new(self.user.take(), self.before);
    }

    /// The next documents, no more than `size`, and with those after them no more than `left`; none at the end of a
    /// stage, and where those that were next are gone.
    pub(crate) async fn page(
        &mut self,
        store: &dyn Store,
        size: Size,
        left: usize,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let size = Size {
            documents: size.documents.min(left),
            ..size
        };
        if self.window.is_empty() && self.stage == Stage::Due && self.user.is_none() {
            let documents = size.documents.saturating_mul(WINDOW).min(left);
            self.open_window(store, documents).await?;
        }
        if !self.window.is_empty() {
            return self.page_of_window(store, size).await;
        }
        let query = match (self.stage, &self.user) {
            (Stage::Over, _) => return Ok(Vec::new()),
            (_, Some(user)) => Query::Users(vec![user.to_string()]),
            (Stage::Unstaged, None) => Query::Unstaged,
            (Stage::Due, None) => Query::Due(self.before),
        };
        let find = Find::new(query)
            .after(self.after.clone())
            .limit(size.documents)
            .max_bytes(size.bytes);
        let unstaged = self.stage == Stage::Unstaged;
        let (mut page, next) = pages::page(store, RaseenTempUser::USERS, &find).await?;
        self.advance(next);
        if self.user.is_some() {
            page.retain(|document| document::is_native(document) != unstaged);
        }
        Ok(page)
    }

    /// Goes on after this place, or to the next stage where there is nothing behind it.
    fn advance(&mut self, after: Option<Cursor>) {
        if after.is_some() && after != self.after && self.user.is_none() {
            self.after = after;
            return;
        }
        self.after = None;
        self.stage = match self.stage {
            Stage::Unstaged => Stage::Due,
            Stage::Due | Stage::Over => Stage::Over,
        };
    }

    /// Fills the window with up to `documents` of the documents staged longest: those before the first whose `_id` is
    /// not of a plain type. If that is the very first, the window stays empty, and that document is looked at where it
    /// stands.
    async fn open_window(&mut self, store: &dyn Store, documents: usize) -> Result<(), StoreError> {
        let size = Size {
            documents: documents.min(MOST_PLACES),
            bytes: MOST_PLACES_BYTES,
        };
        let find = Find::new(Query::Staged(self.before)).after(self.after.clone());
        let mut places = read(store, find.sort_keys(), size).await?;
        let is_last = places.is_empty();
        let odd = places.iter().position(|place| !has_plain_id(place));
        places.truncate(odd.unwrap_or(places.len()));
        if places.is_empty() && !is_last {
            return Ok(());
        }
        self.advance(Cursor::after_page(&places));
        let mut ids: Vec<Bson> = places.iter().map(|place| document::id(place)).collect();
        let oldest = ids.first().cloned();
        ids.sort_by_cached_key(id_order);
        // The window begins with the oldest, so that no document waits indefinitely when runs end before a window does.
        if let Some(at) = ids.iter().position(|id| Some(id) == oldest.as_ref()) {
            ids.rotate_left(at);
        }
        self.window = ids.into();
        Ok(())
    }

    async fn page_of_window(
        &mut self,
        store: &dyn Store,
        size: Size,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let ids: Vec<Bson> = self.window.iter().take(size.documents).cloned().collect();
        let asked = ids.len();
        let page = read(store, Find::new(Query::Ids(ids)), size).await?;
        let rest = self.window.split_off(asked);
        let asked = std::mem::replace(&mut self.window, rest);
        let bytes: usize = page.iter().map(|document| document.as_bytes().len()).sum();
        if bytes >= size.bytes {
            // Those that did not come are gone, or did not fit into the page.
            let came = page
                .iter()
                .map(|document| id_order(&document::id(document)));
            let came: BTreeSet<Vec<u8>> = came.collect();
            let left = asked.into_iter().filter(|id| !came.contains(&id_order(id)));
            for id in left.rev() {
                self.window.push_front(id);
            }
        }
        Ok(page)
    }
}

/// Whether the `_id` is of a type whose values are ordered, compared and found alike everywhere.
fn has_plain_id(document: &RawDocument) -> bool {
    matches!(
        document.get(field::ID),
        Ok(Some(RawBsonRef::String(_) | RawBsonRef::ObjectId(_)))
    )
}

async fn read(
    store: &dyn Store,
    find: Find,
    size: Size,
) -> Result<Vec<RawDocumentBuf>, StoreError> {
    let find = find.limit(size.documents).max_bytes(size.bytes);
    repeating(|| store.find(RaseenTempUser::USERS, &find)).await
}
