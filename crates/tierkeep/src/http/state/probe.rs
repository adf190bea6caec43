//! The probes of the databases behind every health route: owns what is probed, and how often.
//!
//! A service runs a watch, which probes each database every two seconds, notices outages and returns, and answers health
//! requests from its last results. Without a watch, concurrent callers share one probe (single flight).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tierkeep_core::breaker::BreakerState;
use tierkeep_core::db::Role;
use tierkeep_core::store::Class;
use tierkeep_engine::{ConnectionManager, Inspector, MigrationService, SpoolShare, Waiting};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// The time-out of a probe that a caller waits for.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The time-out of a probe of the watch: a little longer than a driver takes to select a server.
const WATCH_TIMEOUT: Duration = Duration::from_secs(7);
/// How long a result without a watch is reused.
const CACHED_FOR: Duration = Duration::from_secs(1);
/// The interval of the watch.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// What is wrong with a database that answers and was not admitted: it is wired wrongly, or about to be checked.
const NOT_ADMITTED: &str = "not_admitted";
/// What is wrong with a database whose router answers and does not reach a shard: what is on the others is served.
const SHARD_AWAY: &str = "shard_away";

/// The phase of the process, once its databases are open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// At work.
    Serving,
    /// Requests in flight are finished, and no more should be sent.
    Draining,
}

/// The health of the service. Clones share their results.
#[derive(Clone, Debug)]
pub struct HealthSource {
    service: MigrationService,
    phase: watch::Receiver<Phase>,
    scan_interval: Duration,
    waiting: watch::Receiver<Option<Waiting>>,
    found: Arc<tokio::sync::Mutex<Option<(Instant, Findings)>>>,
    watched: Arc<Mutex<Watched>>,
}

/// The last results of the watch; incomplete until each probe has ended once.
#[derive(Clone, PartialEq, Debug, Default)]
struct Watched {
    databases: BTreeMap<Role, DatabaseHealth>,
}

/// The result of probing all databases.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) struct Findings {
    /// All seven.
    pub(in crate::http) databases: Vec<DatabaseHealth>,
    /// Documents should have moved long ago.
    pub(in crate::http) overdue: bool,
    /// Documents cannot be moved.
    pub(in crate::http) quarantined: bool,
    /// Databases that answer and refused their last write, and why.
    pub(in crate::http) unwritable: Vec<(Role, &'static str)>,
    /// The share of the audit trail's spool that takes no more.
    pub(in crate::http) spool_refuses: Option<SpoolShare>,
    /// Databases on servers that are not MongoDB, with a warning for each.
    pub(in crate::http) warnings: Vec<(Role, String)>,
}

/// One database.
#[derive(Clone, PartialEq, Serialize, ToSchema, Debug)]
pub(in crate::http) struct DatabaseHealth {
    /// Its role.
    #[schema(value_type = String)]
    pub(in crate::http) name: Role,
    /// `up` or `down`.
    pub(in crate::http) status: &'static str,
    /// The response time of `hello`; null while the database is down.
    pub(in crate::http) latency_ms: Option<f64>,
    /// `closed`: calls are sent; `open`: calls are refused immediately; `half_open`: one call tests whether the
    /// database answers.
    pub(in crate::http) breaker: &'static str,
    /// The class of the error: `timeout`, `refused`, `no_server`, `auth` and so on; `shard_away` if a shard is
    /// unavailable.
    pub(in crate::http) error: Option<&'static str>,
    /// A warning if its server is a product other than MongoDB; omitted otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) warning: Option<String>,
}

impl Findings {
    /// The databases that are down, as a whole or in part.
    pub(in crate::http) fn away(&self) -> impl Iterator<Item = Role> {
        let down = |row: &&DatabaseHealth| row.error.is_some();
        self.databases.iter().filter(down).map(|row| row.name)
    }

    /// Those of them that are down in part.
    pub(in crate::http) fn in_part(&self) -> impl Iterator<Item = Role> {
        let in_part = |row: &&DatabaseHealth| row.error == Some(SHARD_AWAY);
        self.databases.iter().filter(in_part).map(|row| row.name)
    }

    /// Whether no user's writes are served.
    pub(in crate::http) fn is_down(&self) -> bool {
        let in_part: Vec<Role> = self.in_part().collect();
        let whole = self.away().filter(|role| !in_part.contains(role));
        Role::keep_from_serving(&whole.collect::<Vec<Role>>())
    }
}

impl Watched {
    /// All seven databases, once each was probed.
    fn databases(&self) -> Option<Vec<DatabaseHealth>> {
        let databases = Role::ALL.map(|role| self.databases.get(&role).cloned());
        databases.into_iter().collect()
    }
}

impl HealthSource {
    /// Health of the service's databases. With a watch, `waiting` has the last count of what waits, which the refresh of the
    /// metrics makes; without a watch, each probe counts.
    pub fn new(
        service: MigrationService,
        phase: watch::Receiver<Phase>,
        scan_interval: Duration,
        waiting: watch::Receiver<Option<Waiting>>,
    ) -> Self {
        Self {
            service,
            phase,
            scan_interval,
            waiting,
            found: Arc::default(),
            watched: Arc::default(),
        }
    }

