//! Property 1: whatever an external user sends, it lands in `external_users` alone, under an id that
//! starts with `external_`.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::Value;
use tierkeep_core::db::Role;

use crate::common::json::arb_object;
use crate::common::{
    Answer, Ask, Backend, KNOWN_TOKEN, SUBJECT, UNREACHABLE_TOKEN, World, hold, runtime,
};

/// Credentials that come along with a public name and must not matter.
#[derive(Clone, Copy, Debug)]
enum Along {
    Nothing,
    Jwt,
    ForgedJwt,
    Github,
    Both,
    BothUnreachable,
}

#[derive(Clone, Debug)]
struct Case {
    name: String,
    section: &'static str,
    method: &'static str,
    body: Value,
    along: Along,
}

fn cases() -> impl Strategy<Value = Case> {
    let along = prop_oneof![
        3 => Just(Along::Nothing),
        1 => Just(Along::Jwt),
        1 => Just(Along::ForgedJwt),
        1 => Just(Along::Github),
        1 => Just(Along::Both),
        1 => Just(Along::BothUnreachable),
    ];
    let name = prop_oneof![
        4 => "[A-Za-z0-9_-]{1,39}",
        1 => Just(SUBJECT.to_owned()),
        1 => Just(format!("internal_{SUBJECT}")),
        1 => "(external_)[a-z]{1,5}",
    ];
    (
        name,
        prop_oneof![Just("scan_cache"), Just("analysis_progress")],
        prop_oneof![Just("PUT"), Just("PATCH")],
        arb_object(),
        along,
    )
        .prop_map(|(name, section, method, body, along)| Case {
            name,
            section,
            method,
            body,
            along,
        })
}

fn with(world: &World, ask: Ask, along: Along) -> Ask {
    let jwt = world.token(SUBJECT, None);
    match along {
        Along::Nothing => ask,
        Along::Jwt => ask.jwt(&jwt),
        Along::ForgedJwt => ask.jwt(&world.forged(SUBJECT)),
        Along::Github => ask.github(KNOWN_TOKEN),
        Along::Both => ask.jwt(&jwt).github(KNOWN_TOKEN),
        Along::BothUnreachable => ask.jwt(&jwt).github(UNREACHABLE_TOKEN),
    }
}

async fn an_external_request_lands_in_external_users_alone(world: &World, case: Case) {
    let Case {
        name,
        section,
        method,
        body,
        along,
    } = case;
    let id = format!("external_{}", name.to_ascii_lowercase());
    let new = world.document(Role::ExternalUsers, &id).await.is_none();
    let path = format!("/v1/user/{section}");
    let ask = |method| with(world, world.ask(method, &path).named(&name), along);

    let written: Answer = ask(method).json(body.to_string()).send().await;
    let written = written.expect(if new { 201 } else { 200 });
    assert_eq!(written.value()["user_id"], id);
    assert_eq!(written.value()["database"], "external_users");
    let ambiguous = !matches!(along, Along::Nothing);
    let decision = written.header("tierkeep-decision");
    assert_eq!(decision, ambiguous.then_some("external; ambiguous"));

    let read = ask("GET").send().await.expect(200);
    if method == "PUT" {
        assert_eq!(read.text(), body.to_string());
    }
    assert_eq!(read.header("etag"), written.header("etag"));

    let stored = world.document(Role::ExternalUsers, &id).await.unwrap();
    assert_eq!(stored.get_str("user_id").unwrap(), id);
    assert_eq!(stored.get_str("user_type").unwrap(), "external");
    assert_eq!(stored.get_str("data_location").unwrap(), "external");
    for role in [
        Role::RaseenTempUser,
        Role::RaseenMainUser,
        Role::SrieMainUser,
    ] {
        assert_eq!(world.count(role).await, 0, "{role}");
    }
}

#[rstest]
fn property_1_holds(#[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend) {
    let runtime = runtime();
    let world = runtime.block_on(World::new(backend));
    hold(
        &cases(),
        |case| an_external_request_lands_in_external_users_alone(&world, case),
        &runtime,
    );
    for document in runtime.block_on(world.documents(Role::ExternalUsers)) {
        let id = document.get_str("_id").unwrap();
        assert!(id.starts_with("external_"), "{id}");
    }
}
