//! A different database answers after an outage: nothing is written to it, and errors name it.

use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document};
use rstest::rstest;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::store::{
    Change, Class, Damage, Fence, Find, ForeignShardKey, FoundCollection, FoundIndex, Guard, Hello,
    Inserted, Layout, Put, Query, Result, Store, Written,
};
use tierkeep_engine::{AlertKind, Alerts, ConnectionManager, GuardSettings, Purpose};
use tierkeep_testkit::fault::{Fault, Moment};
use tierkeep_testkit::{ManualClock, MemoryStore};

use crate::world::{Backend, NO_RETRIES, World, stores, user};

const TEMP: Role = Role::RaseenTempUser;

/// An address that can lead elsewhere.
#[derive(Clone, Debug)]
struct Address(Arc<RwLock<Arc<dyn Store>>>);

impl Address {
    fn of(store: Arc<dyn Store>) -> Self {
        Self(Arc::new(RwLock::new(store)))
    }

    fn leads_to(&self, store: &Arc<dyn Store>) {
        *self.0.write().unwrap() = Arc::clone(store);
    }

    fn there(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0.read().unwrap())
    }
}

#[async_trait]
impl Store for Address {
    fn role(&self) -> Role {
        self.there().role()
    }

    async fn hello(&self) -> Result<Hello> {
        self.there().hello().await
    }

    async fn prepare(&self, layout: &Layout) -> Result<()> {
        self.there().prepare(layout).await
    }

    async fn indexes(&self) -> Result<Vec<FoundIndex>> {
        self.there().indexes().await
    }

    async fn foreign_shard_keys(&self) -> Result<Vec<ForeignShardKey>> {
        self.there().foreign_shard_keys().await
    }

    async fn collections(&self) -> Result<Vec<FoundCollection>> {
        self.there().collections().await
    }

    async fn damage(&self) -> Result<Vec<Damage>> {
        self.there().damage().await
    }

    async fn find(&self, collection: &str, find: &Find) -> Result<Vec<RawDocumentBuf>> {
        self.there().find(collection, find).await
    }

    async fn count(&self, collection: &str, query: &Query) -> Result<u64> {
        self.there().count(collection, query).await
    }

