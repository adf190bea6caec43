//! Seven databases of one backend, with faults on demand, and the invariants that hold after every test.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, DateTime, doc};
use futures_util::future::try_join_all;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::{Role, collection};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, State};
use tierkeep_core::store::{
    Change, CollectionLayout, Cursor, Find, Guard, IndexLayout, Inserted, Layout, Query, Store,
};
use tierkeep_core::user::{Section, UserId};
use tierkeep_engine::{
    Condition, ConnectSettings, ConnectionManager, Engine, ErasureService, Inspector,
    MigrationService, MoveError, MoverSettings, Mutant, NoProgress, Purpose, Receipt, RunOptions,
    Summary, Users, UsersError, Watch,
};
use tierkeep_mongo::MongoStore;
use tierkeep_sqlite::SqliteStore;
use tierkeep_testkit::invariants::with_announced;
use tierkeep_testkit::{Faults, ManualClock, MemoryStore};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bridge;

pub const DAY: Duration = Duration::from_hours(24);
/// Not yet due, by an hour.
pub const YOUNG: Duration = Duration::from_hours(23);
pub const HOUR: Duration = Duration::from_hours(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    Memory,
    Sqlite,
    Mongo,
}

/// Where the databases are.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// All on one cluster.
    One(Backend),
    /// The databases of srie on another cluster than the others.
    Two,
}

impl Place {
    /// Where temp and main are.
    pub fn backend(self) -> Backend {
        match self {
            Self::One(backend) => backend,
            Self::Two => Backend::Mongo,
        }
    }

    /// The seven stores, fresh.
    pub async fn stores(
        self,
    ) -> (
        Vec<Arc<dyn Store>>,
        Arc<ManualClock>,
        Box<dyn Any + Send + Sync>,
    ) {
        let (mut all, clock, kept) = stores(self.backend()).await;
        match self {
            Self::One(_) => (all, clock, kept),
            Self::Two => {
                let (other, _, also_kept) = stores(Backend::Sqlite).await;
                let of_srie = |role| [Role::SrieMainUser, Role::SrieMainHr].contains(&role);
                all.retain(|store| !of_srie(store.role()));
                all.extend(other.into_iter().filter(|store| of_srie(store.role())));
                (all, clock, Box::new((kept, also_kept)))
            }
        }
    }
}

pub struct World {
    pub engine: Arc<Engine>,
    pub users: Users,
    pub faults: Faults,
    pub stores: BTreeMap<Role, Arc<dyn Store>>,
    pub settings: MoverSettings,
    pub clock: Arc<ManualClock>,
    _guard: Box<dyn Any + Send + Sync>,
}

pub const NO_RETRIES: ConnectSettings = ConnectSettings {
    retries: 0,
    backoff: Duration::from_millis(1),
};

/// The seven stores of a backend, fresh.
pub async fn stores(
    backend: Backend,
) -> (
    Vec<Arc<dyn Store>>,
    Arc<ManualClock>,
    Box<dyn Any + Send + Sync>,
) {
    match backend {
        Backend::Memory => {
            let clock = Arc::new(ManualClock::new(DateTime::from_millis(1_800_000_000_000)));
            let store = |role: Role| {
                let clock = Arc::clone(&clock) as Arc<dyn Clock>;
                Arc::new(MemoryStore::new(role, role.name(), clock)) as Arc<dyn Store>
            };
            (
                Role::ALL.into_iter().map(store).collect(),
                clock,
                Box::new(()),
            )
        }
        Backend::Sqlite => {
            let clock = Arc::new(ManualClock::new(DateTime::from_millis(1_800_000_000_000)));
            let dir = tempfile::tempdir().unwrap();
            let store = |role: Role| {
                let clock = Arc::clone(&clock) as Arc<dyn Clock>;
                let path = dir.path().join(format!("{role}.db"));
                Arc::new(SqliteStore::open(&path, role, clock).unwrap()) as Arc<dyn Store>
            };
            (
                Role::ALL.into_iter().map(store).collect(),
                clock,
                Box::new(dir),
            )
        }
        Backend::Mongo => {
            let mut stores = Vec::new();
            let unique = bson::oid::ObjectId::new().to_hex();
            let client = replica_set().await;
            for role in Role::ALL {
                let database = format!("e{unique}_{role}");
                let store = MongoStore::with_client(&client, &database, role);
                stores.push(Arc::new(store) as Arc<dyn Store>);
            }
            let now = stores[0].hello().await.unwrap().now;
            let guard = Databases(unique);
            (stores, Arc::new(ManualClock::new(now)), Box::new(guard))
        }
    }
}

