//! The documents of a collection, page by page, to the end.

use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::document;
use tierkeep_core::store::{Cursor, Find, Store, StoreError};

use crate::retry::repeating;

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
        let mut page = repeating(|| self.store.find(self.collection, &self.find)).await?;
        // A page that brings the scan no further is the last.
        match Cursor::after_page(&page).filter(|next| self.find.after.as_ref() != Some(next)) {
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