    async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        self.there().insert(collection, documents).await
    }

    async fn append(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Inserted>> {
        self.there().append(collection, documents).await
    }

    async fn put_newer(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<Vec<Put>> {
        self.there().put_newer(collection, documents).await
    }

    async fn write(
        &self,
        collection: &str,
        id: &Bson,
        guard: &Guard,
        change: &Change,
    ) -> Result<Written> {
        self.there().write(collection, id, guard, change).await
    }

    async fn delete(&self, collection: &str, fences: &[Fence]) -> Result<u64> {
        self.there().delete(collection, fences).await
    }

    async fn amend(
        &self,
        collection: &str,
        ids: &[Bson],
        when: &Document,
        set: &Document,
    ) -> Result<u64> {
        self.there().amend(collection, ids, when, set).await
    }
}

/// A world whose temp has an address that can lead elsewhere, and what it leads to now.
async fn addressed(backend: Backend) -> (World, Address, Arc<dyn Store>) {
    let (mut all, clock, guard) = stores(backend).await;
    let at = all.iter().position(|store| store.role() == TEMP).unwrap();
    let own = Arc::clone(&all[at]);
    let address = Address::of(Arc::clone(&own));
    all[at] = Arc::new(address.clone());
    let world = World::over(all, clock, guard, None).await;
    let databases = world.engine.databases();
    databases.guard_calls(GuardSettings::default());
    (world, address, own)
}

/// Seven databases of other servers.
async fn elsewhere(backend: Backend) -> (Vec<Arc<dyn Store>>, Arc<ManualClock>, Kept) {
    let (mut all, clock, kept) = stores(backend).await;
    if backend == Backend::Memory {
        let store = |role: Role| {
            let server = format!("another {role}");
            let clock = Arc::clone(&clock) as Arc<dyn Clock>;
            Arc::new(MemoryStore::new(role, &server, clock)) as Arc<dyn Store>
        };
        all = Role::ALL.into_iter().map(store).collect();
    }
    (all, clock, kept)
}

type Kept = Box<dyn std::any::Any + Send + Sync>;

/// The temp of another deployment.
async fn of_another_deployment(backend: Backend) -> (Arc<dyn Store>, Kept) {
    let (all, clock, kept) = elsewhere(backend).await;
    let temp = all.iter().find(|store| store.role() == TEMP).unwrap();
    let temp = Arc::clone(temp);
    let others = ConnectionManager::new(all, clock as Arc<dyn Clock>).unwrap();
    others.open(NO_RETRIES, Purpose::Work).await.unwrap();
    (temp, kept)
}

async fn holds(store: &Arc<dyn Store>) -> u64 {
    let counted = store.count("internal_users", &Query::All).await;
    counted.unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_into_another_deployments_database_that_comes_back_in_ones_place(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(true, false)] lost_a_call: bool,
) {
    let (world, address, own) = addressed(backend).await;
    let (another, _kept) = of_another_deployment(backend).await;
    world.put(&user(1), 1).await.unwrap();
    let databases = world.engine.databases();
    let temp = databases.store(TEMP).unwrap();
    address.leads_to(&another);
    if lost_a_call {
        let lost = Fault::nth(1, Moment::Before).to(TEMP).times(4);
        world.faults.plan(lost);
        for _ in 0..4 {
            // The breaker opens; its look at the server fails too.
            temp.count("internal_users", &Query::All).await.unwrap_err();
        }
        world.faults.heal();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    } else {
        // What a service asks every two seconds.
        assert_eq!(temp.hello().await.unwrap_err().class, Class::Identity);
    }
    world.put(&user(2), 1).await.unwrap_err();
    world.put(&user(1), 2).await.unwrap_err();
    world.users.read(&user(1)).await.unwrap_err();
    let refused = temp.count("internal_users", &Query::All).await;
    assert_eq!(refused.unwrap_err().class, Class::Identity);
    assert_eq!(holds(&another).await, 0);

    let why = databases.out_of_service(TEMP).unwrap();
    assert!(
        why.contains("raseen_temp_user") && why.contains("another deployment"),
        "{why}"
    );
    assert_eq!(databases.away(), [TEMP]);
    let alerts = Alerts::new(Arc::clone(&world.engine));
    world.watch().tell_of_databases().await;
    let open = alerts.open(&mut None).await.unwrap();
    let told = open
        .iter()
        .find(|alert| alert.kind == AlertKind::BreakerOpen);
    let told = told.unwrap_or_else(|| panic!("{open:?}"));
    assert_eq!(told.subject, TEMP.name());
    assert!(told.message.contains("out of service"), "{told:?}");

    // Looked at again, it is still another one; the right one is let in.
    let (_, healed) = databases.heal().await.pop().unwrap();
    healed.unwrap_err();
    world.put(&user(1), 2).await.unwrap_err();
    address.leads_to(&own);
    let (_, healed) = databases.heal().await.pop().unwrap();
    healed.unwrap();
    let put = world.put(&user(1), 2).await.unwrap();
    assert_eq!(put.version.get(), 2);
    assert_eq!(databases.out_of_service(TEMP), None);
    assert_eq!(holds(&another).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_with_the_right_stamp_goes_on() {
    let clock = Arc::new(ManualClock::new(bson::DateTime::from_millis(
        1_800_000_000_000,
    )));
    let mut all: Vec<Arc<dyn Store>> = Vec::new();
    let mut address = None;
    let mut restarted = None;
    for role in Role::ALL {
        let store = MemoryStore::new(role, role.name(), Arc::clone(&clock) as Arc<dyn Clock>);
        if role == TEMP {
            restarted = Some(store.renamed("restarted"));
            let led = Address::of(Arc::new(store));
            address = Some(led.clone());
            all.push(Arc::new(led));
        } else {
            all.push(Arc::new(store));
        }
    }
    let world = World::over(all, clock, Box::new(()), None).await;
    let databases = world.engine.databases();
    databases.watch_identities();
    world.put(&user(1), 1).await.unwrap();
    address
        .unwrap()
        .leads_to(&(Arc::new(restarted.unwrap()) as Arc<dyn Store>));
    databases.store(TEMP).unwrap().hello().await.unwrap();
    assert_eq!(world.put(&user(1), 2).await.unwrap().version.get(), 2);
    assert_eq!(databases.out_of_service(TEMP), None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_a_stamp_is_used_again_once_it_has_been_admitted(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let (world, address, _) = addressed(backend).await;
    let (all, _, _kept) = elsewhere(backend).await;
    let empty = all.into_iter().find(|store| store.role() == TEMP).unwrap();
    world.put(&user(1), 1).await.unwrap();
    address.leads_to(&empty);
    let databases = world.engine.databases();
    let hello = databases.store(TEMP).unwrap().hello().await;
    assert_eq!(hello.unwrap_err().class, Class::Identity);
    world.put(&user(2), 1).await.unwrap_err();
    assert_eq!(holds(&empty).await, 0);
    let (_, healed) = databases.heal().await.pop().unwrap();
    healed.unwrap();
    world.put(&user(2), 1).await.unwrap();
    assert_eq!(holds(&empty).await, 1);
}
