//! Opening the seven databases: the one place that opens a backend.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, DateTime, doc};
use rustix::fs::Access;
use secrecy::ExposeSecret as _;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::{Role, collection};
use tierkeep_core::erasure::{Erasure, Stage, erasure_field};
use tierkeep_core::store::{Class, Cursor, Find, Query, Store, StoreError, Whereabouts};
use tierkeep_engine::{
    AbsentStore, ConnectError, ConnectionManager, Engine, Opened, Purpose, Unreached,
};
use tierkeep_mongo::MongoStore;
pub use tierkeep_mongo::Servers;
use tierkeep_sqlite::{Snapshot, SqliteStore};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::clock::SystemClock;
use crate::config::{
    Backend, Connection, Settings, connection_string, copy_keys, private_directory,
};
use crate::exit::{Exit, Unreachable, UsageError};

/// How long a look waits for the host names of `mongodb+srv` to be looked up, all together.
const RESOLVING: Duration = Duration::from_secs(3);
/// Why a database behind a `mongodb+srv` string is not reached.
const NO_RECORDS: &str = "its DNS records could not be found";
/// How much earlier than a copy an erasure counts as one of the same time.
const MARGIN: Duration = Duration::from_mins(1);

/// The databases, reached, compared and admitted, and which of them are away. Their connections are those of
/// `servers`.
///
/// # Errors
/// What is wrong with the settings or the databases; nothing was written to any of them.
pub async fn open(
    servers: &Servers,
    settings: &Settings,
    purpose: Purpose,
) -> anyhow::Result<(Arc<Engine>, Opened)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stores = stores(servers, settings, purpose, &clock).await?;
    #[cfg(feature = "crash-points")]
    let stores = crate::crash_points::over(stores)?;
    let audit = settings.audit.settings(purpose)?;
    let databases = manager(stores, clock, settings)?;
    let opened = databases.open(settings.connect, purpose).await;
    let opened = opened.map_err(|error| explained(error, settings))?;
    databases.watch_identities();
    Ok((Arc::new(Engine::with_audit(databases, audit)), opened))
}

fn manager(
    stores: Vec<Arc<dyn Store>>,
    clock: Arc<dyn Clock>,
    settings: &Settings,
) -> Result<ConnectionManager, ConnectError> {
    Ok(ConnectionManager::new(stores, clock)?
        .with_hr_collections(settings.hr_collections.clone())
        .with_imitators(settings.untested_server))
}

/// What a look found.
#[derive(Debug)]
pub struct Look {
    /// The databases; those that are away refuse every call at once.
    pub engine: Arc<Engine>,
    /// Which are away, and why.
    away: Vec<Unreached>,
    remedy: String,
}

impl Look {
    /// Warns of each database that is away, but of those in `told` for the same cause, which are what is known from then on.
    pub fn warn(&self, told: &mut BTreeMap<Role, String>) {
        let causes = self.away.iter().map(|one| (one.role(), one.cause()));
        let causes: BTreeMap<Role, String> = causes.collect();
        for one in &self.away {
            let role = one.role();
            let cause = causes.get(&role);
            if told.get(&role) != cause {
                warn!(
                    user_type = %role.user_type(),
                    database = %role,
                    error = one.error.class.as_str(),
                    cause,
                    "cannot reach the database",
                );
            }
        }
        *told = causes;
    }

    /// How a command that has shown what it saw ends.
    ///
    /// # Errors
    /// The databases that are away, all of them; exit code 3.
    pub fn ends(self) -> anyhow::Result<Exit> {
        if self.away.is_empty() {
            return Ok(Exit::Done);
        }
        Err(Unreachable::new(ConnectError::Unreachable(self.away), self.remedy).into())
    }
}

/// The databases for a look: one attempt at each, all at once, and what is away keeps nothing else from being seen. Says
/// nothing of what is away.
///
/// # Errors
/// What is wrong with the settings or with databases that answered.
pub async fn look(servers: &Servers, settings: &Settings) -> anyhow::Result<Look> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stores = stores_for_a_look(servers, settings, &clock).await?;
    #[cfg(feature = "crash-points")]
    let stores = crate::crash_points::over(stores)?;
    let audit = settings.audit.settings(Purpose::Look)?;
    let databases = manager(stores, clock, settings)?;
    let away = databases.look().await?;
    let roles: Vec<Role> = away.iter().map(Unreached::role).collect();
    Ok(Look {
        engine: Arc::new(Engine::with_audit(databases, audit)),
        remedy: remedy(settings, &roles),
        away,
    })
}

