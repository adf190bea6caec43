//! Helpers that the laws share. Asserts only that a call succeeds.

use std::sync::Arc;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, Document, doc};
use tierkeep_core::document::{self, OPS_KEPT};
use tierkeep_core::store::{
    Change, CollectionLayout, Cursor, Fence, Find, Guard, IndexLayout, Inserted, Layout, Put,
    Query, Store, Written,
};
use tierkeep_core::user::Section;
use tierkeep_core::version::{Version, Window};

/// A store with the collection that a law works in.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) store: Arc<dyn Store>,
    pub(super) collection: &'static str,
}

impl Bench {
    pub(super) fn new(store: &Arc<dyn Store>, collection: &'static str) -> Self {
        Self {
            store: Arc::clone(store),
            collection,
        }
    }

    /// With a collection prepared as temp's is.
    pub(super) async fn prepared(store: &Arc<dyn Store>, collection: &'static str) -> Self {
        let bench = Self::new(store, collection);
        bench.prepare(&bench.layout(false)).await;
        bench
    }

    /// With a unique index over (`user_id`, `version`) as well.
    pub(super) async fn unique(store: &Arc<dyn Store>, collection: &'static str) -> Self {
        let bench = Self::new(store, collection);
        bench.prepare(&bench.layout(true)).await;
        bench
    }

    /// With the index by which what waits for its backup is found.
    pub(super) async fn backed_up(store: &Arc<dyn Store>, collection: &'static str) -> Self {
        let bench = Self::new(store, collection);
        let mut layout = bench.layout(false);
        let index = IndexLayout::over(&["metadata.state", "metadata.backup_status", "_id"]);
        for collection in &mut layout.collections {
            collection.indexes.push(index.clone());
        }
        bench.prepare(&layout).await;
        bench
    }

    pub(super) fn layout(&self, unique: bool) -> Layout {
        let mut indexes = vec![
            IndexLayout::over(&["user_id"]),
            IndexLayout::over(&["metadata.staged_at", "_id"]),
        ];
        if unique {
            indexes.push(IndexLayout::over(&["user_id", "version"]).unique());
        }
        Layout {
            collections: vec![CollectionLayout {
                name: self.collection.to_owned(),
                indexes,
                keeps_out: None,
            }],
        }
    }

    pub(super) async fn prepare(&self, layout: &Layout) {
        self.store.prepare(layout).await.expect("prepare succeeds");
    }

    pub(super) async fn find(&self, find: Find) -> Vec<RawDocumentBuf> {
        let found = self.store.find(self.collection, &find).await;
        found.expect("find succeeds")
    }

    /// The ids on one page.
    pub(super) async fn ids(&self, find: Find) -> Vec<Bson> {
        let found = self.find(find).await;
        found.iter().map(|d| document::id(d)).collect()
    }

    /// Every page of `find`, one after the other.
    pub(super) async fn pages(&self, find: Find) -> Vec<Vec<RawDocumentBuf>> {
        let mut pages: Vec<Vec<RawDocumentBuf>> = Vec::new();
        let mut after = None;
        loop {
            let page = self.find(find.clone().after(after)).await;
            let Some(last) = page.last() else {
                return pages;
            };
            after = Some(Cursor::after(last));
            pages.push(page);
            assert!(pages.len() < 10_000, "paging does not end");
        }
    }

    pub(super) async fn count(&self, query: &Query) -> u64 {
        let count = self.store.count(self.collection, query).await;
        count.expect("count succeeds")
    }

    /// The document `id` as it is stored.
    pub(super) async fn stored(&self, id: impl Into<Bson>) -> Option<RawDocumentBuf> {
        let mut found = self.find(Find::new(Query::Ids(vec![id.into()]))).await;
        assert!(found.len() <= 1, "an _id is there once");
        found.pop()
    }

    pub(super) async fn append(&self, documents: &[RawDocumentBuf]) -> Vec<Inserted> {
        let appended = self.store.append(self.collection, documents).await;
        appended.expect("append succeeds")
    }

    pub(super) async fn insert(&self, documents: &[RawDocumentBuf]) -> Vec<Inserted> {
        let inserted = self.store.insert(self.collection, documents).await;
        inserted.expect("insert succeeds")
    }

