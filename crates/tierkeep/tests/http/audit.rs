//! The entries of requests in the audit trail, who may read it, and what waits while its database is away.

use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_core::audit::Verdict;
use tierkeep_core::db::Role;
use tierkeep_engine::AuditDecisions;
use tierkeep_identity::RoleClaim;
use tierkeep_testkit::documents::native_user;

use crate::common::{
    Ask, Backend, KNOWN_TOKEN, Options, SUBJECT, UNKNOWN_TOKEN, UNREACHABLE_TOKEN, World,
};

const SECTION: &str = "/v1/user/scan_cache";

fn admin(world: &World, method: &str, path: &str) -> Ask {
    let token = world.token(SUBJECT, Some(RoleClaim::Admin));
    world.ask(method, path).jwt(&token)
}

async fn trail(world: &World, query: &str) -> Vec<Value> {
    let ask = admin(world, "GET", "/v1/admin/audit").query(query);
    let page = ask.send().await.expect(200).value();
    assert_eq!(page["next_cursor"], Value::Null);
    page["items"].as_array().unwrap().clone()
}

/// What the entries say of each request: its id, the decision, whom it is about and who asked.
fn said(entries: &[Value]) -> Vec<[&str; 4]> {
    let names = ["request_id", "decision", "user_id", "actor"];
    entries
        .iter()
        .map(|entry| names.map(|name| entry[name].as_str().unwrap_or("-")))
        .collect()
}

async fn holds(world: &World) {
    let trail = world.engine.audit_trail();
    let found = trail.verify(None).await.unwrap();
    assert_eq!(found.violations, []);
    assert_eq!(found.verdict, Verdict::Whole);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn first_ambiguous_and_refused_decisions_are_kept_with_their_request(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let internal = format!("internal_{SUBJECT}");
    let jwt = world.token(SUBJECT, None);
    let route = |id: &str| world.ask("GET", "/v1/route").header("x-request-id", id);
    for id in ["internal", "again"] {
        let ask = route(id).jwt(&jwt).github(KNOWN_TOKEN);
        ask.send().await.expect(200);
    }
    for id in ["external", "again"] {
        route(id).named("Reader").send().await.expect(200);
    }
    for id in ["ambiguous", "once more"] {
        let ask = route(id.split(' ').next().unwrap()).named("reader");
        ask.jwt(&jwt).send().await.expect(200);
    }
    route("nobody").send().await.expect(401);
    let unknown = route("unknown").jwt(&jwt).github(UNKNOWN_TOKEN);
    unknown.send().await.expect(401);
    let unreachable = route("unreachable").jwt(&jwt).github(UNREACHABLE_TOKEN);
    unreachable.send().await.expect(503);
    route("unnamed").named("a.b").send().await.expect(422);
    let forbidden = world.ask("POST", "/v1/admin/mover/pause").jwt(&jwt);
    let forbidden = forbidden.header("x-request-id", "forbidden");
    forbidden.send().await.expect(403);
    let remove = world.ask("DELETE", SECTION).named("reader").jwt(&jwt);
    let remove = remove.header("x-request-id", "remove");
    remove.send().await.expect(403);

    let entries = trail(&world, "kind=decision").await;
    let me = internal.as_str();
    let reader = "external_reader";
    assert_eq!(
        said(&entries),
        [
            ["internal", "internal", me, me],
            ["external", "external", reader, "-"],
            ["ambiguous", "external; ambiguous", reader, me],
            ["nobody", "refused", "-", "-"],
            ["unknown", "refused; ambiguous", "-", me],
            ["unreachable", "refused", "-", me],
            ["unnamed", "refused", "-", "-"],
            ["forbidden", "refused", "-", me],
        ]
    );
    assert_eq!(entries[0]["seq"], 1);
    assert_eq!(entries[0]["database"], "raseen_temp_user");
    assert_eq!(entries[1]["database"], "external_users");
    assert_eq!(entries[3]["reason"], "the JWT is missing");
    assert_eq!(entries[7]["reason"], "the role admin is required");
    let of_reader = trail(&world, "user=external_reader").await;
    assert_eq!(of_reader.len(), 2);
    // The same of one address in one minute is counted: once more an ambiguous one, and removing.
    world.engine.audit_trail().note_all_counted().await;
    let counted = trail(&world, "kind=decision")
        .await
        .split_off(entries.len());
    let mut told: Vec<_> = counted.iter().map(|it| it["reason"].as_str()).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            Some(
                "the request names a public user; the credentials were ignored; 2 more from one address"
            ),
            Some("the role admin is required; 1 more from one address"),
        ]
    );
    assert!(counted.iter().all(|it| it["actor"] == me));
    holds(&world).await;
}

