//! The connection manager: the seven databases, opened, compared, stamped and handed out by type.
//!
//! `open` opens and admits them, `stamp` reads and writes the stamps, `admission`, `breaker` and `identity` stand before
//! every call to a store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tierkeep_core::breaker::BreakerState;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{
    Database, EvaluationAudit, ExternalUsers, RaseenMainHr, RaseenMainUser, RaseenTempUser, Role,
    SrieMainHr, SrieMainUser,
};
use tierkeep_core::hr::HrCollection;
use tierkeep_core::store::{Class, Handle, Hello, Store};

use crate::databases::admission::Admission;
use crate::databases::breaker::{CircuitBreaker, GuardSettings};
use crate::databases::counters::ConnectRetries;
use crate::databases::error::ConnectError;
use crate::databases::identity::{Identities, IdentityWatch};
use crate::databases::random::{Randomness, System};

/// How connecting is retried.
#[derive(Clone, Copy, Debug)]
pub struct ConnectSettings {
    /// How often after the first attempt.
    pub retries: u32,
    /// The longest wait before the first retry; doubles, with full jitter, up to 10 seconds.
    pub backoff: Duration,
}

/// What the process is going to do with the databases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Only look: nothing is created or stamped.
    Look,
    /// Work: collections, indexes and stamps are created where they are missing.
    Work,
    /// Work as a service, which starts without what it can do without: a restart makes no outage larger.
    Serve,
    /// Work, although `evaluation_audit` is lost for good: an empty one takes its place.
    WorkWithNewAudit,
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
    pub(super) gates: BTreeMap<Role, Arc<Admission>>,
    external: Handle<ExternalUsers>,
    temp: Handle<RaseenTempUser>,
    main: Handle<RaseenMainUser>,
    main_hr: Handle<RaseenMainHr>,
    srie: Handle<SrieMainUser>,
    srie_hr: Handle<SrieMainHr>,
    audit: Handle<EvaluationAudit>,
    pub(super) identities: Arc<Identities>,
    /// Admissions run one after the other.
    pub(super) admissions: tokio::sync::Mutex<()>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) randomness: Arc<dyn Randomness>,
    pub(super) connect_retries: Arc<ConnectRetries>,
    pub(super) hr_collections: Arc<[HrCollection]>,
    /// Whether servers are taken that are not what they speak like.
    pub(super) takes_imitators: bool,
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
        let connect_retries = Arc::new(ConnectRetries::default());
        let identities = Arc::new(Identities::default());
        let gate = |store: Arc<dyn Store>| {
            let role = store.role();
            let watch = Arc::new(IdentityWatch::new(store, Arc::clone(&identities)));
            let watched = Arc::clone(&watch) as Arc<dyn Store>;
            let breaker = CircuitBreaker::new(watched, Arc::clone(&connect_retries));
            (role, Arc::new(Admission::new(breaker, watch)))
        };
        let gates: BTreeMap<Role, Arc<Admission>> = stores.into_iter().map(gate).collect();
        Ok(Self {
            external: handle(&gates)?,
            temp: handle(&gates)?,
            main: handle(&gates)?,
            main_hr: handle(&gates)?,
            srie: handle(&gates)?,
            srie_hr: handle(&gates)?,
            audit: handle(&gates)?,
            gates,
            identities,
            admissions: tokio::sync::Mutex::default(),
            clock,
            randomness: Arc::new(System),
            connect_retries,
            hr_collections: HrCollection::defaults().into(),
            takes_imitators: false,
        })
    }

    /// Draws ids and jitter from `randomness` instead of from the operating system.
    #[must_use]
    pub fn with_randomness(mut self, randomness: Arc<dyn Randomness>) -> Self {
        self.randomness = randomness;
        self
    }

    /// Keeps HR records in these collections instead of in the default ones.
    #[must_use]
    pub fn with_hr_collections(mut self, collections: Vec<HrCollection>) -> Self {
        self.hr_collections = collections.into();
        self
    }

    /// Also admits servers of products other than MongoDB, which were not tested ([`Hello::imitator`]).
    #[must_use]
    pub fn with_imitators(mut self, taken: bool) -> Self {
        self.takes_imitators = taken;
        self
    }

    /// The admitted databases whose servers are other products than MongoDB, and which.
    pub fn imitators(&self) -> Vec<(Role, &'static str)> {
        let hellos = self.identities.hellos();
        let imitator = |(role, hello): (&Role, &Hello)| Some((*role, hello.imitator?));
        hellos.iter().filter_map(imitator).collect()
    }

    /// Collections of HR records.
    pub fn hr_collections(&self) -> &[HrCollection] {
        &self.hr_collections
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

    /// The id of the deployment that these databases belong to, once that is known.
    pub fn deployment(&self) -> Option<&str> {
        self.identities.deployment.get().map(String::as_str)
    }

    /// The names that the databases have on their servers, of those that were reached.
    pub(crate) fn database_names(&self) -> BTreeMap<String, Role> {
        let hellos = self.identities.hellos();
        let name = |(role, hello): (&Role, &Hello)| (hello.database.clone(), *role);
        hellos.iter().map(name).collect()
    }

    /// The clock of this process.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The source of ids and jitter.
    pub(crate) fn randomness(&self) -> &Arc<dyn Randomness> {
        &self.randomness
    }

    /// The store of a role, shut while the role is not admitted.
    pub fn store(&self, role: Role) -> Option<Arc<dyn Store>> {
        self.gates
            .get(&role)
            .map(|gate| Arc::clone(gate) as Arc<dyn Store>)
    }

    /// From now on gives every call a time-out, and refuses it at once while its database cannot be reached. For
    /// services: a command that does one thing waits as long as the backend does. Watches the identities too.
    pub fn guard_calls(&self, settings: GuardSettings) {
        self.watch_identities();
        for gate in self.gates.values() {
            gate.breaker().arm(settings, Arc::clone(&self.randomness));
        }
    }

    /// From now on compares a database with what was admitted, by its server's process and its stamp, whenever another
    /// server may answer for it, before the next call goes through. One that is another is out of service until it is the
    /// right one again and [`ConnectionManager::heal`] has admitted it.
    pub fn watch_identities(&self) {
        self.identities.watch();
    }

    /// Why the database of a role is out of service: what answers for it is another one than was admitted.
    pub fn out_of_service(&self, role: Role) -> Option<String> {
        self.gates.get(&role)?.watch().wrong()
    }

    /// What becomes of calls to the database of a role; none while calls are not guarded.
    pub fn breaker(&self, role: Role) -> Option<BreakerState> {
        self.gates.get(&role)?.breaker().state()
    }

    /// The shards of the database of a role that were away when they were last asked; empty where there are no shards.
    pub fn shards_away(&self, role: Role) -> Vec<String> {
        let gate = self.gates.get(&role);
        gate.map_or_else(Vec::new, |gate| gate.breaker().known_shards_away())
    }

    /// Why the database of a role takes no writes although it answers: the reason that its last write was refused for, its disk
    /// or its permissions. `None` where the last write was taken, or there was none.
    pub fn unwritable(&self, role: Role) -> Option<Class> {
        self.gates.get(&role)?.breaker().unwritable()
    }

    /// How often each database was tried again, since the process began.
    pub fn connect_retries(&self) -> &ConnectRetries {
        &self.connect_retries
    }

    /// The roles whose databases have not been admitted yet, or are out of service.
    pub fn away(&self) -> Vec<Role> {
        self.gates
            .values()
            .filter(|gate| !gate.is_admitted())
            .map(|gate| gate.role())
            .collect()
    }
}

fn handle<D: Database>(gates: &BTreeMap<Role, Arc<Admission>>) -> Result<Handle<D>, ConnectError> {
    let gate = gates.get(&D::ROLE).ok_or(ConnectError::Missing(D::ROLE))?;
    Handle::claim(Arc::clone(gate) as Arc<dyn Store>).map_err(|_| ConnectError::Missing(D::ROLE))
}
