//! Readiness and the health of the databases.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::DateTime;
use rstest::rstest;
use serde_json::json;
use tierkeep::http::{Phase, routers};
use tierkeep_core::audit::Draft;
use tierkeep_core::db::Role;
use tierkeep_engine::{GuardSettings, MemorySpool, Portion, Spool, SpoolShare};
use tierkeep_testkit::documents::native_user;
use tokio_util::sync::CancellationToken;

use crate::common::{Ask, Backend, HOUR, Options, World};

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
#[tokio::test]
async fn one_database_that_is_away_only_degrades_the_service(
    #[values(
        Role::ExternalUsers,
        Role::RaseenTempUser,
        Role::RaseenMainUser,
        Role::RaseenMainHr,
        Role::SrieMainUser,
        Role::SrieMainHr,
        Role::EvaluationAudit
    )]
    away: Role,
) {
    let world = World::new(Backend::Memory).await;
    world.faults.set_down(away, true);
    let (answered, health) = ready(&world).await;
    assert_eq!(answered, 200);
    assert_eq!(
        health,
        json!({ "status": "degraded", "reasons": [format!("{away} is unavailable")] })
    );
    let live = world.ask("GET", "/health/live").send().await.expect(200);
    assert_eq!(live.value()["status"], "ok");
}

#[tokio::test]
async fn a_service_that_serves_no_writes_is_not_ready() {
    let world = World::new(Backend::Memory).await;
    for role in [Role::ExternalUsers, Role::RaseenTempUser] {
        world.faults.set_down(role, true);
    }
    let (answered, health) = ready(&world).await;
    assert_eq!((answered, &health["status"]), (503, &"down".into()));
    let databases = world.ask("GET", "/health/databases").send().await;
    assert_eq!(databases.status.as_u16(), 503);
}

/// A spool on a disk that is full until `has_room`.
#[derive(Debug, Default)]
struct Full {
    has_room: AtomicBool,
    kept: MemorySpool,
}

impl Spool for Full {
    fn push(&self, drafts: &[Draft], share: SpoolShare) -> io::Result<()> {
        if !self.has_room.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.kept.push(drafts, share)
    }

    fn take(&self) -> io::Result<Option<Portion>> {
        self.kept.take()
    }

    fn done(&self, portion: &Portion) -> io::Result<()> {
        self.kept.done(portion)
    }
}

#[tokio::test]
async fn a_spool_that_takes_no_more_degrades_the_service_until_it_does() {
    let spool = Arc::new(Full::default());
    let options = Options::default();
    let world = World::with_spool(Backend::Memory, options, Arc::clone(&spool) as _).await;
    world.faults.set_down(Role::EvaluationAudit, true);
    let reason = "the spool of the audit trail is full for decisions about internal users";
    let is_said = |health: &serde_json::Value| {
        let reasons = health["reasons"].as_array().unwrap();
        reasons.iter().any(|one| one == reason)
    };
    let asked = world.internal("GET", "/v1/route").send().await;
    assert_eq!(asked.status.as_u16(), 503, "{asked:?}");
    let (status, health) = ready(&world).await;
    assert_eq!((status, &health["status"]), (200, &"degraded".into()));
    assert!(is_said(&health), "{health}");

    spool.has_room.store(true, Ordering::Relaxed);
    world.internal("GET", "/v1/route").send().await.expect(200);
    // What was found within the last second is said again.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (_, health) = ready(&world).await;
    assert!(!is_said(&health), "{health}");
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
// Due after a day, and late two looks of an hour after it.
#[case(26, "degraded")]
#[case(25, "ok")]
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

#[tokio::test]
async fn every_database_has_a_row() {
    let world = World::new(Backend::Memory).await;
    let answer = world.ask("GET", "/health/databases").send().await;
    let health = answer.expect(200).value();
    let rows = health["databases"].as_array().unwrap();
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, Role::ALL.map(Role::name));
    for row in rows {
        assert!(row["latency_ms"].as_f64().unwrap() >= 0.0, "{row}");
        let said = [&row["status"], &row["breaker"], &row["error"]];
        assert_eq!(said, [&json!("up"), &json!("closed"), &json!(null)]);
        assert_eq!(row.as_object().unwrap().len(), 5, "{row}");
    }
}

#[rstest]
#[tokio::test]
async fn a_database_that_is_away_is_named_by_its_row(
    #[values(
        Role::ExternalUsers,
        Role::RaseenTempUser,
        Role::RaseenMainUser,
        Role::RaseenMainHr,
        Role::SrieMainUser,
        Role::SrieMainHr,
        Role::EvaluationAudit
    )]
    away: Role,
) {
    let world = World::new(Backend::Memory).await;
    world.faults.set_down(away, true);
    let answer = world.ask("GET", "/health/databases").send().await;
    assert_eq!(answer.status.as_u16(), 200);
    for row in answer.value()["databases"].as_array().unwrap() {
        let down = row["name"] == away.name();
        assert_eq!(row["status"], if down { "down" } else { "up" }, "{row}");
        assert_eq!(row["error"].is_null(), !down, "{row}");
        assert_eq!(row["latency_ms"].is_null(), down, "{row}");
    }
    for role in Role::ALL {
        let path = format!("/health/databases/{role}");
        let answer = world.ask("GET", &path).send().await;
        let answer = answer.expect(if role == away { 503 } else { 200 });
        assert_eq!(answer.value()["name"], role.name());
    }
}

