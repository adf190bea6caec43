//! Reading more documents than one answer holds: a whole collection page by page, or the documents of named users.
//!
//! The one place that knows where a scan ends and when an answer may have been cut.

use tierkeep_core::bson::Bson;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::document;
use tierkeep_core::store::{Cursor, Find, Query, Store, StoreError};

use crate::databases::retry::repeating;

/// What a query finds in a collection.
pub(crate) struct Pages<'a> {
    store: &'a dyn Store,
    collection: &'a str,
    find: Find,
    is_over: bool,
}

impl<'a> Pages<'a> {
    /// From the place where `find` begins, in pages as it wants them.
    pub(crate) fn new(store: &'a dyn Store, collection: &'a str, find: Find) -> Self {
        Self {
            store,
            collection,
            find,
            is_over: false,
        }
    }

    /// The next page; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<RawDocumentBuf>>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let (mut page, next) = page(self.store, self.collection, &self.find).await?;
        match next {
            None => self.is_over = true,
            next => {
                // What follows the place comes again with the next page.
                let named = page.iter().rposition(|document| document::has_id(document));
                page.truncate(named.map_or(0, |at| at + 1));
                self.find.after = next;
            }
        }
        Ok(Some(page).filter(|page| !page.is_empty()))
    }
}

/// One page of a scan, and the place where the next one begins.
///
/// A page that brings the scan no further is the last, and has no next place: a text that is not UTF-8 names none.
pub(crate) async fn page(
    store: &dyn Store,
    collection: &str,
    find: &Find,
) -> Result<(Vec<RawDocumentBuf>, Option<Cursor>), StoreError> {
    let page = repeating(|| store.find(collection, find)).await?;
    let next = Cursor::after_page(&page).filter(|next| find.after.as_ref() != Some(next));
    Ok((page, next))
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
