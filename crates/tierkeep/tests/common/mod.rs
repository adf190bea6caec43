//! The service in this process: the router over seven databases of one backend, a stand-in for GitHub, a
//! manual clock, and access to every database behind it.

mod ask;
pub mod databases;
mod github;
pub mod json;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bson::DateTime;
use bson::raw::RawDocumentBuf;
use secrecy::ExposeSecret;
use tierkeep::config::shown::ShownSetting;
use tierkeep::config::{Inputs, Loaded, Raw};
use tierkeep::http::{
    BodyMemory, HealthSource, HttpState, Limits, Mover, Phase, Sessions, Shared, Steady, Traffic,
    TrafficSettings, router,
};
use tierkeep::metrics::Metrics;
use tierkeep_core::audit::AuditKey;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::{Cursor, Find, Query, Store};
use tierkeep_core::user::Section;
use tierkeep_engine::{
    AuditDecisions, AuditSettings, Bindings, ConnectSettings, ConnectionManager, Engine,
    ErasureService, HrRecords, MemorySpool, MigrationService, MoverSettings, OnChange, Purpose,
    Spool, Users,
};
use tierkeep_identity::{
    GithubSettings, GithubVerifier, JwtKeys, JwtSettings, JwtVerifier, RoleClaim, UserTypeDetector,
    issue_development_token,
};
use tierkeep_testkit::{Faults, ManualClock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wiremock::MockServer;

pub use ask::{Answer, Ask};
pub use databases::Backend;

pub const SECRET: &str = "a secret of the tests, 32 bytes+.";
pub const SUBJECT: &str = "507f1f77bcf86cd799439011";
pub const KNOWN_TOKEN: &str = "gho_known";
pub const UNKNOWN_TOKEN: &str = "gho_unknown";
pub const UNREACHABLE_TOKEN: &str = "gho_unreachable";
/// GitHub wants not to be asked about this one for two minutes.
pub const LIMITED_TOKEN: &str = "gho_limited";
/// Followed by anything: GitHub does not know it.
pub const MADE_UP_TOKEN: &str = "gho_made_up";
/// Followed by the number of the account it belongs to.
pub const ACCOUNT_TOKEN: &str = "gho_as_";
pub const HOUR: Duration = Duration::from_hours(1);

/// How much public callers may ask.
#[derive(Clone, Copy, Debug)]
pub struct Public {
    pub rate: u32,
    pub burst: u32,
    pub new_users: u32,
    pub concurrency: u32,
    pub writes: bool,
}

/// Callers are who `X-Forwarded-For` says: the router is asked without a connection, which counts as a proxy.
fn traffic(public: Option<Public>, clock: &Arc<ManualClock>) -> Traffic {
    let public = public.unwrap_or(Public {
        rate: 1_000_000,
        burst: 1_000_000,
        new_users: 1_000_000,
        concurrency: 1_000_000,
        writes: true,
    });
    let some = |n| NonZeroU32::new(n).unwrap();
    let settings = TrafficSettings {
        rate: some(public.rate),
        burst: some(public.burst),
        new_users: some(public.new_users),
        concurrency: some(public.concurrency),
        writes: public.writes,
        trusted_proxies: vec!["::/128".parse().unwrap()],
    };
    let (began, clock) = (clock.now(), Arc::clone(clock));
    let steady: Steady = Arc::new(move || clock.now().saturating_duration_since(began));
    Traffic::new(settings, &steady)
}

/// How a world differs from the usual one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub strict: bool,
    pub limits: Limits,
    pub on_change: OnChange,
    /// How much public callers may ask; as good as anything where it is not said.
    pub public: Option<Public>,
    /// The databases are not opened.
    pub closed: bool,
    /// Which decisions the audit trail holds.
    pub decisions: AuditDecisions,
}

