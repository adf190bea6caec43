//! The administrators' routes for the mover.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_core::clock;
use tierkeep_core::db::Role;
use tierkeep_core::store::Query;
use tierkeep_engine::AlertKind;
use tierkeep_identity::RoleClaim;
use tierkeep_testkit::documents::native_user;

use crate::common::{Ask, Backend, HOUR, SUBJECT, World};

const ROUTES: [(&str, &str); 12] = [
    ("GET", "/v1/admin/alerts"),
    ("GET", "/v1/admin/audit"),
    ("GET", "/v1/admin/overview"),
    ("GET", "/v1/admin/users/external_reader"),
    ("GET", "/v1/admin/migrations"),
    ("POST", "/v1/admin/migrations/run"),
    ("POST", "/v1/admin/migrations/retry"),
    ("POST", "/v1/admin/mover/pause"),
    ("POST", "/v1/admin/mover/resume"),
    ("POST", "/v1/admin/verify"),
    ("POST", "/v1/admin/restore"),
    ("POST", "/v1/admin/backup"),
];

fn admin(world: &World, method: &str, path: &str) -> Ask {
    world
        .ask(method, path)
        .jwt(&world.token(SUBJECT, Some(RoleClaim::Admin)))
}

/// Documents of these numbers, in temp for longer than their retention.
async fn plant(world: &World, numbers: std::ops::Range<u32>) {
    let temp = &world.stores[&Role::RaseenTempUser];
    let now = temp.hello().await.unwrap().now;
    let old = clock::before(now, 25 * HOUR);
    let users: Vec<_> = numbers
        .map(|n| native_user(n, 1).dated(old).build())
        .collect();
    temp.insert("internal_users", &users).await.unwrap();
}

#[tokio::test]
async fn every_route_takes_a_jwt_with_the_role_admin_and_nothing_else() {
    let world = World::new(Backend::Memory).await;
    let before = world.everything().await;
    for (method, path) in ROUTES {
        let ask = || world.ask(method, path);
        ask().send().await.refused(401, "credentials_required");
        let expired = ask().jwt(&world.expired(SUBJECT));
        expired.send().await.refused(401, "credentials_required");
        let forged = ask().jwt(&world.forged(SUBJECT)).named("reader");
        forged.send().await.refused(401, "credentials_required");
        let named = ask().named("reader");
        named.send().await.refused(401, "credentials_required");
        for role in [None, Some(RoleClaim::Hr)] {
            let other = ask().jwt(&world.token(SUBJECT, role));
            let other = other.send().await.refused(403, "role_required");
            assert_eq!(other.header("www-authenticate"), None);
        }
    }
    assert_eq!(world.everything().await, before);
}

