//! GET of a section, of the whole document and of the route.

use rstest::rstest;
use serde_json::json;
use tierkeep_core::db::Role;
use tierkeep_core::document::{Edit, Location};
use tierkeep_core::user::UserId;
use tierkeep_testkit::documents::{NativeUser, SeedUser};

use crate::common::{Backend, SUBJECT, World};

const SECTION: &str = "/v1/user/scan_cache";

#[tokio::test]
async fn the_whole_document_is_shown_with_its_metadata_and_nothing_of_others() {
    let world = World::new(Backend::Memory).await;
    let user = UserId::internal(SUBJECT).unwrap();
    let document = NativeUser::new(&user, 7).set("foreign", "secret").build();
    plant(&world, Role::RaseenTempUser, document).await;
    let answer = world.internal("GET", "/v1/user").send().await.expect(200);
    let whole = answer.value();
    assert_eq!(whole["user_id"], user.as_str());
    assert_eq!(whole["created_at"], "2026-01-01T00:00:00.000Z");
    assert_eq!(whole["metadata"]["version"], 7);
    assert_eq!(whole["metadata"]["storage_location"], "RASEEN_TEMP");
    assert_eq!(
        whole["scan_cache"],
        json!({ "pages": 3, "z": 1.5, "a": "x" })
    );
    assert_eq!(whole.get("foreign"), None);
    assert_eq!(whole["metadata"].get("ops"), None);
    assert_eq!(answer.header("etag"), Some("\"7\""));
    assert_eq!(answer.header("tierkeep-source"), None);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_document_of_another_program_is_shown_without_an_etag() {
    let world = World::new(Backend::Memory).await;
    let at = tierkeep_core::clock::Clock::now(world.clock.as_ref());
    let seed = SeedUser::new(7, at).external();
    plant(&world, Role::ExternalUsers, seed.build()).await;
    let name = seed.user_id().replace("external_", "");
    let answer = world
        .ask("GET", SECTION)
        .named(&name)
        .send()
        .await
        .expect(200);
    assert_eq!(answer.header("etag"), None);
    assert_eq!(answer.value()["github.com/a/b.rs"]["files"], 12);
    let same = world
        .ask("GET", SECTION)
        .named(&name)
        .header("if-none-match", "*");
    same.send().await.expect(304);
}

#[tokio::test]
async fn a_missing_user_and_a_missing_section_are_told_apart() {
    let world = World::new(Backend::Memory).await;
    for path in ["/v1/user", SECTION] {
        for ask in [world.internal("GET", path), world.external("GET", path)] {
            ask.send().await.refused(404, "user_not_found");
        }
    }
    world
        .internal("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
    let other = world.internal("GET", "/v1/user/analysis_progress");
    other.send().await.refused(404, "section_not_found");
}

#[rstest]
#[case("/v1/user", 200)]
#[case("/v1/user/scan_cache", 200)]
#[case("/v1/user/nothing", 404)]
#[case("/v1/route", 200)]
#[case("/health/live", 200)]
#[case("/health/ready", 200)]
#[case("/openapi.json", 200)]
#[case("/nothing", 404)]
#[tokio::test]
async fn head_answers_as_get_without_a_body(#[case] path: &str, #[case] status: u16) {
    let world = World::new(Backend::Memory).await;
    world
        .internal("PUT", SECTION)
        .json(r#"{"a":1}"#)
        .send()
        .await
        .expect(201);
    let get = world.internal("GET", path).send().await.expect(status);
    let head = world.internal("HEAD", path).send().await.expect(status);
    for name in ["content-type", "etag", "cache-control"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    if path != "/nothing" {
        // The server itself cuts the body off where no route does.
        assert!(head.body.is_empty());
        assert_eq!(
            head.header("content-length"),
            Some(get.body.len().to_string().as_str())
        );
    }
}

#[tokio::test]
async fn the_route_is_explained() {
    let world = World::new(Backend::Memory).await;
    let internal = world.internal("GET", "/v1/route").send().await.expect(200);
    let expected = json!({
        "user_type": "internal",
        "user_id": format!("internal_{SUBJECT}"),
        "reason": "the JWT and the GitHub token are valid",
        "reads": ["raseen_temp_user", "raseen_main_user", "srie_main_user"],
        "writes": "raseen_temp_user",
    });
    assert_eq!(internal.text(), expected.to_string());
    let external = world.external("GET", "/v1/route").send().await.expect(200);
    let expected = json!({
        "user_type": "external",
        "user_id": "external_reader",
        "reason": "the request names a public user",
        "reads": ["external_users"],
        "writes": "external_users",
    });
    assert_eq!(external.text(), expected.to_string());
}

#[rstest]
#[tokio::test]
async fn the_backup_answers_while_main_is_away_and_says_so(
    #[values("/v1/user", "/v1/user/scan_cache")] path: &str,
) {
    let world = World::new(Backend::Memory).await;
    let user = UserId::internal(SUBJECT).unwrap();
    let moved = NativeUser::new(&user, 3).at(Location::Main).build();
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        plant(&world, role, moved.clone()).await;
    }
    let read = || world.internal("GET", path).send();
    assert_eq!(read().await.expect(200).header("tierkeep-source"), None);
    world.faults.set_down(Role::RaseenMainUser, true);
    let answer = read().await.expect(200);
    assert_eq!(answer.header("tierkeep-source"), Some("srie_main_user"));
    assert_eq!(answer.header("etag"), Some("\"3\""));
    let had = world.internal("GET", path).header("if-none-match", "\"3\"");
    let had = had.send().await.expect(304);
    assert_eq!(had.header("tierkeep-source"), Some("srie_main_user"));
}

#[tokio::test]
async fn several_documents_of_one_user_are_a_conflict() {
    let world = World::new(Backend::Memory).await;
    let at = tierkeep_core::clock::Clock::now(world.clock.as_ref());
    let first = SeedUser::new(7, at).external();
    let second = Edit::new().set("_id", "another").apply(&first.build());
    plant(&world, Role::ExternalUsers, first.build()).await;
    plant(&world, Role::ExternalUsers, second).await;
    let name = first.user_id().replace("external_", "");
    let before = world.everything().await;
    let ask = |method| world.ask(method, SECTION).named(&name);
    ask("GET").send().await.refused(409, "conflict");
    ask("PUT").json("{}").send().await.refused(409, "conflict");
    assert_eq!(world.everything().await, before);
}

async fn plant(world: &World, role: Role, document: bson::raw::RawDocumentBuf) {
    let users = role.users().unwrap();
    world.stores[&role]
        .insert(users, &[document])
        .await
        .unwrap();
}
