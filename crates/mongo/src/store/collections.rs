//! Collections and their indexes. Creates what is missing; never drops or alters anything.

use bson::raw::RawDocumentBuf;
use tierkeep_core::store::{IndexLayout, Layout, Result, TtlIndex};

use super::{GRACE, LIMIT, MongoStore, reply};
use crate::error::{self, Failure};
use crate::query;

impl MongoStore {
    pub(super) async fn collection_names(&self) -> Result<Vec<String>, Failure> {
        let listed = self.list(query::list_collections(), LIMIT).await?;
        let name = |found: RawDocumentBuf| found.get_str("name").ok().map(str::to_owned);
        Ok(listed
            .into_iter()
            .filter_map(name)
            .filter(|name| !name.starts_with("system."))
            .collect())
    }

    /// The indexes of a collection; none where somebody dropped it meanwhile.
    pub(super) async fn indexes(&self, collection: &str) -> Result<Vec<RawDocumentBuf>, Failure> {
        match self.list(query::list_indexes(collection), LIMIT).await {
            Err(failure) if failure.code == error::NAMESPACE_NOT_FOUND => Ok(Vec::new()),
            listed => listed,
        }
    }

    pub(super) async fn create_missing(&self, layout: &Layout) -> Result<(), Failure> {
        let known = self.collection_names().await?;
        for wanted in &layout.collections {
            if !known.contains(&wanted.name) {
                match self.change(query::create(&wanted.name), LIMIT).await {
                    // Somebody else was faster.
                    Err(failure) if failure.code == error::NAMESPACE_EXISTS => {}
                    created => {
                        created?;
                    }
                }
            }
            let there = self.indexes(&wanted.name).await?;
            let missing = |index: &&IndexLayout| {
                index.fields != ["_id"] && !there.iter().any(|found| reply::serves(found, index))
            };
            for index in wanted.indexes.iter().filter(missing) {
                let command = query::create_index(&wanted.name, index);
                self.change(command, query::BUILD_LIMIT + GRACE).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn list_ttl_indexes(&self) -> Result<Vec<TtlIndex>, Failure> {
        let mut found = Vec::new();
        for collection in self.collection_names().await? {
            for index in self.indexes(&collection).await? {
                if matches!(index.get("expireAfterSeconds"), Ok(Some(_))) {
                    found.push(TtlIndex {
                        collection: collection.clone(),
                        index: index.get_str("name").unwrap_or_default().to_owned(),
                    });
                }
            }
        }
        Ok(found)
    }
}