#[tokio::test]
async fn removing_a_public_users_data_without_a_token_is_401_and_with_another_role_403() {
    let world = World::new(Backend::Memory).await;
    let path = "/v1/user/scan_cache";
    let put = world.external("PUT", path).json("{}");
    put.send().await.expect(201);
    let delete = || world.external("DELETE", path);
    let answer = delete().send().await.refused(401, "credentials_required");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    let expired = delete().jwt(&world.expired(SUBJECT));
    expired.send().await.refused(401, "credentials_required");
    let user = delete().jwt(&world.token(SUBJECT, None));
    user.send().await.refused(403, "role_required");
    let admin = delete().jwt(&world.token(SUBJECT, Some(RoleClaim::Admin)));
    admin.send().await.expect(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_overview_counts_every_database_and_what_waits_for_its_backup(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    plant(&world, 0..2).await;
    let overview = async || {
        let overview = admin(&world, "GET", "/v1/admin/overview").send().await;
        overview.expect(200).value()
    };
    let put = async |id: &str| {
        let path = format!("/v1/hr/hr_candidates/{id}");
        world.hr("PUT", &path).json("{}").send().await.expect(201);
    };
    put("c1").await;
    world.faults.set_down(Role::SrieMainHr, true);
    put("c2").await;
    let seen = overview().await;
    assert_eq!(seen["backup_pending"], json!({ "user": 0, "hr": 1 }));
    let documents = |seen: &Value, role: Role| {
        let mut rows = seen["databases"].as_array().unwrap().iter();
        rows.find(|row| row["name"] == role.name()).unwrap()["documents"].clone()
    };
    for (role, count) in [
        (Role::RaseenTempUser, json!(2)),
        (Role::RaseenMainUser, json!(0)),
        (Role::RaseenMainHr, json!(2)),
        (Role::SrieMainHr, Value::Null),
    ] {
        assert_eq!(documents(&seen, role), count, "{role}");
    }
    let kept = documents(&seen, Role::EvaluationAudit).as_u64().unwrap();
    let audit = &world.stores[&Role::EvaluationAudit];
    let trail = audit.count("audit_trail", &Query::All).await.unwrap();
    assert!(kept >= trail && trail > 0, "{kept} of which {trail}");
    world.faults.set_down(Role::SrieMainHr, false);
    world.faults.set_down(Role::RaseenMainHr, true);
    let seen = overview().await;
    assert_eq!(seen["backup_pending"], json!({ "user": 0, "hr": null }));
    assert_eq!(documents(&seen, Role::SrieMainHr), json!(1));
    assert_eq!(documents(&seen, Role::RaseenMainHr), Value::Null);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_begun_counted_and_seen(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    plant(&world, 0..5).await;
    let overview = admin(&world, "GET", "/v1/admin/overview").send().await;
    let overview = overview.expect(200).value();
    assert_eq!(overview["due"], 5);
    assert_eq!(overview["databases"][0]["breaker"], "closed");
    assert_eq!(overview["alerts"], json!([]));
    assert_eq!(overview["next_24_hours"]["due_now"]["documents"], 5);
    let run = || admin(&world, "POST", "/v1/admin/migrations/run");
    let before = world.everything().await;
    let dry = run().json(r#"{"dry_run":true,"limit":3}"#).send().await;
    let dry = dry.expect(200).value();
    assert_eq!((&dry["dry_run"], &dry["due"]), (&json!(true), &json!(3)));
    assert_eq!(world.everything().await, before);

    let begun = run().send().await.expect(202).value();
    world.mover.finished().await;
    assert_eq!(world.count(Role::RaseenTempUser).await, 0);
    assert_eq!(world.count(Role::RaseenMainUser).await, 5);
    let list = |query: &str| {
        let ask = admin(&world, "GET", "/v1/admin/migrations").query(query);
        async { ask.send().await.expect(200).value() }
    };
    let first = list("limit=3&status=completed").await;
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    assert_eq!(first["items"][0]["run_id"], begun["run_id"]);
    assert_eq!(first["items"][0]["source_db"], "raseen_temp_user");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = list(&format!("limit=3&status=completed&cursor={cursor}")).await;
    assert_eq!(second["items"].as_array().unwrap().len(), 2);
    let all = list("").await;
    let ids = all["items"].as_array().unwrap().iter();
    let ids: Vec<_> = ids.map(|record| record["migration_id"].as_str()).collect();
    assert!(ids.is_sorted_by(|one, other| one > other), "{ids:?}");
    assert_eq!(second["next_cursor"], Value::Null);
    assert_eq!(list("status=failed").await["items"], json!([]));
    let user = native_user(2, 1).id().to_owned();
    let his = list(&format!("user={user}")).await;
    assert_eq!(his["items"].as_array().unwrap().len(), 1);
    assert_eq!(his["items"][0]["user_id"], user.as_str());
    let path = format!("/v1/admin/users/{user}");
    let explained = admin(&world, "GET", &path).send().await.expect(200).value();
    assert_eq!(explained["authoritative"], "raseen_main_user");
    for nobody in ["internal_ffffffffffffffffffffffff", "nobody", "%ff"] {
        let path = format!("/v1/admin/users/{nobody}");
        let ask = admin(&world, "GET", &path);
        ask.send().await.refused(404, "user_not_found");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_movement_is_paused_and_resumed(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    plant(&world, 0..2).await;
    let post = |path: &str| admin(&world, "POST", path).send();
    let paused = post("/v1/admin/mover/pause").await.expect(200).value();
    assert_eq!(paused, json!({ "paused": true, "changed": true }));
    let again = post("/v1/admin/mover/pause").await.expect(200).value();
    assert_eq!(again, json!({ "paused": true, "changed": false }));
    let refused = post("/v1/admin/migrations/run").await;
    refused.refused(409, "mover_paused");
    let dry = admin(&world, "POST", "/v1/admin/migrations/run").json(r#"{"dry_run":true}"#);
    assert_eq!(dry.send().await.expect(200).value()["due"], 2);
    let resumed = post("/v1/admin/mover/resume").await.expect(200).value();
    assert_eq!(resumed, json!({ "paused": false, "changed": true }));
    post("/v1/admin/migrations/run").await.expect(202);
    world.mover.finished().await;
    assert_eq!(world.count(Role::RaseenMainUser).await, 2);
}

#[tokio::test]
async fn only_failed_moves_are_tried_again() {
    let world = World::new(Backend::Memory).await;
    plant(&world, 1..2).await;
    let retry = || admin(&world, "POST", "/v1/admin/migrations/retry");
    let all = retry().send().await.expect(200).value();
    assert_eq!(all, json!({ "retried": 0 }));
    let user = native_user(1, 1).id().to_owned();
    let one = retry().json(json!({ "user_id": user }).to_string());
    assert_eq!(
        one.send().await.expect(200).value(),
        json!({ "retried": 0 })
    );
    let nobody = retry().json(r#"{"user_id":"internal_ffffffffffffffffffffffff"}"#);
    nobody.send().await.refused(404, "user_not_found");
}

#[rstest]
#[case("run", r#"{"dry_run":1}"#)]
#[case("run", r#"{"dryrun":true}"#)]
#[case("run", r#"{"older_than":"soon"}"#)]
#[case("run", r#"{"older_than":24}"#)]
#[case("run", r#"{"limit":0}"#)]
#[case("run", r#"{"limit":-1}"#)]
#[case("run", r#"{"limit":1.5}"#)]
#[case("run", "[]")]
#[case("retry", r#"{"user_id":"reader"}"#)]
#[case("retry", r#"{"user_id":null}"#)]
#[case("retry", r#"{"user":"external_reader"}"#)]
#[tokio::test]
async fn a_body_that_cannot_be_meant_is_refused(#[case] what: &str, #[case] body: &str) {
    let world = World::new(Backend::Memory).await;
    let before = world.everything().await;
    let path = format!("/v1/admin/migrations/{what}");
    let ask = admin(&world, "POST", &path).json(body.to_owned());
    ask.send().await.refused(422, "invalid_content");
    let ask = admin(&world, "POST", &path).json("{");
    ask.send().await.refused(400, "malformed");
    let ask = admin(&world, "POST", &path).body("{}");
    ask.send().await.refused(415, "unsupported_media_type");
    assert_eq!(world.everything().await, before);
}

#[rstest]
#[case("status=done")]
#[case("user=reader")]
#[case("limit=0")]
#[case("limit=1001")]
#[case("limit=many")]
#[case("cursor=next")]
#[tokio::test]
async fn a_query_that_cannot_be_meant_is_refused(#[case] query: &str) {
    let world = World::new(Backend::Memory).await;
    let ask = admin(&world, "GET", "/v1/admin/migrations").query(query);
    ask.send().await.refused(400, "malformed");
    let passed_over = admin(&world, "GET", "/v1/admin/migrations").query("other=1");
    passed_over.send().await.expect(200);
}

#[tokio::test]
async fn while_the_audit_database_is_away_nothing_is_changed_and_the_overview_says_so() {
    let world = World::new(Backend::Memory).await;
    world.faults.set_down(Role::EvaluationAudit, true);
    for path in ["/v1/admin/mover/pause", "/v1/admin/migrations/retry"] {
        let ask = admin(&world, "POST", path);
        let answer = ask.send().await.refused(503, "database_unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    let overview = admin(&world, "GET", "/v1/admin/overview").send().await;
    let overview = overview.expect(200).value();
    assert_eq!(overview["alerts"], Value::Null);
    assert_eq!(overview["next_24_hours"], Value::Null);
    let rows = overview["databases"].as_array().unwrap();
    let audit = rows.iter().find(|row| row["name"] == "evaluation_audit");
    assert_eq!(audit.unwrap()["reachable"], false);
}

#[rstest]
#[tokio::test]
async fn alerts_are_listed_page_by_page(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let alerts = world.mover.service.alerts();
    for n in 0..5 {
        let subject = format!("user {n}");
        alerts
            .raise(AlertKind::MigrationFailed, &subject, "a test")
            .await
            .unwrap();
    }
    alerts
        .resolve(AlertKind::MigrationFailed, "user 3")
        .await
        .unwrap();
    let subjects = async |filter: &str| {
        let mut subjects = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut ask = admin(&world, "GET", "/v1/admin/alerts").query("limit=2");
            ask = ask.query(&format!("filter={filter}"));
            if let Some(cursor) = &cursor {
                ask = ask.query(&format!("cursor={cursor}"));
            }
            let page = ask.send().await.expect(200).value();
            let items = page["items"].as_array().unwrap().clone();
            assert!(items.len() <= 2);
            for item in items {
                assert_eq!(item["kind"], "migration_failed");
                subjects.push(item["subject"].as_str().unwrap().to_owned());
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return subjects,
            }
        }
    };
    assert_eq!(
        subjects("open").await,
        ["user 0", "user 1", "user 2", "user 4"]
    );
    assert_eq!(subjects("all").await.len(), 5);
    // What was raised last comes first.
    world.clock.advance(Duration::from_secs(1));
    let kind = AlertKind::MigrationFailed;
    alerts.raise(kind, "user 2", "again").await.unwrap();
    assert_eq!(
        subjects("open").await,
        ["user 2", "user 0", "user 1", "user 4"]
    );
    for wrong in ["filter=some", "limit=0", "limit=1001", "cursor=%25"] {
        let ask = admin(&world, "GET", "/v1/admin/alerts").query(wrong);
        ask.send().await.refused(400, "malformed");
    }
}
