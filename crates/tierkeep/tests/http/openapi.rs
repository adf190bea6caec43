//! The OpenAPI document.

use std::collections::BTreeSet;

use serde_json::Value;
use tierkeep::http::Code;

use crate::common::{Backend, World};

async fn document() -> Value {
    let world = World::new(Backend::Memory).await;
    let answer = world.ask("GET", "/openapi.json").send().await.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.value()
}

#[tokio::test]
async fn the_document_is_as_it_was_agreed() {
    insta::assert_json_snapshot!(document().await);
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let document = document().await;
    let mut references = 0;
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
            references += 1;
        }
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => open.extend(fields.values()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert!(references > 10, "{references}");
}

#[tokio::test]
async fn every_route_and_every_security_scheme_is_described() {
    let document = document().await;
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{method} {path}"))
        })
        .collect();
    let expected = [
        "get /v1/user",
        "delete /v1/user",
        "get /v1/user/{section}",
        "put /v1/user/{section}",
        "patch /v1/user/{section}",
        "delete /v1/user/{section}",
        "get /v1/route",
        "get /v1/hr/{collection}",
        "get /v1/hr/{collection}/{id}",
        "put /v1/hr/{collection}/{id}",
        "patch /v1/hr/{collection}/{id}",
        "delete /v1/hr/{collection}/{id}",
        "get /v1/admin/overview",
        "get /v1/admin/users/{user_id}",
        "get /v1/admin/migrations",
        "post /v1/admin/migrations/run",
        "post /v1/admin/migrations/retry",
        "post /v1/admin/mover/pause",
        "post /v1/admin/mover/resume",
        "post /v1/admin/verify",
        "post /v1/admin/restore",
        "post /v1/admin/backup",
        "get /v1/admin/audit",
        "get /v1/admin/alerts",
        "get /health/live",
        "get /health/ready",
        "get /health/databases",
        "get /metrics",
        "get /health/databases/{name}",
        "get /",
        "get /openapi.json",
    ];
    assert_eq!(described, expected.map(str::to_owned).into());
    let schemes = document["components"]["securitySchemes"]
        .as_object()
        .unwrap();
    for name in ["jwt", "github_token"] {
        assert!(schemes.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn every_route_of_users_takes_a_name() {
    let document = document().await;
    let paths = document["paths"].as_object().unwrap();
    let operations = paths
        .values()
        .flat_map(|item| item.as_object().unwrap().values());
    let of_users: Vec<&Value> = operations
        .filter(|operation| operation["tags"][0] == "user")
        .collect();
    assert!(of_users.len() >= 7, "{}", of_users.len());
    for operation in of_users {
        let parameters = operation["parameters"].as_array().unwrap();
        let named = parameters
            .iter()
            .any(|parameter| parameter["name"] == "username");
        assert!(named, "{}", operation["operationId"]);
    }
}

#[tokio::test]
async fn every_code_that_a_route_answers_is_described() {
    let text = document().await.to_string();
    for code in Code::ALL {
        let everywhere = matches!(code, Code::NotFound | Code::MethodNotAllowed);
        let named = text.contains(&format!("`{}`", code.as_str()));
        assert!(named || everywhere, "{}", code.as_str());
    }
}