/// A client of the replica set that the tests run on. Databases of worlds that have ended are dropped.
async fn replica_set() -> mongodb::Client {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test command hands the server over this way"
    )]
    let url = std::env::var("TIERKEEP_TEST_MONGODB_URL")
        .expect("no MongoDB to test on: run `cargo xtask test`, or set TIERKEEP_TEST_MONGODB_URL");
    let client = mongodb::Client::with_uri_str(url).await.unwrap();
    let ended = std::mem::take(&mut *ENDED.lock().unwrap());
    // All at once: a server answers each when it has next written its journal.
    let each = |unique: String| Role::ALL.map(|role| format!("e{unique}_{role}"));
    let dropped = ended.into_iter().flat_map(each);
    let dropped = dropped.map(async |name| client.database(&name).drop().await);
    try_join_all(dropped).await.unwrap();
    client
}

static ENDED: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

struct Databases(String);

impl Drop for Databases {
    fn drop(&mut self) {
        ENDED.lock().unwrap().push(std::mem::take(&mut self.0));
    }
}

impl World {
    pub async fn new(backend: Backend) -> Self {
        Self::made(backend, None).await
    }

    pub async fn at(place: Place) -> Self {
        let (stores, clock, guard) = place.stores().await;
        Self::over(stores, clock, guard, None).await
    }

    /// One for a test whose time is [`bridge::stopped`]; calls to the databases run in the runtime of `outside`.
    pub async fn stopped(place: Place, outside: &Handle) -> Self {
        let handle = outside.clone();
        // From a thread for blocking work, as every call: meanwhile time does not jump.
        let made = move || handle.block_on(place.stores());
        let (stores, clock, guard) = tokio::task::spawn_blocking(made).await.unwrap();
        let stores = bridge::over(stores, place.backend(), outside);
        Self::over(stores, clock, guard, None).await
    }

    /// One whose engine lacks a guard.
    pub async fn lacking(backend: Backend, mutant: Mutant) -> Self {
        Self::made(backend, Some(mutant)).await
    }

    async fn made(backend: Backend, mutant: Option<Mutant>) -> Self {
        let (stores, clock, guard) = stores(backend).await;
        Self::over(stores, clock, guard, mutant).await
    }

