//! Going through both sides at once in the order of `_id`, page by page.
//!
//! Must never hold more pages of a side than the one at hand and [`AHEAD`] more.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::compare::{CopyKind, Side, sound_version};
use tierkeep_core::store::{Class, Cursor, Fields, Find, Query, Store, StoreError, place_of};
use tierkeep_core::version::Version;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::copies::pair::Pair;
use crate::databases::pages::page;

/// The most whole documents of a page, and about the most bytes.
const PAGE_DOCUMENTS: usize = 1_000;
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// The most claims of a page.
const PAGE_CLAIMS: usize = 10_000;

/// How many pages of a side are read ahead: one that is hashed while the other is on its way.
const AHEAD: usize = 2;

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

    /// As [`Merge::of`], of which no more than so many are wanted: so pages hold no more than that.
    pub(crate) fn of_share(pair: &Pair, after: Option<&Cursor>, share: u64) -> Self {
        let share = usize::try_from(share).unwrap_or(usize::MAX).max(1);
        let find = Find::new(Query::All).limit(share.min(PAGE_DOCUMENTS));
        Self::reading(pair, &find.after(after.cloned()))
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
        // Of equal bytes one side is hashed.
        let hashes = |side| side == Side::Main && find.fields == Fields::Whole;
        let pages = |side| {
            Pages::ahead(Reading {
                store: Arc::clone(pair.store(side)),
                collection: pair.collection.clone(),
                find: find.clone().max_bytes(PAGE_BYTES),
                hashed: hashes(side).then_some(pair.kind),
            })
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

/// A page that is being hashed.
struct Coming {
    page: JoinHandle<Vec<Read>>,
    is_last: bool,
}

/// One side. After an error there are errors only: an end is one that the reader has met.
struct Pages {
    at_hand: VecDeque<Read>,
    /// The page that is waited for.
    coming: Option<Coming>,
    ahead: mpsc::Receiver<Result<Coming, StoreError>>,
    /// The task that reads ahead; given up when this is dropped.
    _reader: JoinSet<()>,
    /// The side's database, for a message about that task.
    store: Arc<dyn Store>,
    is_over: bool,
}

impl Pages {
    fn ahead(reading: Reading) -> Self {
        let (pages, ahead) = mpsc::channel(AHEAD);
        let store = Arc::clone(&reading.store);
        let mut reader = JoinSet::new();
        reader.spawn(reading.read_ahead(pages));
        Self {
            at_hand: VecDeque::new(),
            coming: None,
            ahead,
            _reader: reader,
            store,
            is_over: false,
        }
    }

    /// Whether a page has to come before there is a document at hand.
    fn is_empty(&self) -> bool {
        self.at_hand.is_empty() && !self.is_over
    }

    /// Makes sure that a document is at hand, unless there is none left. Dropping the future loses no page.
    async fn fill(&mut self) -> Result<(), StoreError> {
        while self.is_empty() {
            let coming = match &mut self.coming {
                Some(coming) => coming,
                none => match self.ahead.recv().await {
                    Some(coming) => none.insert(coming?),
                    // The reader ended, and not at the end.
                    None => return Err(self.broken_off()),
                },
            };
            let (page, is_last) = ((&mut coming.page).await, coming.is_last);
            self.coming = None;
            let Ok(page) = page else {
                self.ahead.close();
                while self.ahead.recv().await.is_some() {}
                return Err(self.broken_off());
            };
            self.at_hand.extend(page);
            self.is_over = is_last;
        }
        Ok(())
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

/// How one side is read.
struct Reading {
    store: Arc<dyn Store>,
    collection: String,
    /// The page that comes next.
    find: Find,
    /// What its documents are, where they are hashed.
    hashed: Option<CopyKind>,
}

impl Reading {
    /// Reads page after page, no further ahead than there is room in `pages`.
    async fn read_ahead(mut self, pages: mpsc::Sender<Result<Coming, StoreError>>) {
        // Before the page is read, so that it counts as one of those ahead.
        while let Ok(room) = pages.reserve().await {
            let hashed = self.hashed;
            match page(self.store.as_ref(), &self.collection, &self.find).await {
                Ok((page, next)) => {
                    let read = move |document: RawDocumentBuf| Read {
                        place: place_of(&document),
                        sound: hashed.and_then(|kind| sound_version(&document, kind)),
                        document,
                    };
                    let page = tokio::spawn(async move { page.into_iter().map(read).collect() });
                    let is_last = next.is_none();
                    room.send(Ok(Coming { page, is_last }));
                    if is_last {
                        return;
                    }
                    self.find.after = next;
                }
                Err(error) => {
                    room.send(Err(error));
                    return;
                }
            }
        }
    }
}
