//! Two shards, each a replica set, and srie on a third cluster: what is unavailable during the outage of one shard,
//! what remains available, and how the shard is named.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bson::rawdoc;
use futures_util::future::join_all;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::store::Store;
use tierkeep_core::user::UserId;
use tierkeep_engine::{Condition, GuardSettings, Users, UsersError, examine};
use tierkeep_sharded::ShardedCluster;
use tokio::time::Instant;

use super::{admin, database, stores as sharded_stores};
use crate::hr;
use crate::world::{Backend, DAY, HOUR, World, content, patient_users, section, stores};

const USERS: u32 = 12;
const PATIENCE: Duration = Duration::from_mins(2);
/// How long what a shard that is there can answer may take while another is away, on a busy machine.
const SOON: Duration = Duration::from_secs(6);

const EXTERNAL: Role = Role::ExternalUsers;
const TEMP: Role = Role::RaseenTempUser;
const MAIN: Role = Role::RaseenMainUser;
const SRIE: Role = Role::SrieMainUser;

/// The databases of `of_shards` on the sharded cluster, those of srie on a replica set, the rest in files; calls are guarded
/// as in a service.
async fn on_shards(cluster: &ShardedCluster, of_shards: &[Role]) -> World {
    let (on_shards, _, kept_shards) = sharded_stores(cluster).await;
    for store in &on_shards {
        if store.role() == Role::RaseenMainHr {
            // It has no collection that is spread; what a database has so lies on the shard on which it is made.
            let database = database(&**store).await;
            admin(cluster, rawdoc! { "enableSharding": database }).await;
        }
    }
    let (in_files, _, kept_files) = stores(Backend::Sqlite).await;
    let (on_set, clock, kept_set) = stores(Backend::Mongo).await;
    let take = |role: Role| {
        let from: &[Arc<dyn Store>] = if of_shards.contains(&role) {
            &on_shards
        } else if [SRIE, Role::SrieMainHr].contains(&role) {
            &on_set
        } else {
            &in_files
        };
        let found = from.iter().find(|store| store.role() == role);
        Arc::clone(found.unwrap())
    };
    let all = Role::ALL.into_iter().map(take).collect();
    let kept = Box::new((kept_shards, kept_files, kept_set));
    let world = World::over(all, clock, kept, None).await;
    world
        .engine
        .databases()
        .guard_calls(GuardSettings::default());
    world
}

