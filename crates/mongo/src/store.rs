//! [`MongoStore`]: the methods of [`Store`], each as commands of `query` and their replies.
//!
//! Nothing is repeated here but what no caller could: an upsert that lost a race, and a batch in which one
//! document keeps the others out. Everything else that fails is the caller's to repeat.

mod reply;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document, Timestamp};
use mongodb::{Client, Cursor, Database};
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::store::{
    Change, Class, Fault, Fence, Find, Guard, Hello, IndexLayout, Inserted, Layout, Put, Query,
    Result, Store, StoreError, TtlIndex, Written,
};

use crate::error::{self, Failure, Kind, WriteError};
use crate::query::{self, Recognised};
use reply::Page;

/// How long an ordinary command may take, network and all.
const LIMIT: Duration = Duration::from_secs(15);
/// How much longer than the server the client waits, where the server has a longer limit.
const GRACE: Duration = Duration::from_secs(5);
/// How often an upsert that lost a race is repeated. Whoever won it has stored a document by then, so the
/// first repeat settles it unless that document is deleted again at once.
const RACES: usize = 10;
/// The largest document that the server stores.
const STORED_MAX_BYTES: usize = 16 * 1024 * 1024;

/// One logical database on a MongoDB server.
#[derive(Clone)]
pub struct MongoStore {
    role: Role,
    database: Database,
    /// The cluster's time of the last write that this store made, seconds above increments; 0 before it.
    seen: std::sync::Arc<AtomicU64>,
}

impl MongoStore {
    /// The store of `role` in `database` on the server that `client` speaks to. Clones of one client share
    /// their connections.
    pub fn with_client(client: &Client, database: &str, role: Role) -> Self {
        Self {
            role,
            database: client.database(database),
            seen: std::sync::Arc::default(),
        }
    }

    /// The name of the database on its server.
    pub fn database_name(&self) -> &str {
        self.database.name()
    }

    /// Says at which operation of this database a command failed.
    fn at(&self, operation: &'static str) -> impl Fn(Failure) -> StoreError + Copy + use<> {
        let role = self.role;
        move |failure| failure.at(role, operation)
    }

    /// Sends a command and waits for its reply, no longer than `limit`.
    async fn send(
        &self,
        command: RawDocumentBuf,
        limit: Duration,
    ) -> Result<RawDocumentBuf, Failure> {
        let sent = self.database.run_raw_command(command).into_future();
        match tokio::time::timeout(limit, sent).await {
            Err(_) => Err(Failure::timeout()),
            Ok(Ok(reply)) => RawDocumentBuf::try_from(&reply).map_err(|_| Failure::corrupt()),
            Ok(Err(failed)) => error::undecoded(&failed).ok_or_else(|| failed.into()),
        }
    }

    /// Sends a command that writes; its reply, once a majority has acknowledged what is in it.
    async fn change(
        &self,
        command: RawDocumentBuf,
        limit: Duration,
    ) -> Result<RawDocumentBuf, Failure> {
        let reply = self.send(command, limit).await?;
        error::acknowledged(&reply)?;
        if let Ok(at) = reply.get_timestamp("operationTime") {
            let at = (u64::from(at.time) << 32) | u64::from(at.increment);
            self.seen.fetch_max(at, Ordering::AcqRel);
        }
        Ok(reply)
    }

    /// The cluster's time of this store's last write.
    fn seen(&self) -> Option<Timestamp> {
        let seen = self.seen.load(Ordering::Acquire);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        (seen > 0).then(|| Timestamp {
            time: half(seen >> 32),
            increment: half(seen),
        })
    }

    /// Sends a command that answers with a cursor.
    async fn open(
        &self,
        command: RawDocumentBuf,
        batch_size: Option<u32>,
        limit: Duration,
    ) -> Result<Cursor<Document>, Failure> {
        let mut sent = self.database.run_raw_cursor_command(command);
        if let Some(batch_size) = batch_size {
            sent = sent.batch_size(batch_size);
        }
        let sent = sent.into_future();
        match tokio::time::timeout(limit, sent).await {
            Err(_) => Err(Failure::timeout()),
            Ok(opened) => Ok(opened?),
        }
    }

