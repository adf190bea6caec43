//! What a request writes to the log, and what must never be in the log.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, Once};

use serde_json::Value;
use tierkeep::config::LogFormat;
use tierkeep::telemetry::{LineLayer, Style};
use tierkeep_core::bson::DateTime;
use tierkeep_testkit::ManualClock;
use tracing_subscriber::layer::SubscriberExt;

use crate::common::{Backend, KNOWN_TOKEN, SUBJECT, UNKNOWN_TOKEN, World};

const SECTION: &str = "/v1/user/scan_cache";

/// What the tests of this thread log. One subscriber serves the whole process: subscribers that come and go
/// beside each other make `tracing` forget who is interested.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<u8>>>);

thread_local! {
    static HEARD: RefCell<Option<Lines>> = const { RefCell::new(None) };
}

/// Hands what is written to who listens on this thread.
struct Heard;

impl io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        HEARD.with_borrow(|lines| {
            if let Some(lines) = lines {
                lines.0.lock().unwrap().extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Listens until it is dropped.
pub(super) struct Listening;

impl Drop for Listening {
    fn drop(&mut self) {
        HEARD.set(None);
    }
}

impl Lines {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Every line whose message ends so.
    fn saying(&self, message: &str) -> Vec<Value> {
        let said = |line: &Value| line["message"].as_str().unwrap().ends_with(message);
        let text = self.text();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(said).collect()
    }
}

pub(super) fn listen() -> (Lines, Listening) {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let style = Style {
            format: LogFormat::Json,
            colour: false,
        };
        let clock = Arc::new(ManualClock::new(DateTime::from_millis(1_800_000_000_000)));
        let layer = LineLayer::new(style, || Heard, clock);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    let lines = Lines::default();
    HEARD.set(Some(lines.clone()));
    (lines, Listening)
}

fn requests(lines: &Lines) -> Vec<Value> {
    let mut requests = lines.saying("request");
    requests.retain(|line| line["level"] == "INFO");
    requests
}

#[tokio::test]
async fn every_user_request_gives_one_line_with_its_marker() {
    let world = World::new(Backend::Memory).await;
    let (lines, _guard) = listen();
    world
        .internal("PUT", SECTION)
        .json("{}")
        .send()
        .await
        .expect(201);
    world
        .external("GET", "/v1/user")
        .header("x-request-id", "r-1")
        .send()
        .await
        .expect(404);
    world.ask("GET", "/v1/route").send().await.expect(401);
    world.ask("GET", "/health/live").send().await.expect(200);
    world.ask("GET", "/nothing").send().await.expect(404);

    let requests = requests(&lines);
    assert_eq!(requests.len(), 3, "{requests:#?}");
    let [internal, external, nobody] = requests.as_slice() else {
        unreachable!()
    };
    assert_eq!(internal["message"], "🔐 [INTERNAL] request");
    assert_eq!(internal["user_id"], format!("internal_{SUBJECT}"));
    assert_eq!(internal["user_type"], "internal");
    assert_eq!(internal["method"], "PUT");
    assert_eq!(internal["route"], "/v1/user/{section}");
    assert_eq!(internal["status"], 201);
    assert!(internal["latency_ms"].is_u64());
    assert!(internal["request_id"].is_string());
    assert_eq!(external["message"], "🌐 [EXTERNAL] request");
    assert_eq!(external["user_id"], "external_reader");
    assert_eq!(
        (&external["status"], &external["request_id"]),
        (&404.into(), &"r-1".into())
    );
    assert_eq!(nobody["message"], "🌐 [EXTERNAL] request");
    assert_eq!(nobody.get("user_id"), None);
}

#[tokio::test]
async fn what_is_not_clear_is_warned_of() {
    let world = World::new(Backend::Memory).await;
    let (lines, _guard) = listen();
    world.ask("GET", "/v1/route").send().await.expect(401);
    assert_eq!(lines.saying("identity is ambiguous").len(), 0);
    world
        .ask("GET", "/v1/route")
        .jwt("x")
        .send()
        .await
        .expect(401);
    world
        .external("GET", "/v1/route")
        .github(KNOWN_TOKEN)
        .send()
        .await
        .expect(200);
    let warnings = lines.saying("identity is ambiguous");
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings.iter().all(|line| line["level"] == "WARN"));
    assert_eq!(warnings[0]["reason"], "the JWT is malformed");
    assert_eq!(warnings[1]["user_id"], "external_reader");
}

#[tokio::test]
async fn tokens_queries_and_bodies_stay_out_of_the_log() {
    let world = World::new(Backend::Memory).await;
    let (lines, _guard) = listen();
    let jwt = world.token(SUBJECT, None);
    let secrets = [
        jwt.as_str(),
        KNOWN_TOKEN,
        UNKNOWN_TOKEN,
        "q-marks-the-query",
        "b-marks-the-body",
        "h-marks-a-header",
    ];
    let bodies = [
        r#"{"k":"b-marks-the-body"}"#,
        r#"{"b-marks-the-body":1,"b-marks-the-body":2}"#,
        r#"{"$b-marks-the-body":1}"#,
        r#"{"b-marks-the-body"}"#,
    ];
    for body in bodies {
        for github in [KNOWN_TOKEN, UNKNOWN_TOKEN] {
            for name in [None, Some("reader"), Some("q-marks-the-query.")] {
                let ask = world.ask("PUT", SECTION).jwt(&jwt).github(github);
                let ask = ask
                    .query("x=q-marks-the-query")
                    .header("cookie", "h-marks-a-header");
                let ask = match name {
                    Some(name) => ask.named(name),
                    None => ask,
                };
                ask.json(body).send().await;
            }
        }
    }
    let text = lines.text();
    assert!(text.lines().count() >= bodies.len() * 6, "{text}");
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn a_request_id_is_kept_on_every_answer_or_made() {
    let world = World::new(Backend::Memory).await;
    for path in [
        "/v1/user",
        "/v1/route",
        "/health/live",
        "/openapi.json",
        "/nothing",
    ] {
        for method in ["GET", "POST"] {
            let kept = world
                .ask(method, path)
                .header("x-request-id", "a~1")
                .send()
                .await;
            assert_eq!(kept.header("x-request-id"), Some("a~1"));
            let made = world
                .ask(method, path)
                .header("x-request-id", "a b")
                .send()
                .await;
            let id: uuid::Uuid = made.header("x-request-id").unwrap().parse().unwrap();
            assert_eq!(id.get_version_num(), 7);
        }
    }
}

#[tokio::test]
async fn refusals_that_repeat_are_one_line_a_minute_with_their_number() {
    let world = World::new(Backend::Memory).await;
    let (lines, _guard) = listen();
    for _ in 0..2 {
        for _ in 0..50 {
            let forged = world.ask("GET", "/v1/route").jwt(&world.forged(SUBJECT));
            forged.send().await.expect(401);
            let role = world.ask("GET", "/v1/admin/overview");
            role.send().await.expect(401);
        }
        world.clock.advance(std::time::Duration::from_mins(1));
    }
    // One request of each kind and minute.
    assert_eq!(requests(&lines).len(), 4);
    let warnings = lines.saying("identity is ambiguous");
    let more: Vec<_> = warnings.iter().map(|line| &line["more"]).collect();
    assert_eq!(more, [0, 49]);
    // Those that are served have a line each.
    for _ in 0..3 {
        world.external("GET", "/v1/route").send().await.expect(200);
    }
    assert_eq!(requests(&lines).len(), 7);
}
