//! Pages and counts. Never ends a page early because of documents that the query does not mean.

use bson::Bson;
use bson::raw::RawDocumentBuf;
use tierkeep_core::store::{CLAIMS_INDEX, Fields, Find, IndexLayout, Query, Result};

use super::reply::{self, PageReply};
use super::{GRACE, LIMIT, MongoStore, wire};
use crate::error::{self, Failure};
use crate::query;

impl MongoStore {
    /// Reads the page that the commands bring one after the other. Documents that the query does not mean
    /// may make the page longer to read, and never end it early.
    pub(super) async fn page(
        &self,
        find: &Find,
        commands: Vec<RawDocumentBuf>,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let batch_size = query::batch_size(find);
        let mut page = PageReply::new(find);
        for command in commands {
            if page.is_full() {
                break;
            }
            let mut batches = self.open(command, Some(batch_size), LIMIT).await?;
            while !page.is_full()
                && let Some(batch) = Self::next(&mut batches, LIMIT).await?
            {
                for document in wire::documents(&batch)? {
                    if page.is_full() {
                        break;
                    }
                    page.offer(document?);
                }
            }
        }
        Ok(page.documents())
    }

    pub(super) async fn find_page(
        &self,
        collection: &str,
        find: &Find,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let seen = self.seen();
        if (&find.query, find.fields) == (&Query::All, Fields::Claims)
            && let Some(index) = self.claims_index(collection).await?
        {
            let by_index = query::find_claims(collection, find, seen, &index);
            match self.page(find, vec![by_index]).await {
                // A shard lacks it, or it was dropped meanwhile.
                Err(failure) if failure.is_missing_index() => {}
                page => return page,
            }
        }
        let Some(fallback) = query::find_unindexed(collection, find, seen) else {
            return self.page(find, query::find(collection, find, seen)).await;
        };
        if find.query == Query::Unstaged && !self.staged_index_is_simple(collection).await? {
            return self.page(find, vec![fallback]).await;
        }
        match self.page(find, query::find(collection, find, seen)).await {
            Err(failure) if failure.is_missing_index() => self.page(find, vec![fallback]).await,
            page => page,
        }
    }

    /// The name of the index that alone answers [`Fields::Claims`], where there is one that holds every document.
    async fn claims_index(&self, collection: &str) -> Result<Option<String>, Failure> {
        let wanted = IndexLayout::over(&CLAIMS_INDEX);
        let indexes = self.indexes_of(collection).await?;
        let found = indexes.iter().find(|index| reply::serves(index, &wanted));
        let name = found.and_then(|index| index.get_str("name").ok());
        Ok(name.map(str::to_owned))
    }

    /// Whether the index over (`metadata.staged_at`, `_id`) is there and holds each document in exactly one
    /// place. An array among its values gives documents several: then a document could stand among the dates
    /// alone although its own value is none.
    pub(super) async fn staged_index_is_simple(&self, collection: &str) -> Result<bool, Failure> {
        match self
            .send(query::explain_staged_index(collection), LIMIT)
            .await
        {
            Ok(plan) => Ok(!reply::is_multikey(&plan)),
            Err(failure) if failure.is_missing_index() => Ok(false),
            // A router refuses to explain what is in a database that does not exist.
            Err(failure) if failure.code == error::NAMESPACE_NOT_FOUND => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn read_one(
        &self,
        collection: &str,
        id: &Bson,
    ) -> Result<Option<RawDocumentBuf>, Failure> {
        let one = Find::new(Query::Ids(vec![id.clone()])).limit(1);
        Ok(self.find_page(collection, &one).await?.pop())
    }

    pub(super) async fn count_all(&self, collection: &str, query: &Query) -> Result<u64, Failure> {
        let by_index = *query == Query::Unstaged && self.staged_index_is_simple(collection).await?;
        let mut count = 0;
        for command in query::count(collection, query, by_index, self.seen()) {
            for counted in self.list(command, query::COUNT_LIMIT + GRACE).await? {
                count += reply::count(&counted)?;
            }
        }
        Ok(count)
    }
}
