//! The connection manager: the seven databases, opened, compared, stamped and handed out by type.
//!
//! Order of an opening: reach, compare, read stamps, look for TTL indexes; only when nothing is wrong is
//! anything written. `stamp` reads and writes the stamps. Rule source: the mission's Properties 7 and 8.

pub(crate) mod stamp;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bson::doc;
use tierkeep_core::breaker::BreakerState;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{
    Database, EvaluationAudit, ExternalUsers, Handle, RaseenMainHr, RaseenMainUser, RaseenTempUser,
    Role, SrieMainHr, SrieMainUser,
};
use tierkeep_core::hr::HrCollection;
use tierkeep_core::store::{FoundIndex, Hello, Store, StoreError};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::admission::Admission;
use crate::audit::{AuditSettings, AuditTrail};
use crate::guard::{Guard, GuardSettings};
use crate::layout::layout;
use crate::ledger::Ledger;
use crate::mutant::Mutation;
use crate::nonce::{Randomness, System};
use crate::tally::Tally;

/// How connecting is retried.
#[derive(Clone, Copy, Debug)]
pub struct ConnectSettings {
    /// How often after the first attempt.
    pub retries: u32,
    /// The longest wait before the first retry; doubles, with full jitter, up to 10 seconds.
    pub backoff: Duration,
}

/// Between two attempts, and for the turn of a database that is back.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What the process is going to do with the databases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Only look: nothing is created or stamped.
    Look,
    /// Work: collections, indexes and stamps are created where they are missing.
    Work,
    /// Work, although `evaluation_audit` is lost for good: an empty one takes its place.
    WorkWithNewAudit,
}

/// Why the databases cannot be used. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Databases without which nothing works stay away after all retries.
    #[error("{}", unreachable_message(.0))]
    Unreachable(Vec<StoreError>),
    /// Two roles lead to one database.
    #[error(
        "{first} and {second} lead to the same database {database:?} on the same server; give {} and {} different databases",
        first.url_variable(), second.url_variable()
    )]
    SameDatabase {
        /// One role.
        first: Role,
        /// The other.
        second: Role,
        /// The database's name.
        database: String,
    },
    /// A database is stamped as another role.
    #[error(
        "the database of {role} is stamped as {found}: {} leads to the wrong database",
        role.url_variable()
    )]
    StampedAsOther {
        /// The role it was configured as.
        role: Role,
        /// What its stamp says.
        found: String,
    },
    /// A database belongs to another deployment.
    #[error(
        "the database of {role} belongs to deployment {found}, the others to {expected}: {} leads to another deployment's data",
        role.url_variable()
    )]
    OtherDeployment {
        /// The role.
        role: Role,
        /// The deployment its stamp names.
        found: String,
        /// The deployment of the others.
        expected: String,
    },
    /// The stamps lead to a deployment whose `evaluation_audit` is not here.
    #[error(
        "{beside} belongs to deployment {found}, and evaluation_audit is empty: {} leads to another database, or \
         its data is lost, with the record of who was erased; give the right one, bring it back from a copy, or, when \
         it is lost for good, run `tierkeep init --new-audit` once",
        Role::EvaluationAudit.url_variable()
    )]
    AuditLost {
        /// One of the databases that are stamped.
        beside: Role,
        /// The deployment its stamp names.
        found: String,
    },
    /// The server would delete documents by age before they are moved or backed up.
    #[error("{}", ttl_message(*role, index))]
    TtlIndex {
        /// The role.
        role: Role,
        /// The index.
        index: FoundIndex,
    },
    /// The stores do not fit the roles.
    #[error("no store was given for {0}")]
    Missing(Role),
    /// A database broke off while it was being checked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn unreachable_message(errors: &[StoreError]) -> String {
    let line = |error: &StoreError| {
        let variable = error.database.url_variable();
        format!(
            "\n  {} ({}; see {variable})",
            error.database,
            error.class.as_str()
        )
    };
    let lines: Vec<String> = errors.iter().map(line).collect();
    format!("cannot reach:{}", lines.concat())
}

fn ttl_message(role: Role, index: &FoundIndex) -> String {
    format!(
        "{role}.{} has the TTL index {:?}, which deletes documents before they are moved or backed up; \
         drop it in the database that {} names, with: db.{}.dropIndex(\"{}\")",
        index.collection,
        index.name,
        role.url_variable(),
        index.collection,
        index.name
    )
}

/// What an opening found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Databases that are away and not needed for a start.
    pub away: Vec<Role>,
}

/// The seven databases.
#[doc(alias = "DatabaseConnectionManager")]
pub struct ConnectionManager {
    gates: BTreeMap<Role, Arc<Admission>>,
    external: Handle<ExternalUsers>,
    temp: Handle<RaseenTempUser>,
    main: Handle<RaseenMainUser>,
    main_hr: Handle<RaseenMainHr>,
    srie: Handle<SrieMainUser>,
    srie_hr: Handle<SrieMainHr>,
    audit: Handle<EvaluationAudit>,
    ledger: Ledger,
    audit_trail: AuditTrail,
    deployment: OnceLock<String>,
    hellos: tokio::sync::Mutex<BTreeMap<Role, Hello>>,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    tally: Arc<Tally>,
    mutation: Mutation,
    pub(crate) hr_collections: Arc<[HrCollection]>,
}

