//! Opening: reach the databases, compare them, read their stamps, refuse what is wired wrongly, admit the rest.
//!
//! Nothing is written before every check has passed. Rule source: the mission's Properties 7 and 8.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tierkeep_core::db::Role;
use tierkeep_core::store::{Hello, Store, StoreError};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::databases::admission::Admission;
use crate::databases::counters::ConnectRetries;
use crate::databases::error::{ConnectError, Hazard};
use crate::databases::manager::{ConnectSettings, ConnectionManager, Opened, Purpose};
use crate::databases::random::Randomness;
use crate::databases::schema::layout;
use crate::databases::shards;
use crate::databases::stamp;
use crate::databases::unreached::Unreached;

/// The longest wait between two attempts, and for another admission of a database to end.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl ConnectionManager {
    /// Reaches all seven, refuses what is wired wrongly, and admits the rest.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was written.
    pub async fn open(
        &self,
        settings: ConnectSettings,
        purpose: Purpose,
    ) -> Result<Opened, ConnectError> {
        let (mut reached, mut away) = self.reach(settings).await;
        loop {
            // All that are away are named, also those without which it would start.
            let roles: Vec<Role> = away.iter().map(|error| error.database).collect();
            let is_refused = match purpose {
                Purpose::Serve => Role::keep_from_starting(&roles),
                Purpose::Look | Purpose::Work | Purpose::WorkWithNewAudit => {
                    roles.iter().any(|role| role.critical())
                }
            };
            if is_refused {
                let unreached = away.into_iter().filter_map(|error| self.unreached(error));
                return Err(ConnectError::Unreachable(unreached.collect()));
            }
            let turn = self.admissions.lock().await;
            match self.admit(turn, reached.clone(), purpose).await {
                Ok(()) => return Ok(Opened { away: roles }),
                // It broke off while it was being checked, or a router answers for a shard that does not: a service
                // does without it, as without what does not answer at all.
                Err(ConnectError::Store(error))
                    if purpose == Purpose::Serve && reached.remove(&error.database).is_some() =>
                {
                    let role = error.database;
                    warn!(
                        user_type = %role.user_type(),
                        database = %role,
                        error = error.class.as_str(),
                        "the database cannot be checked and is treated as unavailable",
                    );
                    away.push(error);
                    away.sort_by_key(|error| error.database);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Tries to admit the databases that were away, each for itself; answers what became of those that have
    /// come back. One that is wired wrongly stays shut and keeps no other out.
    pub async fn heal(&self) -> Vec<(Role, Result<(), ConnectError>)> {
        let mut back = Vec::new();
        for role in self.away() {
            if let Some(outcome) = self.heal_one(role).await {
                back.push((role, outcome));
            }
        }
        back
    }

    /// Tries to admit one database that was away; nothing where it still is, or another admission takes too long.
    pub async fn heal_one(&self, role: Role) -> Option<Result<(), ConnectError>> {
        let gate = self.gates.get(&role)?;
        let hello = gate.unchecked().hello().await.ok()?;
        let turn = tokio::time::timeout(LONGEST_WAIT, self.admissions.lock()).await;
        let reached = BTreeMap::from([(role, hello)]);
        let outcome = self.admit(turn.ok()?, reached, Purpose::Work).await;
        told(gate, &outcome);
        Some(outcome)
    }

    /// Creates what is missing of these databases, their stamps included, also where they were emptied while this
    /// process runs.
    ///
    /// # Errors
    /// [`ConnectError`] for a database that does not answer, or is another one now.
    pub async fn recreate(&self, roles: &[Role]) -> Result<(), ConnectError> {
        let mut reached = BTreeMap::new();
        for role in roles {
            let Some(gate) = self.gates.get(role) else {
                return Err(ConnectError::Missing(*role));
            };
            reached.insert(*role, gate.unchecked().hello().await?);
        }
        self.admit(self.admissions.lock().await, reached, Purpose::Work)
            .await
    }

    /// Says hello to every database at once, each with its own retries.
    async fn reach(&self, settings: ConnectSettings) -> (BTreeMap<Role, Hello>, Vec<StoreError>) {
        let mut greetings = JoinSet::new();
        for gate in self.gates.values() {
            let randomness = Arc::clone(&self.randomness);
            let retries = Arc::clone(&self.connect_retries);
            greetings.spawn(greet(Arc::clone(gate), settings, randomness, retries));
        }
        let mut reached = BTreeMap::new();
        let mut away = Vec::new();
        while let Some(greeting) = greetings.join_next().await {
            match greeting {
                Ok((role, Ok(hello))) => {
                    reached.insert(role, hello);
                }
                Ok((_, Err(error))) => away.push(error),
                Err(panicked) => warn!(%panicked, "an admission check ended early"),
            }
        }
        away.sort_by_key(|error| error.database);
        (reached, away)
    }

    /// Admissions run one after the other: the holder of `_turn` compares with all databases admitted before.
    pub(super) async fn admit(
        &self,
        _turn: tokio::sync::MutexGuard<'_, ()>,
        reached: BTreeMap<Role, Hello>,
        purpose: Purpose,
    ) -> Result<(), ConnectError> {
        let mut all: BTreeMap<Role, Hello> = self.identities.hellos().clone();
        all.extend(reached.clone());
        if !self.takes_imitators {
            refuse_imitators(&reached)?;
        }
        refuse_same_database(&all)?;
        let mut stamps = BTreeMap::new();
        for role in reached.keys() {
            let Some(gate) = self.gates.get(role) else {
                continue;
            };
            stamps.insert(*role, stamp::read(gate.unchecked()).await?);
            refuse_hazards(gate.unchecked()).await?;
            refuse_shard_key(gate.unchecked()).await?;
        }
        let known = self.agree_on_deployment(&stamps)?;
        if purpose != Purpose::WorkWithNewAudit {
            self.refuse_lost_audit(&stamps).await?;
        }
        for role in reached.keys() {
            if let Some(gate) = self.gates.get(role) {
                gate.watch().clear();
            }
        }
        if purpose != Purpose::Look {
            self.stamp_missing(&stamps, known).await?;
        }
        for role in reached.keys() {
            let Some(gate) = self.gates.get(role) else {
                continue;
            };
            if purpose != Purpose::Look {
                gate.unchecked()
                    .prepare(&layout(*role, &self.hr_collections))
                    .await?;
            }
            if let Some(hello) = all.get(role) {
                self.identities.hellos().insert(*role, hello.clone());
            }
            gate.admit();
        }
        Ok(())
    }
}

/// Says what became of a database that is back; the same refusal once.
fn told(gate: &Admission, outcome: &Result<(), ConnectError>) {
    let role = gate.role();
    match outcome {
        Ok(()) => info!(
            user_type = %role.user_type(),
            database = %role,
            "the database is available again and was admitted",
        ),
        Err(error) if gate.refuse(error.to_string()) => error!(
            user_type = %role.user_type(),
            database = %role,
            %error,
            "the database is available again but was not admitted",
        ),
        Err(_) => {}
    }
}

/// Refuses what makes a server delete or confuse documents of users or HR by itself.
pub(crate) async fn refuse_hazards(store: &dyn Store) -> Result<(), ConnectError> {
    let role = store.role();
    let holds_data = |collection: &str| match role {
        Role::EvaluationAudit => false,
        Role::RaseenMainHr | Role::SrieMainHr => true,
        Role::ExternalUsers | Role::RaseenTempUser | Role::RaseenMainUser | Role::SrieMainUser => {
            role.users() == Some(collection)
        }
    };
    let indexes = store.indexes().await?.into_iter();
    if let Some(index) = indexes
        .filter(|index| index.deletes_by_age)
        .find(|index| holds_data(&index.collection))
    {
        return Err(ConnectError::TtlIndex { role, index });
    }
    let collections = store.collections().await?.into_iter();
    let hazard = collections
        .filter(|collection| holds_data(&collection.name))
        .find_map(|collection| Hazard::of(&collection));
    hazard.map_or(Ok(()), |hazard| Err(ConnectError::Hazard { role, hazard }))
}

/// Where shards keep an `_id` from being stored twice each for itself, a second insert is no proof of a first.
async fn refuse_shard_key(store: &dyn Store) -> Result<(), ConnectError> {
    let role = store.role();
    let foreign = shards::foreign_key(store).await?;
    foreign.map_or(Ok(()), |key| Err(ConnectError::ShardKey { role, key }))
}

/// Refuses products that speak the protocol of MongoDB: they do not keep all of its promises.
fn refuse_imitators(reached: &BTreeMap<Role, Hello>) -> Result<(), ConnectError> {
    let imitator = |(role, hello): (&Role, &Hello)| Some((*role, hello.imitator?));
    let found = reached.iter().find_map(imitator);
    found.map_or(Ok(()), |(role, product)| {
        Err(ConnectError::Imitator { role, product })
    })
}

fn refuse_same_database(hellos: &BTreeMap<Role, Hello>) -> Result<(), ConnectError> {
    let all: Vec<(&Role, &Hello)> = hellos.iter().collect();
    for (index, (first, one)) in all.iter().enumerate() {
        for (second, other) in all.iter().skip(index + 1) {
            if one.is_same_database(other) {
                return Err(ConnectError::SameDatabase {
                    first: **first,
                    second: **second,
                    database: one.database.clone(),
                });
            }
        }
    }
    Ok(())
}

async fn greet(
    gate: Arc<Admission>,
    settings: ConnectSettings,
    randomness: Arc<dyn Randomness>,
    retries: Arc<ConnectRetries>,
) -> (Role, Result<Hello, StoreError>) {
    let role = gate.role();
    let mut wait = settings.backoff;
    let mut attempt = 0;
    loop {
        match gate.hello().await {
            Ok(hello) => {
                info!(user_type = %role.user_type(), database = %role, "connected");
                return (role, Ok(hello));
            }
            Err(error) if attempt >= settings.retries => {
                warn!(
                    user_type = %role.user_type(),
                    database = %role,
                    error = error.class.as_str(),
                    cause = Unreached::new(gate.unchecked(), error.clone()).cause(),
                    "cannot reach the database",
                );
                return (role, Err(error));
            }
            Err(error) => {
                attempt += 1;
                retries.add(role);
                warn!(
                    user_type = %role.user_type(),
                    database = %role,
                    error = error.class.as_str(),
                    "connecting failed, attempt {attempt} of {}",
                    settings.retries,
                );
                let wait_now = wait.min(LONGEST_WAIT).mul_f64(randomness.fraction());
                tokio::time::sleep(wait_now).await;
                wait = wait.saturating_mul(2);
            }
        }
    }
}