/// Everything in every database, by role and collection.
pub type Everything = BTreeMap<(Role, &'static str), Vec<RawDocumentBuf>>;

pub struct World {
    pub router: Router,
    pub state: HttpState,
    pub engine: Arc<Engine>,
    pub mover: Mover,
    pub erasures: ErasureService,
    pub stores: BTreeMap<Role, Arc<dyn Store>>,
    pub faults: Faults,
    pub phase: watch::Sender<Phase>,
    pub clock: Arc<ManualClock>,
    /// The clock that JWTs are held against; the same on every backend.
    pub jwt_clock: Arc<ManualClock>,
    /// Where files with the copies of a conflict go.
    pub copies: tempfile::TempDir,
    github: Github,
    _kept: databases::Kept,
}

/// The stand-in for GitHub. When it is dropped it waits for a lock, with an executor of its own: in a task whose budget tokio
/// considers spent that wait would never end.
struct Github(Option<MockServer>);

impl Deref for Github {
    type Target = MockServer;

    fn deref(&self) -> &MockServer {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Github {
    fn drop(&mut self) {
        let server = self.0.take();
        std::thread::spawn(move || drop(server)).join().ok();
    }
}

impl World {
    pub async fn new(backend: Backend) -> Self {
        Self::with(backend, Options::default()).await
    }

    pub async fn with(backend: Backend, options: Options) -> Self {
        let spool = Arc::new(MemorySpool::default());
        Self::with_spool(backend, options, spool).await
    }

    pub async fn with_spool(backend: Backend, options: Options, spool: Arc<dyn Spool>) -> Self {
        let (stores, clock, kept) = databases::fresh(backend).await;
        Self::on((stores, spool), clock, kept, options).await
    }

    /// Another process over the databases of `other`.
    pub async fn over(other: &Self, on_change: OnChange) -> Self {
        let stores = other.stores.values().cloned().collect();
        let options = Options {
            on_change,
            ..Options::default()
        };
        let kept = databases::Kept::Nothing;
        let spool = Arc::new(MemorySpool::default());
        Self::on((stores, spool), Arc::clone(&other.clock), kept, options).await
    }

    async fn on(
        (stores, spool): (Vec<Arc<dyn Store>>, Arc<dyn Spool>),
        clock: Arc<ManualClock>,
        kept: databases::Kept,
        options: Options,
    ) -> Self {
        let faults = Faults::new();
        let faulty = stores
            .iter()
            .map(|store| faults.over(Arc::clone(store)) as Arc<dyn Store>);
        let databases = ConnectionManager::new(faulty, Arc::clone(&clock) as Arc<dyn Clock>);
        let audit = AuditSettings {
            key: Some(AuditKey::new(SECRET.as_bytes())),
            decisions: options.decisions,
            spool,
        };
        // One process, whose erasures find databases unavailable hundreds of times.
        let known_for = Duration::from_millis(50);
        let engine = Engine::with_audit(databases.unwrap(), audit);
        let engine = Arc::new(engine.with_pending_known_for(known_for));
        if !options.closed {
            let once = ConnectSettings {
                retries: 0,
                backoff: Duration::ZERO,
            };
            engine.databases().open(once, Purpose::Work).await.unwrap();
        }
        let github = github::start().await;
        let jwt_clock = Arc::new(ManualClock::new(DateTime::from_millis(1_800_000_000_000)));
        let detector = detector(
            &github,
            Arc::clone(&jwt_clock) as Arc<dyn Clock>,
            options.strict,
        );
        let (phase, watched) = watch::channel(Phase::Serving);
        let service = MigrationService::new(Arc::clone(&engine), MoverSettings::default());
        let health = HealthSource::new(service.clone(), watched, HOUR, watch::channel(None).1);
        let mover = Mover::new(service, HOUR, CancellationToken::new());
        let erasures = ErasureService::new(Arc::clone(&engine));
        let copies = tempfile::tempdir().unwrap();
        let state = HttpState::from(Shared {
            users: Users::new(Arc::clone(&engine)),
            hr: HrRecords::new(Arc::clone(&engine)),
            erasures: erasures.clone(),
            detector: Arc::new(detector),
            bindings: Bindings::new(Arc::clone(&engine), options.on_change),
            sections: Section::DEFAULT
                .split(',')
                .map(|name| Section::parse(name).unwrap())
                .collect(),
            memory: BodyMemory::new(options.limits.body_memory_bytes),
            limits: options.limits,
            traffic: traffic(options.public, &jwt_clock),
            health,
            audit: engine.audit_trail().clone(),
            mover: mover.clone(),
            metrics: Metrics::new(),
            sessions: Sessions::new(Arc::clone(&jwt_clock) as Arc<dyn Clock>),
            copies_dir: Some(copies.path().join("quarantine")),
            channels: Arc::new([]),
            settings: settings(),
        });
        Self {
            router: router(state.clone()),
            state,
            engine,
            mover,
            erasures,
            stores: stores
                .into_iter()
                .map(|store| (store.role(), store))
                .collect(),
            faults,
            phase,
            clock,
            jwt_clock,
            copies,
            github: Github(Some(github)),
            _kept: kept,
        }
    }

    /// A request without credentials.
    pub fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::new(self.router.clone(), method, path)
    }

    /// A request of the internal user with [`SUBJECT`].
    pub fn internal(&self, method: &str, path: &str) -> Ask {
        self.ask(method, path)
            .jwt(&self.token(SUBJECT, None))
            .github(KNOWN_TOKEN)
    }

    /// A request of the external user `reader`.
    pub fn external(&self, method: &str, path: &str) -> Ask {
        self.ask(method, path).named("reader")
    }

    /// A request of the administrator.
    pub fn admin(&self, method: &str, path: &str) -> Ask {
        self.ask(method, path)
            .jwt(&self.token(SUBJECT, Some(RoleClaim::Admin)))
    }

    /// A request with the role hr.
    pub fn hr(&self, method: &str, path: &str) -> Ask {
        self.ask(method, path)
            .jwt(&self.token(SUBJECT, Some(RoleClaim::Hr)))
    }

    /// A JWT of this subject, valid for an hour.
    pub fn token(&self, subject: &str, role: Option<RoleClaim>) -> String {
        token(SECRET, subject, role, self.jwt_clock.as_ref())
    }

    /// A JWT that has expired.
    pub fn expired(&self, subject: &str) -> String {
        let long_ago = tierkeep_core::clock::before(self.jwt_clock.now(), 2 * HOUR);
        token(SECRET, subject, None, &ManualClock::new(long_ago))
    }

    /// A JWT signed with another key.
    pub fn forged(&self, subject: &str) -> String {
        let other = SECRET.replace('a', "b");
        token(&other, subject, None, self.jwt_clock.as_ref())
    }

    /// How many requests GitHub received.
    pub async fn asked_github(&self) -> usize {
        self.github.received_requests().await.unwrap().len()
    }

    /// Every user document in the database of `role`.
    pub async fn documents(&self, role: Role) -> Vec<RawDocumentBuf> {
        self.all(role, role.users().unwrap()).await
    }

    /// How many user documents there are in the database of `role`.
    pub async fn count(&self, role: Role) -> u64 {
        let users = role.users().unwrap();
        self.stores[&role].count(users, &Query::All).await.unwrap()
    }

    /// The one user document with this id in the database of `role`.
    pub async fn document(&self, role: Role, id: &str) -> Option<RawDocumentBuf> {
        let find = Find::new(Query::Ids(vec![id.into()]));
        let found = self.stores[&role].find(role.users().unwrap(), &find).await;
        found.unwrap().pop()
    }

    /// Everything that is stored anywhere.
    pub async fn everything(&self) -> Everything {
        let mut everything = Everything::new();
        for role in Role::ALL {
            let own = [
                collection::MIGRATION_RECORDS,
                collection::CONTROL,
                collection::ERASURES,
                collection::IDENTITY,
            ];
            for name in own.into_iter().chain(role.users()) {
                everything.insert((role, name), self.all(role, name).await);
            }
        }
        everything
    }

    async fn all(&self, role: Role, collection: &str) -> Vec<RawDocumentBuf> {
        let mut all = Vec::new();
        let mut after: Option<Cursor> = None;
        loop {
            let find = Find::new(Query::All).after(after.take());
            let page = self.stores[&role].find(collection, &find).await.unwrap();
            let Some(last) = page.last() else { return all };
            after = Some(Cursor::after(last));
            all.extend(page);
        }
    }
}

/// A configuration with a secret.
fn settings() -> Arc<[ShownSetting]> {
    let inputs = Inputs {
        flags: Vec::new(),
        environment: vec![("SECRET_KEY".into(), Raw::Text(SECRET.into()))],
        env_file: None,
        config: None,
        usual_config: None,
    };
    Loaded::gather(&inputs)
        .all()
        .map(ShownSetting::from)
        .collect()
}

fn detector(github: &MockServer, clock: Arc<dyn Clock>, strict: bool) -> UserTypeDetector {
    let keys = JwtKeys::Secret {
        current: SECRET.into(),
        previous: None,
    };
    let settings = GithubSettings {
        api_url: github.uri(),
        ..GithubSettings::default()
    };
    UserTypeDetector::new(
        JwtVerifier::new(JwtSettings::new(keys), clock).unwrap(),
        GithubVerifier::new(&settings).unwrap(),
        strict,
    )
}

fn token(secret: &str, subject: &str, role: Option<RoleClaim>, clock: &dyn Clock) -> String {
    issue_development_token(&secret.into(), subject, role, HOUR, clock)
        .unwrap()
        .expose_secret()
        .to_owned()
}

/// Whether everything is tried that takes long.
#[expect(
    clippy::disallowed_methods,
    reason = "the test command asks for it this way"
)]
pub fn full() -> bool {
    std::env::var("TIERKEEP_TEST_FULL").is_ok()
}

/// Runs a property on 256 cases; each case is a future on one runtime.
pub fn hold<S, F>(cases: &S, property: impl Fn(S::Value) -> F, runtime: &tokio::runtime::Runtime)
where
    S: proptest::strategy::Strategy,
    F: Future<Output = ()>,
{
    hold_in(256, cases, property, runtime);
}

/// Runs a property on this many cases.
pub fn hold_in<S, F>(
    times: u32,
    cases: &S,
    property: impl Fn(S::Value) -> F,
    runtime: &tokio::runtime::Runtime,
) where
    S: proptest::strategy::Strategy,
    F: Future<Output = ()>,
{
    let config = proptest::test_runner::Config {
        cases: times,
        failure_persistence: None,
        ..proptest::test_runner::Config::default()
    };
    let held = proptest::test_runner::TestRunner::new(config).run(cases, |case| {
        runtime.block_on(property(case));
        Ok(())
    });
    if let Err(broken) = held {
        panic!("{broken}");
    }
}

/// A runtime for properties.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}
