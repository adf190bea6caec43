//! Whether the service says what it is fit for.

use bson::DateTime;
use rstest::rstest;
use serde_json::json;
use tierkeep::http::Phase;
use tierkeep_core::db::Role;
use tierkeep_testkit::documents::native_user;

use crate::common::{Backend, HOUR, Options, World};

async fn ready(world: &World) -> (u16, serde_json::Value) {
    let answer = world.ask("GET", "/health/ready").send().await;
    (answer.status.as_u16(), answer.value())
}

#[tokio::test]
async fn a_service_at_work_is_ready() {
    let world = World::new(Backend::Memory).await;
    assert_eq!(
        ready(&world).await,
        (200, json!({ "status": "ok", "reasons": [] }))
    );
}

#[rstest]
#[case(Role::ExternalUsers, 503, "down")]
#[case(Role::RaseenTempUser, 503, "down")]
#[case(Role::RaseenMainUser, 503, "down")]
#[case(Role::EvaluationAudit, 503, "down")]
#[case(Role::SrieMainUser, 200, "degraded")]
#[case(Role::RaseenMainHr, 200, "degraded")]
#[case(Role::SrieMainHr, 200, "degraded")]
#[tokio::test]
async fn only_critical_databases_take_the_service_down(
    #[case] away: Role,
    #[case] status: u16,
    #[case] word: &str,
) {
    let world = World::new(Backend::Memory).await;
    world.faults.set_down(away, true);
    let (answered, health) = ready(&world).await;
    assert_eq!(answered, status);
    assert_eq!(
        health,
        json!({ "status": word, "reasons": [format!("{away} is away")] })
    );
    let live = world.ask("GET", "/health/live").send().await.expect(200);
    assert_eq!(live.value()["status"], "ok");
}

#[tokio::test]
async fn a_service_that_ends_is_not_ready() {
    let world = World::new(Backend::Memory).await;
    assert_eq!(ready(&world).await.0, 200);
    world.phase.send_replace(Phase::Draining);
    let (status, health) = ready(&world).await;
    assert_eq!((status, &health["status"]), (503, &"draining".into()));
}

#[tokio::test]
async fn a_database_that_was_not_admitted_counts_as_away() {
    let options = Options {
        closed: true,
        ..Options::default()
    };
    let world = World::with(Backend::Memory, options).await;
    let (status, health) = ready(&world).await;
    assert_eq!((status, &health["status"]), (503, &"down".into()));
    assert_eq!(health["reasons"].as_array().unwrap().len(), 7);
}

#[rstest]
#[case(26, "degraded")]
#[case(24, "ok")]
#[tokio::test]
async fn overdue_documents_degrade(#[case] hours: u32, #[case] word: &str) {
    let world = World::new(Backend::Memory).await;
    let now = tierkeep_core::clock::Clock::now(world.clock.as_ref());
    let staged: DateTime = tierkeep_core::clock::before(now, hours * HOUR);
    let document = native_user(7, 1).dated(staged).build();
    let temp = &world.stores[&Role::RaseenTempUser];
    temp.insert("internal_users", &[document]).await.unwrap();
    let (status, health) = ready(&world).await;
    assert_eq!((status, &health["status"]), (200, &word.into()), "{health}");
}

#[tokio::test]
async fn callers_that_come_together_share_one_look() {
    let world = World::new(Backend::Memory).await;
    let before = world.faults.count_of("hello");
    let asks = (0..50).map(|_| world.ask("GET", "/health/ready").send());
    for answer in futures_util::future::join_all(asks).await {
        answer.expect(200);
    }
    // One for each database, and temp's own time.
    assert_eq!(world.faults.count_of("hello") - before, 8);
}
