//! A store in memory, for tests that need any database.
//!
//! It obeys the same laws as the real ones (the conformance suite runs on it too) by calling the core's
//! own functions for queries, guards and changes. It never persists anything.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, Document};
use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::store::{
    Change, Class, Cursor, Damage, Entries, Fault, Fence, Find, FoundCollection, FoundIndex, Guard,
    Hello, Inserted, Layout, Put, Query, Result, ServerIdentity, Store, StoreError, Written,
    fields_match, id_order, index_key, put_replaces, with_fields,
};

/// The largest document that any backend stores.
const STORED_MAX_BYTES: usize = 16 * 1024 * 1024;

/// A database in memory. Clones share their documents, so that two movers can work on one database.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    role: Role,
    server: String,
    clock: Arc<dyn Clock>,
    data: Arc<Mutex<Data>>,
}

type Key = Vec<u8>;

#[derive(Clone, Debug, Default)]
struct Data {
    collections: BTreeMap<String, Collection>,
    ttl: Vec<FoundIndex>,
    /// Collections with options that another program gave them.
    odd: BTreeMap<String, FoundCollection>,
    damage: Vec<Damage>,
}

#[derive(Clone, Debug, Default)]
struct Collection {
    documents: BTreeMap<Key, RawDocumentBuf>,
    unique: BTreeSet<Vec<&'static str>>,
    /// The others are but remembered.
    indexes: BTreeSet<Vec<&'static str>>,
}

