//! Property 2: what an internal user sends is first stored in `raseen_temp_user`, under an id that starts
//! with `internal_`, and nowhere else.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::Value;
use tierkeep_core::db::Role;

use crate::common::json::arb_object;
use crate::common::{Backend, KNOWN_TOKEN, World, hold, runtime};

#[derive(Clone, Debug)]
struct Case {
    subject: String,
    section: &'static str,
    method: &'static str,
    body: Value,
}

fn cases() -> impl Strategy<Value = Case> {
    (
        "[0-9a-f]{24}",
        prop_oneof![Just("scan_cache"), Just("analysis_progress")],
        prop_oneof![Just("PUT"), Just("PATCH")],
        arb_object(),
    )
        .prop_map(|(subject, section, method, body)| Case {
            subject,
            section,
            method,
            body,
        })
}

async fn an_internal_request_is_stored_in_temp_alone(world: &World, case: Case) {
    let Case {
        subject,
        section,
        method,
        body,
    } = case;
    let id = format!("internal_{subject}");
    let path = format!("/v1/user/{section}");
    let jwt = world.token(&subject, None);
    let ask = |method| world.ask(method, &path).jwt(&jwt).github(KNOWN_TOKEN);

    let new = world.document(Role::RaseenTempUser, &id).await.is_none();
    let before = world.count(Role::RaseenTempUser).await;
    let written = ask(method).json(body.to_string()).send().await;
    let written = written.expect(if new { 201 } else { 200 });
    assert_eq!(written.value()["user_id"], id);
    assert_eq!(written.value()["database"], "raseen_temp_user");
    assert_eq!(written.header("tierkeep-decision"), None);

    let stored = world.document(Role::RaseenTempUser, &id).await.unwrap();
    assert_eq!(stored.get_str("user_id").unwrap(), id);
    assert_eq!(stored.get_str("user_type").unwrap(), "internal");
    assert_eq!(stored.get_str("data_location").unwrap(), "temp");
    let metadata = stored.get_document("metadata").unwrap();
    assert_eq!(metadata.get_str("storage_location").unwrap(), "RASEEN_TEMP");
    assert_eq!(metadata.get_str("backup_status").unwrap(), "pending");
    assert!(metadata.get_datetime("staged_at").is_ok());

    if method == "PUT" {
        assert_eq!(ask("GET").send().await.expect(200).text(), body.to_string());
    }
    assert_eq!(
        world.count(Role::RaseenTempUser).await,
        before + u64::from(new)
    );
    for role in [
        Role::ExternalUsers,
        Role::RaseenMainUser,
        Role::SrieMainUser,
    ] {
        assert_eq!(world.count(role).await, 0, "{role}");
    }
}

#[rstest]
fn property_2_holds(#[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend) {
    let runtime = runtime();
    let world = runtime.block_on(World::new(backend));
    hold(
        &cases(),
        |case| an_internal_request_is_stored_in_temp_alone(&world, case),
        &runtime,
    );
}
