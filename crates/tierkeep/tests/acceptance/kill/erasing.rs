//! An erasure that the service finishes, between its databases.

use std::time::Duration;

use rstest::rstest;

use super::super::program::{Backend, Deployment};
use super::scene::{Round, Scene};
use super::{Call, Trace, doom, service_killed, spare};

/// How long a service may take to finish an erasure.
const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(20);

/// Lets a service run until no erasure is pending.
async fn finish(deployment: &Deployment, scene: &Scene, round: &Round, at: &str) {
    let mut service = deployment.serve();
    let mut waited = Duration::ZERO;
    while !scene.erasures_are_verified().await {
        assert!(waited < PATIENCE, "{at}: the erasure is still pending");
        tokio::time::sleep(INTERVAL).await;
        waited += INTERVAL;
    }
    service.kill();
    scene.check_converged(round, at).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_between_the_databases_of_an_erasure_finishes_it_when_it_is_back(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut deployment = Deployment::new(backend);
    let mut scene = Scene::of(&deployment).await;
    let round = scene.plant_pending_erasure().await;
    let trace = Trace::begin(&mut deployment);
    finish(&deployment, &scene, &round, "without a crash").await;
    let calls = trace.end(&mut deployment);
    let steps = calls.iter().filter(|call| {
        call.writes()
            && (call.name.ends_with(" internal_users") || call.name.ends_with(" erasures"))
    });
    let points: Vec<String> = steps.flat_map(Call::points).collect();
    for tier in [
        "raseen_temp_user",
        "raseen_main_user",
        "srie_main_user",
        "evaluation_audit",
    ] {
        assert!(
            points.iter().any(|point| point.starts_with(tier)),
            "{tier}: {points:#?}"
        );
    }
    for point in points {
        let round = scene.plant_pending_erasure().await;
        doom(&mut deployment, &point);
        let mut service = deployment.serve_unheard();
        service_killed(&mut service, &point).await;
        spare(&mut deployment);
        scene.check_at_any_moment(&round, &point).await;
        finish(&deployment, &scene, &round, &point).await;
    }
}
