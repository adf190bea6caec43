//! Main on two shards, its backup on another cluster: what the outage of one shard takes away, and what it leaves.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tierkeep_core::db::Role;
use tierkeep_core::store::Store;
use tierkeep_core::user::UserId;
use tierkeep_engine::UsersError;
use tierkeep_sharded::ShardedCluster;

use super::stores as sharded_stores;
use crate::hr;
use crate::world::{Backend, DAY, HOUR, World, stores};

const USERS: u32 = 12;
const PATIENCE: Duration = Duration::from_mins(2);

/// Main on the sharded cluster, the backup in files, everything else on a replica set.
async fn on_three(cluster: &ShardedCluster) -> World {
    let (of_shards, _, kept_shards) = sharded_stores(cluster).await;
    let (of_files, _, kept_files) = stores(Backend::Sqlite).await;
    let (of_set, clock, kept_set) = stores(Backend::Mongo).await;
    let take = |role: Role| {
        let from: &[Arc<dyn Store>] = match role {
            Role::RaseenMainUser | Role::RaseenMainHr => &of_shards,
            Role::SrieMainUser | Role::SrieMainHr => &of_files,
            Role::ExternalUsers | Role::RaseenTempUser | Role::EvaluationAudit => &of_set,
        };
        let found = from.iter().find(|store| store.role() == role);
        Arc::clone(found.unwrap())
    };
    let all = Role::ALL.into_iter().map(take).collect();
    let kept = Box::new((kept_shards, kept_files, kept_set));
    World::over(all, clock, kept, None).await
}

/// From where each user is read; all must be served.
async fn sources(world: &World, users: &[UserId]) -> Vec<Role> {
    let reads = users.iter().map(async |id| {
        let found = world.users.read(id).await.unwrap();
        found.unwrap().source
    });
    join_all(reads).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_shard_of_main_is_away_users_are_read_from_the_backup_and_it_heals() {
    let cluster = ShardedCluster::start(2).unwrap();
    let world = on_three(&cluster).await;
    let mut users = Vec::new();
    for n in 1..=USERS {
        users.push(world.staged(n, DAY + HOUR).await);
    }
    assert_eq!(world.migrate().await.unwrap().moved, u64::from(USERS));
    let erased = users.remove(0);
    let erasure = world.erasure().erase(&erased).await.unwrap();
    assert_eq!(erasure.pending, []);
    let staged = users[0].clone();
    world.put(&staged, 1).await.unwrap();
    hr::put(&world, "c1", 1).await;

    cluster.kill("s1").unwrap();
    // A write needs to know what main holds; the refusal names what is away.
    let refused = world.put(&users[1], 2).await.unwrap_err();
    let UsersError::Unavailable(refused) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refused.database, Role::RaseenMainUser);
    world.put(&staged, 2).await.unwrap();
    let from = sources(&world, &users).await;
    assert_eq!(from[0], Role::RaseenTempUser);
    assert!(
        from[1..].iter().all(|role| *role == Role::SrieMainUser),
        "{from:?}"
    );

    cluster.start_again("s1").unwrap();
    let healed = async {
        while sources(&world, &users[1..])
            .await
            .contains(&Role::SrieMainUser)
        {}
    };
    tokio::time::timeout(PATIENCE, healed).await.unwrap();
    for id in &users {
        world.put(id, 3).await.unwrap();
        world.date_back(id, DAY + HOUR).await;
    }
    let moved = world.migrate().await.unwrap().moved;
    assert_eq!(moved, u64::from(USERS) - 1);
    assert!(world.users.read(&erased).await.unwrap().is_none());
    world.check_invariants().await;
    assert_eq!(hr::read(&world, "c1").await, Some(1));
    hr::check_equal(&world).await;
}
