//! Going through both sides at once in the order of `_id`, page by page.
//!
//! Must never hold more than two pages of a side: the one at hand and the one that is on its way.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::compare::Side;
use tierkeep_core::document;
use tierkeep_core::store::{Class, Cursor, Find, Query, Store, StoreError, id_order};
use tokio::task::JoinSet;

use crate::copies::pair::Pair;
use crate::databases::pages::page;

/// The most documents of a page, and about the most bytes.
const PAGE_DOCUMENTS: usize = 1_000;
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The documents under one `_id` on both sides.
pub(crate) struct Both {
    pub(crate) place: Vec<u8>,
    pub(crate) main: Option<RawDocumentBuf>,
    pub(crate) srie: Option<RawDocumentBuf>,
}

/// Both sides of a collection, in the order of `_id`.
pub(crate) struct Merge {
    main: Pages,
    srie: Pages,
}

impl Merge {
    /// Begins after `after`.
    pub(crate) fn of(pair: &Pair, after: Option<&Cursor>) -> Self {
        let pages = |side| Pages {
            store: Arc::clone(pair.store(side)),
            collection: pair.collection.clone(),
            at_hand: VecDeque::new(),
            after: after.cloned(),
            on_its_way: JoinSet::new(),
            over: false,
        };
        Self {
            main: pages(Side::Main),
            srie: pages(Side::Srie),
        }
    }

    /// The documents under the next `_id`; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Both>, StoreError> {
        let (main, srie) = tokio::join!(self.main.fill(), self.srie.fill());
        main?;
        srie?;
        let order = match (self.main.at_hand.front(), self.srie.at_hand.front()) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((main, _)), Some((srie, _))) => main.cmp(srie),
        };
        let mut main = None;
        let mut srie = None;
        if order != Ordering::Greater {
            main = self.main.at_hand.pop_front();
        }
        if order != Ordering::Less {
            srie = self.srie.at_hand.pop_front();
        }
        let place = main.as_ref().or(srie.as_ref());
        Ok(Some(Both {
            place: place.map(|(place, _)| place.clone()).unwrap_or_default(),
            main: main.map(|(_, document)| document),
            srie: srie.map(|(_, document)| document),
        }))
    }
}

/// A page, and the place where the next one begins.
type Fetched = Result<(Vec<RawDocumentBuf>, Option<Cursor>), StoreError>;

/// One side.
struct Pages {
    store: Arc<dyn Store>,
    collection: String,
    at_hand: VecDeque<(Vec<u8>, RawDocumentBuf)>,
    /// Where the page that comes next begins.
    after: Option<Cursor>,
    /// One page at most; given up when this is dropped.
    on_its_way: JoinSet<Fetched>,
    over: bool,
}

impl Pages {
    /// Makes sure that a document is at hand, unless there is none left.
    async fn fill(&mut self) -> Result<(), StoreError> {
        while self.at_hand.is_empty() && !self.over {
            if self.on_its_way.is_empty() {
                self.send_for_next();
            }
            let (page, next) = match self.on_its_way.join_next().await {
                Some(Ok(page)) => page?,
                Some(Err(_)) | None => return Err(self.broken_off()),
            };
            self.over = next.is_none();
            self.after = next;
            if !self.over {
                self.send_for_next();
            }
            let placed = |document: RawDocumentBuf| (id_order(&document::id(&document)), document);
            self.at_hand.extend(page.into_iter().map(placed));
        }
        Ok(())
    }

    fn send_for_next(&mut self) {
        let (store, collection) = (Arc::clone(&self.store), self.collection.clone());
        let find = Find::new(Query::All)
            .after(self.after.clone())
            .limit(PAGE_DOCUMENTS)
            .max_bytes(PAGE_BYTES);
        self.on_its_way
            .spawn(async move { page(store.as_ref(), &collection, &find).await });
    }

    fn broken_off(&self) -> StoreError {
        StoreError {
            database: self.store.role(),
            operation: "find",
            class: Class::Other,
            code: 0,
        }
    }
}