/// Which users' documents lie on the first shard.
async fn on_first(cluster: &ShardedCluster, world: &World, role: Role) -> BTreeSet<String> {
    let database = database(&**world.store(role)).await;
    let all = rawdoc! {
        "aggregate": role.users().unwrap(),
        "pipeline": [{ "$group": { "_id": bson::raw::RawBson::Null, "ids": { "$addToSet": "$_id" } } }],
        "cursor": {},
    };
    let found = cluster.ask_shard("s0", &database, &all).await.unwrap();
    let found = bson::Document::try_from(&*found).unwrap();
    let found = found.get_document("cursor").unwrap();
    let found = found.get_array("firstBatch").unwrap()[0].as_document();
    let ids = found.unwrap().get_array("ids").unwrap().iter();
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// The users whose documents lie on the first shard, and those whose do not; some of each.
async fn by_shard(
    cluster: &ShardedCluster,
    world: &World,
    role: Role,
    users: &[UserId],
) -> (Vec<UserId>, Vec<UserId>) {
    let first = on_first(cluster, world, role).await;
    let users = users.iter().cloned();
    let (here, there): (Vec<_>, Vec<_>) = users.partition(|user| first.contains(user.as_str()));
    assert!(here.len() > 2 && there.len() > 2, "{here:?} {there:?}");
    (here, there)
}

/// Kills the second shard; every database on it learns of that, as by the watch of a service.
async fn lose_second(cluster: &ShardedCluster, world: &World, of_shards: &[Role]) {
    cluster.kill("s1").unwrap();
    let databases = world.engine.databases();
    for role in of_shards {
        let is_spread = *role != Role::RaseenMainHr;
        let expected: &[&str] = if is_spread { &["the shard s1"] } else { &[] };
        let store = databases.store(*role).unwrap();
        let named = async { while store.shards_away().await.unwrap() != expected {} };
        tokio::time::timeout(PATIENCE, named).await.unwrap();
        assert_eq!(databases.shards_away(*role), expected, "{role}");
    }
    let raw: Vec<_> = world.stores.values().cloned().collect();
    let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
    // One that is busy may answer too late once.
    let examined = async {
        let mut examined = examine(&raw, &clock).await;
        while examined
            .findings
            .iter()
            .any(|it| it.message.contains("timeout"))
        {
            examined = examine(&raw, &clock).await;
        }
        examined
    };
    let examined = tokio::time::timeout(PATIENCE, examined).await.unwrap();
    for role in of_shards.iter().filter(|role| **role != Role::RaseenMainHr) {
        let of_role = examined
            .findings
            .iter()
            .filter(|it| it.database == Some(*role));
        let messages: Vec<_> = of_role.map(|it| it.message.as_str()).collect();
        assert!(
            messages.iter().any(|it| it.contains("the shard s1")),
            "{role}: {messages:?}"
        );
    }
}

/// From where each user is read, by readers who have seen none of them; all must be served, soon.
async fn sources(world: &World, users: &[UserId]) -> Vec<Role> {
    let began = Instant::now();
    let reads = users.iter().map(async |id| {
        let found = world.users.read(id).await.unwrap();
        found.unwrap().source
    });
    let sources = join_all(reads).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    sources
}

/// A write that fails, and the database that it names.
async fn refused_by(users: &Users, user: &UserId) -> Role {
    let section = section();
    let written = users.put(user, &section, content(7, 2), Condition::None);
    let refused = written.await.unwrap_err();
    let UsersError::Unavailable(refused) = refused else {
        panic!("{refused:?}");
    };
    refused.database
}

async fn heal(cluster: &ShardedCluster, world: &World, of_shards: &[Role]) {
    cluster.start_again("s1").unwrap();
    let healed = async {
        for role in of_shards {
            let store = world.engine.databases().store(*role).unwrap();
            while !matches!(store.shards_away().await, Ok(away) if away.is_empty()) {}
        }
    };
    tokio::time::timeout(PATIENCE, healed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_shard_of_main_is_away_its_users_are_read_from_the_backup_and_the_rest_is_served() {
    const OF_SHARDS: [Role; 2] = [MAIN, Role::RaseenMainHr];
    let cluster = ShardedCluster::start(2).unwrap();
    let world = on_shards(&cluster, &OF_SHARDS).await;
    let mut users = Vec::new();
    for n in 1..=USERS {
        users.push(world.staged(n, DAY + HOUR).await);
    }
    assert_eq!(world.migrate().await.unwrap().moved, u64::from(USERS));
    let (mut here, there) = by_shard(&cluster, &world, MAIN, &users).await;
    let gone = here.pop().unwrap();
    hr::put(&world, "c1", 1).await;

    lose_second(&cluster, &world, &OF_SHARDS).await;
    assert_eq!(sources(&world, &here).await, vec![MAIN; here.len()]);
    assert_eq!(sources(&world, &there).await, vec![SRIE; there.len()]);
    // A user whose document is reachable can be written. For the others, main's content is unknown, and so is whether a
    // user is new.
    world.put(&here[0], 1).await.unwrap();
    assert_eq!(sources(&world, &here[..1]).await, [TEMP]);
    assert_eq!(refused_by(&world.users, &there[0]).await, MAIN);
    let new = crate::world::user(USERS + 1);
    assert_eq!(refused_by(&world.users, &new).await, MAIN);
    // The content is erased at once; that no other shard holds any waits for that shard.
    let erasure = world.erasure().erase(&gone).await.unwrap();
    assert_eq!(erasure.pending, [MAIN]);
    assert!(world.users.read(&gone).await.unwrap().is_none());
    let left = rawdoc! { "find": "internal_users", "filter": { "_id": gone.as_str() } };
    let main = database(&**world.store(MAIN)).await;
    let left = cluster.ask_shard("s0", &main, &left).await.unwrap();
    let left = bson::Document::try_from(&*left).unwrap().to_string();
    assert!(
        left.contains("erased") && !left.contains("scan_cache"),
        "{left}"
    );
    // HR records are not spread, and lie on the first shard.
    hr::put(&world, "c2", 2).await;

    heal(&cluster, &world, &OF_SHARDS).await;
    assert_eq!(world.erasure().finish_pending().await.unwrap(), 0);
    assert_eq!(sources(&world, &there).await, vec![MAIN; there.len()]);
    let all = [here, there].concat();
    for id in &all {
        world.put(id, 3).await.unwrap();
        world.date_back(id, DAY + HOUR).await;
    }
    let moved = world.migrate().await.unwrap().moved;
    assert_eq!(moved, u64::from(USERS) - 1);
    assert!(world.users.read(&gone).await.unwrap().is_none());
    world.check_invariants().await;
    for (under, n) in [("c1", 1), ("c2", 2)] {
        assert_eq!(hr::read(&world, under).await, Some(n));
    }
    hr::check_equal(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_shard_of_all_but_srie_is_away_what_lies_on_the_other_is_read_written_and_erased() {
    const OF_SHARDS: [Role; 5] = [
        EXTERNAL,
        TEMP,
        MAIN,
        Role::RaseenMainHr,
        Role::EvaluationAudit,
    ];
    let cluster = ShardedCluster::start(2).unwrap();
    let world = on_shards(&cluster, &OF_SHARDS).await;
    let section = section();
    let (mut internal, mut external) = (Vec::new(), Vec::new());
    for n in 1..=USERS {
        internal.push(world.staged(n, DAY + HOUR).await);
        let user = UserId::external(&format!("user{n}")).unwrap();
        let written = world
            .users
            .put(&user, &section, content(n, 0), Condition::None);
        written.await.unwrap();
        external.push(user);
    }
    let (mut here, there) = by_shard(&cluster, &world, TEMP, &internal).await;
    let gone = here.pop().unwrap();
    let (public, public_there) = by_shard(&cluster, &world, EXTERNAL, &external).await;
    // Another process, which has seen no user and no version.
    let other = world.reopened().await;
    other.databases().guard_calls(GuardSettings::default());

    lose_second(&cluster, &world, &OF_SHARDS).await;
    for role in OF_SHARDS {
        let store = other.databases().store(role).unwrap();
        store.shards_away().await.unwrap();
    }
    let users = patient_users(&other);
    assert_eq!(sources(&world, &here).await, vec![TEMP; here.len()]);
    assert_eq!(sources(&world, &public).await, vec![EXTERNAL; public.len()]);
    for user in here.iter().chain(&public) {
        let began = Instant::now();
        let written = users.put(user, &section, content(7, 1), Condition::None);
        written.await.unwrap();
        assert!(began.elapsed() < SOON, "{user}: {:?}", began.elapsed());
    }
    for (user, role) in [(&there[0], TEMP), (&public_there[0], EXTERNAL)] {
        assert_eq!(refused_by(&users, user).await, role);
        let UsersError::Unavailable(refused) = users.read(user).await.unwrap_err() else {
            panic!("{user}");
        };
        assert_eq!(refused.database, role);
    }
    let erasure = world.erasure().erase(&gone).await.unwrap();
    assert_eq!(erasure.pending, [TEMP, MAIN]);
    assert!(world.users.read(&gone).await.unwrap().is_none());
    hr::put(&world, "c1", 1).await;

    heal(&cluster, &world, &OF_SHARDS).await;
    assert_eq!(world.erasure().finish_pending().await.unwrap(), 0);
    let all = [here, there].concat();
    assert_eq!(sources(&world, &all).await, vec![TEMP; all.len()]);
    let moved = world.migrate().await.unwrap().moved;
    assert_eq!(moved, u64::from(USERS) - 1);
    assert_eq!(sources(&world, &all).await, vec![MAIN; all.len()]);
    assert_eq!(
        sources(&world, &external).await,
        vec![EXTERNAL; external.len()]
    );
    assert!(world.users.read(&gone).await.unwrap().is_none());
    world.check_invariants().await;
    hr::check_equal(&world).await;
}
