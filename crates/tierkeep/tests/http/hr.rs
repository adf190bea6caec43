//! HR records over HTTP.

use rstest::rstest;
use serde_json::json;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::db::Role;
use tierkeep_engine::AuditFilter;
use tierkeep_identity::RoleClaim;

use crate::common::{Ask, Backend, SUBJECT, World};

const RECORD: &str = "/v1/hr/hr_candidates/c1";
const LIST: &str = "/v1/hr/hr_candidates";

const ROUTES: [(&str, &str); 5] = [
    ("GET", LIST),
    ("GET", RECORD),
    ("PUT", RECORD),
    ("PATCH", RECORD),
    ("DELETE", RECORD),
];

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_record_lives_as_the_contract_says(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let body = r#"{"z":1,"a":{"x":1.0,"at":{"$date":"2024-01-01T00:00:00Z"}},"user_id":"free"}"#;
    let put = world.hr("PUT", RECORD).json(body).send().await.expect(201);
    assert_eq!(put.header("etag"), Some("\"1\""));
    let record = put.value();
    let keys: Vec<_> = record.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "_id",
            "z",
            "a",
            "user_id",
            "created_at",
            "updated_at",
            "metadata"
        ]
    );
    assert_eq!(
        record["metadata"],
        json!({ "version": 1, "backup_status": "completed" })
    );
    let got = world.hr("GET", RECORD).send().await.expect(200);
    assert_eq!(
        (got.value(), got.header("etag")),
        (record.clone(), Some("\"1\""))
    );
    assert_eq!(got.header("tierkeep-source"), None);

    let again = world
        .hr("PUT", RECORD)
        .json(r#"{"b":1}"#)
        .send()
        .await
        .expect(200);
    assert_eq!(again.header("etag"), Some("\"2\""));
    assert_eq!(again.value()["created_at"], record["created_at"]);
    assert_eq!(again.value().get("z"), None);
    let patch = world.hr("PATCH", RECORD).json(r#"{"b":null,"c":2}"#);
    let patched = patch.send().await.expect(200).value();
    assert_eq!((patched.get("b"), &patched["c"]), (None, &json!(2)));
    assert_eq!(patched["metadata"]["version"], 3);

    let list = world.hr("GET", LIST).send().await.expect(200);
    assert_eq!(
        list.value(),
        json!({ "items": [patched], "next_cursor": null })
    );
    let gone = world.hr("DELETE", RECORD).send().await.expect(204);
    assert!(gone.body.is_empty());
    let get = world.hr("GET", RECORD).send().await;
    get.refused(404, "record_not_found");
    let twice = world.hr("DELETE", RECORD).send().await;
    twice.refused(404, "record_not_found");
    let list = world.hr("GET", LIST).send().await.expect(200);
    assert_eq!(list.value(), json!({ "items": [], "next_cursor": null }));
    let new = world
        .hr("PATCH", RECORD)
        .json("{}")
        .send()
        .await
        .expect(201);
    assert_eq!(new.header("etag"), Some("\"5\""));
}

#[tokio::test]
async fn the_role_hr_alone_opens_every_route() {
    let world = World::new(Backend::Memory).await;
    for (method, path) in ROUTES {
        let ask = || world.ask(method, path).json("{}");
        ask().send().await.refused(401, "credentials_required");
        let named = ask().named("reader");
        named.send().await.refused(401, "credentials_required");
        for token in [world.expired(SUBJECT), world.forged(SUBJECT)] {
            let bad = ask().jwt(&token).send().await;
            bad.refused(401, "credentials_required");
        }
        for role in [None, Some(RoleClaim::Admin)] {
            let other = ask().jwt(&world.token(SUBJECT, role)).send().await;
            let other = other.refused(403, "role_required");
            assert!(other.text().contains("role hr"), "{other:?}");
        }
    }
    let admin = "/v1/admin/overview";
    world
        .hr("GET", admin)
        .send()
        .await
        .refused(403, "role_required");
    world.hr("PUT", RECORD).json("{}").send().await.expect(201);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_and_changes_nothing(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let put = || world.hr("PUT", RECORD);
    let patch = || world.hr("PATCH", RECORD);
    let at = |path: &str| world.hr("PUT", path).json("{}");
    let long = format!("{LIST}/{}", "x".repeat(129));
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(8 << 20));
    let deep = format!("{}1{}", "{\"a\":".repeat(101), "}".repeat(101));
    let rows: Vec<(&str, Ask, u16, &str)> = vec![
        (
            "no collection",
            at("/v1/hr/hr_secrets/c1"),
            404,
            "unknown_collection",
        ),
        (
            "an identity",
            at("/v1/hr/tierkeep_identity/c1"),
            404,
            "unknown_collection",
        ),
        ("not UTF-8", at("/v1/hr/%ff/c1"), 404, "unknown_collection"),
        (
            "no list",
            world.hr("GET", "/v1/hr/nothing"),
            404,
            "unknown_collection",
        ),
        ("a long id", at(&long), 422, "invalid_content"),
        (
            "a slash",
            at("/v1/hr/hr_candidates/a%2Fb"),
            422,
            "invalid_content",
        ),
        (
            "a space",
            at("/v1/hr/hr_candidates/a%20b"),
            422,
            "invalid_content",
        ),
        (
            "NUL",
            at("/v1/hr/hr_candidates/a%00"),
            422,
            "invalid_content",
        ),
        (
            "a read of such an id",
            world.hr("GET", "/v1/hr/hr_candidates/%24x"),
            422,
            "invalid_content",
        ),
        ("_id", put().json(r#"{"_id":"c1"}"#), 422, "invalid_content"),
        (
            "created_at",
            put().json(r#"{"created_at":1}"#),
            422,
            "invalid_content",
        ),
        (
            "updated_at",
            put().json(r#"{"a":1,"updated_at":1}"#),
            422,
            "invalid_content",
        ),
        (
            "metadata",
            put().json(r#"{"metadata":{}}"#),
            422,
            "invalid_content",
        ),
        (
            "a patch of metadata",
            patch().json(r#"{"metadata":null}"#),
            422,
            "invalid_content",
        ),
        ("$set", put().json(r#"{"$set":{}}"#), 422, "invalid_content"),
        (
            "twice",
            put().json(r#"{"a":1,"a":2}"#),
            422,
            "invalid_content",
        ),
        ("a list", put().json("[]"), 422, "invalid_content"),
        ("deep", put().json(deep), 422, "invalid_content"),
        ("no JSON", put().json("{"), 400, "malformed"),
        ("no type", put().body("{}"), 415, "unsupported_media_type"),
        (
            "a patch's type",
            put()
                .header("content-type", "application/merge-patch+json")
                .body("{}"),
            415,
            "unsupported_media_type",
        ),
        ("too large", put().json(large), 413, "too_large"),
        (
            "a limit",
            world.hr("GET", LIST).query("limit=0"),
            400,
            "malformed",
        ),
        (
            "a cursor",
            world.hr("GET", LIST).query("cursor=a%20b"),
            400,
            "malformed",
        ),
        (
            "a condition",
            put().json("{}").header("if-match", "7"),
            400,
            "malformed",
        ),
        (
            "another condition",
            put().json("{}").header("if-none-match", "\"7\""),
            400,
            "malformed",
        ),
        (
            "no record",
            world.hr("GET", RECORD),
            404,
            "record_not_found",
        ),
        (
            "nothing to remove",
            world.hr("DELETE", RECORD),
            404,
            "record_not_found",
        ),
        (
            "a version of nothing",
            put().json("{}").header("if-match", "\"1\""),
            412,
            "version_mismatch",
        ),
    ];
    for (name, ask, status, code) in rows {
        let answer = ask.send().await;
        assert_eq!(
            answer.outcome(),
            (status, code.to_owned()),
            "{name}: {answer:?}"
        );
    }
    let empty = world.hr("GET", LIST).send().await.expect(200);
    assert_eq!(empty.value()["items"], json!([]));
}

#[tokio::test]
async fn conditions_work_as_they_do_for_users() {
    let world = World::new(Backend::Memory).await;
    let put = |name: &str, value: &str| world.hr("PUT", RECORD).json("{}").header(name, value);
    put("if-none-match", "*").send().await.expect(201);
    let twice = put("if-none-match", "*").send().await;
    let twice = twice.refused(412, "version_mismatch");
    assert_eq!(twice.header("etag"), Some("\"1\""));
    assert!(twice.text().contains("the record is at version 1"));
    put("if-match", "\"9\"")
        .send()
        .await
        .refused(412, "version_mismatch");
    put("if-match", "\"1\"").send().await.expect(200);
    put("if-match", "*").send().await.expect(200);
    put("if-match", "\"7\", \"3\"").send().await.expect(200);
    put("if-match", "W/\"4\"")
        .send()
        .await
        .refused(412, "version_mismatch");
    let get = |name: &str, value: &str| world.hr("GET", RECORD).header(name, value);
    let had = get("if-none-match", "\"4\"").send().await.expect(304);
    assert_eq!(had.header("etag"), Some("\"4\""));
    get("if-none-match", "\"3\"").send().await.expect(200);
    get("if-match", "\"3\"")
        .send()
        .await
        .refused(412, "version_mismatch");
    let delete = |value: &str| world.hr("DELETE", RECORD).header("if-match", value);
    delete("\"3\"")
        .send()
        .await
        .refused(412, "version_mismatch");
    delete("\"4\"").send().await.expect(204);
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let world = World::new(Backend::Memory).await;
    for n in 0..5 {
        let path = format!("{LIST}/c:{n}@x");
        world.hr("PUT", &path).json("{}").send().await.expect(201);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let ask = world.hr("GET", LIST).query("limit=2").query("unknown=1");
        let ask = if cursor.is_empty() {
            ask
        } else {
            ask.query(&format!("cursor={cursor}"))
        };
        let page = ask.send().await.expect(200).value();
        let ids = page["items"].as_array().unwrap().iter();
        seen.extend(ids.map(|item| item["_id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ["c:0@x", "c:1@x", "c:2@x", "c:3@x", "c:4@x"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_absent_backup_makes_a_write_pending_and_an_absent_main_is_read_around(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    world
        .hr("PUT", RECORD)
        .json(r#"{"n":1}"#)
        .send()
        .await
        .expect(201);
    world.faults.set_down(Role::SrieMainHr, true);
    let put = world
        .hr("PUT", RECORD)
        .json(r#"{"n":2}"#)
        .send()
        .await
        .expect(200);
    assert_eq!(
        put.value()["metadata"],
        json!({ "version": 2, "backup_status": "pending" })
    );
    let gone = world.hr("DELETE", &format!("{LIST}/none")).send().await;
    gone.refused(404, "record_not_found");
    world.faults.heal();
    world.faults.set_down(Role::RaseenMainHr, true);
    let get = world.hr("GET", RECORD).send().await.expect(200);
    assert_eq!(get.header("tierkeep-source"), Some("srie_main_hr"));
    let unknown = world.hr("GET", &format!("{LIST}/none")).send().await;
    unknown.refused(503, "database_unavailable");
    let write = world.hr("PUT", RECORD).json("{}").send().await;
    let write = write.refused(503, "database_unavailable");
    assert!(write.header("retry-after").is_some());
}

#[tokio::test]
async fn what_is_done_is_in_the_audit_trail_before_it_is_done() {
    let world = World::new(Backend::Memory).await;
    world.hr("PUT", RECORD).json("{}").send().await.expect(201);
    world
        .hr("PATCH", RECORD)
        .json("{}")
        .send()
        .await
        .expect(200);
    world.hr("GET", RECORD).send().await.expect(200);
    world.hr("DELETE", RECORD).send().await.expect(204);
    let actions = AuditFilter {
        kind: Some(AuditKind::HrAction),
        ..AuditFilter::default()
    };
    let page = world.state.audit.page(&actions, None, 100).await.unwrap();
    let entries = serde_json::to_value(&page.items).unwrap();
    let done: Vec<_> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            assert_eq!(entry["reason"], "hr_candidates/c1");
            assert_eq!(entry["actor"], format!("internal_{SUBJECT}"));
            assert_eq!(entry["database"], "raseen_main_hr");
            entry["decision"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(done, ["put", "patch", "delete"]);

    world.faults.set_down(Role::EvaluationAudit, true);
    let put = world.hr("PUT", RECORD).json("{}").send().await;
    put.refused(503, "database_unavailable");
    world.faults.heal();
    world
        .hr("GET", RECORD)
        .send()
        .await
        .refused(404, "record_not_found");
}