impl fmt::Debug for ConnectionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionManager").finish_non_exhaustive()
    }
}

impl ConnectionManager {
    /// Takes the seven stores; none is used before [`ConnectionManager::open`].
    ///
    /// # Errors
    /// [`ConnectError::Missing`] when a role has no store.
    pub fn new(
        stores: impl IntoIterator<Item = Arc<dyn Store>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        let tally = Arc::new(Tally::default());
        let gate = |store: Arc<dyn Store>| {
            let role = store.role();
            let guard = Guard::new(store, Arc::clone(&tally));
            (role, Arc::new(Admission::new(guard)))
        };
        let gates: BTreeMap<Role, Arc<Admission>> = stores.into_iter().map(gate).collect();
        let audit: Handle<EvaluationAudit> = handle(&gates)?;
        let randomness: Arc<dyn Randomness> = Arc::new(System);
        Ok(Self {
            ledger: Ledger::new(audit.clone(), Arc::clone(&clock)),
            audit_trail: AuditTrail::new(
                audit.clone(),
                Arc::clone(&clock),
                Arc::clone(&randomness),
                AuditSettings::default(),
            ),
            external: handle(&gates)?,
            temp: handle(&gates)?,
            main: handle(&gates)?,
            main_hr: handle(&gates)?,
            srie: handle(&gates)?,
            srie_hr: handle(&gates)?,
            audit,
            gates,
            deployment: OnceLock::new(),
            hellos: tokio::sync::Mutex::new(BTreeMap::new()),
            clock,
            randomness,
            tally,
            mutation: Mutation::default(),
            hr_collections: HrCollection::defaults().into(),
        })
    }

    /// Draws ids and jitter from `randomness` in place of the operating system's.
    #[must_use]
    pub fn with_randomness(mut self, randomness: Arc<dyn Randomness>) -> Self {
        self.audit_trail = self.audit_trail.with_randomness(Arc::clone(&randomness));
        self.randomness = randomness;
        self
    }

    /// Keeps the audit trail as `settings` say.
    #[must_use]
    pub fn with_audit(mut self, settings: AuditSettings) -> Self {
        self.audit_trail = AuditTrail::new(
            self.audit.clone(),
            Arc::clone(&self.clock),
            Arc::clone(&self.randomness),
            settings,
        );
        self
    }

