//! The predecessor's database. Reads what a majority has acknowledged, on a secondary where there is one, and
//! writes nothing: there is no command in `query::legacy` that could.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document, Timestamp};
use futures_util::StreamExt as _;
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::{ChangeStreamEvent, OperationType, ResumeToken};
use mongodb::options::{ReadPreference, SelectionCriteria};
use mongodb::raw_batch_cursor::RawBatchCursor;
use mongodb::{Client, Database};
use secrecy::{ExposeSecret, SecretString};
use tierkeep_core::legacy::SourceError;
use tierkeep_core::legacy::source::{Change, Changed, Changes, Pages, Result, Source};
use tierkeep_core::store::Hello;

use crate::connect::{self, Servers};
use crate::error::Failure;
use crate::query;
use crate::store::{reply, wire};

/// How long the server may need for the next documents of a scan.
const PAGE: Duration = Duration::from_mins(2);
/// How long an ordinary command may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The most changes that are answered together.
const CHANGES_TOGETHER: usize = 1_000;

/// Why a connection string leads to no database of the predecessor. Names the variable, never the string.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LegacyError {
    /// The string is no MongoDB connection string.
    #[error("{0} is not a valid MongoDB connection string")]
    Invalid(&'static str),
    /// The host name of a `mongodb+srv` string has no records that could be read.
    #[error("the host name in {0} could not be resolved")]
    Unresolved(&'static str),
}

/// One database of the predecessor.
#[derive(Clone)]
pub struct LegacyDatabase {
    database: Database,
}

impl fmt::Debug for LegacyDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyDatabase")
            .field("database", &self.database.name())
            .finish()
    }
}

impl Servers {
    /// The predecessor's database at `url`, the value of `variable`: the one named `database`, else the one in the
    /// path of `url`, else `otherwise`.
    ///
    /// # Errors
    /// [`LegacyError`] when `url` cannot be understood; whether a server is there is not looked at.
    pub async fn legacy(
        &self,
        url: &SecretString,
        variable: &'static str,
        database: Option<&str>,
        otherwise: &str,
    ) -> Result<LegacyDatabase, LegacyError> {
        let (client, path) = self.client(url).await.map_err(|error| {
            if connect::is_unresolved(&error) {
                LegacyError::Unresolved(variable)
            } else {
                LegacyError::Invalid(variable)
            }
        })?;
        let name = database.or(path.as_deref()).unwrap_or(otherwise);
        Ok(LegacyDatabase::with_client(&client, name))
    }
}

/// The database that the path of a connection string names. Contacts no server.
pub fn database_in_path(url: &SecretString) -> Option<String> {
    let parsed = mongodb::options::ConnectionString::parse(url.expose_secret()).ok()?;
    parsed.default_database
}

impl LegacyDatabase {
    /// The database of this name on the server that `client` speaks to.
    pub fn with_client(client: &Client, name: &str) -> Self {
        Self {
            database: client.database(name),
        }
    }

    fn at(&self, operation: &'static str) -> impl Fn(Failure) -> SourceError + use<> {
        let database = self.database.name().to_owned();
        move |failure| SourceError {
            database: database.clone(),
            operation,
            class: failure.class,
            code: failure.code,
        }
    }

    async fn greet(&self) -> Result<RawDocumentBuf, Failure> {
        let sent = self.database.run_raw_command(query::hello());
        answered(sent.into_future()).await
    }

    async fn open(
        &self,
        command: RawDocumentBuf,
        batch_size: Option<u32>,
    ) -> Result<RawBatchCursor, Failure> {
        let mut sent = self
            .database
            .run_raw_cursor_command(command)
            .selection_criteria(nearby());
        if let Some(batch_size) = batch_size {
            sent = sent.batch_size(batch_size);
        }
        match tokio::time::timeout(PAGE, sent.batch()).await {
            Err(_) => Err(Failure::timeout()),
            Ok(opened) => Ok(opened?),
        }
    }

    async fn list(&self, command: RawDocumentBuf) -> Result<Vec<RawDocumentBuf>, Failure> {
        let mut batches = self.open(command, None).await?;
        let mut all = Vec::new();
        while let Some(page) = next(&mut batches).await? {
            all.extend(page);
        }
        Ok(all)
    }
}

/// What the server answers to one command, in time.
async fn answered(
    sent: impl Future<Output = mongodb::error::Result<Document>>,
) -> Result<RawDocumentBuf, Failure> {
    match tokio::time::timeout(LIMIT, sent).await {
        Err(_) => Err(Failure::timeout()),
        Ok(reply) => RawDocumentBuf::try_from(&reply?).map_err(|_| Failure::corrupt()),
    }
}

/// A secondary where there is one.
fn nearby() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::SecondaryPreferred { options: None })
}

async fn next(batches: &mut RawBatchCursor) -> Result<Option<Vec<RawDocumentBuf>>, Failure> {
    let batch = match tokio::time::timeout(PAGE, batches.next()).await {
        Err(_) => return Err(Failure::timeout()),
        Ok(None) => return Ok(None),
        Ok(Some(batch)) => batch?,
    };
    let mut page = Vec::new();
    for document in wire::documents(&batch)? {
        page.push(document?.to_owned());
    }
    Ok(Some(page))
}

