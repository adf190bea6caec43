//! The fault matrix on a real replica set of three, with srie on a separate cluster.
//!
//! Each row says how a run may end while the fault lasts. Afterwards the fault has cost no document a retry, the mover
//! drains temp, and every invariant holds. A full run tries every cell.

mod erasing;
mod fail_points;
mod failover;
mod indexes;
mod movers;
mod rollback;
mod row;
mod servers;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::Store;
use tierkeep_mongo::MongoStore;
use tierkeep_testkit::ManualClock;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::world::World;
use servers::{ReplicaSet, free_ports};
use wire::Wire;

/// The clusters of this test program. A row has them to itself.
pub struct Clusters {
    /// Three servers with everything but srie.
    pub main: ReplicaSet,
    /// One server with srie.
    pub srie: ReplicaSet,
}

static CLUSTERS: OnceCell<Mutex<Clusters>> = OnceCell::const_new();

/// The clusters, whole and without faults, for as long as the guard lives.
pub async fn clusters() -> MutexGuard<'static, Clusters> {
    let clusters = CLUSTERS
        .get_or_init(async || {
            let ports: [u16; 4] = free_ports();
            let (main, srie) = tokio::join!(
                ReplicaSet::start("main", &ports[..3]),
                ReplicaSet::start("srie", &ports[3..])
            );
            Mutex::new(Clusters { main, srie })
        })
        .await;
    let mut clusters = clusters.lock().await;
    clusters.heal().await;
    clusters
}

impl Clusters {
    /// Ends every fault.
    pub async fn heal(&mut self) {
        tokio::join!(self.main.heal(), self.srie.heal());
    }

    /// The replica set of a role.
    pub fn of(&mut self, role: Role) -> &mut ReplicaSet {
        match role {
            Role::SrieMainUser | Role::SrieMainHr => &mut self.srie,
            Role::ExternalUsers
            | Role::RaseenTempUser
            | Role::RaseenMainUser
            | Role::RaseenMainHr
            | Role::EvaluationAudit => &mut self.main,
        }
    }

    /// Seven fresh databases, reached with these options in the connection strings.
    pub async fn world(&mut self, options: &str) -> World {
        Self::world_of(self.stores(options).await).await
    }

    /// Seven fresh databases on the server of srie, reached by this wire.
    pub async fn world_behind(&self, wire: &Wire, options: &str) -> World {
        let options = format!("directConnection=true&heartbeatFrequencyMS=500&{options}");
        Self::world_at(|_, database| wire.url(database, &options)).await
    }

    /// Seven stores that have not been opened yet, connected with these options.
    pub async fn stores(&mut self, options: &str) -> Vec<Arc<dyn Store>> {
        // A server that was lost sight of is looked for twice a second.
        let options = format!("heartbeatFrequencyMS=500&{options}");
        stores_at(|role, database| self.of(role).url(database, &options)).await
    }

    async fn world_at(url: impl FnMut(Role, &str) -> String) -> World {
        Self::world_of(stores_at(url).await).await
    }

    /// The databases of these stores, opened.
    pub async fn world_of(stores: Vec<Arc<dyn Store>>) -> World {
        let now = stores[0].hello().await.unwrap().now;
        let mut world =
            World::over(stores, Arc::new(ManualClock::new(now)), Box::new(()), None).await;
        world.settings.retention = Duration::from_hours(24);
        world
    }
}

async fn stores_at(mut url: impl FnMut(Role, &str) -> String) -> Vec<Arc<dyn Store>> {
    let unique = ObjectId::new().to_hex();
    let mut stores = Vec::new();
    for role in Role::ALL {
        let url = url(role, &format!("c{unique}_{role}")).into();
        let store = MongoStore::connect(&url, role).await.unwrap();
        stores.push(Arc::new(store) as Arc<dyn Store>);
    }
    stores
}
