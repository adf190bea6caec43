//! What each database holds: how many documents, how large, from when, by which indexes. Reads only; memory does not
//! grow with the databases.

use futures_util::future::join_all;
use serde::Serialize;
use tierkeep_core::adopt;
use tierkeep_core::audit::audit_field;
use tierkeep_core::bson::raw::RawDocument;
use tierkeep_core::bson::{Bson, DateTime};
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::document::field;
use tierkeep_core::erasure::erasure_field;
use tierkeep_core::mover::record_field;
use tierkeep_core::store::{Find, FoundIndex, Query, Store, StoreError, stored_size};

use crate::databases::manager::ConnectionManager;
use crate::databases::pages::Pages;
use crate::databases::schema::layout;

/// The most that a page of whole documents holds.
const PAGE_BYTES: usize = 1024 * 1024;

/// Where a document says from when it is; what has several of them counts by the first.
const DATES: [&str; 5] = [
    field::CREATED_AT,
    audit_field::AT,
    record_field::STARTED_AT,
    erasure_field::REQUESTED_AT,
    "first_at",
];

/// What one database holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DatabaseContents {
    /// Its role.
    pub name: Role,
    /// Its collections, without the stamp; none where it did not answer.
    pub collections: Option<Vec<CollectionContents>>,
}

/// What one collection holds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct CollectionContents {
    /// Its name.
    pub name: String,
    /// How many documents, those under way and tombstones included.
    pub documents: u64,
    /// Their size, in bytes of BSON; on its disk a server may need less, as it compresses, or more.
    pub bytes: u64,
    /// When the oldest of those that have a date was made, RFC 3339.
    pub oldest: Option<String>,
    /// When the youngest of them was made.
    pub newest: Option<String>,
    /// The names of the existing indexes, whichever program made them.
    pub indexes: Vec<String>,
}

impl ConnectionManager {
    /// How many documents a database holds, without its stamp: of users, HR records with the deletions that are kept
    /// for a while, or all that `evaluation_audit` keeps.
    ///
    /// # Errors
    /// [`StoreError`] when it did not answer.
    pub async fn documents(&self, role: Role) -> Result<u64, StoreError> {
        let Some(store) = self.store(role) else {
            return Ok(0);
        };
        let mut documents = 0;
        for kept in layout(role, self.hr_collections()).collections {
            if kept.name != collection::IDENTITY {
                documents += store.count(&kept.name, &Query::All).await?;
            }
        }
        Ok(documents)
    }

    /// Reads everything that the seven databases hold, once: of users' documents and HR records the heads. That takes
    /// as long as their servers need to go through them. Of each database a page of heads, or a mebibyte of whole
    /// documents, is in memory at a time. Dropping the future changes nothing.
    pub async fn contents(&self) -> Vec<DatabaseContents> {
        let looks = Role::ALL.map(|role| async move {
            let collections = match self.store(role) {
                Some(store) => self.collections_of(store.as_ref()).await.ok(),
                None => None,
            };
            DatabaseContents {
                name: role,
                collections,
            }
        });
        join_all(looks).await
    }

    async fn collections_of(
        &self,
        store: &dyn Store,
    ) -> Result<Vec<CollectionContents>, StoreError> {
        let role = store.role();
        let indexes = store.indexes().await?;
        let kept = layout(role, self.hr_collections()).collections;
        let mut contents = Vec::new();
        for kept in kept.iter().filter(|it| it.name != collection::IDENTITY) {
            let sums = Sums::of(store, &kept.name).await?;
            contents.push(sums.with(&kept.name, &indexes));
        }
        Ok(contents)
    }
}

#[derive(Default)]
struct Sums {
    documents: u64,
    bytes: u64,
    oldest: Option<DateTime>,
    newest: Option<DateTime>,
}

impl Sums {
    async fn of(store: &dyn Store, collection: &str) -> Result<Self, StoreError> {
        // Only heads of users and of HR records have the date.
        let all = if store.role() == Role::EvaluationAudit {
            Find::new(Query::All).max_bytes(PAGE_BYTES)
        } else {
            Find::new(Query::All).sized()
        };
        let mut sums = Self::default();
        let mut pages = Pages::new(store, collection, all);
        while let Some(page) = pages.next().await? {
            for document in &page {
                sums.add(document);
            }
        }
        Ok(sums)
    }

    fn add(&mut self, document: &RawDocument) {
        let whole = u64::try_from(document.as_bytes().len()).unwrap_or(u64::MAX);
        self.documents += 1;
        self.bytes = self
            .bytes
            .saturating_add(stored_size(document).unwrap_or(whole));
        if let Some(at) = made_at(document) {
            self.oldest = Some(self.oldest.map_or(at, |oldest| oldest.min(at)));
            self.newest = Some(self.newest.map_or(at, |newest| newest.max(at)));
        }
    }

    fn with(self, name: &str, indexes: &[FoundIndex]) -> CollectionContents {
        let ours = indexes.iter().filter(|index| index.collection == name);
        CollectionContents {
            name: name.to_owned(),
            documents: self.documents,
            bytes: self.bytes,
            oldest: self.oldest.map(rfc3339),
            newest: self.newest.map(rfc3339),
            indexes: ours.map(|index| index.name.clone()).collect(),
        }
    }
}

fn made_at(document: &RawDocument) -> Option<DateTime> {
    DATES.iter().find_map(|name| {
        let value = document.get(name).ok().flatten()?;
        adopt::date(&Bson::try_from(value).ok()?)
    })
}
