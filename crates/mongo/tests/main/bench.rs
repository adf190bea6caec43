//! A fresh database for each test, on the server that the environment names.

use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use bson::{Document, doc};
use mongodb::Client;
use secrecy::SecretString;
use tierkeep_core::db::Role;
use tierkeep_core::store::{CollectionLayout, Find, IndexLayout, Layout, Query, Store};
use tierkeep_mongo::MongoStore;
use tierkeep_testkit::conformance::Subject;
use tokio::sync::{Mutex, MutexGuard};

/// The collection that the tests of this crate work in.
pub(crate) const USERS: &str = "internal_users";

/// The connection string of the test server.
#[expect(
    clippy::disallowed_methods,
    reason = "the test command hands the server over in the environment"
)]
pub(crate) fn url() -> String {
    std::env::var("TIERKEEP_TEST_MONGODB_URL").expect(
        "TIERKEEP_TEST_MONGODB_URL is not set: run `cargo xtask test`, or set it to a replica set that \
         was started with --setParameter enableTestCommands=1",
    )
}

/// The connection string with `database` in its path and `options` added.
pub(crate) fn url_with(database: &str, options: &str) -> String {
    let url = url();
    let (server, given) = url.split_once('?').unwrap_or((&url, ""));
    let hosts = server.strip_prefix("mongodb://").expect("a mongodb:// URL");
    let hosts = hosts.split('/').next().unwrap_or(hosts);
    format!("mongodb://{hosts}/{database}?{given}&{options}")
        .replace("?&", "?")
        .trim_end_matches(['&', '?'])
        .to_owned()
}

/// A name that no other test uses.
pub(crate) fn fresh_name() -> String {
    format!("test_{}", bson::oid::ObjectId::new().to_hex())
}

/// A store over an empty database of its own, and a client of its own to look behind it.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) store: MongoStore,
    pub(crate) client: Client,
    pub(crate) name: String,
    /// Held by a test that plants failures: the server has one fail point for all.
    fail_point: Option<MutexGuard<'static, ()>>,
}

static FAIL_POINT: Mutex<()> = Mutex::const_new(());

impl Bench {
    /// Over an empty database.
    pub(crate) async fn new() -> Self {
        let name = fresh_name();
        // The name of the connections is the name of the database, so that a fail point can be for one test.
        let url = url_with(&name, &format!("appName={name}&heartbeatFrequencyMS=500"));
        let store = MongoStore::connect(&SecretString::from(url), Role::RaseenTempUser)
            .await
            .unwrap();
        let client = Client::with_uri_str(url_with("admin", "")).await.unwrap();
        Self {
            store,
            client,
            name,
            fail_point: None,
        }
    }

    /// With the collection and indexes of temp.
    pub(crate) async fn prepared() -> Self {
        let bench = Self::new().await;
        bench.store.prepare(&layout(USERS)).await.unwrap();
        bench
    }

    /// As [`Bench::prepared`], for a test that calls [`Bench::fail`].
    pub(crate) async fn failing() -> Self {
        let fail_point = FAIL_POINT.lock().await;
        Self {
            fail_point: Some(fail_point),
            ..Self::prepared().await
        }
    }

    /// Runs a command in the test's database, past the store.
    pub(crate) async fn run(&self, command: Document) -> Document {
        let database = self.client.database(&self.name);
        database.run_command(command).await.unwrap()
    }

    /// Makes the server fail `times` of the `commands` that this test's store sends.
    pub(crate) async fn fail(&self, times: i32, commands: &[&str], how: Document) {
        assert!(self.fail_point.is_some(), "made by Bench::failing");
        let mut data = doc! { "failCommands": commands.to_vec(), "appName": &self.name };
        data.extend(how);
        let point =
            doc! { "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data };
        self.client
            .database("admin")
            .run_command(point)
            .await
            .expect("the server was started with enableTestCommands=1");
    }

    /// Every stored document, also those that a majority has only just replicated.
    pub(crate) async fn certain(&self) -> Vec<RawDocumentBuf> {
        let all = Find::new(Query::All).linearizable();
        self.store.find(USERS, &all).await.unwrap()
    }

    /// Every stored document, ordered by `_id`.
    pub(crate) async fn all(&self) -> Vec<RawDocumentBuf> {
        self.store
            .find(USERS, &Find::new(Query::All))
            .await
            .unwrap()
    }
}

/// The layout of temp.
pub(crate) fn layout(collection: &str) -> Layout {
    Layout {
        collections: vec![CollectionLayout {
            name: collection.to_owned(),
            indexes: vec![
                IndexLayout::over(&["user_id"]),
                IndexLayout::over(&["metadata.staged_at", "_id"]),
            ],
            keeps_out: None,
        }],
    }
}

/// A store for one law of the conformance suite.
pub(crate) async fn subject() -> Subject {
    let bench = Bench::new().await;
    Subject {
        store: Arc::new(bench.store),
        guard: Box::new(()),
    }
}
