//! Seven fresh databases for one contender in one round, with the documents that it moves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bson::{DateTime, doc};
use mongodb::Client;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Inserted, Query, Store};
use tierkeep_engine::{ConnectSettings, ConnectionManager, Purpose};
use tierkeep_mongo::MongoStore;

use crate::documents;

/// The collection of users in each database that has one.
pub const USERS: &str = "internal_users";
/// How many documents are planted with one command.
const AT_ONCE: u64 = 500;

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> DateTime {
        #[expect(clippy::disallowed_methods, reason = "measurements are of real time")]
        DateTime::now()
    }
}

/// Seven databases.
#[derive(Debug)]
pub struct Place {
    /// What the engine works on.
    pub databases: Arc<ConnectionManager>,
    /// The stores behind it.
    pub stores: Vec<Arc<dyn Store>>,
    /// What the names of the databases start with.
    pub prefix: String,
}

impl Place {
    /// Seven databases on a server, with the collections and indexes that tierkeep makes.
    pub async fn on_mongodb(client: &Client, prefix: &str) -> Result<Self> {
        // What a run that was cut off has left.
        drop_all(client, prefix).await?;
        let stores = Role::ALL
            .into_iter()
            .map(|role| {
                let name = format!("{prefix}_{role}");
                Arc::new(MongoStore::with_client(client, &name, role)) as Arc<dyn Store>
            })
            .collect();
        Self::over(stores, prefix).await
    }

    /// Seven databases over these stores.
    pub async fn over(stores: Vec<Arc<dyn Store>>, prefix: &str) -> Result<Self> {
        let databases = ConnectionManager::new(stores.clone(), Arc::new(MachineClock))?;
        let patience = ConnectSettings {
            retries: 3,
            backoff: Duration::from_millis(200),
        };
        databases.open(patience, Purpose::Work).await?;
        Ok(Self {
            databases: Arc::new(databases),
            stores,
            prefix: prefix.to_owned(),
        })
    }

    /// The store of `role`.
    pub fn store(&self, role: Role) -> Result<&Arc<dyn Store>> {
        let store = self.stores.iter().find(|store| store.role() == role);
        store.context("there is a store for every role")
    }

    /// The database of `role` on the server.
    pub fn database(&self, client: &Client, role: Role) -> mongodb::Database {
        client.database(&format!("{}_{role}", self.prefix))
    }

    /// Puts `documents` users into temp, all of them due.
    pub async fn plant(&self, documents: u64) -> Result<()> {
        plant(self.store(Role::RaseenTempUser)?.as_ref(), documents).await
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

    /// Drops the databases.
    pub async fn drop_from(&self, client: &Client) -> Result<()> {
        drop_all(client, &self.prefix).await
    }
}

async fn drop_all(client: &Client, prefix: &str) -> Result<()> {
    for role in Role::ALL {
        let database = client.database(&format!("{prefix}_{role}"));
        database.run_command(doc! { "dropDatabase": 1 }).await?;
    }
    Ok(())
}

/// Puts `documents` users into `temp`, staged two days ago, a millisecond apart.
pub async fn plant(temp: &dyn Store, documents: u64) -> Result<()> {
    let first = MachineClock.now().timestamp_millis() - 48 * 3_600 * 1_000;
    let mut from = 0;
    while from < documents {
        let to = documents.min(from + AT_ONCE);
        let run: Vec<_> = (from..to)
            .map(|n| {
                let at = first + i64::try_from(n).unwrap_or(0);
                documents::staged(n, DateTime::from_millis(at))
            })
            .collect();
        let outcomes = temp.insert(USERS, &run).await?;
        let stored = outcomes.iter().all(|outcome| *outcome == Inserted::Stored);
        ensure!(stored, "a document could not be planted");
        from = to;
    }
    Ok(())
}
