//! `/ui/databases`: the seven databases, and what to do about one that is away.

use askama::Template;
use axum::extract::State;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::hr::HrCollection;
use tierkeep_engine::{Status, layout};

use super::super::HttpState;
use super::super::health::DatabaseHealth;
use super::operator::Operator;
use super::overview::within;
use super::page::{Frame, Place, Shown, ok};
use super::safety::consequence;
use super::words::number;

/// One database.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) purpose: &'static str,
    pub(super) up: bool,
    pub(super) latency: String,
    pub(super) breaker: &'static str,
    pub(super) error: Option<&'static str>,
    pub(super) documents: Option<String>,
    /// What users see while it is away, and what to do.
    pub(super) meanwhile: &'static str,
    pub(super) remedy: String,
    pub(super) indexes: String,
}

#[derive(Template)]
#[template(path = "ui/databases.html")]
struct Databases {
    frame: Frame,
    rows: Vec<Row>,
    down: usize,
}

/// The databases.
pub(super) async fn get(State(state): State<HttpState>, by: Operator) -> Shown {
    let scan_interval = state.mover.scan_interval;
    let status = async { Ok::<_, ()>(state.mover.service.status(scan_interval).await) };
    let (findings, status) = tokio::join!(state.health.findings(), within(status));
    let rows = rows(&findings.databases, status.as_ref(), state.hr.collections());
    ok(&Databases {
        frame: Frame::inside("Databases", Some(Place::Databases), &by),
        down: rows.iter().filter(|row| !row.up).count(),
        rows,
    })
}

/// What is known of each.
pub(super) fn rows(
    found: &[DatabaseHealth],
    status: Option<&Status>,
    hr: &[HrCollection],
) -> Vec<Row> {
    let row = |health: &DatabaseHealth| {
        let role = health.name;
        let known = status.and_then(|status| status.databases.iter().find(|row| row.name == role));
        Row {
            name: role.name(),
            purpose: role.purpose(),
            up: health.error.is_none(),
            latency: health.latency_ms.map_or_else(String::new, |ms| {
                if ms < 0.1 {
                    "< 0.1 ms".into()
                } else {
                    format!("{ms:.1} ms")
                }
            }),
            breaker: health.breaker,
            error: health.error,
            documents: known.and_then(|row| row.documents).map(number),
            meanwhile: consequence(role).1,
            remedy: health
                .error
                .map_or_else(String::new, |why| remedy(role, why)),
            indexes: indexes(role, hr),
        }
    };
    found.iter().map(row).collect()
}

fn remedy(role: Role, error: &str) -> String {
    let variable = role.url_variable();
    let cause = match error {
        "auth" => format!("The user or password in {variable} is refused; check it and its rights"),
        "not_admitted" => format!(
            "It answers, and is not what it should be: another stamp, another role, or not checked yet; see the log, \
             and {variable}"
        ),
        "timeout" => {
            "It accepts connections and does not answer; look at its load and its disk".into()
        }
        _ => format!(
            "See whether the server runs and can be reached from here, and whether {variable} leads to it"
        ),
    };
    format!("{cause}. It is let in by itself when it is back; nothing needs a restart.")
}

fn indexes(role: Role, hr: &[HrCollection]) -> String {
    let collections = layout(role, hr).collections.into_iter();
    let ours = collections.filter(|it| it.name != collection::IDENTITY && !it.indexes.is_empty());
    let words = ours.map(|it| {
        let indexes: Vec<String> = it.indexes.iter().map(|it| it.fields.join(" + ")).collect();
        format!("{}: {}", it.name, indexes.join(", "))
    });
    words.collect::<Vec<_>>().join("; ")
}
