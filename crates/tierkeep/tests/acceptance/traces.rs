//! Traces of the built binary, as a collector receives them (feature `otel`).

use std::time::Duration;

use reqwest::Client;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::program::{Backend, Deployment, SECRET, token};

const SECTION: &str = "/v1/user/scan_cache";
const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(50);

async fn collector() -> MockServer {
    let collector = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/v1/traces"))
        .and(header("content-type", "application/x-protobuf"))
        .respond_with(ResponseTemplate::new(200))
        .mount(&collector)
        .await;
    collector
}

/// Everything that arrived so far.
async fn arrived(collector: &MockServer) -> Vec<u8> {
    let requests = collector.received_requests().await.unwrap();
    requests.into_iter().flat_map(|it| it.body).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_hears_of_requests_calls_and_moves_and_of_no_user_secret_or_content() {
    let collector = collector().await;
    let deployment = Deployment::new(Backend::Sqlite)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.uri())
        .with("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=marked-key")
        .with("OTEL_BSP_SCHEDULE_DELAY", "50");
    let service = deployment.serve();
    let client = Client::new();
    let jwt = token("507f1f77bcf86cd799439011");
    let put = client
        .put(format!("{}?hint=marked-query", service.url(SECTION)))
        .bearer_auth(&jwt)
        .header("x-github-token", "gho_marked_token")
        .header("x-request-id", "one-of-the-test")
        .header("content-type", "application/json")
        .body("{\"text\":\"marked content\"}");
    assert_eq!(put.send().await.unwrap().status(), 201);
    let named = client.get(service.url(&format!("{SECTION}?username=markedname")));
    assert_eq!(named.send().await.unwrap().status(), 404);
    // A command sends what it has before it ends.
    let moved = deployment.json(&["migrate", "run", "--older-than", "0s", "--json"]);
    assert_eq!(moved["moved"], 1);

    let expected = [
        "PUT /v1/user/{section}",
        "one-of-the-test",
        "identity.detect",
        "store.call",
        "raseen_temp_user",
        "move.step",
        "service.name",
    ];
    let mut waited = Duration::ZERO;
    let bytes = loop {
        let bytes = arrived(&collector).await;
        let missing: Vec<&str> = expected
            .into_iter()
            .filter(|text| !holds(&bytes, text))
            .collect();
        if missing.is_empty() {
            break bytes;
        }
        assert!(waited < PATIENCE, "nothing was heard of {missing:?}");
        tokio::time::sleep(INTERVAL).await;
        waited += INTERVAL;
    };
    for secret in [
        &jwt,
        SECRET,
        "gho_marked_token",
        "marked-query",
        "marked content",
        "markedname",
        "marked-key",
        "507f1f77bcf86cd799439011",
    ] {
        assert!(!holds(&bytes, secret), "{secret} was sent");
    }
    let requests = collector.received_requests().await.unwrap();
    let keyed = |it: &wiremock::Request| it.headers["x-collector-key"] == "marked-key";
    assert!(requests.iter().all(keyed));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_or_when_switched_off_nothing_is_sent() {
    let collector = collector().await;
    let deployment = Deployment::new(Backend::Sqlite)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.uri())
        .with("OTEL_SDK_DISABLED", "true");
    assert!(deployment.run(&["init"]).status.success());
    assert!(arrived(&collector).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_waits_for_a_collector_that_is_away() {
    let deployment = Deployment::new(Backend::Sqlite)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        .with("OTEL_BSP_SCHEDULE_DELAY", "10");
    let service = deployment.serve();
    let named = service.url(&format!("{SECTION}?username=reader"));
    for _ in 0..20 {
        let answer = reqwest::get(&named).await.unwrap();
        assert_eq!(answer.status(), 404);
    }
    let status = deployment.json(&["status", "--json"]);
    assert_eq!(status["due"], 0);
}
