//! Reading more documents than one answer holds: a whole collection page by page, or the documents of named users.
//!
//! The one place that knows where a scan ends and when an answer may have been cut.

use tierkeep_core::bson::Bson;
use tierkeep_core::bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::document;
use tierkeep_core::store::{Class, Cursor, Find, Query, Store, StoreError, id_order};
use tracing::error;

use crate::databases::retry::repeating;

/// The most bytes that a page grows to while it holds no document whose `_id` can be read.
const LARGEST_PAGE_BYTES: usize = 256 * 1024 * 1024;
/// By how much a page grows at once.
const GROWTH: usize = 4;

/// What a query finds in a collection.
pub(crate) struct Pages<'a> {
    store: &'a dyn Store,
    collection: &'a str,
    find: Find,
    /// The place of the last `_id` that is wanted.
    until: Option<Vec<u8>>,
    is_over: bool,
}

impl<'a> Pages<'a> {
    /// From the place where `find` begins, in pages as it wants them.
    pub(crate) fn new(store: &'a dyn Store, collection: &'a str, find: Find) -> Self {
        Self {
            store,
            collection,
            find,
            until: None,
            is_over: false,
        }
    }

    /// Ends with the `_id` `last`, in a query that is ordered by `_id`. Documents whose `_id` cannot be read and that no
    /// readable one up to `last` follows are left to the pages that begin at [`Pages::place`].
    pub(crate) fn until(self, last: &Bson) -> Self {
        Self {
            until: Some(id_order(last)),
            ..self
        }
    }

    /// Where the next page begins.
    pub(crate) fn place(&self) -> Option<Cursor> {
        self.find.after.clone()
    }

    /// The next page; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<RawDocumentBuf>>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let (mut page, next) = page(self.store, self.collection, &self.find).await?;
        self.is_over = next.is_none();
        if let Some(until) = &self.until {
            let is_beyond = |document: &RawDocumentBuf| {
                document::has_id(document) && id_order(&document::id(document)) > *until
            };
            let beyond = page.iter().position(is_beyond);
            page.truncate(beyond.unwrap_or(page.len()));
            cut_behind_last_named(&mut page);
            self.is_over |= beyond.is_some();
        }
        if let Some(place) = Cursor::after_page(&page) {
            self.find.after = Some(place);
        }
        Ok(Some(page).filter(|page| !page.is_empty()))
    }
}

/// One page of a scan, and the place where the next one begins; `None` where there is nothing behind it.
///
/// A text that is not UTF-8 names no place: a page ends with a document whose `_id` can be read, or with the last of all.
/// Where the page that `find` wants holds none, it grows until one follows.
///
/// # Errors
/// [`Class::Corrupt`] where that would take more memory than a page may: never an early end.
pub(crate) async fn page(
    store: &dyn Store,
    collection: &str,
    find: &Find,
) -> Result<(Vec<RawDocumentBuf>, Option<Cursor>), StoreError> {
    let mut wanted = find.clone();
    let mut has_grown = false;
    loop {
        let mut page = repeating(|| store.find(collection, &wanted)).await?;
        let next = Cursor::after_page(&page).filter(|next| find.after.as_ref() != Some(next));
        if next.is_some() {
            if has_grown {
                // As little as brings the scan further.
                let named = page.iter().position(|document| document::has_id(document));
                page.truncate(named.map_or(0, |at| at + 1));
                let next = Cursor::after_page(&page);
                return Ok((page, next));
            }
            // What follows the place comes again with the next page.
            cut_behind_last_named(&mut page);
            return Ok((page, next));
        }
        let bytes: usize = page.iter().map(|document| document.as_bytes().len()).sum();
        let has_all_documents = page.len() < wanted.limit;
        let has_all_bytes = bytes < wanted.max_bytes;
        if page.is_empty() || (has_all_documents && has_all_bytes) {
            return Ok((page, None));
        }
        if !has_all_documents {
            wanted.limit = wanted.limit.saturating_mul(GROWTH);
        }
        if !has_all_bytes {
            wanted.max_bytes = wanted.max_bytes.saturating_mul(GROWTH);
        }
        if wanted.max_bytes > LARGEST_PAGE_BYTES.max(find.max_bytes) {
            return Err(unreadable(store, collection, &page));
        }
        has_grown = true;
    }
}

