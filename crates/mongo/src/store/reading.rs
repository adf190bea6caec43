//! Pages and counts. Never ends a page early because of documents that the query does not mean.

use bson::Bson;
use bson::raw::RawDocumentBuf;
use tierkeep_core::store::{Find, Query, Result};

use super::reply::{self, PageReply};
use super::{GRACE, LIMIT, MongoStore, wire};
use crate::error::Failure;
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
        if let Some(fields) = query::index_fields(find)
            && let Some(index) = self.index_for(collection, &find.query, fields).await?
        {
            let by_index = query::find_by_index(collection, find, seen, &index);
            match self.page(find, by_index).await {
                // A shard lacks it, or it was dropped meanwhile.
                Err(failure) if failure.is_missing_index() => {
                    self.forget_index(collection, fields);
                }
                page => return page,
            }
        }
        self.page(find, query::find(collection, find, seen)).await
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
        let by_index = *query == Query::Unstaged
            && self
                .index_for(collection, query, &query::STAGED_INDEX)
                .await?
                .is_some();
        let mut count = 0;
        for command in query::count(collection, query, by_index, self.seen()) {
            for counted in self.list(command, query::COUNT_LIMIT + GRACE).await? {
                count += reply::count(&counted)?;
            }
        }
        Ok(count)
    }
}
