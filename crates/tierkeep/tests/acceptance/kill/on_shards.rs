//! A run of the mover on a sharded cluster, ended at random moments while chunks move.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;

use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_sharded::ShardedCluster;
use tokio::time::{Instant, sleep};

use super::super::sharded::{behind, namespaces, shard_as_documented};
use super::scene::Scene;
use super::{full, was_killed};

const RUN: [&str; 3] = ["migrate", "run", "--json"];
/// How many runs may end before their moments come, for each that is ended.
const TRIES: u32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_shards_killed_at_random_moments_loses_nothing_while_chunks_move() {
    let (moments, users) = if full() { (10, 2_000) } else { (2, 200) };
    let cluster = Arc::new(ShardedCluster::start(2).unwrap());
    shard_as_documented(&cluster).await;
    let deployment = behind(&cluster).with("TIERKEEP_BATCH_DOCUMENTS", "50");
    let mut scene = Scene::of(&deployment).await;
    let shuffle = cluster.shuffle(namespaces());
    let round = scene.plant_many(users).await;
    let began = Instant::now();
    deployment.json(&RUN);
    let whole = began.elapsed();
    scene.check_converged(&round, "without a crash").await;
    let (mut killed, mut moved) = (0, usize::try_from(users).unwrap());
    for _ in 0..moments * TRIES {
        if killed == moments {
            break;
        }
        scene.let_time_pass().await;
        let round = scene.plant_many(users).await;
        let mut command = deployment.command(&RUN);
        let mut run = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moment = whole.mul_f64(rand::random());
        sleep(moment).await;
        run.kill().unwrap();
        let status = run.wait().unwrap();
        let at = format!("after {moment:?} of {whole:?}");
        killed += u32::from(was_killed(status));
        let left = scene.users_in(Role::RaseenTempUser).await.len();
        println!("{at}: {status}, {left} documents in temp");
        scene.check_at_any_moment(&round, &at).await;
        scene.let_time_pass().await;
        let run = deployment.json(&RUN);
        assert_eq!(run["quarantined"], 0, "{at}: {run}");
        scene.check_converged(&round, &at).await;
        moved += usize::try_from(users).unwrap();
    }
    assert_eq!(killed, moments, "runs were over before they were killed");
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        let copies = scene.users_in(role).await;
        let of_users: BTreeSet<_> = copies
            .iter()
            .filter_map(|it| document::user_id(it))
            .collect();
        assert_eq!(copies.len(), of_users.len(), "{role} holds a user twice");
        assert!(
            copies.len() >= moved,
            "{role} holds {} of {moved}",
            copies.len()
        );
    }
    let verified = deployment.json(&["verify", "--json"]);
    assert_eq!(verified["checked"], verified["matched"], "{verified}");
    let chunks = shuffle.stop().await;
    println!("{killed} runs killed, {moved} users moved, {chunks} chunks moved");
    assert!(chunks > 0, "no chunk moved");
}