/// What has no `_id` that can be read, and no such document behind it.
fn cut_behind_last_named(page: &mut Vec<RawDocumentBuf>) {
    let named = page.iter().rposition(|document| document::has_id(document));
    page.truncate(named.map_or(0, |at| at + 1));
}

fn unreadable(store: &dyn Store, collection: &str, page: &[RawDocumentBuf]) -> StoreError {
    let database = store.role();
    let first = page.first().map(|first| shown_id(first));
    error!(
        user_type = %database.user_type(),
        %database,
        collection,
        document_id = first.unwrap_or_default(),
        documents = page.len(),
        "a scan cannot continue past documents whose _id is not UTF-8; change their _id, or remove them",
    );
    StoreError {
        database,
        operation: "find",
        class: Class::Corrupt,
        code: 0,
    }
}

/// The `_id` for a message, with a mark in place of what is not UTF-8.
fn shown_id(document: &RawDocument) -> String {
    let mut elements = document.iter_elements().map_while(Result::ok);
    let id = elements.find(|element| element.key().as_str() == document::field::ID);
    let text = id.and_then(|id| id.value_utf8_lossy().ok());
    let text = text.map(|text| format!("{text:?}")).unwrap_or_default();
    text.chars().take(80).collect()
}

/// The documents of named users or records, in pages that each hold every document of the names on them.
///
/// An answer that reached its limits may lack documents, so half of its names are asked for at a time until it fits.
pub(crate) struct ByNames<'a> {
    store: &'a dyn Store,
    collection: &'a str,
    as_found: Find,
    query: fn(&[String]) -> Query,
    runs: Vec<&'a [String]>,
}

impl<'a> ByNames<'a> {
    /// The documents whose `user_id` is one of `users`. Of `as_found` the fields, the read concern and the bytes count.
    pub(crate) fn users(
        store: &'a dyn Store,
        collection: &'a str,
        users: &'a [String],
        as_found: Find,
    ) -> Self {
        let query = |users: &[String]| Query::Users(users.to_vec());
        Self::new(store, collection, users, as_found, query)
    }

    /// The documents whose `_id` is one of `ids`.
    pub(crate) fn ids(
        store: &'a dyn Store,
        collection: &'a str,
        ids: &'a [String],
        as_found: Find,
    ) -> Self {
        let query = |ids: &[String]| Query::Ids(ids.iter().cloned().map(Bson::String).collect());
        Self::new(store, collection, ids, as_found, query)
    }

    fn new(
        store: &'a dyn Store,
        collection: &'a str,
        names: &'a [String],
        as_found: Find,
        query: fn(&[String]) -> Query,
    ) -> Self {
        Self {
            store,
            collection,
            as_found,
            query,
            runs: vec![names],
        }
    }

    /// The next page; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<RawDocumentBuf>>, StoreError> {
        while let Some(run) = self.runs.pop() {
            if run.is_empty() {
                continue;
            }
            // Twice as many, to see where several documents claim one user.
            let limit = run.len() * 2;
            let find = Find {
                query: (self.query)(run),
                limit,
                ..self.as_found.clone()
            };
            let page = repeating(|| self.store.find(self.collection, &find)).await?;
            let bytes: usize = page.iter().map(|document| document.as_bytes().len()).sum();
            let may_be_cut = page.len() >= limit || bytes >= find.max_bytes;
            if may_be_cut && run.len() > 1 {
                let (first, second) = run.split_at(run.len() / 2);
                self.runs.extend([second, first]);
                continue;
            }
            return Ok(Some(page));
        }
        Ok(None)
    }
}
