//! Seven fresh databases of a backend.

use std::sync::{Arc, Mutex};

use bson::DateTime;
use futures_util::future::try_join_all;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::store::Store;
use tierkeep_mongo::MongoStore;
use tierkeep_sqlite::SqliteStore;
use tierkeep_testkit::{ManualClock, MemoryStore};

/// What the databases are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    Memory,
    Sqlite,
    Mongo,
}

/// What must outlive the stores.
pub enum Kept {
    Nothing,
    Directory(#[expect(dead_code, reason = "removed when dropped")] tempfile::TempDir),
    Databases(#[expect(dead_code, reason = "removed some time after it is dropped")] Leased),
}

type Stores = Vec<Arc<dyn Store>>;

pub async fn fresh(backend: Backend) -> (Stores, Arc<ManualClock>, Kept) {
    match backend {
        Backend::Memory => {
            let clock = clock_at(1_800_000_000_000);
            let made = stores(|role| {
                Arc::new(MemoryStore::new(role, role.name(), Arc::clone(&clock) as _))
            });
            (made, clock, Kept::Nothing)
        }
        Backend::Sqlite => {
            let clock = clock_at(1_800_000_000_000);
            let dir = tempfile::tempdir().unwrap();
            let made = stores(|role| {
                let path = dir.path().join(format!("{role}.db"));
                Arc::new(SqliteStore::open(&path, role, Arc::clone(&clock) as _).unwrap())
            });
            (made, clock, Kept::Directory(dir))
        }
        Backend::Mongo => {
            let client = replica_set().await;
            let leased = Leased(bson::oid::ObjectId::new().to_hex());
            let made = stores(|role| {
                Arc::new(MongoStore::with_client(
                    &client,
                    &leased.database(role),
                    role,
                ))
            });
            let now = made[0].hello().await.unwrap().now;
            let clock = clock_at(now.timestamp_millis());
            (made, clock, Kept::Databases(leased))
        }
    }
}

fn stores(store: impl Fn(Role) -> Arc<dyn Store>) -> Stores {
    Role::ALL.into_iter().map(store).collect()
}

fn clock_at(millis: i64) -> Arc<ManualClock> {
    let clock = ManualClock::new(DateTime::from_millis(millis));
    assert_eq!(clock.now().timestamp_millis(), millis);
    Arc::new(clock)
}

/// Databases with unique names.
pub struct Leased(String);

static ENDED: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Leased {
    fn database(&self, role: Role) -> String {
        database(&self.0, role)
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        ENDED.lock().unwrap().push(std::mem::take(&mut self.0));
    }
}

fn database(unique: &str, role: Role) -> String {
    format!("h{unique}_{role}")
}

/// Where the replica set is that the tests run on.
#[expect(
    clippy::disallowed_methods,
    reason = "the test command hands the server over this way"
)]
pub fn server_url() -> String {
    std::env::var("TIERKEEP_TEST_MONGODB_URL")
        .expect("no MongoDB to test on: run `cargo xtask test`, or set TIERKEEP_TEST_MONGODB_URL")
}

/// A client of the replica set that the tests run on. Databases of worlds that have ended are dropped.
async fn replica_set() -> mongodb::Client {
    let client = mongodb::Client::with_uri_str(server_url()).await.unwrap();
    let ended = std::mem::take(&mut *ENDED.lock().unwrap());
    // All at once: a server answers each when it has next written its journal.
    let each = |unique: String| Role::ALL.map(|role| database(&unique, role));
    let dropped = ended.into_iter().flat_map(each);
    let dropped = dropped.map(async |name| client.database(&name).drop().await);
    try_join_all(dropped).await.unwrap();
    client
}