#[tokio::test]
async fn every_decision_is_kept_where_that_is_wanted() {
    let options = Options {
        decisions: AuditDecisions::All,
        ..Options::default()
    };
    let world = World::with(Backend::Memory, options).await;
    for _ in 0..3 {
        world.external("GET", "/v1/route").send().await.expect(200);
        world.internal("GET", "/v1/route").send().await.expect(200);
    }
    assert_eq!(trail(&world, "kind=decision").await.len(), 6);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_administrators_do_is_kept_before_it_is_done(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let user = native_user(1, 1);
    let temp = &world.stores[&Role::RaseenTempUser];
    temp.insert("internal_users", &[user.build()])
        .await
        .unwrap();
    let post = |path: &str, body: String| {
        let path = format!("/v1/admin/{path}");
        let ask = admin(&world, "POST", &path).header("x-request-id", &path);
        if body.is_empty() { ask } else { ask.json(body) }
    };
    let none = String::new;
    post("mover/pause", none()).send().await.expect(200);
    post("mover/resume", none()).send().await.expect(200);
    post("migrations/run", none()).send().await.expect(202);
    let dry = post("migrations/run", r#"{"dry_run":true}"#.into());
    dry.send().await.expect(200);
    let wrong = post("migrations/run", r#"{"limit":0}"#.into());
    wrong.send().await.expect(422);
    post("migrations/retry", none()).send().await.expect(200);
    let one = post(
        "migrations/retry",
        json!({ "user_id": user.id() }).to_string(),
    );
    one.send().await.expect(200);
    world.mover.finished().await;
    let me = format!("internal_{SUBJECT}");
    let me = me.as_str();
    let actions = trail(&world, "kind=admin_action").await;
    assert_eq!(
        said(&actions),
        [
            ["/v1/admin/mover/pause", "pause", "-", me],
            ["/v1/admin/mover/resume", "resume", "-", me],
            ["/v1/admin/migrations/run", "run", "-", me],
            ["/v1/admin/migrations/retry", "retry", "-", me],
            ["/v1/admin/migrations/retry", "retry", user.id(), me],
        ]
    );
    holds(&world).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn while_the_trail_is_away_users_are_served_and_administrators_are_not(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let put = world.internal("PUT", SECTION).json(r#"{"n":1}"#);
    put.send().await.expect(201);
    let before = trail(&world, "").await.len();

    world.faults.set_down(Role::EvaluationAudit, true);
    for n in 0..3 {
        let put = world.internal("PUT", SECTION).json(r#"{"n":2}"#);
        put.send().await.expect(200);
        let new = world.ask("PUT", SECTION).named(&format!("new{n}"));
        new.json("{}").send().await.expect(201);
        world.ask("GET", "/v1/user").send().await.expect(401);
        world.internal("GET", SECTION).send().await.expect(200);
        for path in [
            "mover/pause",
            "mover/resume",
            "migrations/run",
            "migrations/retry",
        ] {
            let ask = admin(&world, "POST", &format!("/v1/admin/{path}"));
            ask.send().await.refused(503, "database_unavailable");
        }
    }
    let list = admin(&world, "GET", "/v1/admin/audit").send().await;
    list.refused(503, "database_unavailable");

    world.faults.set_down(Role::EvaluationAudit, false);
    world.engine.audit_trail().deliver().await.unwrap();
    let entries = trail(&world, "").await;
    let late: Vec<_> = entries[before..].iter().map(|it| &it["decision"]).collect();
    // Refusals of one address and minute are one.
    assert_eq!(late, ["external", "refused", "external", "external"]);
    assert_eq!(
        trail(&world, "kind=admin_action").await,
        Vec::<Value>::new()
    );
    holds(&world).await;
}

#[rstest]
#[case("kind=decisions")]
#[case("user=reader")]
#[case("limit=0")]
#[case("limit=1001")]
#[case("cursor=next")]
#[case("cursor=99999999999999999999")]
#[tokio::test]
async fn a_query_of_the_trail_that_cannot_be_meant_is_refused(#[case] query: &str) {
    let world = World::new(Backend::Memory).await;
    let ask = admin(&world, "GET", "/v1/admin/audit").query(query);
    ask.send().await.refused(400, "malformed");
}

#[tokio::test]
async fn the_trail_is_paged_by_its_cursor() {
    let world = World::new(Backend::Memory).await;
    for n in 0..5 {
        let ask = world.ask("GET", "/v1/route").named(&format!("user{n}"));
        ask.send().await.expect(200);
    }
    let mut seen = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let query = format!("limit=2&cursor={cursor}");
        let ask = admin(&world, "GET", "/v1/admin/audit").query(&query);
        let page = ask.send().await.expect(200).value();
        let items = page["items"].as_array().unwrap().clone();
        seen.extend(items.iter().map(|it| it["seq"].as_i64().unwrap()));
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = next.to_owned();
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
}
