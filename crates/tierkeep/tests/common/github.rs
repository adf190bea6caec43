//! A stand-in for GitHub's API: knows every token but the unknown one, and fails on the unreachable one.

use serde_json::json;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{ACCOUNT_TOKEN, LIMITED_TOKEN, MADE_UP_TOKEN, UNKNOWN_TOKEN, UNREACHABLE_TOKEN};

pub async fn start() -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/user"))
        .respond_with(|request: &Request| {
            let sent = request.headers.get("authorization");
            let sent = sent
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            if sent.ends_with(UNKNOWN_TOKEN) {
                ResponseTemplate::new(401)
            } else if sent.ends_with(UNREACHABLE_TOKEN) {
                ResponseTemplate::new(503)
            } else if sent.ends_with(LIMITED_TOKEN) {
                ResponseTemplate::new(429).insert_header("retry-after", "120")
            } else if sent.contains(MADE_UP_TOKEN) {
                ResponseTemplate::new(401)
            } else if let Some((_, id)) = sent.split_once(ACCOUNT_TOKEN) {
                let id: u64 = id.parse().unwrap();
                ResponseTemplate::new(200).set_body_json(json!({ "id": id, "login": "octocat" }))
            } else {
                ResponseTemplate::new(200).set_body_json(json!({ "id": 7, "login": "octocat" }))
            }
        })
        .mount(&server)
        .await;
    server
}
