//! Seven fresh databases for one measurement, with the documents that it moves.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bson::{DateTime, doc};
use mongodb::Client;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::mover::main_form;
use tierkeep_core::store::{Inserted, Query, Store};
use tierkeep_engine::{ConnectSettings, ConnectionManager, Engine, Purpose};
use tierkeep_mongo::MongoStore;
use tierkeep_sqlite::SqliteStore;

use crate::documents;

/// The collection of users in each database that has one.
pub const USERS: &str = "internal_users";
/// The table of that collection in a file of SQLite.
pub const TABLE: &str = "documents_of_internal_users";
/// How many documents are planted with one command.
const AT_ONCE: u64 = 500;
/// How long ago the first document that is due was staged.
const STAGED_AGO: Duration = Duration::from_hours(48);

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> DateTime {
        #[expect(clippy::disallowed_methods, reason = "measurements are of real time")]
        DateTime::now()
    }
}

/// Where databases are made.
#[derive(Clone, Debug)]
pub enum Home {
    /// A MongoDB server.
    Mongodb {
        /// The connection string.
        url: String,
        /// A client of it.
        client: Client,
    },
    /// A directory for SQLite files.
    Sqlite(PathBuf),
}

impl Home {
    /// What it is called in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mongodb { .. } => "MongoDB",
            Self::Sqlite(_) => "SQLite",
        }
    }
}

/// Seven databases.
#[derive(Debug)]
pub struct Place {
    /// What the engine works on.
    pub engine: Arc<Engine>,
    /// The stores behind it.
    pub stores: Vec<Arc<dyn Store>>,
    home: Home,
    prefix: String,
}

impl Place {
    /// Seven empty databases, with the collections and indexes that tierkeep makes.
    pub async fn fresh(home: &Home, prefix: &str) -> Result<Self> {
        // What a run that was cut off has left.
        remove(home, prefix).await?;
        let mut stores: Vec<Arc<dyn Store>> = Vec::new();
        if let Home::Sqlite(_) = home {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(folder(home, prefix))?;
        }
        for role in Role::ALL {
            stores.push(match home {
                Home::Mongodb { client, .. } => {
                    Arc::new(MongoStore::with_client(client, &name(prefix, role), role))
                }
                Home::Sqlite(_) => {
                    let file = folder(home, prefix).join(format!("{role}.db"));
                    Arc::new(SqliteStore::open(&file, role, Arc::new(MachineClock))?)
                }
            });
        }
        Ok(Self {
            engine: engine_of(&stores).await?,
            stores,
            home: home.clone(),
            prefix: prefix.to_owned(),
        })
    }

    /// An engine of its own on the same databases, as another process has it.
    pub async fn another_engine(&self) -> Result<Arc<Engine>> {
        engine_of(&self.stores).await
    }

    /// The store of `role`.
    pub fn store(&self, role: Role) -> Result<&Arc<dyn Store>> {
        let store = self.stores.iter().find(|store| store.role() == role);
        store.context("there is a store for every role")
    }

    /// The database of `role` on its server.
    ///
    /// # Errors
    /// There is no server.
    pub fn database(&self, role: Role) -> Result<mongodb::Database> {
        match &self.home {
            Home::Mongodb { client, .. } => Ok(client.database(&name(&self.prefix, role))),
            Home::Sqlite(_) => anyhow::bail!("an embedded database has no server"),
        }
    }

    /// The file of `role`.
    pub fn file(&self, role: Role) -> PathBuf {
        folder(&self.home, &self.prefix).join(format!("{role}.db"))
    }

    /// The variables that lead a tierkeep of its own here.
    pub fn environment(&self) -> Vec<(String, String)> {
        match &self.home {
            Home::Mongodb { url, .. } => Role::ALL
                .into_iter()
                .map(|role| {
                    let url = with_database(url, &name(&self.prefix, role));
                    (role.url_variable().to_owned(), url)
                })
                .collect(),
            Home::Sqlite(_) => {
                let folder = folder(&self.home, &self.prefix);
                vec![("TIERKEEP_DATA_DIR".into(), folder.display().to_string())]
            }
        }
    }

    /// Puts `documents` users into temp, staged two days ago, a millisecond apart: all of them are due.
    pub async fn plant(&self, documents: u64) -> Result<()> {
        let first = before_now(STAGED_AGO);
        self.insert(Role::RaseenTempUser, 0..documents, |n| {
            documents::staged(n, a_millisecond_apart(first, n))
        })
        .await
    }

    /// As [`Place::plant`], as another program writes them.
    pub async fn plant_foreign(&self, documents: u64) -> Result<()> {
        let first = before_now(STAGED_AGO);
        self.insert(Role::RaseenTempUser, 0..documents, |n| {
            documents::foreign(n, a_millisecond_apart(first, n))
        })
        .await
    }

