//! A write of a user whose document has to enter temp first, or is in temp already.

use reqwest::StatusCode;
use rstest::rstest;
use serde_json::json;
use tierkeep::clock::SystemClock;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::user::UserId;

use super::super::program::{Backend, Deployment, Service, github, token};
use super::scene::{Scene, moved, staged};
use super::{Trace, doom, service_killed, spare};

/// Where a user's document is when the write comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    Nowhere,
    Main,
    Erased,
    Temp,
}

/// Plants user `n`, who was at version 2 where there is anything.
async fn plant(scene: &mut Scene, n: u32, before: Before) -> UserId {
    let user = UserId::internal(&format!("{n:024x}")).unwrap();
    let document = staged(n, 2, SystemClock.now());
    match before {
        Before::Nowhere => {}
        Before::Temp | Before::Erased => scene.insert(Role::RaseenTempUser, &[document]).await,
        Before::Main => {
            let copy = [moved(&document)];
            scene.insert(Role::SrieMainUser, &copy).await;
            scene.insert(Role::RaseenMainUser, &copy).await;
        }
    }
    if before == Before::Erased {
        scene.erase(&user).await;
    }
    user
}

/// Puts `scan_cache` of user `n`; an error if there was no answer.
async fn put(service: &Service, n: u32, round: i32) -> reqwest::Result<StatusCode> {
    let answer = reqwest::Client::new()
        .put(service.url("/v1/user/scan_cache"))
        .bearer_auth(token(&format!("{n:024x}")))
        .header("x-github-token", "gho_something")
        .json(&json!({ "round": round }))
        .send()
        .await?;
    Ok(answer.status())
}

/// The content that a reader finds: a round of [`put`], 0 for what was planted, `None` for nothing.
async fn round_of(scene: &Scene, user: &UserId) -> Option<i32> {
    let found = scene.read(user).await?;
    let content = found.get_document("scan_cache").unwrap();
    Some(content.get_i32("round").unwrap_or_default())
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_while_a_document_enters_temp_leaves_the_old_or_the_new(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Before::Nowhere, Before::Main, Before::Erased, Before::Temp)] before: Before,
) {
    let github = github().await;
    let mut deployment = Deployment::new(backend).with("GITHUB_API_URL", &github.uri());
    let mut scene = Scene::of(&deployment).await;
    // The ledger has its key from now on.
    plant(&mut scene, 1, Before::Erased).await;
    plant(&mut scene, 2, before).await;
    let trace = Trace::begin(&mut deployment);
    let mut service = deployment.serve();
    assert!(put(&service, 2, 1).await.unwrap().is_success());
    service.kill();
    let calls = trace.end(&mut deployment);
    let healthy = deployment.serve();
    let steps = calls
        .iter()
        .filter(|call| call.writes() && call.name.starts_with("raseen_temp_user "))
        .filter(|call| call.name.ends_with(" internal_users"));
    let points: Vec<String> = steps.flat_map(super::Call::points).collect();
    let expected = if before == Before::Temp { 1 } else { 2 };
    assert!(points.len() >= expected, "{calls:#?}");
    for (n, point) in (3..).zip(points) {
        let user = plant(&mut scene, n, before).await;
        let old = round_of(&scene, &user).await;
        doom(&mut deployment, &point);
        let mut service = deployment.serve();
        put(&service, n, 1).await.unwrap_err();
        service_killed(&mut service, &point).await;
        spare(&mut deployment);
        let found = round_of(&scene, &user).await;
        assert!(found == old || found == Some(1), "{point}: {found:?}");
        scene.let_time_pass().await;
        // As the caller repeats it.
        let status = put(&healthy, n, 2).await.unwrap();
        assert!(status.is_success(), "{point}: {status}");
        assert_eq!(round_of(&scene, &user).await, Some(2), "{point}");
        let document = scene.read(&user).await.unwrap();
        let counter = document::version(&document).unwrap().get() % (1 << 40);
        let first = match before {
            Before::Nowhere | Before::Erased => 0,
            Before::Main | Before::Temp => 2,
        };
        let written = first + 1 + i64::from(found == Some(1));
        // An entry that was never confirmed may have used a number.
        assert!(
            counter == written || counter == written + 1,
            "{point}: {counter}"
        );
        scene.check_nothing_doubled(&user).await;
    }
}
