//! Going through both sides at once in the order of `_id`, page by page.
//!
//! Must never hold more than two pages of a side: the one at hand and the one that is on its way.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::compare::{CopyKind, Side, sound_version};
use tierkeep_core::store::{Class, Cursor, Fields, Find, Query, Store, StoreError, place_of};
use tierkeep_core::version::Version;
use tokio::task::JoinSet;

use crate::copies::pair::Pair;
use crate::databases::pages::page;

/// The most whole documents of a page, and about the most bytes.
const PAGE_DOCUMENTS: usize = 1_000;
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// The most claims of a page.
const PAGE_CLAIMS: usize = 10_000;

/// The documents under one `_id` on both sides.
pub(crate) struct Both {
    pub(crate) place: Vec<u8>,
    pub(crate) main: Option<RawDocumentBuf>,
    pub(crate) srie: Option<RawDocumentBuf>,
    /// The version of main's, where that is known to be sound: [`sound_version`].
    pub(crate) sound: Option<Version>,
}

impl Both {
    /// Main's, or srie's where main holds none.
    pub(crate) fn either(&self) -> Option<&RawDocumentBuf> {
        self.main.as_ref().or(self.srie.as_ref())
    }
}

/// Both sides of a collection, in the order of `_id`.
pub(crate) struct Merge {
    main: Pages,
    srie: Pages,
}

impl Merge {
    /// Whole documents, from after `after` on.
    pub(crate) fn of(pair: &Pair, after: Option<&Cursor>) -> Self {
        Self::of_query(pair, Query::All, after)
    }

    /// Whole documents that `query`, which is ordered by `_id`, means.
    pub(crate) fn of_query(pair: &Pair, query: Query, after: Option<&Cursor>) -> Self {
        let find = Find::new(query).limit(PAGE_DOCUMENTS);
        Self::reading(pair, &find.after(after.cloned()))
    }

    /// What the documents claim. Whether an HR record is deleted is part of that, and in no index with the rest.
    pub(crate) fn of_claims(pair: &Pair) -> Self {
        let find = Find::new(Query::All).limit(PAGE_CLAIMS);
        let find = match pair.kind {
            CopyKind::Users => find.claims(),
            CopyKind::Hr => find.head(),
        };
        Self::reading(pair, &find)
    }

    fn reading(pair: &Pair, find: &Find) -> Self {
        // Of equal bytes one side is hashed, in the task that has read it, while the other side is read.
        let hashes = |side| side == Side::Main && find.fields == Fields::Whole;
        let pages = |side| Pages {
            store: Arc::clone(pair.store(side)),
            collection: pair.collection.clone(),
            at_hand: VecDeque::new(),
            find: find.clone().max_bytes(PAGE_BYTES),
            hashed: hashes(side).then_some(pair.kind),
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
        if self.main.is_empty() || self.srie.is_empty() {
            let (main, srie) = tokio::join!(self.main.fill(), self.srie.fill());
            main?;
            srie?;
        }
        let order = match (self.main.at_hand.front(), self.srie.at_hand.front()) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(main), Some(srie)) => main.place.cmp(&srie.place),
        };
        let mut main = None;
        let mut srie = None;
        if order != Ordering::Greater {
            main = self.main.at_hand.pop_front();
        }
        if order != Ordering::Less {
            srie = self.srie.at_hand.pop_front();
        }
        let sound = main.as_ref().and_then(|main| main.sound);
        let split = |read: Read| (read.place, read.document);
        let (main_place, main) = main.map(split).unzip();
        let (srie_place, srie) = srie.map(split).unzip();
        Ok(Some(Both {
            place: main_place.or(srie_place).unwrap_or_default(),
            main,
            srie,
            sound,
        }))
    }
}

/// A document with its place.
struct Read {
    place: Vec<u8>,
    document: RawDocumentBuf,
    /// Its version, where it was hashed and is sound.
    sound: Option<Version>,
}

/// A page, and the place where the next one begins.
type Fetched = Result<(Vec<Read>, Option<Cursor>), StoreError>;

/// One side.
struct Pages {
    store: Arc<dyn Store>,
    collection: String,
    at_hand: VecDeque<Read>,
    /// The page that comes next.
    find: Find,
    /// What its documents are, where they are hashed.
    hashed: Option<CopyKind>,
    /// One page at most; given up when this is dropped.
    on_its_way: JoinSet<Fetched>,
    over: bool,
}

impl Pages {
    /// Whether a page has to come before there is a document at hand.
    fn is_empty(&self) -> bool {
        self.at_hand.is_empty() && !self.over
    }

    /// Makes sure that a document is at hand, unless there is none left.
    async fn fill(&mut self) -> Result<(), StoreError> {
        while self.is_empty() {
            if self.on_its_way.is_empty() {
                self.send_for_next();
            }
            let (page, next) = match self.on_its_way.join_next().await {
                Some(Ok(page)) => page?,
                Some(Err(_)) | None => return Err(self.broken_off()),
            };
            self.over = next.is_none();
            self.find.after = next;
            if !self.over {
                self.send_for_next();
            }
            self.at_hand.extend(page);
        }
        Ok(())
    }

    fn send_for_next(&mut self) {
        let (store, collection) = (Arc::clone(&self.store), self.collection.clone());
        let (find, hashed) = (self.find.clone(), self.hashed);
        self.on_its_way.spawn(async move {
            let (page, next) = page(store.as_ref(), &collection, &find).await?;
            let read = |document: RawDocumentBuf| Read {
                place: place_of(&document),
                sound: hashed.and_then(|kind| sound_version(&document, kind)),
                document,
            };
            Ok((page.into_iter().map(read).collect(), next))
        });
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
