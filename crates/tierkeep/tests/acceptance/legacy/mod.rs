//! Importing the predecessor's data with the built binary: a database in the predecessor's form on the replica set,
//! imported by `import-legacy` into either backend.

mod dropped;
mod follow;
mod kill;
mod mapping;
mod overtaken;
mod run;
mod split;
mod standalone;

use std::collections::BTreeMap;

use bson::raw::RawDocumentBuf;
use bson::{DateTime, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::Database;
use serde_json::Value;
use tierkeep::clock::SystemClock;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock as _;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::hr::HrCollection;
use tierkeep_testkit::legacy::{self, Becomes};

use super::databases::Databases;
use super::program::{Backend, Deployment, mongo_url};

pub const SUBJECT: &str = "507f1f77bcf86cd799439011";
/// A moment long ago, in seconds; its naive text is [`LONG_AGO_TEXT`].
pub const LONG_AGO: i64 = 1_735_700_000;
pub const LONG_AGO_TEXT: &str = "2025-01-01T02:53:20";

/// The predecessor's database.
pub struct Predecessor {
    pub database: Database,
    url: String,
    #[expect(dead_code, reason = "dropped with this")]
    databases: Databases,
}

impl Predecessor {
    /// An empty one.
    pub async fn new() -> Self {
        Self::at(&mongo_url("")).await
    }

    /// An empty one on the server at `url`.
    pub async fn at(url: &str) -> Self {
        let unique = uuid::Uuid::now_v7().simple().to_string();
        let name = format!("l{}_git_Evaluator", &unique[20..]);
        let client = mongodb::Client::with_uri_str(url).await.unwrap();
        Self {
            database: client.database(&name),
            url: url.to_owned(),
            databases: Databases::new(url, vec![name]),
        }
    }

    /// One with these documents.
    pub async fn with(documents: Vec<(&str, Document)>) -> Self {
        let one = Self::new().await;
        for (collection, document) in documents {
            one.put(collection, document).await;
        }
        one
    }

    /// One with the documents of this many users, with scans of about `size` bytes; and the expected outcomes.
    pub async fn of_people(people: u32, size: usize) -> (Self, BTreeMap<Becomes, u64>) {
        let one = Self::new().await;
        let mut becomes = BTreeMap::new();
        let mut documents: BTreeMap<&str, Vec<Document>> = BTreeMap::new();
        let now = SystemClock.now();
        for document in (0..people).flat_map(|n| legacy::person(n, size, now)) {
            *becomes.entry(document.becomes).or_default() += 1;
            let of = documents.entry(document.collection).or_default();
            of.push(document.document);
        }
        for (collection, documents) in documents {
            let collection = one.database.collection::<Document>(collection);
            for some in documents.chunks(500) {
                collection.insert_many(some).await.unwrap();
            }
        }
        (one, becomes)
    }

    pub async fn put(&self, collection: &str, document: Document) {
        let collection = self.database.collection::<Document>(collection);
        collection.insert_one(document).await.unwrap();
    }

    /// A deployment that imports from here.
    pub fn deployment(&self, backend: Backend) -> Deployment {
        Deployment::new(backend)
            .with("MONGODB_URL", &self.url)
            .with("DATABASE_NAME", self.database.name())
    }

    /// Every document, byte for byte.
    pub async fn everything(&self) -> BTreeMap<String, Vec<RawDocumentBuf>> {
        let mut everything = BTreeMap::new();
        for name in self.database.list_collection_names().await.unwrap() {
            let collection = self.database.collection::<RawDocumentBuf>(&name);
            let found = collection.find(doc! {}).sort(doc! { "_id": 1 });
            let documents = found.await.unwrap().try_collect().await.unwrap();
            everything.insert(name, documents);
        }
        everything
    }
}

/// Imports, checks that the outcomes add up, and answers the report.
pub fn import(deployment: &Deployment, more: &[&str]) -> Value {
    let mut arguments = vec!["import-legacy", "--json"];
    arguments.extend(more);
    let report = deployment.json(&arguments);
    let number = |name: &str| report[name].as_u64().unwrap();
    let sum: u64 = ["imported", "merged", "skipped", "refused"]
        .into_iter()
        .map(number)
        .sum();
    assert_eq!(sum, number("source_documents"), "{report}");
    assert_eq!(
        number("refused"),
        u64::try_from(report["refusals"].as_array().unwrap().len()).unwrap()
    );
    report
}

/// The four outcomes of a report.
pub fn outcomes(report: &Value) -> [u64; 4] {
    ["imported", "merged", "skipped", "refused"].map(|name| report[name].as_u64().unwrap())
}

/// Every user document, by database and `_id`.
pub async fn stored(deployment: &Deployment) -> BTreeMap<(Role, String), RawDocumentBuf> {
    let mut stored = BTreeMap::new();
    for role in Role::ALL {
        let names: Vec<String> = match role.users() {
            Some(users) => vec![users.to_owned()],
            None if role.holds_hr() => HrCollection::defaults()
                .iter()
                .map(ToString::to_string)
                .chain(["hr_users".to_owned()])
                .collect(),
            None => Vec::new(),
        };
        for name in names {
            for one in deployment.all(role, &name).await {
                let id = document::id(&one);
                stored.insert((role, id.as_str().unwrap().to_owned()), one);
            }
        }
    }
    stored
}

/// The databases that hold the user, each with the `data_location` of its document.
pub async fn places(deployment: &Deployment, id: &str) -> Vec<(Role, String)> {
    let found = stored(deployment).await;
    let of = found.into_iter().filter(|((_, it), _)| it == id);
    of.map(|((role, _), document)| {
        let location = document.get_str("data_location").unwrap_or_default();
        (role, location.to_owned())
    })
    .collect()
}

/// A scan document with the predecessor's usual fields.
pub fn scan(more: Document) -> Document {
    let mut scan = doc! {
        "scan_id": "s1", "username": "Srie06", "user_id": "external_srie06", "user_type": "external",
        "storage_location": "EXTERNAL_DATABASE", "scan_date": LONG_AGO_TEXT,
        "created_at": "2009-01-01T00:00:00Z", "updated_at": "2030-01-01T00:00:00Z",
        "languages": { "Rust": 1_i64 }, "overallScore": 61.0,
    };
    scan.extend(more);
    scan
}

pub fn at(seconds: i64) -> DateTime {
    DateTime::from_millis(seconds * 1_000)
}
