//! Every operation, for both types of users, in both forms; and what must never get through.

use std::io;
use std::sync::{Arc, Mutex};

use secrecy::SecretString;
use serde_json::Value;
use tierkeep_core::bson::DateTime;
use tierkeep_core::db::Role;
use tierkeep_core::user::{UserId, UserType};
use tracing::{error, info, info_span, warn};

use super::*;

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> DateTime {
        DateTime::from_millis(1_800_000_000_007)
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat, events: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let style = Style {
        format,
        colour: false,
    };
    let layer = LineLayer::new(style, move || writer.clone(), Arc::new(Noon));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), events);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn users() -> [UserId; 2] {
    [
        UserId::internal("507f1f77bcf86cd799439011").unwrap(),
        UserId::external("srie06").unwrap(),
    ]
}

fn database_of(user: &UserId) -> Role {
    match user.user_type() {
        UserType::Internal => Role::RaseenTempUser,
        UserType::External => Role::ExternalUsers,
    }
}

/// The shapes of events that the engine and the service emit, without markers.
fn every_operation() {
    for user in users() {
        let user_type = user.user_type();
        let database = database_of(&user);
        let request = info_span!("http.user", request_id = "r-1", %user_type, user_id = %user);
        request.in_scope(|| {
            info!(%database, status = 200_u16, "read");
            info!(%database, version = 7_i64, "written");
        });
        error!(user_id = %user, %user_type, %database, code = 50, "error in fetching from {database}");
        error!(user_id = %user, %user_type, %database, "error in storing to {database}");
        error!(user_id = %user, %user_type, %database, retry = true, "error in moving data to {database}");
        info!(user_id = %user, %user_type, bytes = 512_u64, "moved");
        warn!(%user_type, %database, error = "refused", "cannot reach the database");
        warn!(%user_type, %database, "connecting failed, attempt {} of {}", 1, 5);
    }
    info!("listening");
}

#[test]
fn every_line_about_a_user_has_the_marker_as_json() {
    insta::assert_snapshot!("operations_json", logged(LogFormat::Json, every_operation));
}

#[test]
fn every_line_about_a_user_has_the_marker_as_text() {
    insta::assert_snapshot!("operations_text", logged(LogFormat::Text, every_operation));
}

#[test]
fn json_lines_are_json_with_one_value_for_each_key() {
    let all = logged(LogFormat::Json, || {
        let outer = info_span!("outer", request_id = "outer", late = tracing::field::Empty);
        outer.record("late", 1.5);
        outer.in_scope(|| info!(request_id = "inner", level = "mine", nan = f64::NAN, "said"));
    });
    let line: Value = serde_json::from_str(all.trim_end()).unwrap();
    let keys: Vec<_> = line
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        [
            "timestamp",
            "level",
            "message",
            "request_id",
            "late",
            "field_level",
            "nan",
            "target"
        ]
    );
    assert_eq!(line["request_id"], "inner");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["late"], 1.5);
    assert_eq!(all.matches("request_id").count(), 1);
}

#[test]
fn no_value_can_forge_a_line_or_steer_a_terminal() {
    let hostile = "x\n2027-01-15T08:00:00.007Z  INFO 🔐 [INTERNAL] forged\r\u{1b}[2J\u{85}\u{2028}\u{202e}\u{7f}\" a=b";
    for format in [LogFormat::Json, LogFormat::Text] {
        let all = logged(
            format,
            || warn!(name = hostile, shown = %hostile, "odd name {hostile}"),
        );
        assert_eq!(all.lines().count(), 1, "{all:?}");
        assert!(!all.trim_end().chars().any(char::is_control), "{all:?}");
        assert!(!all.contains(['\u{2028}', '\u{202e}']), "{all:?}");
    }
    let all = logged(LogFormat::Json, || warn!(name = hostile, "odd"));
    let line: Value = serde_json::from_str(all.trim_end()).unwrap();
    assert_eq!(line["name"], hostile);
}

#[test]
fn the_marker_comes_from_the_user_type_alone() {
    let all = logged(LogFormat::Text, || {
        info!(user_type = "developer", "no such type");
        info!(user_id = "internal_507f1f77bcf86cd799439011", "no type");
    });
    assert!(!all.contains('['), "{all}");
}

#[test]
fn secrets_do_not_print() {
    let secret = SecretString::from("hunter2");
    for format in [LogFormat::Json, LogFormat::Text] {
        let all = logged(format, || info!(?secret, "configured"));
        assert!(!all.contains("hunter2"), "{all}");
    }
}

#[test]
fn a_step_louder_is_a_level_more() {
    assert_eq!(level(LevelFilter::INFO, 1), LevelFilter::DEBUG);
    assert_eq!(level(LevelFilter::WARN, -1), LevelFilter::ERROR);
    assert_eq!(level(LevelFilter::INFO, 9), LevelFilter::TRACE);
    assert_eq!(level(LevelFilter::INFO, -9), LevelFilter::OFF);
}

#[test]
fn a_panic_is_told_by_its_own_words_and_never_quotes() {
    let told = |panic: fn()| literal(std::panic::catch_unwind(panic).unwrap_err().as_ref());
    assert_eq!(told(|| panic!("it cannot be")), Some("it cannot be"));
    let quotes = || panic!("it was {}", std::hint::black_box("a document"));
    assert_eq!(told(quotes), None);
}
