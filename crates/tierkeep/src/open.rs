//! Opening the seven databases: the one place that opens a backend.

use std::path::Path;
use std::sync::Arc;

use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::store::Store;
use tierkeep_engine::{ConnectionManager, Opened, Purpose};
pub use tierkeep_mongo::Servers;
use tierkeep_sqlite::SqliteStore;

use crate::clock::SystemClock;
use crate::config::{Backend, Settings, private_directory};
use crate::exit::UsageError;

/// The databases, reached, compared and admitted, and which of them are away. Their connections are those of
/// `servers`.
///
/// # Errors
/// What is wrong with the settings or the databases; nothing was written to any of them.
pub async fn open(
    servers: &Servers,
    settings: &Settings,
    purpose: Purpose,
) -> anyhow::Result<(Arc<ConnectionManager>, Opened)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stores = match &settings.backend {
        Backend::Embedded { data_dir } => embedded(data_dir, purpose, &clock)?,
        Backend::Mongo(connections) => {
            let mut stores: Vec<Arc<dyn Store>> = Vec::new();
            for (role, connection) in connections {
                stores.push(Arc::new(servers.connect(&connection.url, *role).await?));
            }
            stores
        }
    };
    #[cfg(feature = "crash-points")]
    let stores = crate::crash_points::over(stores)?;
    let audit = settings.audit.settings(purpose)?;
    let databases = ConnectionManager::new(stores, clock)?.with_audit(audit);
    let opened = databases.open(settings.connect, purpose).await?;
    Ok((Arc::new(databases), opened))
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
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for role in Role::ALL {
        let path = data_dir.join(format!("{role}.db"));
        stores.push(Arc::new(SqliteStore::open(&path, role, Arc::clone(clock))?));
    }
    Ok(stores)
}