    /// One on these stores, which `guard` keeps.
    pub async fn over(
        stores: Vec<Arc<dyn Store>>,
        clock: Arc<ManualClock>,
        guard: Box<dyn Any + Send + Sync>,
        mutant: Option<Mutant>,
    ) -> Self {
        let faults = Faults::new();
        let faulty = stores
            .iter()
            .map(|store| faults.over(Arc::clone(store)) as Arc<dyn Store>);
        let databases =
            ConnectionManager::new(faulty, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        databases.open(NO_RETRIES, Purpose::Work).await.unwrap();
        let mut engine = Engine::new(databases);
        if let Some(mutant) = mutant {
            engine = engine.with_mutant(mutant);
        }
        let engine = Arc::new(engine);
        Self {
            users: patient_users(&engine),
            engine,
            faults,
            stores: stores
                .into_iter()
                .map(|store| (store.role(), store))
                .collect(),
            settings: MoverSettings {
                retry_backoff: Duration::ZERO,
                batch_documents: 7,
                ..MoverSettings::default()
            },
            clock,
            _guard: guard,
        }
    }

    /// Another process on the same databases.
    pub async fn restarted(&self) -> (Users, MigrationService) {
        let engine = self.reopened().await;
        (
            patient_users(&engine),
            MigrationService::new(engine, self.settings),
        )
    }

    /// The watch for stalled work, for movers that scan every minute.
    pub fn watch(&self) -> Watch {
        Watch::new(
            Arc::clone(&self.engine),
            self.settings,
            Duration::from_mins(1),
        )
    }

    /// The databases as another process opens them.
    pub async fn reopened(&self) -> Arc<Engine> {
        let faulty = self
            .stores
            .values()
            .map(|store| self.faults.over(Arc::clone(store)) as Arc<dyn Store>);
        let databases =
            ConnectionManager::new(faulty, Arc::clone(&self.clock) as Arc<dyn Clock>).unwrap();
        databases.open(NO_RETRIES, Purpose::Work).await.unwrap();
        Arc::new(Engine::new(databases))
    }

    pub fn inspector(&self) -> Inspector {
        Inspector::new(Arc::clone(&self.engine), self.settings)
    }

    pub fn service(&self) -> MigrationService {
        MigrationService::new(Arc::clone(&self.engine), self.settings)
    }

    pub fn erasure(&self) -> ErasureService {
        ErasureService::new(Arc::clone(&self.engine))
    }

    /// A run concurrent with the test.
    pub fn migrate_meanwhile(&self) -> JoinHandle<Result<Summary, MoveError>> {
        let service = self.service();
        tokio::spawn(async move {
            let stop = CancellationToken::new();
            let options = RunOptions::default();
            service
                .migrate_expired_data(options, &NoProgress, &stop)
                .await
        })
    }

    pub async fn migrate(&self) -> Result<Summary, MoveError> {
        self.migrate_with(RunOptions::default()).await
    }

    pub async fn migrate_with(&self, options: RunOptions) -> Result<Summary, MoveError> {
        let stop = CancellationToken::new();
        self.service()
            .migrate_expired_data(options, &NoProgress, &stop)
            .await
    }

    /// The store behind the faults.
    pub fn store(&self, role: Role) -> &Arc<dyn Store> {
        &self.stores[&role]
    }

    /// Temp's own time.
    pub async fn now(&self) -> DateTime {
        self.store(Role::RaseenTempUser).hello().await.unwrap().now
    }

    pub async fn ago(&self, by: Duration) -> DateTime {
        clock::before(self.now().await, by)
    }

    /// Everything in the user collection of `role`.
    pub async fn all(&self, role: Role) -> Vec<RawDocumentBuf> {
        self.everything(role, role.users().unwrap()).await
    }

    pub async fn everything(&self, role: Role, collection: &str) -> Vec<RawDocumentBuf> {
        let mut all = Vec::new();
        let mut after: Option<Cursor> = None;
        loop {
            let before = after.take();
            let find = Find::new(Query::All).after(before.clone());
            let page = self.store(role).find(collection, &find).await.unwrap();
            let next = Cursor::after_page(&page);
            let over = next.is_none() || next == before;
            after = next;
            all.extend(page);
            if over {
                return all;
            }
        }
    }

    /// The migration records, and those that the intents of batches stand for.
    pub async fn records(&self) -> Vec<RawDocumentBuf> {
        let audit = Role::EvaluationAudit;
        let intents = self.everything(audit, collection::MIGRATION_INTENTS).await;
        let records = self.everything(audit, collection::MIGRATION_RECORDS).await;
        with_announced(records, &intents)
    }

    /// Puts a document straight into a user collection, as another program would.
    pub async fn plant(&self, role: Role, document: RawDocumentBuf) {
        let outcome = self
            .store(role)
            .insert(role.users().unwrap(), &[document])
            .await
            .unwrap();
        assert_eq!(outcome, [Inserted::Stored]);
    }

    /// Puts a section through the front door and dates the document's entry into temp back.
    pub async fn staged(&self, n: u32, ago: Duration) -> UserId {
        let user = user(n);
        self.users
            .put(&user, &section(), content(n, 0), Condition::None)
            .await
            .unwrap();
        self.date_back(&user, ago).await;
        user
    }

    /// Makes srie refuse the document of [`user`] `n` for its content: another document has its value in a
    /// unique index.
    pub async fn obstruct(&self, n: u32) {
        self.refuse_equals().await;
        self.squat(n).await;
    }

    /// Makes srie refuse a document whose content has the value of another's.
    pub async fn refuse_equals(&self) {
        let unique = IndexLayout::over(&["scan_cache.z"]).unique();
        let users = CollectionLayout {
            name: "internal_users".into(),
            indexes: vec![unique],
            keeps_out: None,
        };
        let layout = Layout {
            collections: vec![users],
        };
        let srie = self.store(Role::SrieMainUser);
        srie.prepare(&layout).await.unwrap();
    }

    /// Puts a document with the value of [`user`] `n` into srie.
    pub async fn squat(&self, n: u32) {
        let squatter = doc! { "_id": squatter(n), "scan_cache": { "z": i64::from(n) } };
        self.plant(
            Role::SrieMainUser,
            RawDocumentBuf::try_from(&squatter).unwrap(),
        )
        .await;
    }

    /// Undoes [`World::squat`].
    pub async fn clear(&self, n: u32) {
        let id = Bson::String(squatter(n));
        let any = Guard::Fields(doc! {});
        let srie = self.store(Role::SrieMainUser);
        srie.write("internal_users", &id, &any, &Change::Remove)
            .await
            .unwrap();
    }

    /// Puts a section through the front door.
    pub async fn put(&self, user: &UserId, round: i32) -> Result<Receipt, UsersError> {
        let (section, value) = (section(), content(7, round));
        self.users.put(user, &section, value, Condition::None).await
    }

    pub async fn date_back(&self, user: &UserId, ago: Duration) {
        let set = doc! { "metadata.staged_at": self.ago(ago).await };
        let ids = [Bson::String(user.to_string())];
        let store = self.store(Role::RaseenTempUser);
        store
            .amend("internal_users", &ids, &doc! {}, &set)
            .await
            .unwrap();
    }

    pub async fn copy(&self, role: Role, user: &UserId) -> Option<RawDocumentBuf> {
        self.all(role)
            .await
            .into_iter()
            .find(|d| document::user_id(d) == Some(user.as_str()))
    }

    /// What must be true whenever nothing is at work.
    pub async fn check_invariants(&self) {
        let temp = self.all(Role::RaseenTempUser).await;
        let main = self.all(Role::RaseenMainUser).await;
        let srie = self.all(Role::SrieMainUser).await;
        let find = |copies: &[RawDocumentBuf], id: &str| {
            copies
                .iter()
                .find(|d| document::user_id(d) == Some(id))
                .cloned()
        };
        for document in &main {
            let id = document::user_id(document).unwrap();
            assert!(id.starts_with("internal_"));
            let version = document::version(document);
            let backup = find(&srie, id).unwrap_or_else(|| panic!("{id} has no backup"));
            assert!(
                document::version(&backup) >= version,
                "the backup of {id} is older"
            );
            if document::state(document) == Some(State::Erased) {
                continue;
            }
            assert_eq!(
                Digest::claimed_by(document),
                Some(Digest::of(document)),
                "{id}"
            );
            if document::version(&backup) == version {
                assert_eq!(Digest::of(&backup), Digest::of(document), "{id} differs");
            }
            if let Some(staged) = find(&temp, id)
                && document::state(&staged) == Some(State::Live)
                && document::is_native(&staged)
            {
                assert!(
                    document::version(&staged) >= version,
                    "temp holds an older {id}"
                );
            }
        }
        for document in &self.all(Role::ExternalUsers).await {
            assert!(
                document::user_id(document)
                    .unwrap()
                    .starts_with("external_")
            );
        }
        let mut seen = std::collections::BTreeSet::new();
        for record in self.records().await {
            let key = (
                record.get_str("user_id").unwrap().to_owned(),
                record.get_i64("version").unwrap(),
            );
            assert!(seen.insert(key.clone()), "two records for {key:?}");
            if record.get_str("status").unwrap() == "completed" {
                for copies in [&main, &srie] {
                    let copy = find(copies, &key.0).unwrap_or_else(|| panic!("{key:?} is lost"));
                    assert!(document::version(&copy).unwrap().get() >= key.1);
                }
            }
        }
    }
}

fn squatter(n: u32) -> String {
    format!("squatter {n}")
}

/// With a long timeout for the ledger: a test waits for a busy machine instead of continuing without the ledger.
pub fn patient_users(engine: &Arc<Engine>) -> Users {
    Users::new(Arc::clone(engine)).with_longest_look(Duration::from_mins(1))
}

pub fn user(n: u32) -> UserId {
    UserId::internal(&format!("{n:024x}")).unwrap()
}

pub fn section() -> Section {
    Section::parse("scan_cache").unwrap()
}

pub fn content(n: u32, round: i32) -> RawDocumentBuf {
    RawDocumentBuf::try_from(&doc! {
        "z": i64::from(n), "a.b": { "$odd": round }, "list": [1, 2.0, "three"],
        "text": "x".repeat(200),
    })
    .unwrap()
}