/// The stores of the seven databases; an [`AbsentStore`] for each that cannot be opened. Makes no file.
///
/// # Errors
/// What is wrong with the settings.
pub async fn stores_for_a_look(
    servers: &Servers,
    settings: &Settings,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Arc<dyn Store>>> {
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    match &settings.backend {
        Backend::Embedded { data_dir } => {
            refuse_no_directory(data_dir)?;
            must_be_writable(data_dir)?;
            for role in Role::ALL {
                stores.push(file_for_a_look(&file(data_dir, role), role, clock));
            }
        }
        Backend::Mongo(connections) => {
            let deadline = Instant::now() + RESOLVING;
            for (role, connection) in connections {
                let connecting = connected(servers, connection, *role);
                let store: Arc<dyn Store> = match timeout_at(deadline, connecting).await {
                    Ok(connected) => match connected? {
                        Ok(store) => Arc::new(store),
                        Err(unresolved) => Arc::new(unresolved),
                    },
                    Err(_) => Arc::new(unresolved(
                        connection,
                        *role,
                        "the lookup of its DNS records timed out",
                    )),
                };
                stores.push(store);
            }
        }
    }
    Ok(stores)
}

/// The store of `role`, or what stands for one whose host name is not found.
async fn connected(
    servers: &Servers,
    connection: &Connection,
    role: Role,
) -> anyhow::Result<Result<MongoStore, AbsentStore>> {
    match servers.connect(&connection.url, role).await {
        Ok(store) => Ok(Ok(store)),
        Err(tierkeep_mongo::ConnectError::Unresolved { .. }) => {
            Ok(Err(unresolved(connection, role, NO_RECORDS)))
        }
        Err(wrong) => Err(wrong.into()),
    }
}

fn unresolved(connection: &Connection, role: Role, why: &str) -> AbsentStore {
    let name = connection_string::srv_name(connection.url.expose_secret()).unwrap_or_default();
    let place = format!("the host name {name} in {}", connection.variable);
    absent(role, Class::NoServer, place, why.to_owned())
}

fn file_for_a_look(path: &Path, role: Role, clock: &Arc<dyn Clock>) -> Arc<dyn Store> {
    let place = path.display().to_string();
    if !path.exists() {
        let why = "no such file".to_owned();
        return Arc::new(absent(role, Class::NoServer, place, why));
    }
    if let Some(error) = unwritable(path) {
        let why = format!("it cannot be written to: {error}");
        return Arc::new(absent(role, Class::Unauthorized, place, why));
    }
    match SqliteStore::open(path, role, Arc::clone(clock)) {
        Ok(store) => Arc::new(store),
        Err(error) => {
            let (doing, class) = (error.operation, error.class);
            let why = format!("{doing} failed: {} (code {})", class.as_str(), error.code);
            Arc::new(absent(role, class, place, why))
        }
    }
}

fn absent(role: Role, class: Class, place: String, why: String) -> AbsentStore {
    let error = StoreError {
        database: role,
        operation: "hello",
        class,
        code: 0,
    };
    let trouble = Some(why);
    AbsentStore::new(error, Whereabouts { place, trouble })
}

/// The error of an opening, with what to look at where databases were not reached.
fn explained(error: ConnectError, settings: &Settings) -> anyhow::Error {
    let ConnectError::Unreachable(away) = &error else {
        return error.into();
    };
    let roles: Vec<Role> = away.iter().map(Unreached::role).collect();
    let remedy = remedy(settings, &roles);
    Unreachable::new(error, remedy).into()
}

/// What to look at when these databases are away: the settings that led there.
pub fn remedy(settings: &Settings, away: &[Role]) -> String {
    match &settings.backend {
        Backend::Embedded { data_dir } => format!(
            "check that the data directory {} is the right one, that its file system is mounted, and that this user \
             can read and write in it; `tierkeep init` creates missing databases, empty",
            data_dir.display()
        ),
        Backend::Mongo(connections) => {
            let mut variables: Vec<&str> = Vec::new();
            for role in away {
                let used = connections.get(role).map(|it| it.variable.as_str());
                variables.extend(used.filter(|it| !variables.contains(it)));
            }
            let (addresses, are) = match variables.len() {
                1 => ("address", "is"),
                _ => ("addresses", "are"),
            };
            format!(
                "check that the {addresses} in {} {are} correct, that the server runs, and that it is reachable from \
                 this host",
                variables.join(", ")
            )
        }
    }
}

/// The stores of the seven databases, none of them reached yet.
///
/// # Errors
/// What is wrong with the settings, or with the directory.
pub async fn stores(
    servers: &Servers,
    settings: &Settings,
    purpose: Purpose,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Arc<dyn Store>>> {
    match &settings.backend {
        Backend::Embedded { data_dir } => embedded(data_dir, purpose, clock),
        Backend::Mongo(_) => {
            let stores = mongo_stores(servers, settings).await?.into_iter();
            Ok(stores
                .map(|store| Arc::new(store) as Arc<dyn Store>)
                .collect())
        }
    }
}

/// The same, as what they are; none with the embedded store.
///
/// # Errors
/// A connection string that cannot be understood, or whose host name is not found.
pub async fn mongo_stores(
    servers: &Servers,
    settings: &Settings,
) -> anyhow::Result<Vec<MongoStore>> {
    let (mut stores, mut away) = (Vec::new(), Vec::new());
    // Looked up once, however many databases it leads to.
    let mut not_found: Vec<&str> = Vec::new();
    if let Backend::Mongo(connections) = &settings.backend {
        for (role, connection) in connections {
            let url = connection.url.expose_secret();
            if not_found.contains(&url) {
                away.push(unresolved(connection, *role, NO_RECORDS).unreached());
                continue;
            }
            match connected(servers, connection, *role).await? {
                Ok(store) => stores.push(store),
                Err(unresolved) => {
                    not_found.push(url);
                    away.push(unresolved.unreached());
                }
            }
        }
    }
    if away.is_empty() {
        Ok(stores)
    } else {
        Err(explained(ConnectError::Unreachable(away), settings))
    }
}

fn embedded(
    data_dir: &Path,
    purpose: Purpose,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Arc<dyn Store>>> {
    match purpose {
        Purpose::Work | Purpose::Serve | Purpose::WorkWithNewAudit => {
            private_directory(data_dir).map_err(|error| UsageError {
                message: format!(
                    "the data directory {} cannot be created: {error}",
                    data_dir.display()
                ),
                remedy: Some("set --data-dir to a directory that this user can write to".into()),
            })?;
        }
        Purpose::Look => refuse_no_directory(data_dir)?,
    }
    must_be_writable(data_dir)?;
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for role in Role::ALL {
        let path = file(data_dir, role);
        if path.exists() {
            must_be_writable(&path)?;
        }
        stores.push(Arc::new(SqliteStore::open(&path, role, Arc::clone(clock))?));
    }
    Ok(stores)
}

/// Names what SQLite would only call unable to open; it writes beside a file to read it, too.
fn must_be_writable(path: &Path) -> Result<(), UsageError> {
    let Some(error) = unwritable(path) else {
        return Ok(());
    };
    Err(UsageError {
        message: format!("{} cannot be written to: {error}", path.display()),
        remedy: Some(
            "tierkeep needs write access to the data directory and every file in it, also for reading; check their \
             owner and the mount options of the file system"
                .into(),
        ),
    })
}

/// Why a file or directory that exists cannot be written to.
fn unwritable(path: &Path) -> Option<io::Error> {
    let access = rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK);
    access.err().map(io::Error::from)
}

fn refuse_no_directory(data_dir: &Path) -> Result<(), UsageError> {
    if data_dir.is_dir() {
        return Ok(());
    }
    Err(UsageError {
        message: format!("the data directory {} does not exist", data_dir.display()),
        remedy: Some("`tierkeep serve` and `tierkeep init` create one".into()),
    })
}

/// The order in which files are copied, as in an export: temp before main before srie, the ledger last.
const COPIED: [Role; 7] = [
    Role::ExternalUsers,
    Role::RaseenTempUser,
    Role::RaseenMainUser,
    Role::SrieMainUser,
    Role::RaseenMainHr,
    Role::SrieMainHr,
    Role::EvaluationAudit,
];

/// Copies a data directory that may be in use to the directory `to`, which can be a data directory afterwards;
/// answers how many bytes of databases. Its keys come along, decisions that wait in its spool do not.
///
/// # Errors
/// What keeps a file from being read or written; what is in `to` then is no copy.
pub async fn copy(data_dir: &Path, to: &Path) -> anyhow::Result<u64> {
    let begun = SystemClock.now();
    // All moments lie close together; no file is copied before they are fixed.
    let snapshots: Vec<(Role, Snapshot)> = COPIED
        .into_iter()
        .map(|role| Ok((role, Snapshot::of(&file(data_dir, role), role)?)))
        .collect::<Result<_, StoreError>>()?;
    private_directory(to)?;
    let target = to.to_owned();
    let bytes = tokio::task::spawn_blocking(move || {
        let mut bytes = 0;
        for (role, snapshot) in snapshots {
            bytes += snapshot.copy_to(&file(&target, role))?;
        }
        Ok::<u64, StoreError>(bytes)
    })
    .await??;
    copy_keys(data_dir, to)?;
    let audit = SqliteStore::open(
        &file(to, Role::EvaluationAudit),
        Role::EvaluationAudit,
        Arc::new(SystemClock),
    )?;
    begin_erasures_again(&audit, begun).await?;
    Ok(bytes)
}

fn file(data_dir: &Path, role: Role) -> PathBuf {
    data_dir.join(format!("{role}.db"))
}

/// Erasures that were verified while the copy was made may be missing in the files that were copied first: in the copy
/// they are pending again, and a process that serves the copy brings them to every database.
async fn begin_erasures_again(audit: &SqliteStore, begun: DateTime) -> Result<(), StoreError> {
    let since = clock::before(begun, MARGIN);
    let verified = doc! { erasure_field::STAGE: Stage::Verified.as_str() };
    let mut after = None;
    loop {
        let find = Find::new(Query::Equal(verified.clone())).after(after.take());
        let page = audit.find(collection::ERASURES, &find).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(Cursor::after(last));
        for entry in page.iter().filter_map(|entry| Erasure::read(entry)) {
            let (Some(user), Some(at)) = (&entry.user, entry.requested_at) else {
                continue;
            };
            if at >= since {
                let set = Erasure::begun(user, entry.epoch, entry.requested_at.unwrap_or(at));
                let ids = [Bson::String(entry.id.clone())];
                audit
                    .amend(collection::ERASURES, &ids, &doc! {}, &set)
                    .await?;
            }
        }
    }
}
