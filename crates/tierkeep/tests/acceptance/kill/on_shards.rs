//! A run of the mover on a sharded cluster, ended at random moments while chunks move.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

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
    let (moments, users) = if full() { (10, 1_000) } else { (2, 60) };
    let cluster = Arc::new(ShardedCluster::start(2).unwrap());
    shard_as_documented(&cluster).await;
    let batch = if full() { "100" } else { "20" };
    let deployment = behind(&cluster).with("TIERKEEP_BATCH_DOCUMENTS", batch);
    let mut scene = Scene::of(&deployment).await;
    let shuffle = cluster.shuffle(namespaces());
    // How long a run takes, at first a guess.
    let mut whole = Duration::from_secs(2);
    let (mut killed, mut moved) = (0, 0);
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
        let began = Instant::now();
        let run = deployment.json(&RUN);
        whole = began.elapsed();
        assert_eq!(run["quarantined"], 0, "{at}: {run}");
        scene.check_converged(&round, &at).await;
        moved += usize::try_from(users).unwrap();
    }
    assert_eq!(killed, moments, "runs were over before they were killed");
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        let mut copies = scene.users_in(role).await;
        copies.retain(|copy| document::is_native(copy));
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
