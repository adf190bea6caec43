//! The name of the index that a page is read by.
//!
//! Reads name their index: its fields do not tell it from another program's over the same fields, which may leave documents
//! out, and where there are several, the server refuses a hint that gives only the fields.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tierkeep_core::store::{IndexLayout, Query};

use super::reply;
use super::{LIMIT, MongoStore};
use crate::error::{self, Failure};
use crate::query;

/// How long a name is used before the server is asked again whether that index still holds every document. One that was
/// dropped is noticed by the next read; one that was dropped and made again under the same name, and leaves documents out,
/// after this.
const NAME_KEPT: Duration = Duration::from_mins(1);

/// Fields of an index.
type IndexFields = &'static [&'static str];

/// A usable index, and when the server was asked for it.
struct Asked {
    name: String,
    at: Instant,
}

/// The usable indexes that are known, by collection and fields.
#[derive(Clone, Default)]
pub(super) struct IndexNames(Arc<Mutex<BTreeMap<(String, IndexFields), Asked>>>);

impl IndexNames {
    fn get(&self, collection: &str, fields: IndexFields) -> Option<String> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = names.get(&(collection.to_owned(), fields))?;
        (asked.at.elapsed() < NAME_KEPT).then(|| asked.name.clone())
    }

    fn set(&self, collection: &str, fields: IndexFields, name: Option<String>) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (collection.to_owned(), fields);
        let at = Instant::now();
        match name {
            Some(name) => names.insert(key, Asked { name, at }),
            None => names.remove(&key),
        };
    }
}

impl MongoStore {
    /// The name of an index over these fields by which `query` can be read; `None` where there is none.
    pub(super) async fn index_for(
        &self,
        collection: &str,
        query: &Query,
        fields: IndexFields,
    ) -> Result<Option<String>, Failure> {
        let Some(index) = self.index_over(collection, fields).await? else {
            return Ok(None);
        };
        let is_usable =
            *query != Query::Unstaged || self.is_simple(collection, fields, &index).await?;
        Ok(is_usable.then_some(index))
    }

    /// The name of an index over these fields that holds every document.
    async fn index_over(
        &self,
        collection: &str,
        fields: IndexFields,
    ) -> Result<Option<String>, Failure> {
        if let Some(name) = self.index_names.get(collection, fields) {
            return Ok(Some(name));
        }
        let wanted = IndexLayout::over(fields);
        let indexes = self.indexes_of(collection).await?;
        let found = indexes.iter().find(|index| reply::serves(index, &wanted));
        let name = found
            .and_then(|index| index.get_str("name").ok())
            .map(str::to_owned);
        self.index_names.set(collection, fields, name.clone());
        Ok(name)
    }

    /// The index was found missing.
    pub(super) fn forget_index(&self, collection: &str, fields: IndexFields) {
        self.index_names.set(collection, fields, None);
    }

    /// Whether the index is there and holds each document in exactly one place. An array among its values gives documents
    /// several: then a document could stand among the dates alone although its own value is none.
    async fn is_simple(
        &self,
        collection: &str,
        fields: IndexFields,
        index: &str,
    ) -> Result<bool, Failure> {
        match self
            .send(query::explain_scan(collection, index), LIMIT)
            .await
        {
            Ok(plan) => Ok(!reply::is_multikey(&plan)),
            Err(failure) if failure.is_missing_index() => {
                self.forget_index(collection, fields);
                Ok(false)
            }
            // A router refuses to explain what is in a database that does not exist.
            Err(failure) if failure.code == error::NAMESPACE_NOT_FOUND => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}