    /// Moves the cursor on; whether there is another document.
    async fn advance(cursor: &mut Cursor<Document>, limit: Duration) -> Result<bool, Failure> {
        match tokio::time::timeout(limit, cursor.advance()).await {
            Err(_) => Err(Failure::timeout()),
            Ok(moved) => Ok(moved?),
        }
    }

    /// Everything that a command with a short answer brings.
    async fn list(
        &self,
        command: RawDocumentBuf,
        limit: Duration,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let mut cursor = self.open(command, None, limit).await?;
        let mut all = Vec::new();
        while Self::advance(&mut cursor, limit).await? {
            all.push(cursor.current().to_owned());
        }
        Ok(all)
    }

    /// Reads the page that the commands bring one after the other. Documents that the query does not mean
    /// may make the page longer to read, and never end it early.
    async fn page(
        &self,
        find: &Find,
        commands: Vec<RawDocumentBuf>,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let batch_size = query::batch_size(find);
        let mut page = Page::new(find);
        for command in commands {
            if page.is_full() {
                break;
            }
            let mut cursor = self.open(command, Some(batch_size), LIMIT).await?;
            while !page.is_full() && Self::advance(&mut cursor, LIMIT).await? {
                page.offer(cursor.current());
            }
        }
        Ok(page.documents())
    }