#[async_trait]
impl Source for LegacyDatabase {
    fn name(&self) -> &str {
        self.database.name()
    }

    async fn hello(&self) -> Result<Hello> {
        let at = self.at("hello");
        let reply = self.greet().await.map_err(&at)?;
        reply::hello(&reply, self.database.name()).map_err(at)
    }

    async fn cluster_time(&self) -> Result<Option<Timestamp>> {
        let reply = self.greet().await.map_err(self.at("cluster_time"))?;
        Ok(reply.get_timestamp("operationTime").ok())
    }

    async fn collections(&self) -> Result<Vec<String>> {
        let listed = self.list(query::list_collections()).await;
        let name = |found: RawDocumentBuf| found.get_str("name").ok().map(str::to_owned);
        let mut names: Vec<String> = listed
            .map_err(self.at("collections"))?
            .into_iter()
            .filter_map(name)
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn count(&self, collection: &str) -> Result<u64> {
        let counted = self.list(query::legacy_count(collection)).await;
        let counted = counted.map_err(self.at("count"))?;
        let mut count = 0;
        for one in &counted {
            count += reply::count(one).map_err(self.at("count"))?;
        }
        Ok(count)
    }

    async fn estimate(&self, collection: &str) -> Result<u64> {
        let asked = query::estimate(collection);
        let sent = self.database.run_raw_command(asked);
        let sent = sent.selection_criteria(nearby()).into_future();
        let reply = answered(sent).await.map_err(self.at("estimate"))?;
        reply::count(&reply).map_err(self.at("estimate"))
    }

    async fn scan(
        &self,
        collection: &str,
        fields: Option<&[&str]>,
        not_before: Option<Timestamp>,
    ) -> Result<Box<dyn Pages>> {
        let command = query::legacy_scan(collection, fields, not_before);
        // A page of whole documents is as large as the server makes it.
        let batch_size = fields.map(|_| query::PARTS_TOGETHER);
        let batches = self.open(command, batch_size).await;
        let batches = batches.map_err(self.at("scan"))?;
        Ok(Box::new(Scan {
            batches,
            source: self.clone(),
        }))
    }

    async fn fetch(
        &self,
        collection: &str,
        ids: &[Bson],
        fields: Option<&[&str]>,
        not_before: Option<Timestamp>,
    ) -> Result<Vec<RawDocumentBuf>> {
        let mut found = Vec::with_capacity(ids.len());
        for command in query::legacy_fetch(collection, ids, fields, not_before) {
            found.extend(self.list(command).await.map_err(self.at("fetch"))?);
        }
        Ok(found)
    }

    async fn watch(&self, token: Option<&Bson>) -> Result<Box<dyn Changes>> {
        let at = self.at("watch");
        let token: Option<ResumeToken> = token
            .map(|token| bson::deserialize_from_bson(token.clone()))
            .transpose()
            .map_err(|_| at(Failure::corrupt()))?;
        let opened = self
            .database
            .watch()
            .pipeline(query::legacy_changes())
            .resume_after(token)
            .max_await_time(Duration::from_millis(500))
            .await
            .map_err(|error| at(error.into()))?;
        Ok(Box::new(Stream {
            stream: opened,
            source: self.clone(),
        }))
    }
}

struct Scan {
    batches: RawBatchCursor,
    source: LegacyDatabase,
}

#[async_trait]
impl Pages for Scan {
    async fn next(&mut self) -> Result<Option<Vec<RawDocumentBuf>>> {
        next(&mut self.batches)
            .await
            .map_err(self.source.at("scan"))
    }
}

struct Stream {
    stream: ChangeStream<ChangeStreamEvent<Document>>,
    source: LegacyDatabase,
}

#[async_trait]
impl Changes for Stream {
    async fn next(&mut self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        while changes.len() < CHANGES_TOGETHER {
            let event = self.stream.next_if_any().await;
            let Some(event) = event.map_err(|error| self.source.at("watch")(error.into()))? else {
                break;
            };
            let ended = event.operation_type == OperationType::Invalidate;
            changes.extend(change(event));
            if ended {
                break;
            }
        }
        Ok(changes)
    }

    fn token(&self) -> Option<Bson> {
        let token = self.stream.resume_token()?;
        bson::serialize_to_bson(&token).ok()
    }
}

fn change(event: ChangeStreamEvent<Document>) -> Option<Change> {
    let of = match event.operation_type {
        OperationType::Insert
        | OperationType::Update
        | OperationType::Replace
        | OperationType::Delete => {
            let collection = event.ns.and_then(|ns| ns.coll)?;
            let id = event.document_key.and_then(|mut key| key.remove("_id"))?;
            Changed::Document { collection, id }
        }
        OperationType::Drop | OperationType::Rename | OperationType::DropDatabase => {
            Changed::Everything
        }
        OperationType::Invalidate => Changed::Ended,
        // What the driver's enum may name later changes no document.
        OperationType::Other(_) | _ => return None,
    };
    Some(Change {
        of,
        at: event.cluster_time,
    })
}