    /// Runs the watch until `stop` is cancelled, and readmits databases that are back.
    pub async fn watch(self, stop: CancellationToken) {
        let rows = join_all(Role::ALL.map(|role| self.watch_database(role)));
        tokio::select! {
            _ = rows => {}
            () = stop.cancelled() => {}
        }
        *self.watched() = Watched::default();
    }

    async fn watch_database(&self, role: Role) {
        loop {
            let mut row = self.database(role, WATCH_TIMEOUT).await;
            let is_shut = [Some(NOT_ADMITTED), Some(Class::Identity.as_str())].contains(&row.error);
            if is_shut && self.databases().heal_one(role).await.is_some() {
                row = self.database(role, WATCH_TIMEOUT).await;
            }
            self.watched().databases.insert(role, row);
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The phase of the process.
    pub(in crate::http) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The last results of the watch; without one, the results of the last second, else those of a probe now, which
    /// concurrent callers share.
    pub(in crate::http) async fn findings(&self) -> Findings {
        let watched = self.watched().databases();
        if let Some(databases) = watched {
            return self.found(databases, *self.waiting.borrow());
        }
        let mut found = self.found.lock().await;
        if let Some((at, findings)) = &*found
            && at.elapsed() < CACHED_FOR
        {
            return findings.clone();
        }
        let findings = self.probe().await;
        *found = Some((Instant::now(), findings.clone()));
        findings
    }

    async fn probe(&self) -> Findings {
        let probes = Role::ALL.map(|role| self.database(role, PROBE_TIMEOUT));
        let inspector = Inspector::from(&self.service);
        let count = timeout(PROBE_TIMEOUT, inspector.waiting(self.scan_interval));
        let (databases, waiting) = tokio::join!(join_all(probes), count);
        self.found(databases, waiting.ok().and_then(Result::ok))
    }

    fn found(&self, databases: Vec<DatabaseHealth>, waiting: Option<Waiting>) -> Findings {
        let quarantined = waiting.and_then(|waiting| waiting.quarantined);
        Findings {
            databases,
            overdue: waiting.is_some_and(|waiting| waiting.overdue > 0),
            quarantined: quarantined.is_some_and(|quarantined| quarantined > 0),
            unwritable: self.unwritable(),
            spool_refuses: self.spool_refuses(),
            warnings: self.warnings(),
        }
    }

    /// The warning in every health answer while the service runs on servers that were not tested. Makes no request.
    pub(in crate::http) fn warnings(&self) -> Vec<(Role, String)> {
        let found = self.databases().imitators().into_iter();
        let warning = |(role, product)| {
            let text = format!("the server of {role} is {product}, which was not tested");
            (role, text)
        };
        found.map(warning).collect()
    }

    fn spool_refuses(&self) -> Option<SpoolShare> {
        self.service.engine().audit_trail().spool_refuses()
    }

    /// Not probed: a write says so, and the next one that is taken says that it is over.
    fn unwritable(&self) -> Vec<(Role, &'static str)> {
        let why = |role| Some((role, self.databases().unwritable(role)?.as_str()));
        Role::ALL.into_iter().filter_map(why).collect()
    }

    fn databases(&self) -> &ConnectionManager {
        self.service.engine().databases()
    }

    /// Probes a database: whether it answers, and is the one it was configured as.
    async fn database(&self, role: Role, limit: Duration) -> DatabaseHealth {
        let began = Instant::now();
        let error = self.error_of(role, limit).await;
        let milliseconds = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        // Without a breaker calls go through as long as there is a database.
        let unguarded = if error.is_none() {
            BreakerState::Closed
        } else {
            BreakerState::Open
        };
        let breaker = self.databases().breaker(role).unwrap_or(unguarded);
        DatabaseHealth {
            name: role,
            status: if error.is_none() { "up" } else { "down" },
            latency_ms: error.is_none().then_some(milliseconds),
            breaker: breaker.as_str(),
            error,
            warning: self.warning_of(role),
        }
    }

    fn warning_of(&self, role: Role) -> Option<String> {
        let mut warnings = self.warnings().into_iter();
        warnings.find(|(of, _)| *of == role).map(|(_, text)| text)
    }

    async fn error_of(&self, role: Role, limit: Duration) -> Option<&'static str> {
        let Some(store) = self.databases().store(role) else {
            return Some(NOT_ADMITTED);
        };
        match timeout(limit, store.hello()).await {
            Err(_) => Some(Class::Timeout.as_str()),
            Ok(Err(error)) => Some(error.class.as_str()),
            Ok(Ok(_)) if self.databases().out_of_service(role).is_some() => {
                Some(Class::Identity.as_str())
            }
            Ok(Ok(_)) if self.databases().away().contains(&role) => Some(NOT_ADMITTED),
            Ok(Ok(_)) => match timeout(limit, store.shards_away()).await {
                Err(_) => Some(Class::Timeout.as_str()),
                Ok(Err(error)) => Some(error.class.as_str()),
                Ok(Ok(shards)) => (!shards.is_empty()).then_some(SHARD_AWAY),
            },
        }
    }
}
