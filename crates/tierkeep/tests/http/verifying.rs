//! Verification and restore over HTTP.

use bson::doc;
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_core::bson;
use tierkeep_core::compare::vouched;
use tierkeep_core::db::Role;
use tierkeep_core::document::Location;
use tierkeep_core::store::{Change, Guard};
use tierkeep_testkit::documents::native_user;

use crate::common::{Backend, World};

const MAIN: Role = Role::RaseenMainUser;
const SRIE: Role = Role::SrieMainUser;

fn id(n: u32) -> String {
    format!("internal_{n:024x}")
}

/// Users 0 to 5 in main and srie; user 1 in srie alone, user 2 in main alone.
async fn planted(backend: Backend) -> World {
    let world = World::new(backend).await;
    for n in 0..5 {
        let copy = vouched(&native_user(n, 1).at(Location::Main).build());
        for role in [MAIN, SRIE] {
            if (n, role) != (1, MAIN) && (n, role) != (2, SRIE) {
                let store = &world.stores[&role];
                store
                    .insert("internal_users", std::slice::from_ref(&copy))
                    .await
                    .unwrap();
            }
        }
    }
    world
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_has_main_compared_and_mended(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = planted(backend).await;
    let verify = async |body: Value| {
        let ask = world
            .admin("POST", "/v1/admin/verify")
            .json(body.to_string());
        ask.send().await
    };
    let found = world
        .admin("POST", "/v1/admin/verify")
        .send()
        .await
        .expect(200)
        .value();
    let counts = [
        "checked",
        "matched",
        "missing_in_backup",
        "missing_in_main",
        "different",
        "repaired",
        "in_flight",
    ];
    assert_eq!(
        counts.map(|count| found[count].as_i64().unwrap()),
        [5, 3, 1, 1, 0, 0, 0],
        "{found}"
    );
    assert_eq!(found["findings"][0]["class"], "orphan");
    assert_eq!(found["findings"][0]["id"], id(1));
    let quick = verify(json!({ "quick": true })).await.expect(200).value();
    assert_eq!(
        counts.map(|count| quick[count].as_i64().unwrap()),
        [5, 3, 1, 1, 0, 0, 0],
        "{quick}"
    );
    let mended = verify(json!({ "quick": true, "repair": true }))
        .await
        .expect(200)
        .value();
    assert_eq!(mended["repaired"], 2);
    let after = verify(json!({ "quick": false, "sample": 3 }))
        .await
        .expect(200)
        .value();
    assert_eq!(
        (&after["checked"], &after["matched"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(world.documents(MAIN).await, world.documents(SRIE).await);
    for wrong in [
        json!({ "repair": "yes" }),
        json!({ "prefer": "main" }),
        json!({ "repair": true, "prefer": "temp" }),
        json!({ "sample": 0 }),
        json!({ "quick": "yes" }),
        json!({ "quick": true, "sample": 3 }),
        json!({ "fix": true }),
    ] {
        verify(wrong).await.refused(422, "invalid_content");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_brings_documents_back_and_the_trail_says_so(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = planted(backend).await;
    let whatever = Guard::Fields(doc! {});
    for n in 0..5 {
        let main = &world.stores[&MAIN];
        main.write("internal_users", &id(n).into(), &whatever, &Change::Remove)
            .await
            .unwrap();
    }
    let restore = async |body: Value| {
        let ask = world
            .admin("POST", "/v1/admin/restore")
            .json(body.to_string());
        ask.send().await
    };
    let one = restore(json!({ "user_id": id(3) }))
        .await
        .expect(200)
        .value();
    assert_eq!(
        (&one["restored"], &one["missing"]),
        (&json!(1), &json!(0)),
        "{one}"
    );
    let some = restore(json!({ "user_ids": [id(0), id(9)] }))
        .await
        .expect(200)
        .value();
    assert_eq!(
        (&some["restored"], &some["missing"]),
        (&json!(1), &json!(1)),
        "{some}"
    );
    let dry = restore(json!({ "all": true, "dry_run": true }))
        .await
        .expect(200)
        .value();
    assert_eq!(
        (&dry["restored"], &dry["unchanged"]),
        (&json!(2), &json!(2)),
        "{dry}"
    );
    assert_eq!(world.count(MAIN).await, 2);
    let all = restore(json!({ "all": true })).await.expect(200).value();
    assert_eq!(
        (&all["restored"], &all["unchanged"]),
        (&json!(2), &json!(2)),
        "{all}"
    );
    assert_eq!(world.documents(MAIN).await, world.documents(SRIE).await);

    let trail = world
        .admin("GET", "/v1/admin/audit?kind=restore")
        .send()
        .await;
    let trail = trail.expect(200).value();
    assert_eq!(trail["items"].as_array().unwrap().len(), 3, "{trail}");
    for wrong in [
        json!({}),
        json!({ "all": false }),
        json!({ "all": true, "user_id": id(1) }),
        json!({ "user_id": "external_reader" }),
        json!({ "user_ids": "everybody" }),
        json!({ "all": true, "force": true }),
    ] {
        restore(wrong).await.refused(422, "invalid_content");
    }
    let nothing = world.admin("POST", "/v1/admin/restore").send().await;
    nothing.refused(422, "invalid_content");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_backup_is_made_on_demand(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = planted(backend).await;
    let done = world.admin("POST", "/v1/admin/backup").send().await;
    let done = done.expect(200).value();
    assert_eq!(
        (&done["backed_up"], &done["complete"]),
        (&json!(1), &json!(true)),
        "{done}"
    );
    assert_eq!(world.documents(SRIE).await.len(), 5);
    let again = world.admin("POST", "/v1/admin/backup").send().await;
    assert_eq!(again.expect(200).value()["backed_up"], 0);
}

#[tokio::test]
async fn a_backup_that_is_away_is_no_difference() {
    let world = planted(Backend::Memory).await;
    world.faults.set_down(SRIE, true);
    for (path, body) in [
        ("verify", "{}"),
        ("restore", "{\"all\":true}"),
        ("backup", "{}"),
    ] {
        let ask = world.admin("POST", &format!("/v1/admin/{path}")).json(body);
        ask.send().await.refused(503, "database_unavailable");
    }
}