    /// Takes a guard away, for a test that must notice.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with_mutant(mut self, mutant: crate::Mutant) -> Self {
        self.mutation = mutant.into();
        self
    }

    /// External users.
    #[doc(alias = "get_external_db")]
    pub fn external_db(&self) -> &Handle<ExternalUsers> {
        &self.external
    }

    /// Internal users, before their move.
    #[doc(alias = "get_raseen_temp_db")]
    pub fn raseen_temp_db(&self) -> &Handle<RaseenTempUser> {
        &self.temp
    }

    /// Internal users, after their move.
    #[doc(alias = "get_raseen_main_db")]
    pub fn raseen_main_db(&self) -> &Handle<RaseenMainUser> {
        &self.main
    }

    /// HR records.
    #[doc(alias = "get_raseen_hr_db")]
    pub fn raseen_hr_db(&self) -> &Handle<RaseenMainHr> {
        &self.main_hr
    }

    /// The backup of internal users.
    #[doc(alias = "get_srie_main_db")]
    pub fn srie_main_db(&self) -> &Handle<SrieMainUser> {
        &self.srie
    }

    /// The backup of HR records.
    #[doc(alias = "get_srie_hr_db")]
    pub fn srie_hr_db(&self) -> &Handle<SrieMainHr> {
        &self.srie_hr
    }

    /// Records of what was done.
    pub fn audit_db(&self) -> &Handle<EvaluationAudit> {
        &self.audit
    }

    /// Proof of what was decided and done.
    pub fn audit_trail(&self) -> &AuditTrail {
        &self.audit_trail
    }

    /// The id of the deployment that these databases belong to, once that is known.
    pub fn deployment(&self) -> Option<&str> {
        self.deployment.get().map(String::as_str)
    }

    /// The names that the databases have on their servers, of those that were reached.
    pub(crate) async fn database_names(&self) -> BTreeMap<String, Role> {
        let hellos = self.hellos.lock().await;
        let name = |(role, hello): (&Role, &Hello)| (hello.database.clone(), *role);
        hellos.iter().map(name).collect()
    }

    /// Who was erased.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The clock of this process.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Where ids and jitter come from.
    pub(crate) fn randomness(&self) -> &dyn Randomness {
        self.randomness.as_ref()
    }

    /// The guard that is missing, if any.
    pub(crate) fn mutation(&self) -> Mutation {
        self.mutation
    }

    /// The store of a role, shut while the role is not admitted.
    pub fn store(&self, role: Role) -> Option<Arc<dyn Store>> {
        self.gates
            .get(&role)
            .map(|gate| Arc::clone(gate) as Arc<dyn Store>)
    }

    /// From now on gives every call a time-out, and refuses it at once while its database cannot be reached. For
    /// services: whoever does one thing and ends waits as long as the backend does.
    pub fn guard_calls(&self, settings: GuardSettings) {
        for gate in self.gates.values() {
            gate.guard().arm(settings, Arc::clone(&self.randomness));
        }
    }

    /// What becomes of calls to the database of a role; none while calls are not guarded.
    pub fn breaker(&self, role: Role) -> Option<BreakerState> {
        self.gates.get(&role)?.guard().state()
    }

    /// What happened since the process began.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The roles whose databases have not been admitted yet.
    pub fn away(&self) -> Vec<Role> {
        self.gates
            .values()
            .filter(|gate| !gate.is_admitted())
            .map(|gate| gate.role())
            .collect()
    }

    /// Reaches all seven, refuses what is wired wrongly, and admits the rest.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was written.
    pub async fn open(
        &self,
        settings: ConnectSettings,
        purpose: Purpose,
    ) -> Result<Opened, ConnectError> {
        let (reached, away) = self.reach(settings).await;
        let critical: Vec<StoreError> = away
            .iter()
            .filter(|error| error.database.critical())
            .cloned()
            .collect();
        if !critical.is_empty() {
            return Err(ConnectError::Unreachable(critical));
        }
        self.admit(self.hellos.lock().await, reached, purpose)
            .await?;
        Ok(Opened {
            away: away.into_iter().map(|error| error.database).collect(),
        })
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
        let turn = tokio::time::timeout(LONGEST_WAIT, self.hellos.lock()).await;
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
        self.admit(self.hellos.lock().await, reached, Purpose::Work)
            .await
    }

    /// Says hello to every database at once, each with its own retries.
    async fn reach(&self, settings: ConnectSettings) -> (BTreeMap<Role, Hello>, Vec<StoreError>) {
        let mut greetings = JoinSet::new();
        for gate in self.gates.values() {
            let randomness = Arc::clone(&self.randomness);
            let tally = Arc::clone(&self.tally);
            greetings.spawn(greet(Arc::clone(gate), settings, randomness, tally));
        }
        let mut reached = BTreeMap::new();
        let mut away = Vec::new();
        while let Some(greeting) = greetings.join_next().await {
            match greeting {
                Ok((role, Ok(hello))) => {
                    reached.insert(role, hello);
                }
                Ok((_, Err(error))) => away.push(error),
                Err(panicked) => warn!(%panicked, "a greeting ended early"),
            }
        }
        away.sort_by_key(|error| error.database);
        (reached, away)
    }

    /// One admission after the other: whoever holds `hellos` compares with all that were admitted.
    async fn admit(
        &self,
        mut hellos: tokio::sync::MutexGuard<'_, BTreeMap<Role, Hello>>,
        reached: BTreeMap<Role, Hello>,
        purpose: Purpose,
    ) -> Result<(), ConnectError> {
        let mut all: BTreeMap<Role, Hello> = hellos.clone();
        all.extend(reached.clone());
        refuse_same_database(&all)?;
        let mut stamps = BTreeMap::new();
        for role in reached.keys() {
            let Some(gate) = self.gates.get(role) else {
                continue;
            };
            stamps.insert(*role, stamp::read(gate.unchecked()).await?);
            refuse_ttl(gate.unchecked()).await?;
        }
        let known = self.agree_on_deployment(&stamps)?;
        if purpose != Purpose::WorkWithNewAudit {
            self.refuse_lost_audit(&stamps).await?;
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
            gate.admit();
        }
        *hellos = all;
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
            "the database is back and was admitted",
        ),
        Err(error) if gate.refuse(error.to_string()) => error!(
            user_type = %role.user_type(),
            database = %role,
            %error,
            "the database is back and was not admitted",
        ),
        Err(_) => {}
    }
}

async fn refuse_ttl(store: &dyn Store) -> Result<(), ConnectError> {
    let role = store.role();
    let holds_data = |index: &FoundIndex| match role {
        Role::EvaluationAudit => false,
        Role::RaseenMainHr | Role::SrieMainHr => true,
        Role::ExternalUsers | Role::RaseenTempUser | Role::RaseenMainUser | Role::SrieMainUser => {
            role.users() == Some(index.collection.as_str())
        }
    };
    let trap = |index: &FoundIndex| index.deletes_by_age && holds_data(index);
    match store.indexes().await?.into_iter().find(trap) {
        Some(index) => Err(ConnectError::TtlIndex { role, index }),
        None => Ok(()),
    }
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
    tally: Arc<Tally>,
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
                    "cannot reach the database",
                );
                return (role, Err(error));
            }
            Err(error) => {
                attempt += 1;
                tally.connect_retried(role);
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

fn handle<D: Database>(gates: &BTreeMap<Role, Arc<Admission>>) -> Result<Handle<D>, ConnectError> {
    let gate = gates.get(&D::ROLE).ok_or(ConnectError::Missing(D::ROLE))?;
    Handle::claim(Arc::clone(gate) as Arc<dyn Store>).map_err(|_| ConnectError::Missing(D::ROLE))
}
