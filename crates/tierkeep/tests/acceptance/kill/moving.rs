//! A run of the mover.

use rstest::rstest;

use super::super::program::{Backend, Deployment};
use super::scene::{Round, Scene};
use super::{Call, Trace, doom, full, spare, was_killed};

const RUN: [&str; 3] = ["migrate", "run", "--json"];
/// How many runs may end before one comes to its point.
const TRIES: u32 = 20;

/// The points that the protocol names, each by a call that belongs to it.
const NAMED: [(&str, &str); 14] = [
    ("adoption", "raseen_temp_user write internal_users"),
    ("entering temp", "raseen_temp_user insert internal_users"),
    (
        "claims and survivors",
        "raseen_temp_user find internal_users",
    ),
    ("record", "evaluation_audit insert migration_records"),
    ("backup", "srie_main_user insert internal_users"),
    (
        "backup of a newer version",
        "srie_main_user put_newer internal_users",
    ),
    ("promote", "raseen_main_user insert internal_users"),
    (
        "promote a newer version",
        "raseen_main_user put_newer internal_users",
    ),
    ("check main", "raseen_main_user find internal_users"),
    ("check srie", "srie_main_user find internal_users"),
    ("erasures", "evaluation_audit find erasures"),
    (
        "tombstones again",
        "raseen_temp_user put_newer internal_users",
    ),
    ("delete", "raseen_temp_user delete internal_users"),
    (
        "complete and sweep",
        "evaluation_audit amend migration_records",
    ),
];

/// Whether a run is ended at the points of the `n`th call: of each call on SQLite and where everything is tried that takes
/// long; otherwise of the first and the last of each kind.
fn is_tried(backend: Backend, calls: &[Call], n: usize) -> bool {
    let same = |other: &Call| other.name == calls[n].name;
    let is_first = !calls[..n].iter().any(same);
    let is_last = !calls[n + 1..].iter().any(same);
    full() || backend == Backend::Sqlite || is_first || is_last
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_at_any_point_loses_nothing_and_the_next_one_ends_it(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut deployment = Deployment::new(backend).with("TIERKEEP_BATCHES_IN_FLIGHT", "1");
    let mut scene = Scene::of(&deployment).await;
    // What is made once for good is there before calls are counted.
    scene.plant().await;
    deployment.json(&RUN);
    scene.let_time_pass().await;
    let round = scene.plant().await;
    let trace = Trace::begin(&mut deployment);
    deployment.json(&RUN);
    let calls = trace.end(&mut deployment);
    scene.check_converged(&round, "without a crash").await;
    for (name, call) in NAMED {
        assert!(
            calls.iter().any(|made| made.name == call),
            "{name}: no {call} among {calls:#?}"
        );
    }
    let tried = (0..calls.len()).filter(|n| is_tried(backend, &calls, *n));
    for call in tried.map(|n| &calls[n]) {
        for point in call.points() {
            let round = ended_at(&mut deployment, &mut scene, call, &point).await;
            scene.check_at_any_moment(&round, &point).await;
            scene.let_time_pass().await;
            let run = deployment.json(&RUN);
            assert_eq!(run["quarantined"], 0, "{point}: {run}");
            scene.check_converged(&round, &point).await;
        }
    }
}

/// Ends a run over a new round at `point`. How many reads a run makes depends on which of its adoptions is the first
/// that needs the key of the erasures, so one may end before a read of the one that was written down: then another
/// tries.
async fn ended_at(
    deployment: &mut Deployment,
    scene: &mut Scene,
    call: &Call,
    point: &str,
) -> Round {
    for _ in 0..TRIES {
        scene.let_time_pass().await;
        let round = scene.plant().await;
        doom(deployment, point);
        let output = deployment.command(&RUN).output().unwrap();
        spare(deployment);
        if was_killed(output.status) {
            return round;
        }
        let is_whole = output.status.success() && !call.writes();
        assert!(is_whole, "{point}: {output:?}");
        scene.check_converged(&round, point).await;
    }
    panic!("no run came to {point}");
}