    /// Inserts documents that must be new.
    pub(super) async fn given(&self, documents: &[RawDocumentBuf]) {
        let outcomes = self.insert(documents).await;
        assert_eq!(outcomes, vec![Inserted::Stored; documents.len()]);
    }

    pub(super) async fn given_one(&self, document: &RawDocumentBuf) {
        self.given(std::slice::from_ref(document)).await;
    }

    pub(super) async fn put(&self, documents: &[RawDocumentBuf]) -> Vec<Put> {
        let put = self.store.put_newer(self.collection, documents).await;
        put.expect("put_newer succeeds")
    }

    /// Puts documents that must not be rejected.
    pub(super) async fn settle(&self, documents: &[RawDocumentBuf]) {
        let outcomes = self.put(documents).await;
        assert_eq!(outcomes, vec![Put::Settled; documents.len()]);
    }

    pub(super) async fn settle_one(&self, document: &RawDocumentBuf) {
        self.settle(std::slice::from_ref(document)).await;
    }

    pub(super) async fn write(
        &self,
        id: impl Into<Bson>,
        guard: &Guard,
        change: &Change,
    ) -> Written {
        let written = self
            .store
            .write(self.collection, &id.into(), guard, change)
            .await;
        written.expect("write succeeds")
    }

    /// Writes under a guard that must hold; answers the document as the store answered it, having
    /// checked that this is what it stores.
    pub(super) async fn applied(&self, id: &str, guard: &Guard, change: &Change) -> RawDocumentBuf {
        match self.write(id, guard, change).await {
            Written::Applied(document) => {
                if *change != Change::Remove {
                    let stored = self.stored(id).await;
                    assert_eq!(
                        stored.as_ref(),
                        Some(&document),
                        "the answer is what is stored"
                    );
                }
                document
            }
            refused @ (Written::Unmatched | Written::TooLarge | Written::Rejected(_)) => {
                panic!("{guard:?} holds, but the write was {refused:?}")
            }
        }
    }

    /// Writes under a guard that must not hold, and checks that the document stays as it is.
    pub(super) async fn unmatched(&self, id: &str, guard: &Guard, change: &Change) {
        let before = self.stored(id).await;
        let written = self.write(id, guard, change).await;
        assert_eq!(written, Written::Unmatched, "{guard:?} does not hold");
        assert_eq!(self.stored(id).await, before, "nothing changed");
    }

    pub(super) async fn delete(&self, fences: &[Fence]) -> u64 {
        let deleted = self.store.delete(self.collection, fences).await;
        deleted.expect("delete succeeds")
    }

    pub(super) async fn amend(&self, ids: &[Bson], when: &Document, set: &Document) -> u64 {
        let amended = self.store.amend(self.collection, ids, when, set).await;
        amended.expect("amend succeeds")
    }
}

pub(super) fn version(number: i64) -> Version {
    Version::new(number).expect("versions begin at 1")
}

pub(super) fn section(name: &str) -> Section {
    Section::parse(name).expect("a section's name")
}

/// A guard for a live document at one of the first eight versions.
pub(super) fn live(op: &str) -> Guard {
    live_within(1, OPS_KEPT, op)
}

/// A guard for a live document at one of `width` versions from `from` on.
pub(super) fn live_within(from: i64, width: usize, op: &str) -> Guard {
    Guard::Live {
        window: Window::from(version(from), width),
        unless_op: op.to_owned(),
    }
}

/// A guard for a live document of this version.
pub(super) fn live_at(number: i64, op: &str) -> Guard {
    Guard::Live {
        window: Window::exactly(version(number)),
        unless_op: op.to_owned(),
    }
}

/// A change of `scan_cache`.
pub(super) fn set_section(value: RawDocumentBuf, op: &str) -> Change {
    Change::Section {
        section: section("scan_cache"),
        value: Some(value),
        op: op.to_owned(),
    }
}

/// The `_id` of a document.
pub(super) fn id_of(document: &RawDocument) -> String {
    document.get_str("_id").expect("a text as _id").to_owned()
}

/// A small record: what is no user document.
pub(super) fn record(id: &str, user: &str, number: i64) -> RawDocumentBuf {
    let record = doc! { "_id": id, "user_id": user, "version": number, "status": "pending" };
    RawDocumentBuf::try_from(record).expect("a small document")
}