impl MemoryStore {
    /// An empty database of `role` on the server called `server`.
    pub fn new(role: Role, server: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            role,
            server: server.to_owned(),
            clock,
            data: Arc::default(),
        }
    }

    /// A database of its own that holds the same, with another clock.
    #[must_use]
    pub fn forked(&self, clock: Arc<dyn Clock>) -> Self {
        Self {
            role: self.role,
            server: self.server.clone(),
            clock,
            data: Arc::new(Mutex::new(self.data().clone())),
        }
    }

    /// The same database, as another process of its server serves it.
    #[must_use]
    pub fn renamed(&self, server: &str) -> Self {
        Self {
            server: server.to_owned(),
            ..self.clone()
        }
    }

    /// The names of its collections, in order.
    pub fn collections(&self) -> Vec<String> {
        self.data().collections.keys().cloned().collect()
    }

    /// Every document of `collection`, ordered by `_id`: a snapshot for the
    /// [`invariants`](crate::invariants).
    pub fn snapshot(&self, collection: &str) -> Vec<RawDocumentBuf> {
        self.data()
            .collections
            .get(collection)
            .map(|c| c.documents.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Stores `document` as it is, as another program would, in place of the present one.
    pub fn plant(&self, collection: &str, document: RawDocumentBuf) {
        let key = id_order(&document::id(&document));
        self.data().of(collection).documents.insert(key, document);
    }

    /// Takes the document `id` away, as another program would; answers what was there.
    pub fn uproot(&self, collection: &str, id: &Bson) -> Option<RawDocumentBuf> {
        self.data().of(collection).documents.remove(&id_order(id))
    }

    /// Pretends that another program made an index that deletes by age.
    pub fn plant_ttl_index(&self, collection: &str, index: &str) {
        self.data().ttl.push(FoundIndex {
            collection: collection.to_owned(),
            name: index.to_owned(),
            deletes_by_age: true,
        });
    }

    /// Pretends that another program made the collection with these options.
    pub fn plant_collection(&self, collection: FoundCollection) {
        self.data().odd.insert(collection.name.clone(), collection);
    }

    /// Pretends that a disk changed what was stored.
    pub fn plant_damage(&self, what: &str) {
        self.data().damage.push(Damage {
            what: what.to_owned(),
        });
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clash(&self, operation: &'static str) -> StoreError {
        StoreError {
            database: self.role,
            operation,
            class: Class::Other,
            code: DUPLICATE_KEY,
        }
    }
}

const DUPLICATE_KEY: i32 = 11000;

impl Data {
    fn of(&mut self, collection: &str) -> &mut Collection {
        self.collections.entry(collection.to_owned()).or_default()
    }
}

impl Collection {
    /// Why `document` may not be stored under `key`, whatever is stored there now.
    fn fault(&self, key: &Key, document: &RawDocument) -> Option<Fault> {
        let fault = |code, reason: &str| {
            Some(Fault {
                code,
                reason: reason.to_owned(),
            })
        };
        match document.get(document::field::ID) {
            Ok(Some(id)) if id.as_array().is_none() => {}
            Ok(_) | Err(_) => return fault(53, "it has no valid _id"),
        }
        if document.as_bytes().len() > STORED_MAX_BYTES {
            return fault(10334, "it is larger than 16 MiB");
        }
        if self.clashes(key, document) {
            return fault(
                DUPLICATE_KEY,
                "another document holds the same unique fields",
            );
        }
        None
    }

    fn clashes(&self, key: &Key, document: &RawDocument) -> bool {
        self.unique.iter().any(|fields| {
            let wanted = index_key(document, fields);
            self.documents
                .iter()
                .any(|(other, stored)| other != key && index_key(stored, fields) == wanted)
        })
    }

    /// The page's candidates in the order of the query.
    fn matching<'a>(
        &'a self,
        query: &'a Query,
        after: Option<&Cursor>,
    ) -> Box<dyn Iterator<Item = &'a RawDocumentBuf> + 'a> {
        match query {
            Query::Ids(ids) => {
                let keys: BTreeSet<Key> = ids.iter().map(id_order).collect();
                let after = after.map(|cursor| id_order(&cursor.id));
                Box::new(
                    keys.into_iter()
                        .filter(move |key| after.as_ref().is_none_or(|after| key > after))
                        .filter_map(|key| self.documents.get(&key)),
                )
            }
            Query::Due(_) | Query::Staged(_) | Query::Unstaged => {
                let place = |c: &Cursor| (id_order(&c.staged_at), id_order(&c.id));
                let after = after.map(place);
                let placed: BTreeMap<_, _> = self
                    .documents
                    .values()
                    .filter(|document| query.matches(document))
                    .map(|document| (place(&Cursor::after(document)), document))
                    .filter(|(place, _)| after.as_ref().is_none_or(|after| place > after))
                    .collect();
                Box::new(placed.into_values())
            }
            Query::Newest(_) => {
                let to = after.map_or(Bound::Unbounded, |cursor| {
                    Bound::Excluded(id_order(&cursor.id))
                });
                Box::new(
                    self.documents
                        .range((Bound::Unbounded, to))
                        .rev()
                        .map(|(_, document)| document)
                        .filter(|document| query.matches(document)),
                )
            }
            Query::All | Query::Users(_) | Query::Equal(_) => {
                let from = after.map_or(Bound::Unbounded, |cursor| {
                    Bound::Excluded(id_order(&cursor.id))
                });
                Box::new(
                    self.documents
                        .range((from, Bound::Unbounded))
                        .map(|(_, document)| document)
                        .filter(|document| query.matches(document)),
                )
            }
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn role(&self) -> Role {
        self.role
    }

    async fn hello(&self) -> Result<Hello> {
        Ok(Hello {
            now: self.clock.now(),
            server: ServerIdentity {
                process: self.server.clone(),
                ..ServerIdentity::default()
            },
            database: self.role.name().to_owned(),
            imitator: None,
        })
    }

    async fn prepare(&self, layout: &Layout) -> Result<()> {
        let mut data = self.data();
        for wanted in &layout.collections {
            let collection = data.of(&wanted.name);
            for index in &wanted.indexes {
                if index.entries != Entries::Unique {
                    collection.indexes.insert(index.fields.clone());
                    continue;
                }
                let mut held = BTreeSet::new();
                if !collection
                    .documents
                    .values()
                    .all(|document| held.insert(index_key(document, &index.fields)))
                {
                    return Err(self.clash("prepare"));
                }
                collection.unique.insert(index.fields.clone());
            }
        }
        Ok(())
    }

    async fn indexes(&self) -> Result<Vec<FoundIndex>> {
        let data = self.data();
        let mut listed = data.ttl.clone();
        for (collection, kept) in &data.collections {
            let indexes = kept.unique.iter().chain(&kept.indexes);
            listed.extend(indexes.map(|fields| FoundIndex {
                collection: collection.clone(),
                name: fields.join("_"),
                deletes_by_age: false,
            }));
        }
        Ok(listed)
    }

    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        let data = self.data();
        let plain = data.collections.keys().map(FoundCollection::plain);
        let mut all: BTreeMap<String, FoundCollection> =
            plain.map(|found| (found.name.clone(), found)).collect();
        all.extend(data.odd.clone());
        Ok(all.into_values().collect())
    }

    async fn damage(&self) -> Result<Vec<Damage>> {
        Ok(self.data().damage.clone())
    }

    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>> {
        let data = self.data();
        let Some(collection) = data.collections.get(collection) else {
            return Ok(Vec::new());
        };
        Ok(find.cut(
            collection
                .matching(&find.query, find.after.as_ref())
                .map(|document| find.fields.of(document.clone())),
        ))
    }

    async fn count(&self, collection: &str, query: &Query) -> Result<u64> {
        let data = self.data();
        let Some(collection) = data.collections.get(collection) else {
            return Ok(0);
        };
        Ok(collection
            .matching(query, None)
            .fold(0, |count, _| count + 1))
    }

    async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let mut data = self.data();
        let collection = data.of(collection);
        Ok(documents
            .iter()
            .map(|document| {
                let key = id_order(&document::id(document));
                if collection.documents.contains_key(&key) {
                    return Inserted::Exists;
                }
                if let Some(fault) = collection.fault(&key, document) {
                    return Inserted::Rejected(fault);
                }
                collection.documents.insert(key, document.clone());
                Inserted::Stored
            })
            .collect())
    }

    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        let mut data = self.data();
        let collection = data.of(collection);
        Ok(documents
            .iter()
            .map(|document| {
                let Some(version) = document::version(document) else {
                    return Put::Rejected(Fault {
                        code: 0,
                        reason: "it has no int64 version".to_owned(),
                    });
                };
                let key = id_order(&document::id(document));
                if let Some(stored) = collection.documents.get(&key)
                    && !put_replaces(stored, version)
                {
                    return Put::Settled;
                }
                if let Some(fault) = collection.fault(&key, document) {
                    return Put::Rejected(fault);
                }
                collection.documents.insert(key, document.clone());
                Put::Settled
            })
            .collect())
    }

    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written> {
        let now = self.clock.now();
        let mut data = self.data();
        let Some(collection) = data.collections.get_mut(collection) else {
            return Ok(Written::Unmatched);
        };
        let key = id_order(id);
        let Some(stored) = collection.documents.get(&key) else {
            return Ok(Written::Unmatched);
        };
        if !guard.holds(stored) {
            return Ok(Written::Unmatched);
        }
        match change.apply(stored, now) {
            Err(_) => Ok(Written::TooLarge),
            Ok(Some(changed)) => {
                if let Some(fault) = collection.fault(&key, &changed) {
                    return Ok(Written::Rejected(fault));
                }
                collection.documents.insert(key, changed.clone());
                Ok(Written::Applied(changed))
            }
            Ok(None) => Ok(collection
                .documents
                .remove(&key)
                .map_or(Written::Unmatched, Written::Applied)),
        }
    }

    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64> {
        let mut data = self.data();
        let Some(collection) = data.collections.get_mut(collection) else {
            return Ok(0);
        };
        let mut gone = 0;
        for fence in fences {
            for key in fence.ids().iter().map(id_order) {
                let stored = collection.documents.get(&key);
                if stored.is_some_and(|stored| fence.takes(stored)) {
                    collection.documents.remove(&key);
                    gone += 1;
                }
            }
        }
        Ok(gone)
    }

    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64> {
        let mut data = self.data();
        let Some(collection) = data.collections.get_mut(collection) else {
            return Ok(0);
        };
        let mut matched = 0;
        for key in ids.iter().map(id_order).collect::<BTreeSet<Key>>() {
            let Some(stored) = collection.documents.get(&key) else {
                continue;
            };
            if fields_match(stored, when) {
                let changed = with_fields(stored, set);
                if collection.clashes(&key, &changed) {
                    return Err(self.clash("amend"));
                }
                collection.documents.insert(key, changed);
                matched += 1;
            }
        }
        Ok(matched)
    }
}
