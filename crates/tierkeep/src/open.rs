//! Opening the seven databases: the one place that opens a backend.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, DateTime, doc};
use rustix::fs::Access;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::{Role, collection};
use tierkeep_core::erasure::{Erasure, Stage, erasure_field};
use tierkeep_core::store::{Cursor, Find, Query, Store, StoreError};
use tierkeep_engine::{ConnectionManager, Engine, Opened, Purpose};
use tierkeep_mongo::MongoStore;
pub use tierkeep_mongo::Servers;
use tierkeep_sqlite::{Snapshot, SqliteStore};

use crate::clock::SystemClock;
use crate::config::{Backend, Settings, copy_keys, private_directory};
use crate::exit::UsageError;

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
    let databases =
        ConnectionManager::new(stores, clock)?.with_hr_collections(settings.hr_collections.clone());
    let opened = databases.open(settings.connect, purpose).await?;
    databases.watch_identities();
    Ok((Arc::new(Engine::with_audit(databases, audit)), opened))
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
/// A connection string that cannot be understood.
pub async fn mongo_stores(
    servers: &Servers,
    settings: &Settings,
) -> anyhow::Result<Vec<MongoStore>> {
    let mut stores = Vec::new();
    if let Backend::Mongo(connections) = &settings.backend {
        for (role, connection) in connections {
            stores.push(servers.connect(&connection.url, *role).await?);
        }
    }
    Ok(stores)
}

fn embedded(
    data_dir: &Path,
    purpose: Purpose,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Arc<dyn Store>>> {
    match purpose {
        Purpose::Work | Purpose::WorkWithNewAudit => {
            private_directory(data_dir).map_err(|error| UsageError {
                message: format!(
                    "the data directory {} cannot be made: {error}",
                    data_dir.display()
                ),
                remedy: Some("give --data-dir a directory that this user may write to".into()),
            })?;
        }
        Purpose::Look if !data_dir.is_dir() => {
            return Err(UsageError {
                message: format!("there is no data directory {}", data_dir.display()),
                remedy: Some("`tierkeep serve` and `tierkeep init` make one".into()),
            }
            .into());
        }
        Purpose::Look => {}
    }
    must_be_writable(data_dir)?;
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for role in Role::ALL {
        let path = data_dir.join(format!("{role}.db"));
        stores.push(Arc::new(SqliteStore::open(&path, role, Arc::clone(clock))?));
    }
    Ok(stores)
}

/// Names the directory or file that SQLite would only call unable to open; it writes beside a file to read it, too.
fn must_be_writable(data_dir: &Path) -> Result<(), UsageError> {
    let files = Role::ALL
        .into_iter()
        .map(|role| file(data_dir, role))
        .filter(|file| file.exists());
    for path in [data_dir.to_owned()].into_iter().chain(files) {
        if let Err(error) = rustix::fs::access(&path, Access::READ_OK | Access::WRITE_OK) {
            let error = std::io::Error::from(error);
            return Err(UsageError {
                message: format!("{} cannot be written to: {error}", path.display()),
                remedy: Some(
                    "tierkeep must be able to write to the data directory and every file in it, to look at them too; \
                     check their owner, and how the file system is mounted"
                        .into(),
                ),
            });
        }
    }
    Ok(())
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

/// Erasures that were verified while the copy was made may be missing in the files that were copied first: in the
/// copy they are pending again, and whoever serves it brings them to every database.
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