    /// As [`Place::plant`], with `large` documents of `size` bytes spread evenly among them.
    pub async fn plant_with_large(&self, documents: u64, large: u64, size: usize) -> Result<()> {
        let first = before_now(STAGED_AGO);
        let every = (documents / large.max(1)).max(1);
        self.insert(Role::RaseenTempUser, 0..documents, |n| {
            let at = a_millisecond_apart(first, n);
            if n % every == every / 2 {
                documents::sized(n, size, 1, at)
            } else {
                documents::staged(n, at)
            }
        })
        .await
    }

    /// Puts `documents` users of about `size` bytes each into main and srie, as a move leaves them.
    pub async fn plant_moved(&self, documents: u64, size: usize) -> Result<()> {
        let at = before_now(STAGED_AGO);
        for role in [Role::SrieMainUser, Role::RaseenMainUser] {
            self.insert(role, 0..documents, |n| {
                let staged = documents::sized(n, size, 1, at);
                main_form(&staged, &Digest::of(&staged))
            })
            .await?;
        }
        Ok(())
    }

    /// Puts users number `users` into temp, staged just now: none of them is due.
    pub async fn plant_young(&self, users: std::ops::Range<u64>) -> Result<()> {
        let now = MachineClock.now();
        self.insert(Role::RaseenTempUser, users, |n| documents::staged(n, now))
            .await
    }

    /// As [`Place::plant_young`], of about `size` bytes each.
    pub async fn plant_young_of(&self, users: std::ops::Range<u64>, size: usize) -> Result<()> {
        let now = MachineClock.now();
        self.insert(Role::RaseenTempUser, users, |n| {
            documents::sized(n, size, 1, now)
        })
        .await
    }

    async fn insert(
        &self,
        role: Role,
        users: std::ops::Range<u64>,
        document: impl Fn(u64) -> bson::raw::RawDocumentBuf,
    ) -> Result<()> {
        let store = self.store(role)?;
        let mut from = users.start;
        while from < users.end {
            let to = users.end.min(from + AT_ONCE);
            let run: Vec<_> = (from..to).map(&document).collect();
            let outcomes = store.insert(USERS, &run).await?;
            let stored = outcomes.iter().all(|outcome| *outcome == Inserted::Stored);
            ensure!(stored, "a document could not be planted");
            from = to;
        }
        Ok(())
    }

    /// Whether main and srie hold `documents` users each, and temp none.
    pub async fn check_moved(&self, documents: u64) -> Result<()> {
        let expected = [
            (Role::RaseenTempUser, 0),
            (Role::RaseenMainUser, documents),
            (Role::SrieMainUser, documents),
        ];
        for (role, expected) in expected {
            let count = self.store(role)?.count(USERS, &Query::All).await?;
            ensure!(
                count == expected,
                "{role} holds {count} documents, not {expected}"
            );
        }
        Ok(())
    }

    /// Removes the databases.
    pub async fn remove(self) -> Result<()> {
        let (home, prefix) = (self.home.clone(), self.prefix.clone());
        drop(self);
        remove(&home, &prefix).await
    }
}

async fn engine_of(stores: &[Arc<dyn Store>]) -> Result<Arc<Engine>> {
    let databases = ConnectionManager::new(stores.to_vec(), Arc::new(MachineClock))?;
    let engine = Engine::new(databases);
    let patience = ConnectSettings {
        retries: 3,
        backoff: Duration::from_millis(200),
    };
    engine.databases().open(patience, Purpose::Work).await?;
    Ok(Arc::new(engine))
}

/// The time this long ago.
pub fn before_now(ago: Duration) -> DateTime {
    tierkeep_core::clock::before(MachineClock.now(), ago)
}

fn a_millisecond_apart(first: DateTime, n: u64) -> DateTime {
    tierkeep_core::clock::after(first, Duration::from_millis(n))
}

fn name(prefix: &str, role: Role) -> String {
    format!("{prefix}_{role}")
}

fn folder(home: &Home, prefix: &str) -> PathBuf {
    match home {
        Home::Mongodb { .. } => PathBuf::new(),
        Home::Sqlite(folder) => folder.join(prefix),
    }
}

/// The connection string with `database` in its path.
pub fn with_database(url: &str, database: &str) -> String {
    let (servers, options) = url.split_once('?').unwrap_or((url, ""));
    let servers = servers.strip_prefix("mongodb://").unwrap_or(servers);
    let hosts = servers.split('/').next().unwrap_or_default();
    format!("mongodb://{hosts}/{database}?{options}")
}

async fn remove(home: &Home, prefix: &str) -> Result<()> {
    match home {
        Home::Mongodb { client, .. } => {
            for role in Role::ALL {
                let database = client.database(&name(prefix, role));
                database.run_command(doc! { "dropDatabase": 1 }).await?;
            }
        }
        Home::Sqlite(_) => remove_folder(&folder(home, prefix))?,
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(folder.display().to_string())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_in_the_path() {
        let url = "mongodb://127.0.0.1:1/?replicaSet=x";
        assert_eq!(
            with_database(url, "a_b"),
            "mongodb://127.0.0.1:1/a_b?replicaSet=x"
        );
    }
}
