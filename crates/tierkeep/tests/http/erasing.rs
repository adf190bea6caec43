//! DELETE of a whole user.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, State};
use tierkeep_identity::RoleClaim;

use crate::common::{Answer, Ask, Backend, HOUR, KNOWN_TOKEN, SUBJECT, World};

const SECTION: &str = "/v1/user/scan_cache";
const TIERS: [Role; 3] = [
    Role::RaseenTempUser,
    Role::RaseenMainUser,
    Role::SrieMainUser,
];
const GRACE: Duration = Duration::from_hours(720);
/// The ETag of the first version of a life after this many erasures.
fn first_after(erasures: i64) -> String {
    format!("\"{}\"", (erasures << 40) + 1)
}

/// Moves what is in temp, whatever its age.
async fn move_all(world: &World) {
    let run = world.admin("POST", "/v1/admin/migrations/run");
    run.json(r#"{"older_than":"0s"}"#).send().await.expect(202);
    world.mover.finished().await;
}

/// Stores the user with [`SUBJECT`] in main and srie, and a newer version in temp.
async fn in_every_tier(world: &World) {
    let put = || world.internal("PUT", SECTION).json(r#"{"old":1}"#).send();
    put().await.expect(201);
    move_all(world).await;
    assert_eq!(world.count(Role::SrieMainUser).await, 1);
    put().await.expect(200);
}

fn erase_external(world: &World) -> Ask {
    world.admin("DELETE", "/v1/user").named("Reader")
}

async fn erase(world: &World) -> Answer {
    world.internal("DELETE", "/v1/user").send().await
}

async fn explained(world: &World, user: &str) -> Value {
    let path = format!("/v1/admin/users/{user}");
    world.admin("GET", &path).send().await.expect(200).value()
}

/// No copy anywhere holds content of an erased life.
async fn assert_gone(world: &World, roles: &[Role]) {
    for role in roles {
        for copy in world.documents(*role).await {
            assert_eq!(document::state(&copy), Some(State::Erased), "{role}");
            assert!(copy.get("scan_cache").unwrap().is_none(), "{role}");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_internal_user_who_erases_himself_is_gone_at_once_and_begins_again_above(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    in_every_tier(&world).await;
    let erased = erase(&world).await.expect(204);
    assert!(erased.body.is_empty());
    assert_eq!(erased.header("etag"), None);
    for path in ["/v1/user", SECTION] {
        let read = world.internal("GET", path).header("if-none-match", "\"2\"");
        read.send().await.refused(404, "user_not_found");
    }
    let patch = || world.internal("PATCH", SECTION).json(r#"{"new":1}"#);
    let late = patch().header("if-match", "\"2\"").send().await;
    late.refused(412, "version_mismatch");
    let removal = world.internal("DELETE", SECTION).send().await;
    removal.refused(404, "user_not_found");
    assert_gone(&world, &TIERS).await;
    let id = format!("internal_{SUBJECT}");
    let account = explained(&world, &id).await;
    assert_eq!(account["erased"], true);
    assert_eq!(account["authoritative"], Value::Null);
    assert_eq!(account["erasure"]["stage"], "verified");
    assert_eq!(account["erasure"]["pending"], json!([]));
    assert_eq!(account["next"], "erased");
    // A repeat, because the answer was lost for example, is no new erasure.
    erase(&world).await.expect(204);

    let begun = patch().send().await.expect(201);
    assert_eq!(begun.header("etag"), Some(first_after(1).as_str()));
    let read = world.internal("GET", SECTION).send().await.expect(200);
    assert_eq!(read.text(), r#"{"new":1}"#);
    let account = explained(&world, &id).await;
    assert_eq!(account["erased"], false);
    assert_eq!(account["erasure"]["epoch"], 1);
    assert_eq!(account["authoritative"], "raseen_temp_user");
    move_all(&world).await;
    let read = world.internal("GET", SECTION).send().await.expect(200);
    assert_eq!(read.text(), r#"{"new":1}"#);
    erase(&world).await.expect(204);
    let begun = patch().send().await.expect(201);
    assert_eq!(begun.header("etag"), Some(first_after(2).as_str()));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_public_user_is_erased_by_an_administrator_alone(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let put = || world.external("PUT", SECTION).json(r#"{"old":1}"#).send();
    put().await.expect(201);
    let before = world.everything().await;
    let delete = || world.external("DELETE", "/v1/user");
    let nobody = delete().send().await.refused(401, "credentials_required");
    assert_eq!(nobody.header("www-authenticate"), Some("Bearer"));
    let expired = delete().jwt(&world.expired(SUBJECT)).send().await;
    expired.refused(401, "credentials_required");
    let forged = delete().jwt(&world.forged(SUBJECT)).github(KNOWN_TOKEN);
    forged.send().await.refused(401, "credentials_required");
    for role in [None, Some(RoleClaim::Hr)] {
        let other = delete()
            .jwt(&world.token(SUBJECT, role))
            .github(KNOWN_TOKEN);
        other.send().await.refused(403, "role_required");
    }
    assert_eq!(world.everything().await, before);

    erase_external(&world).send().await.expect(204);
    let read = || world.external("GET", "/v1/user").send();
    read().await.refused(404, "user_not_found");
    assert_gone(&world, &[Role::ExternalUsers]).await;
    assert_eq!(explained(&world, "external_reader").await["erased"], true);
    let begun = put().await.expect(201);
    assert_eq!(begun.header("etag"), Some(first_after(1).as_str()));

    // Long after, when no tombstone is left, the ledger still knows.
    erase_external(&world).send().await.expect(204);
    world.clock.advance(GRACE + HOUR);
    assert_eq!(world.erasures.remove_tombstones(GRACE).await.unwrap(), 1);
    assert_eq!(world.count(Role::ExternalUsers).await, 0);
    let account = explained(&world, "external_reader").await;
    assert_eq!(account["erased"], true);
    assert_eq!(account["erasure"]["stage"], "closed");
    erase_external(&world).send().await.expect(204);
    let begun = put().await.expect(201);
    assert_eq!(begun.header("etag"), Some(first_after(2).as_str()));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_that_is_away_has_not_confirmed_is_said_and_finished_later(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(Role::RaseenMainUser, Role::SrieMainUser)] away: Role,
) {
    let world = World::new(backend).await;
    in_every_tier(&world).await;
    world.faults.set_down(away, true);
    for _ in 0..2 {
        let erased = erase(&world).await.expect(202);
        assert_eq!(erased.value(), json!({ "pending": [away.name()] }));
    }
    world.faults.heal();
    // The database still holds the old content, but no answer shows it.
    let read = world.internal("GET", SECTION).send().await;
    read.refused(404, "user_not_found");
    let id = format!("internal_{SUBJECT}");
    let account = explained(&world, &id).await;
    assert_eq!(
        (&account["erased"], &account["authoritative"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(account["erasure"]["stage"], "pending");
    assert_eq!(account["erasure"]["pending"], json!([away.name()]));
    let next = format!("erased; not yet confirmed by: {away}");
    assert_eq!(account["next"], next);
    assert_eq!(world.erasures.finish_pending().await.unwrap(), 0);
    assert_eq!(explained(&world, &id).await["erasure"]["stage"], "verified");
    assert_gone(&world, &TIERS).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn without_the_ledger_nothing_is_erased(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    in_every_tier(&world).await;
    world
        .external("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
    let before = world.everything().await;
    world.faults.set_down(Role::EvaluationAudit, true);
    for ask in [world.internal("DELETE", "/v1/user"), erase_external(&world)] {
        let answer = ask.send().await.refused(503, "database_unavailable");
        assert!(answer.header("retry-after").is_some());
        assert!(answer.text().contains("evaluation_audit"), "{answer:?}");
    }
    world.faults.heal();
    assert_eq!(world.erasures.finish_pending().await.unwrap(), 0);
    assert_eq!(world.everything().await, before);
}

#[rstest]
#[case("\"1\"", 412)]
#[case("W/\"2\"", 412)]
#[case("\"7\", \"8\"", 412)]
#[case("\"2\"", 204)]
#[case("\"1\", \"2\"", 204)]
#[case("*", 204)]
#[case("2", 400)]
#[tokio::test]
async fn an_erasure_is_conditional(#[case] tag: &str, #[case] status: u16) {
    let world = World::new(Backend::Memory).await;
    in_every_tier(&world).await;
    let delete = || world.internal("DELETE", "/v1/user").header("if-match", tag);
    let answer = delete().send().await.expect(status);
    let tagged = (status == 412).then_some("\"2\"");
    assert_eq!(answer.header("etag"), tagged);
    let read = world.internal("GET", SECTION).send().await;
    read.expect(if status == 204 { 404 } else { 200 });
    if status == 204 {
        delete().send().await.refused(412, "version_mismatch");
    }
}

#[tokio::test]
async fn create_only_makes_no_sense_of_an_erasure() {
    let world = World::new(Backend::Memory).await;
    let delete = || {
        world
            .internal("DELETE", "/v1/user")
            .header("if-none-match", "*")
    };
    delete().send().await.refused(404, "user_not_found");
    in_every_tier(&world).await;
    delete().send().await.refused(412, "version_mismatch");
}

#[tokio::test]
async fn who_was_never_stored_cannot_be_erased() {
    let world = World::new(Backend::Memory).await;
    // Which GitHub account a user has is known from the first request on.
    world.internal("GET", "/v1/route").send().await.expect(200);
    let before = world.everything().await;
    erase(&world).await.refused(404, "user_not_found");
    erase_external(&world)
        .send()
        .await
        .refused(404, "user_not_found");
    assert_eq!(world.everything().await, before);
    // The content of a database that is away is unknown.
    world.faults.set_down(Role::SrieMainUser, true);
    erase(&world).await.expect(202);
}

/// Patches of the old life and an erasure at once: whatever is left is all of the new life.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_write_beside_an_erasure_belongs_to_one_life_or_the_other(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[values(true, false)] internal: bool,
) {
    let world = World::new(backend).await;
    let ask = |method| {
        if internal {
            world.internal(method, SECTION)
        } else {
            world.external(method, SECTION)
        }
    };
    let erase = || {
        if internal {
            world.internal("DELETE", "/v1/user")
        } else {
            erase_external(&world)
        }
    };
    for round in 0..12 {
        let put = ask("PUT").json(r#"{"old":1}"#).send().await;
        assert!(put.status.is_success(), "{put:?}");
        if internal && round % 2 == 1 {
            move_all(&world).await;
        }
        let patch = || ask("PATCH").json(r#"{"new":1}"#).send();
        let (a, b, erased, c, d) = tokio::join!(patch(), patch(), erase().send(), patch(), patch());
        erased.expect(204);
        for patched in [a, b, c, d] {
            assert!(patched.status.is_success(), "{patched:?}");
        }
        let read = ask("GET").send().await;
        let seen = (read.status.as_u16() == 200).then(|| read.text().to_owned());
        assert!(
            seen.is_none_or(|text| text == r#"{"new":1}"#),
            "round {round}: {read:?}"
        );
        for role in TIERS.into_iter().chain([Role::ExternalUsers]) {
            for copy in world.documents(role).await {
                let cache = copy.get_document("scan_cache");
                let old = cache.is_ok_and(|cache| cache.get("old").unwrap().is_some());
                assert!(!old, "round {round}: {role} holds {copy:?}");
            }
        }
    }
}
