//! `/ui/databases`: the seven databases, and what to do about one that is away; where it is asked for, what they hold.

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use tierkeep_core::db::Role;
use tierkeep_engine::{DatabaseContents, Inspector, Status};

use super::operator::Operator;
use super::overview::within;
use super::page::{Frame, PageResult, Place, ok};
use super::safety::consequence;
use super::words::{Words, bytes, number};
use crate::http::state::HttpState;
use crate::http::state::probe::DatabaseHealth;

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
}

/// What the page is asked for.
#[derive(Deserialize)]
pub(super) struct ContentsSwitch {
    /// Whatever its value: everything is read once, to say what there is.
    contents: Option<String>,
}

#[derive(Template)]
#[template(path = "ui/databases.html")]
struct Databases {
    frame: Frame,
    rows: Vec<Row>,
    down: usize,
    words: Words,
    contents: Contents,
}

/// What the databases hold.
enum Contents {
    /// The page was not asked for it.
    Unasked,
    /// It took longer than a page is waited for.
    TookTooLong,
    /// This.
    Known(Vec<DatabaseContents>),
}

/// The databases.
pub(super) async fn get(
    State(state): State<HttpState>,
    by: Operator,
    query: Result<Query<ContentsSwitch>, QueryRejection>,
) -> PageResult {
    let scan_interval = state.mover.scan_interval;
    let status = async {
        Ok::<_, ()>(
            Inspector::from(&state.mover.service)
                .status(scan_interval)
                .await,
        )
    };
    let contents = async {
        if query.map_or(true, |Query(switch)| switch.contents.is_none()) {
            return Contents::Unasked;
        }
        let engine = state.mover.service.engine();
        let reading = async { Ok::<_, ()>(engine.databases().contents().await) };
        within(reading)
            .await
            .map_or(Contents::TookTooLong, Contents::Known)
    };
    let (findings, status, contents) =
        tokio::join!(state.health.findings(), within(status), contents);
    let rows = rows(&findings.databases, status.as_ref());
    ok(&Databases {
        frame: Frame::inside("Databases", Some(Place::Databases), &by),
        down: rows.iter().filter(|row| !row.up).count(),
        words: by.words,
        contents,
        rows,
    })
}

/// What is known of each.
pub(super) fn rows(found: &[DatabaseHealth], status: Option<&Status>) -> Vec<Row> {
    let is_away = |health: &&DatabaseHealth| health.error.is_some();
    let away: Vec<Role> = found.iter().filter(is_away).map(|it| it.name).collect();
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
            meanwhile: consequence(role, &away).1,
            remedy: health
                .error
                .map_or_else(String::new, |why| remedy(role, why)),
        }
    };
    found.iter().map(row).collect()
}

fn remedy(role: Role, error: &str) -> String {
    let variable = role.url_variable();
    let cause = match error {
        "auth" => format!(
            "The server rejected the user or password in {variable}; check them and the user's rights"
        ),
        "not_admitted" => format!(
            "The database answers, but is not admitted: it has another deployment's stamp or another role, or has not \
             been checked yet. See the log, and check {variable}"
        ),
        "identity" => format!(
            "A different database answers than before, so nothing is written to it. See the log and the alerts, and \
             correct {variable}"
        ),
        "timeout" => {
            "The server accepts connections but does not answer; check its load and its disk".into()
        }
        _ => format!(
            "Check that the server runs, that it is reachable from this host, and that {variable} is correct"
        ),
    };
    format!(
        "{cause}. The database is readmitted automatically when it is available again; no restart is needed."
    )
}
