//! Where histories are played: seven databases, and the process that works on them.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::store::Store;
use tierkeep_engine::{ConnectError, ConnectionManager, Engine, Mutant, Purpose, Upkeep};
use tierkeep_testkit::{Faults, ManualClock};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::bridge;
use crate::world::{Backend, HOUR, NO_RETRIES, stores};

/// The databases of one backend.
pub struct Stage {
    pub stores: Vec<Arc<dyn Store>>,
    pub clock: Arc<ManualClock>,
    pub faults: Faults,
    pub backend: Backend,
    mutant: Option<Mutant>,
    _guard: Box<dyn Any + Send + Sync>,
}

/// One process.
#[derive(Clone)]
pub struct Process {
    pub engine: Arc<Engine>,
    pub upkeep: Arc<Mutex<Upkeep>>,
}

/// Stores, their clock, and what keeps them.
type Fresh = (
    Vec<Arc<dyn Store>>,
    Arc<ManualClock>,
    Box<dyn Any + Send + Sync>,
);

impl Stage {
    /// Fresh databases, whose calls run in `outside`.
    pub fn new(backend: Backend, mutant: Option<Mutant>, outside: &Runtime) -> Self {
        let (stores, clock, guard) = outside.block_on(stores(backend));
        Self {
            stores: bridge::over(stores, backend, outside.handle()),
            clock,
            faults: Faults::new(),
            backend,
            mutant,
            _guard: guard,
        }
    }

    /// Fresh databases in the runtime of the test.
    pub async fn beside(backend: Backend, mutant: Option<Mutant>) -> Self {
        Self::over(stores(backend).await, backend, mutant)
    }

    /// These databases of this backend, which what comes last keeps.
    pub fn over((stores, clock, guard): Fresh, backend: Backend, mutant: Option<Mutant>) -> Self {
        Self {
            stores,
            clock,
            faults: Faults::new(),
            backend,
            mutant,
            _guard: guard,
        }
    }

    pub fn store(&self, role: Role) -> &Arc<dyn Store> {
        let found = self.stores.iter().find(|store| store.role() == role);
        found.unwrap()
    }

    /// Another process on the same databases.
    pub async fn process(&self) -> Result<Process, ConnectError> {
        let faulty = self
            .stores
            .iter()
            .map(|store| self.faults.over(Arc::clone(store)) as Arc<dyn Store>);
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        // Histories erase while databases are away again and again.
        let mut engine = Engine::new(ConnectionManager::new(faulty, clock)?)
            .with_pending_known_for(Duration::from_millis(250));
        if let Some(mutant) = self.mutant {
            engine = engine.with_mutant(mutant);
        }
        engine.databases().open(NO_RETRIES, Purpose::Work).await?;
        let engine = Arc::new(engine);
        let grace: Duration = HOUR;
        Ok(Process {
            upkeep: Arc::new(Mutex::new(Upkeep::new(Arc::clone(&engine), grace))),
            engine,
        })
    }
}