    async fn find_page(
        &self,
        collection: &str,
        find: &Find,
    ) -> Result<Vec<RawDocumentBuf>, Failure> {
        let seen = self.seen();
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

    /// Whether the index over (`metadata.staged_at`, `_id`) is there and holds each document in exactly one
    /// place. An array among its values gives documents several: then a document could stand among the dates
    /// alone although its own value is none.
    async fn staged_index_is_simple(&self, collection: &str) -> Result<bool, Failure> {
        match self
            .send(query::explain_staged_index(collection), LIMIT)
            .await
        {
            Ok(plan) => Ok(!reply::is_multikey(&plan)),
            Err(failure) if failure.is_missing_index() => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Sends the documents in as many commands as they need; for each the error of its statement, if any.
    ///
    /// A command that fails as a whole for a reason that only a document can have is repeated in halves,
    /// until that document is alone.
    async fn each(
        &self,
        documents: Vec<&RawDocumentBuf>,
        build: impl Fn(&[&RawDocumentBuf]) -> RawDocumentBuf + Send + Sync,
    ) -> Result<Vec<Option<WriteError>>, Failure> {
        let mut outcomes = Vec::with_capacity(documents.len());
        let mut waiting = query::runs(documents, |document| document.as_bytes().len());
        waiting.reverse();
        while let Some(mut run) = waiting.pop() {
            match self.change(build(&run), LIMIT).await {
                Ok(reply) => {
                    let from = outcomes.len();
                    outcomes.resize(from + run.len(), None);
                    for error in error::write_errors(&reply)? {
                        let slot = outcomes.get_mut(from + error.index);
                        *slot.ok_or_else(Failure::corrupt)? = Some(error);
                    }
                }
                Err(failure) => match error::kind(failure.code) {
                    Kind::Operation(_) => return Err(failure),
                    Kind::Document(_) if run.len() > 1 => {
                        let second = run.split_off(run.len() / 2);
                        waiting.push(second);
                        waiting.push(run);
                    }
                    Kind::Document(_) => outcomes.push(Some(WriteError {
                        index: 0,
                        code: failure.code,
                        on_id: false,
                    })),
                },
            }
        }
        Ok(outcomes)
    }

    async fn insert_all(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>, Failure> {
        let mut outcomes: Vec<Inserted> = documents
            .iter()
            .map(|document| match unfit(document) {
                Some(fault) => Inserted::Rejected(fault),
                None => Inserted::Stored,
            })
            .collect();
        for exactly in [false, true] {
            let of_this_form: Vec<usize> = outcomes
                .iter()
                .zip(documents)
                .enumerate()
                .filter(|(_, (outcome, document))| {
                    **outcome == Inserted::Stored && query::altered_by_insert(document) == exactly
                })
                .map(|(index, _)| index)
                .collect();
            let chosen: Vec<_> = of_this_form
                .iter()
                .filter_map(|index| documents.get(*index))
                .collect();
            let build = if exactly {
                query::insert_exactly
            } else {
                query::insert
            };
            let errors = self.each(chosen, |run| build(collection, run)).await?;
            for (index, error) in of_this_form.into_iter().zip(errors) {
                if let (Some(error), Some(outcome)) = (error, outcomes.get_mut(index)) {
                    *outcome = if error.on_id {
                        Inserted::Exists
                    } else {
                        Inserted::Rejected(error.fault()?)
                    };
                }
            }
        }
        Ok(outcomes)
    }

    async fn put_all(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Put>, Failure> {
        let mut outcomes: Vec<Put> = documents
            .iter()
            .map(
                |document| match unfit(document).or_else(|| unversioned(document)) {
                    Some(fault) => Put::Rejected(fault),
                    None => Put::Settled,
                },
            )
            .collect();
        let mut waiting: Vec<usize> = (0..documents.len())
            .filter(|index| outcomes.get(*index) == Some(&Put::Settled))
            .collect();
        for _ in 0..RACES {
            let chosen: Vec<_> = waiting
                .iter()
                .filter_map(|index| documents.get(*index))
                .collect();
            let errors = self
                .each(chosen, |run| query::put_newer(collection, run))
                .await?;
            let mut lost = Vec::new();
            for (index, error) in waiting.into_iter().zip(errors) {
                match (error, outcomes.get_mut(index)) {
                    (Some(error), _) if error.on_id => lost.push(index),
                    (Some(error), Some(outcome)) => *outcome = Put::Rejected(error.fault()?),
                    (_, _) => {}
                }
            }
            if lost.is_empty() {
                return Ok(outcomes);
            }
            waiting = lost;
        }
        Err(Failure {
            class: Class::Busy,
            code: error::DUPLICATE_KEY,
        })
    }

    async fn write_one(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written, Failure> {
        if let Change::Section {
            value: Some(value), ..
        } = change
            && value.as_bytes().len() > STORED_MAX_BYTES
        {
            return Ok(Written::TooLarge);
        }
        let mut recognised = Recognised::ByGuard;
        if let Guard::Whole(whole) = guard {
            // The server's comparison takes an int64 for the double of the same value; this one does not.
            let read = self.read_one(collection, id).await?;
            if read.is_none_or(|read| read != *whole) {
                return Ok(Written::Unmatched);
            }
            if query::outgrows(guard, change) {
                let hash = query::hash_of(collection, id, whole);
                let Some(found) = self.list(hash, LIMIT).await?.pop() else {
                    return Ok(Written::Unmatched);
                };
                let hash = found.get_i64("hash").map_err(|_| Failure::corrupt())?;
                recognised = Recognised::ByHash(hash);
            }
        }
        let command = query::write(collection, id, guard, change, recognised);
        let reply = match self.change(command, LIMIT).await {
            Ok(reply) => reply,
            Err(failure) if matches!(failure.code, error::TOO_LARGE | 17419 | 17420) => {
                return Ok(Written::TooLarge);
            }
            Err(failure) => return Err(failure),
        };
        let Some(answer) = reply::answer(&reply)? else {
            return Ok(Written::Unmatched);
        };
        if let Change::Section { op, .. } = change
            && document::version_of_op(&answer.document, op).is_none()
        {
            return Ok(Written::TooLarge);
        }
        if answer.is_exact() {
            return Ok(Written::Applied(answer.document));
        }
        // The driver's decoding dropped a key that is spelled twice: what the document is now, byte for byte,
        // is read again.
        if let (Guard::Whole(whole), Change::Remove) = (guard, change) {
            return Ok(Written::Applied(whole.clone()));
        }
        match self.read_one(collection, id).await? {
            Some(read) if answer.has_size_of(&read) => Ok(Written::Applied(read)),
            Some(_) | None => Ok(Written::Applied(answer.document)),
        }
    }

    async fn read_one(
        &self,
        collection: &str,
        id: &Bson,
    ) -> Result<Option<RawDocumentBuf>, Failure> {
        let one = Find::new(Query::Ids(vec![id.clone()])).limit(1);
        Ok(self.find_page(collection, &one).await?.pop())
    }

    /// Sends commands whose statements have no fault of their own; how many documents they matched.
    async fn matched(&self, commands: Vec<RawDocumentBuf>) -> Result<u64, Failure> {
        let mut matched = 0;
        for command in commands {
            let reply = self.change(command, LIMIT).await?;
            if let Some(error) = error::write_errors(&reply)?.first() {
                return Err(Failure::of_code(error.code));
            }
            matched += reply::count(&reply)?;
        }
        Ok(matched)
    }

    async fn count_all(&self, collection: &str, query: &Query) -> Result<u64, Failure> {
        let by_index = *query == Query::Unstaged && self.staged_index_is_simple(collection).await?;
        let mut count = 0;
        for command in query::count(collection, query, by_index, self.seen()) {
            for counted in self.list(command, query::COUNT_LIMIT + GRACE).await? {
                count += reply::count(&counted)?;
            }
        }
        Ok(count)
    }

    async fn collection_names(&self) -> Result<Vec<String>, Failure> {
        let listed = self.list(query::list_collections(), LIMIT).await?;
        let name = |found: RawDocumentBuf| found.get_str("name").ok().map(str::to_owned);
        Ok(listed
            .into_iter()
            .filter_map(name)
            .filter(|name| !name.starts_with("system."))
            .collect())
    }

    /// The indexes of a collection; none where somebody dropped it meanwhile.
    async fn indexes(&self, collection: &str) -> Result<Vec<RawDocumentBuf>, Failure> {
        match self.list(query::list_indexes(collection), LIMIT).await {
            Err(failure) if failure.code == error::NAMESPACE_NOT_FOUND => Ok(Vec::new()),
            listed => listed,
        }
    }

    async fn create_missing(&self, layout: &Layout) -> Result<(), Failure> {
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

    async fn list_ttl_indexes(&self) -> Result<Vec<TtlIndex>, Failure> {
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

/// Why no server would store the document as it is.
fn unfit(document: &RawDocumentBuf) -> Option<Fault> {
    let fault = |code, reason: &str| {
        Some(Fault {
            code,
            reason: reason.to_owned(),
        })
    };
    if document.as_bytes().len() > STORED_MAX_BYTES {
        return fault(error::TOO_LARGE, "it is larger than 16 MiB");
    }
    match document.iter_elements().next() {
        Some(Ok(first)) if first.key() == "_id" => None,
        _ => match document.get(document::field::ID) {
            Ok(Some(_)) => fault(
                error::INVALID_ID,
                "its _id is not its first field, and would be moved there",
            ),
            Ok(None) | Err(_) => fault(error::INVALID_ID, "it has no _id"),
        },
    }
}

fn unversioned(document: &RawDocumentBuf) -> Option<Fault> {
    document::version(document).is_none().then(|| Fault {
        code: 0,
        reason: "it has no int64 version".to_owned(),
    })
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStore")
            .field("role", &self.role)
            .field("database", &self.database.name())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MongoStore {
    fn role(&self) -> Role {
        self.role
    }

    async fn hello(&self) -> Result<Hello> {
        let at = self.at("hello");
        let reply = self.send(query::hello(), LIMIT).await.map_err(at)?;
        reply::hello(&reply, self.database.name()).map_err(at)
    }

    async fn prepare(&self, layout: &Layout) -> Result<()> {
        self.create_missing(layout)
            .await
            .map_err(self.at("prepare"))
    }

    async fn ttl_indexes(&self) -> Result<Vec<TtlIndex>> {
        let listed = self.list_ttl_indexes().await;
        listed.map_err(self.at("ttl_indexes"))
    }

    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>> {
        let page = self.find_page(collection, find).await;
        page.map_err(self.at("find"))
    }

    async fn count(&self, collection: &str, query: &Query) -> Result<u64> {
        let count = self.count_all(collection, query).await;
        count.map_err(self.at("count"))
    }

    async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        let outcomes = self.insert_all(collection, documents).await;
        outcomes.map_err(self.at("insert"))
    }

    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        let outcomes = self.put_all(collection, documents).await;
        outcomes.map_err(self.at("put_newer"))
    }

    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written> {
        let written = self.write_one(collection, id, guard, change).await;
        written.map_err(self.at("write"))
    }

    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64> {
        let deleted = self.matched(query::delete(collection, fences)).await;
        deleted.map_err(self.at("delete"))
    }

    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64> {
        let amended = self.matched(query::amend(collection, ids, when, set)).await;
        amended.map_err(self.at("amend"))
    }
}
