//! Every document of a collection of users, while documents get another `_id`.
//!
//! A document of another program has any `_id`; its adoption gives it the user's id. A scan in the order of `_id` that has
//! passed the place of the user's id and has not reached the document's own would see neither. So what an adoption may
//! change comes first, and the range in which every adoption ends comes last. A document that is adopted in between may
//! come twice, in both forms. An import or a reader of both recognises one as the origin of the other.

use std::collections::VecDeque;

use bson::Bson;
use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::bson;
use tierkeep_core::document;
use tierkeep_core::store::{Cursor, Fields, Find, Query, Store, StoreError};

use crate::databases::pages::Pages;
use crate::databases::retry::repeating;

/// Which part of the collection is at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stretch {
    /// What is ordered before the ids of users.
    Before,
    /// Among the ids of users, those documents that belong to another user than their `_id` says.
    Misplaced,
    /// What is ordered after the ids of users.
    After,
    /// The documents whose `_id` is their user.
    Settled,
}

/// The documents of a collection, each at least once if it was there all the time.
pub(crate) struct WholeScan<'a> {
    store: &'a dyn Store,
    collection: &'a str,
    find: Find,
    /// What the ids of users here begin with; none where no `_id` ever changes.
    prefix: Option<&'static str>,
    stretches: VecDeque<Stretch>,
    at: Option<(Stretch, Pages<'a>)>,
    /// Where the ids of users begin, and where they end.
    begins: Option<Cursor>,
    ends: Option<Cursor>,
    /// Those of a page that are misplaced and have not been read whole.
    misplaced: Vec<Bson>,
}

impl<'a> WholeScan<'a> {
    /// Of `find` the fields and the size of pages count.
    pub(crate) fn new(store: &'a dyn Store, collection: &'a str, find: Find) -> Self {
        let role = store.role();
        let is_of_users = role.users() == Some(collection);
        let stretches = if is_of_users {
            vec![
                Stretch::Before,
                Stretch::Misplaced,
                Stretch::After,
                Stretch::Settled,
            ]
        } else {
            vec![Stretch::After]
        };
        Self {
            store,
            collection,
            find,
            prefix: is_of_users.then(|| role.user_type().prefix()),
            stretches: stretches.into(),
            at: None,
            begins: None,
            ends: None,
            misplaced: Vec::new(),
        }
    }

    /// The next page, which may be shorter than it was asked for; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<RawDocumentBuf>>, StoreError> {
        loop {
            if !self.misplaced.is_empty() {
                let page = self.read_misplaced().await?;
                if !page.is_empty() {
                    return Ok(Some(page));
                }
                continue;
            }
            let Some((stretch, mut pages)) = self.at.take().or_else(|| self.next_stretch()) else {
                return Ok(None);
            };
            let Some(mut page) = pages.next().await? else {
                match stretch {
                    Stretch::Before => self.begins = pages.place(),
                    Stretch::Misplaced => self.ends = pages.place(),
                    Stretch::After | Stretch::Settled => {}
                }
                continue;
            };
            self.at = Some((stretch, pages));
            match stretch {
                Stretch::Before | Stretch::After => {}
                Stretch::Settled => page.retain(|document| is_last(document)),
                Stretch::Misplaced => {
                    let others = page.iter().filter(|document| !is_last(document));
                    self.misplaced = others.map(|document| document::id(document)).collect();
                    page.clear();
                }
            }
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
    }

    fn next_stretch(&mut self) -> Option<(Stretch, Pages<'a>)> {
        let stretch = self.stretches.pop_front()?;
        let (after, fields) = match stretch {
            Stretch::Before => (None, self.find.fields),
            Stretch::Misplaced => (self.begins.clone(), Fields::Keys),
            Stretch::After => (self.ends.clone(), self.find.fields),
            Stretch::Settled => (self.begins.clone(), self.find.fields),
        };
        let find = Find {
            query: Query::All,
            after,
            fields,
            ..self.find.clone()
        };
        let pages = Pages::new(self.store, self.collection, find);
        let pages = match (stretch, self.prefix) {
            (Stretch::Before, Some(prefix)) => pages.until(&Bson::from(prefix)),
            (Stretch::Misplaced | Stretch::Settled, Some(prefix)) => {
                pages.until(&Bson::from(above(prefix)))
            }
            (Stretch::After, _) | (_, None) => pages,
        };
        Some((stretch, pages))
    }

    /// Reads what is misplaced whole. What is no longer there was adopted, and comes last.
    async fn read_misplaced(&mut self) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let find = Find {
            query: Query::Ids(self.misplaced.clone()),
            after: None,
            ..self.find.clone()
        };
        let page = repeating(|| self.store.find(self.collection, &find)).await?;
        let found: Vec<Bson> = page.iter().map(|document| document::id(document)).collect();
        let bytes: usize = page.iter().map(|document| document.as_bytes().len()).sum();
        if bytes < find.max_bytes && page.len() < find.limit {
            self.misplaced.clear();
        } else {
            self.misplaced.retain(|id| !found.contains(id));
        }
        Ok(page)
    }
}

/// Whether a document among the ids of users comes last. One whose `_id` cannot be read is never adopted.
fn is_last(document: &RawDocument) -> bool {
    !document::has_id(document)
        || document::user_id(document).is_some_and(|user| {
            document
                .get_str(document::field::ID)
                .is_ok_and(|id| id == user)
        })
}

/// The least text that comes after all that begin with `prefix`.
fn above(prefix: &str) -> String {
    let mut above = prefix.to_owned();
    above.push(char::MAX);
    above
}
