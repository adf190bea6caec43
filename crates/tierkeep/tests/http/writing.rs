//! PUT, PATCH and DELETE of a section.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_core::db::Role;
use tierkeep_identity::RoleClaim;

use crate::common::json::arb_object;
use crate::common::{Backend, SUBJECT, World, hold, runtime};

const SECTION: &str = "/v1/user/scan_cache";

#[rstest]
fn what_is_put_is_what_is_read_back(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let runtime = runtime();
    let world = runtime.block_on(World::new(backend));
    let world = &world;
    let same = |(object, internal): (Value, bool)| async move {
        let ask = |method| {
            if internal {
                world.internal(method, SECTION)
            } else {
                world.external(method, SECTION)
            }
        };
        let text = object.to_string();
        let put = ask("PUT").json(text.clone()).send().await;
        assert!(put.status.is_success(), "{put:?}");
        assert_eq!(ask("GET").send().await.expect(200).text(), text);
        let whole = ask("GET").send().await;
        assert_eq!(whole.header("etag"), put.header("etag"));
    };
    hold(&(arb_object(), any::<bool>()), same, &runtime);
}

#[rstest]
#[case(r#"{"z":1,"a":1.0,"big":9007199254740993,"m":-9223372036854775808}"#)]
#[case(r#"{"a.b":{"":{}},"c":[],"d":[null,true,"\u0000"],"1":{"0":1e-7}}"#)]
#[case(r#"{"at":{"$date":"2026-01-02T03:04:05.678Z"},"id":{"$oid":"507f1f77bcf86cd799439011"}}"#)]
#[case(r#"{"a$b":{"c$":1},"-":-0.0,"e":1e+300}"#)]
#[tokio::test]
async fn odd_content_is_read_back_as_it_was_put(#[case] text: &str) {
    let world = World::new(Backend::Memory).await;
    world
        .external("PUT", SECTION)
        .json(text.to_owned())
        .send()
        .await
        .expect(201);
    let read = world.external("GET", SECTION).send().await.expect(200);
    assert_eq!(read.text(), text);
    assert_eq!(read.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_write_answers_what_it_did() {
    let world = World::new(Backend::Memory).await;
    let created = world
        .internal("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
    let at = "2027-01-15T08:00:00.000Z";
    let user_id = format!("internal_{SUBJECT}");
    let receipt = json!({
        "user_id": user_id, "version": 1, "database": "raseen_temp_user", "updated_at": at,
    });
    assert_eq!(created.text(), receipt.to_string());
    assert_eq!(created.header("etag"), Some("\"1\""));
    assert_eq!(created.header("cache-control"), Some("no-store"));
    let replaced = world
        .internal("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(200);
    assert_eq!(replaced.value()["version"], 2);
    assert_eq!(replaced.header("etag"), Some("\"2\""));
}

#[tokio::test]
async fn a_patch_merges_and_creates() {
    let world = World::new(Backend::Memory).await;
    let patch = |media_type: &str, body: &'static str| {
        let ask = world.external("PATCH", SECTION);
        ask.header("content-type", media_type).body(body).send()
    };
    let first = patch(
        "application/merge-patch+json",
        r#"{"a":{"b":1,"c":null},"n":null}"#,
    );
    first.await.expect(201);
    let read = || async {
        world
            .external("GET", SECTION)
            .send()
            .await
            .text()
            .to_owned()
    };
    assert_eq!(read().await, r#"{"a":{"b":1}}"#);
    let second = patch(
        "application/json; charset=utf-8",
        r#"{"a":{"b":null,"d":[1]},"e":2.0}"#,
    );
    second.await.expect(200);
    assert_eq!(read().await, r#"{"a":{"d":[1]},"e":2.0}"#);
}

#[tokio::test]
async fn a_write_touches_no_other_section() {
    let world = World::new(Backend::Memory).await;
    world
        .internal("PUT", SECTION)
        .json(r#"{"a":1}"#)
        .send()
        .await
        .expect(201);
    let other = "/v1/user/analysis_progress";
    world
        .internal("PUT", other)
        .json(r#"{"b":2}"#)
        .send()
        .await
        .expect(200);
    let removed = world.internal("DELETE", SECTION).send().await.expect(200);
    assert_eq!(removed.value()["version"], 3);
    world
        .internal("GET", SECTION)
        .send()
        .await
        .refused(404, "section_not_found");
    let read = world.internal("GET", other).send().await.expect(200);
    assert_eq!(read.text(), r#"{"b":2}"#);
    world
        .internal("DELETE", SECTION)
        .send()
        .await
        .refused(404, "section_not_found");
}

#[tokio::test]
async fn removing_a_section_of_a_missing_user_is_not_found() {
    let world = World::new(Backend::Memory).await;
    let removed = world.internal("DELETE", SECTION).send().await;
    removed.refused(404, "user_not_found");
}

#[tokio::test]
async fn an_admin_removes_a_section_of_a_public_user() {
    let world = World::new(Backend::Memory).await;
    world
        .external("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
    let admin = world.token(SUBJECT, Some(RoleClaim::Admin));
    let removed = world
        .external("DELETE", SECTION)
        .jwt(&admin)
        .send()
        .await
        .expect(200);
    assert_eq!(removed.value()["database"], "external_users");
    assert_eq!(
        removed.header("tierkeep-decision"),
        Some("external; ambiguous")
    );
    world
        .external("GET", SECTION)
        .send()
        .await
        .refused(404, "section_not_found");
}

#[tokio::test]
async fn user_names_have_no_letter_case() {
    let world = World::new(Backend::Memory).await;
    world
        .ask("PUT", SECTION)
        .named("SRIE06")
        .json("{}")
        .send()
        .await
        .expect(201);
    world
        .ask("PUT", SECTION)
        .named("srie06")
        .json("{}")
        .send()
        .await
        .expect(200);
    assert_eq!(world.count(Role::ExternalUsers).await, 1);
}

#[tokio::test]
async fn unknown_parameters_are_ignored() {
    let world = World::new(Backend::Memory).await;
    let put = world
        .internal("PUT", SECTION)
        .query("Username=a&user=b&username%20=c&=&&x[]=1");
    put.json("{}").send().await.expect(201);
    assert_eq!(world.count(Role::RaseenTempUser).await, 1);
}
