//! The line of documents in temp that a scan goes along: first those of other programs, then what is due.
//!
//! What is due comes some batches at a time, the oldest first, and these in the order of their `_id`s. Neighbours share
//! pages of indexes, in temp, main, srie and the records, so a batch touches few of them however long the line is.
//!
//! Reads and nothing else: it decides what is looked at next, never what becomes of it.

use std::collections::VecDeque;

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime};
use tierkeep_core::bson;
use tierkeep_core::db::{RaseenTempUser, UserDatabase};
use tierkeep_core::document;
use tierkeep_core::store::{Cursor, Find, Query, Store, StoreError, id_order};
use tierkeep_core::user::UserId;

use super::flow::Size;
use crate::retry::repeating;

/// How many batches of what is due come in the order of their `_id`s. Fewer touch more pages; more put off the oldest.
const WINDOW: usize = 16;

/// Where a scan is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Unstaged,
    Due,
    Over,
}

/// The line, and the place in it.
#[derive(Debug)]
pub(super) struct Line {
    /// Only what is this user's.
    user: Option<UserId>,
    /// What entered temp at or before this time is due.
    before: DateTime,
    stage: Stage,
    after: Option<Cursor>,
    /// What is due next and was not looked at yet: `_id`s, in their order.
    window: VecDeque<Bson>,
}

impl Line {
    pub(super) fn new(user: Option<UserId>, before: DateTime) -> Self {
        Self {
            user,
            before,
            stage: Stage::Unstaged,
            after: None,
            window: VecDeque::new(),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Goes back to the beginning.
    pub(super) fn rewind(&mut self) {
        *self = Self::new(self.user.take(), self.before);
    }

    /// The next documents, no more than `size`, and with those after them no more than `left`; none at the end of a
    /// stage, and where those that were next are gone.
    pub(super) async fn page(
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
        let find = Find::new(query).after(self.after.clone());
        let unstaged = self.stage == Stage::Unstaged;
        let mut page = read(store, find, size).await?;
        self.advance(&page);
        if self.user.is_some() {
            page.retain(|document| document::is_native(document) != unstaged);
        }
        Ok(page)
    }

    /// Goes on after `page`, or to the next stage where it was the last.
    fn advance(&mut self, page: &[RawDocumentBuf]) {
        let after = Cursor::after_page(page);
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

    /// Fills the window with so many of what is due, unless one has an `_id` that cannot be read: such a document
    /// is looked at where it stands.
    async fn open_window(&mut self, store: &dyn Store, documents: usize) -> Result<(), StoreError> {
        let find = Find::new(Query::Due(self.before)).after(self.after.clone());
        let size = Size {
            documents,
            bytes: usize::MAX,
        };
        let places = read(store, find.places(), size).await?;
        if places.iter().all(|place| document::has_id(place)) {
            self.advance(&places);
            let mut ids: Vec<Bson> = places.iter().map(|place| document::id(place)).collect();
            ids.sort_by_cached_key(id_order);
            self.window = ids.into();
        }
        Ok(())
    }

    async fn page_of_window(
        &mut self,
        store: &dyn Store,
        size: Size,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let ids: Vec<Bson> = self.window.iter().take(size.documents).cloned().collect();
        let page = read(store, Find::new(Query::Ids(ids.clone())), size).await?;
        // What comes after the last one did not fit into the page, or is gone.
        let last = page
            .last()
            .map(|document| id_order(&document::id(document)));
        let seen = last.and_then(|last| ids.iter().rposition(|id| id_order(id) == last));
        self.window.drain(..seen.map_or(ids.len(), |at| at + 1));
        Ok(page)
    }
}

async fn read(
    store: &dyn Store,
    find: Find,
    size: Size,
) -> Result<Vec<RawDocumentBuf>, StoreError> {
    let find = find.limit(size.documents).max_bytes(size.bytes);
    repeating(|| store.find(RaseenTempUser::USERS, &find)).await
}