#[rstest]
#[case("elsewhere")]
#[case("raseen_temp_user%20")]
#[case("%FF")]
#[tokio::test]
async fn a_database_that_does_not_exist_is_not_found(#[case] name: &str) {
    let world = World::new(Backend::Memory).await;
    let path = format!("/health/databases/{name}");
    let answer = world.ask("GET", &path).send().await;
    let answer = answer.refused(404, "unknown_database");
    assert!(answer.text().contains("srie_main_hr"), "{answer:?}");
}

#[tokio::test]
async fn a_database_that_answers_and_was_not_admitted_is_down() {
    let options = Options {
        closed: true,
        ..Options::default()
    };
    let world = World::with(Backend::Memory, options).await;
    let answer = world.ask("GET", "/health/databases").send().await;
    for row in answer.expect(503).value()["databases"].as_array().unwrap() {
        assert_eq!(
            (&row["status"], &row["error"]),
            (&"down".into(), &"not_admitted".into())
        );
    }
}

#[tokio::test]
async fn documents_in_quarantine_degrade() {
    let world = World::new(Backend::Memory).await;
    let unusable = bson::rawdoc! { "_id": 7, "scan_cache": {} };
    let temp = &world.stores[&Role::RaseenTempUser];
    temp.insert("internal_users", &[unusable]).await.unwrap();
    world
        .admin("POST", "/v1/admin/migrations/run")
        .send()
        .await
        .expect(202);
    world.mover.finished().await;
    let (status, health) = ready(&world).await;
    assert_eq!(
        (status, &health["status"]),
        (200, &"degraded".into()),
        "{health}"
    );
    let reasons = json!(["documents in raseen_temp_user are quarantined"]);
    assert_eq!(health["reasons"], reasons);
}

#[tokio::test]
async fn what_operators_look_at_may_have_an_address_of_its_own() {
    let world = World::new(Backend::Memory).await;
    let routers = routers(world.state.clone());
    let status = async |router: &axum::Router, path: &str| {
        let answer = Ask::new(router.clone(), "GET", path).send().await;
        answer.status.as_u16()
    };
    for path in ["/health/databases", "/health/databases/srie_main_hr"] {
        assert_eq!(status(&world.router, path).await, 200, "{path}");
        assert_eq!(status(&routers.ops, path).await, 200, "{path}");
        assert_eq!(status(&routers.public, path).await, 404, "{path}");
    }
    for path in ["/v1/route?username=reader", "/v1/admin/overview"] {
        assert_eq!(status(&routers.ops, path).await, 404, "{path}");
        assert_ne!(status(&routers.public, path).await, 404, "{path}");
    }
    for path in ["/health/live", "/health/ready", "/openapi.json"] {
        assert_eq!(status(&routers.ops, path).await, 200, "{path}");
        assert_eq!(status(&routers.public, path).await, 200, "{path}");
    }
}

/// The row of a database, on a clock that a test moves.
async fn row(world: &World, role: Role) -> serde_json::Value {
    let path = format!("/health/databases/{role}");
    world.ask("GET", &path).send().await.value()
}

#[rstest]
#[case(Role::ExternalUsers)]
#[case(Role::SrieMainUser)]
#[case(Role::EvaluationAudit)]
#[tokio::test(start_paused = true)]
async fn a_service_notices_within_ten_seconds_what_goes_and_what_comes_back(#[case] away: Role) {
    let world = World::new(Backend::Memory).await;
    world
        .engine
        .databases()
        .guard_calls(GuardSettings::default());
    let stop = CancellationToken::new();
    let watch = tokio::spawn(world.state.health.clone().watch(stop.clone()));
    for down in [true, false, true, false] {
        world.faults.set_down(away, down);
        tokio::time::sleep(Duration::from_secs(10)).await;
        for role in Role::ALL {
            let row = row(&world, role).await;
            let is_down = down && role == away;
            assert_eq!(row["status"], if is_down { "down" } else { "up" }, "{row}");
            assert_eq!(
                row["error"],
                if is_down {
                    json!("refused")
                } else {
                    json!(null)
                }
            );
            assert_eq!(row["breaker"] != "closed", is_down, "{row}");
        }
    }
    stop.cancel();
    watch.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_service_that_started_without_its_databases_lets_them_in_within_ten_seconds() {
    let options = Options {
        closed: true,
        ..Options::default()
    };
    let world = World::with(Backend::Memory, options).await;
    world
        .engine
        .databases()
        .guard_calls(GuardSettings::default());
    let stop = CancellationToken::new();
    let watch = tokio::spawn(world.state.health.clone().watch(stop.clone()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(
        ready(&world).await,
        (200, json!({ "status": "ok", "reasons": [] }))
    );
    stop.cancel();
    watch.await.unwrap();
}
