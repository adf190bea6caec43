//! Collections, their indexes and validators. Creates what is missing; never drops or alters anything.

use std::collections::BTreeMap;

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::store::{FoundCollection, FoundIndex, IndexLayout, Layout, Result};

use super::{GRACE, LIMIT, MongoStore, reply};
use crate::error::{self, Failure};
use crate::query;

/// The most documents of a collection that gets an optional index while others wait for it.
const SMALL_COLLECTION: u64 = 100_000;

impl MongoStore {
    /// The collections that hold documents, with their options.
    async fn listed(&self) -> Result<BTreeMap<String, RawDocumentBuf>, Failure> {
        let listed = self.list(query::list_collections(), LIMIT).await?;
        let named = |found: RawDocumentBuf| {
            let name = found.get_str("name").ok()?.to_owned();
            let options = found.get_document("options");
            Some((name, options.map(RawDocument::to_owned).unwrap_or_default()))
        };
        Ok(listed
            .into_iter()
            .filter_map(named)
            .filter(|(name, _)| !name.starts_with("system."))
            .collect())
    }

    /// The collections, and whether each has a validator.
    pub(super) async fn validated(&self) -> Result<BTreeMap<String, bool>, Failure> {
        let listed = self.listed().await?.into_iter();
        let validated = |options: RawDocumentBuf| {
            let validator = options.get_document("validator");
            validator.is_ok_and(|validator| validator.iter().next().is_some())
        };
        Ok(listed
            .map(|(name, options)| (name, validated(options)))
            .collect())
    }

    pub(super) async fn list_collections_with_options(
        &self,
    ) -> Result<Vec<FoundCollection>, Failure> {
        let listed = self.listed().await?.into_iter();
        Ok(listed
            .map(|(name, options)| reply::collection(name, &options))
            .collect())
    }

    /// The indexes of a collection; none if it was dropped meanwhile.
    pub(super) async fn indexes_of(
        &self,
        collection: &str,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        match self.list(query::list_indexes(collection), LIMIT).await {
            Err(failure) if failure.code == error::NAMESPACE_NOT_FOUND => Ok(Vec::new()),
            listed => listed,
        }
    }

    pub(super) async fn create_missing(&self, layout: &Layout) -> Result<(), Failure> {
        let known = self.validated().await?;
        for wanted in &layout.collections {
            if !known.contains_key(&wanted.name) {
                match self.change(query::create(&wanted.name), LIMIT).await {
                    // Another process was faster.
                    Err(failure) if failure.code == error::NAMESPACE_EXISTS => {}
                    created => {
                        created?;
                    }
                }
            }
            let validated = known.get(&wanted.name).copied().unwrap_or_default();
            if let Some(keeps_out) = wanted.keeps_out.filter(|_| !validated) {
                self.validate(&wanted.name, keeps_out).await?;
            }
            let there = self.indexes_of(&wanted.name).await?;
            let missing = |index: &&IndexLayout| {
                index.fields != ["_id"] && !there.iter().any(|found| reply::serves(found, index))
            };
            for index in wanted.indexes.iter().filter(missing) {
                if !index.is_optional || self.is_small(&wanted.name).await? {
                    self.build(&wanted.name, index).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether an index over the collection is built in seconds, by the server's own count of its documents.
    async fn is_small(&self, collection: &str) -> Result<bool, Failure> {
        let counted = self.send(query::estimate(collection), LIMIT).await?;
        Ok(reply::count(&counted)? <= SMALL_COLLECTION)
    }

    async fn build(&self, collection: &str, index: &IndexLayout) -> Result<(), Failure> {
        let named = async |name: &str| {
            let command = query::create_index(collection, name, index);
            self.change(command, query::BUILD_LIMIT + GRACE).await
        };
        let name = query::index_name(index);
        match named(&name).await {
            // Another program's index has the name, and is not usable: ours is created beside it.
            Err(failure) if failure.code == error::INDEX_KEY_SPECS_CONFLICT => {
                named(&format!("tierkeep_{name}")).await?;
            }
            built => {
                built?;
            }
        }
        Ok(())
    }

    /// Gives the collection its validator. A user who may read and write can lack the right to (`collMod`), and the
    /// validator is only a second guard, so a missing right does not prevent the start.
    async fn validate(&self, collection: &str, keeps_out: &str) -> Result<(), Failure> {
        match self
            .change(query::validate(collection, keeps_out), LIMIT)
            .await
        {
            Err(failure) if failure.code == error::UNAUTHORIZED => Ok(()),
            changed => changed.map(drop),
        }
    }

    pub(super) async fn list_indexes_of_all(&self) -> Result<Vec<FoundIndex>, Failure> {
        let mut found = Vec::new();
        for collection in self.listed().await?.into_keys() {
            for index in self.indexes_of(&collection).await? {
                found.push(FoundIndex {
                    collection: collection.clone(),
                    name: index.get_str("name").unwrap_or_default().to_owned(),
                    deletes_by_age: matches!(index.get("expireAfterSeconds"), Ok(Some(_))),
                });
            }
        }
        Ok(found)
    }
}
