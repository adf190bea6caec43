//! Servers that are reachable but refuse commands or answer slowly.

use std::time::Duration;

use bson::{Bson, Document, doc};
use tierkeep_core::bson;
use tierkeep_core::db::Role;

use super::super::program::{Deployment, Service, github};
use super::backed_up_apart;
use super::callers::Callers;
use super::servers::{ReplicaSet, free_ports};

/// The service, as its servers know it.
const APP: &str = "answers";
/// How much later than usual slow answers come.
const LATE: Duration = Duration::from_millis(100);

/// One server with srie and one with everything else, and the service on them.
struct Scene {
    main: ReplicaSet,
    srie: ReplicaSet,
    service: Service,
    _deployment: Deployment,
    _github: wiremock::MockServer,
}

impl Scene {
    async fn new() -> Self {
        let ports: [u16; 2] = free_ports();
        let (main, srie) = tokio::join!(
            ReplicaSet::start("main", &ports[..1]),
            ReplicaSet::start("srie", &ports[1..])
        );
        let github = github().await;
        let deployment = backed_up_apart(&main, &srie, &format!("appName={APP}"));
        let deployment = deployment.with("GITHUB_API_URL", &github.uri());
        Self {
            main,
            srie,
            service: deployment.serve(),
            _deployment: deployment,
            _github: github,
        }
    }
}

/// From now on the server does this to these commands of the service.
async fn arm(set: &ReplicaSet, mode: impl Into<Bson>, what: Document) {
    let mut data = what;
    data.insert("appName", APP);
    let command = doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data };
    set.command(command).await.unwrap();
}

/// No longer; answers how often it did.
async fn disarm(set: &ReplicaSet) -> i64 {
    let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
    let reply = set.command(off).await.unwrap();
    match reply.get("count") {
        Some(Bson::Int32(count)) => i64::from(*count),
        Some(Bson::Int64(count)) => *count,
        other => panic!("{other:?} is no count"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_a_server_refuses_are_repeated_or_put_off_and_none_is_half_done() {
    let scene = Scene::new().await;
    let callers = Callers::of(&scene.service);
    callers.until_served("at the start").await;
    let writers = callers.writers(1..=2);
    writers.more("in calm").await;
    let calm = writers.refused();
    assert_eq!(calm, 0);
    // Codes that pass, that do not, and that leave open whether the command was done.
    for code in [91, 112, 11_602, 13_435, 50, 14_031] {
        for command in ["find", "insert", "update", "findAndModify"] {
            let at = format!("{code} to {command}");
            let refusal = doc! { "errorCode": code, "failCommands": [command] };
            arm(&scene.main, doc! { "times": 6 }, refusal).await;
            writers.more(&at).await;
            let struck = disarm(&scene.main).await;
            assert!(struck > 0 || matches!(command, "insert" | "update"), "{at}");
        }
    }
    // A write that no majority vouches for is not acknowledged, or done once.
    let unvouched = doc! {
        "failCommands": ["findAndModify"],
        "writeConcernError": { "code": 64, "errmsg": "waiting timed out" },
    };
    arm(&scene.main, doc! { "times": 10 }, unvouched).await;
    writers.more("unvouched").await;
    assert!(disarm(&scene.main).await > 0);
    // A server that refuses everything is put off, and comes back by itself.
    let everything =
        doc! { "errorCode": 11_600, "failCommands": ["find", "findAndModify", "hello"] };
    arm(&scene.main, doc! { "times": 60 }, everything).await;
    writers.more("everything is refused for a while").await;
    disarm(&scene.main).await;
    callers.until_served("nothing is refused").await;
    writers.lost_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_answers_delay_requests_and_refuse_none() {
    let scene = Scene::new().await;
    let callers = Callers::of(&scene.service);
    callers.until_served("at the start").await;
    let writers = callers.writers(1..=2);
    let slow = doc! {
        "failCommands": ["find", "insert", "update", "findAndModify", "aggregate"],
        "blockConnection": true, "blockTimeMS": i64::try_from(LATE.as_millis()).unwrap(),
    };
    let calm = writers.median("in calm").await;
    // A slow backup delays no request.
    arm(&scene.srie, "alwaysOn", slow.clone()).await;
    let slow_backup = writers.median("while srie is slow").await;
    disarm(&scene.srie).await;
    assert!(
        slow_backup < calm + LATE,
        "{slow_backup:?} while srie is slow, {calm:?} in calm"
    );
    arm(&scene.main, "alwaysOn", slow).await;
    let slowly = writers.median("while everything is slow").await;
    assert!(disarm(&scene.main).await > 0);
    assert!(slowly >= LATE, "{slowly:?}");
    assert_eq!(writers.refused(), 0);
    let row = callers.row(Role::RaseenTempUser).await;
    assert_eq!(row["breaker"], "closed", "{row}");
    writers.lost_nothing().await;
}
