//! The contents of the seven databases as a value: a call makes a new value, and equal contents are equal.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bson::DateTime;
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::Store as _;
use tierkeep_testkit::invariants::with_announced;
use tierkeep_testkit::{ManualClock, MemoryStore};

use crate::call::{Answer, Call};

/// The seven databases.
#[derive(Clone)]
pub struct Databases(BTreeMap<Role, Arc<Contents>>);

struct Contents {
    store: MemoryStore,
    digest: u64,
}

impl Databases {
    /// What these stores hold.
    pub fn of(stores: impl IntoIterator<Item = MemoryStore>) -> Self {
        Self(
            stores
                .into_iter()
                .map(|store| (store.role(), Arc::new(Contents::of(store))))
                .collect(),
        )
    }

    /// What `call` answers at the time `now`, and what the databases hold then.
    pub fn after(&self, call: &Call, now: DateTime) -> (Answer, Self) {
        let contents = &self.0[&call.role];
        let store = contents.store.forked(Arc::new(ManualClock::new(now)));
        let answer = call.perform(&store);
        let mut after = self.clone();
        if call.is_write() {
            let changed = Contents::of(store);
            if changed.digest != contents.digest {
                after.0.insert(call.role, Arc::new(changed));
            }
        }
        (answer, after)
    }

    /// Stores of their own that hold the same.
    pub fn forked(&self, clock: &Arc<ManualClock>) -> Vec<MemoryStore> {
        self.0
            .values()
            .map(|contents| contents.store.forked(Arc::clone(clock) as Arc<dyn Clock>))
            .collect()
    }

    /// The users' documents of `role`.
    pub fn users(&self, role: Role) -> Vec<RawDocumentBuf> {
        self.all(role, role.users().unwrap_or_default())
    }

    /// The migration records, and those that the intents of batches stand for.
    pub fn records(&self) -> Vec<RawDocumentBuf> {
        let records = self.all(Role::EvaluationAudit, collection::MIGRATION_RECORDS);
        let intents = self.all(Role::EvaluationAudit, collection::MIGRATION_INTENTS);
        with_announced(records, &intents)
    }

    /// Everything in a collection.
    pub fn all(&self, role: Role, collection: &str) -> Vec<RawDocumentBuf> {
        self.0[&role].store.snapshot(collection)
    }

    /// A number that stands for everything they hold.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl Contents {
    fn of(store: MemoryStore) -> Self {
        let mut hasher = DefaultHasher::new();
        for name in store.collections() {
            name.hash(&mut hasher);
            for document in store.snapshot(&name) {
                document.as_bytes().hash(&mut hasher);
            }
        }
        Self {
            digest: hasher.finish(),
            store,
        }
    }
}

impl Hash for Databases {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for contents in self.0.values() {
            contents.digest.hash(hasher);
        }
    }
}

impl PartialEq for Databases {
    fn eq(&self, other: &Self) -> bool {
        let digests = |databases: &Self| -> Vec<u64> {
            databases
                .0
                .values()
                .map(|contents| contents.digest)
                .collect()
        };
        digests(self) == digests(other)
    }
}

impl fmt::Debug for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (role, contents) in &self.0 {
            let users = role.users().unwrap_or(collection::MIGRATION_RECORDS);
            map.entry(&role.name(), &contents.store.snapshot(users));
        }
        map.finish()
    }
}
