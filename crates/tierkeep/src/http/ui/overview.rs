//! `/ui/`: whether data is safe now, and everything that says why.

use std::borrow::Borrow;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use tierkeep_core::clock;
use tierkeep_core::db::{RaseenTempUser, Role, UserDatabase};
use tierkeep_core::document;
use tierkeep_core::mover;
use tierkeep_core::store::{Find, Query};
use tierkeep_engine::{
    Alert, Inspector, LastError, Listed, MigrationView, MoverPhase, QuarantineView, RecordFilter,
    Simulation, Status,
};

use super::alerts::title;
use super::audit::{Line, lines};
use super::chart::Chart;
use super::databases::{self, Row};
use super::migrations::document_id;
use super::operator::Operator;
use super::page::{Frame, PageResult, Place, ok};
use super::safety::Safety;
use super::words::{When, Words, many, number, span};
use crate::http::state::HttpState;

const DAY: Duration = Duration::from_hours(24);
/// How long a page waits for a part of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How many failures, quarantined documents and alerts are listed.
const LISTED: usize = 10;
/// How much later by its writer's clock than by the database's an entry may be.
const CLOCKS_DIFFER: Duration = Duration::from_secs(10);

#[derive(Template)]
#[template(path = "ui/overview.html")]
struct Overview {
    frame: Frame,
    words: Words,
    safety: Safety,
    status: Option<Status>,
    tiers: Vec<Tier>,
    databases: Vec<Row>,
    outlook: Option<(Simulation, Chart)>,
    /// Since when the mover is paused, and by whom.
    pause: Option<Pause>,
    failures: Option<Vec<MigrationView>>,
    quarantine: Option<Vec<QuarantineView>>,
    alerts: Option<Vec<Alert>>,
}

/// Since when the mover is paused, and what the audit trail says of it.
struct Pause {
    since: When,
    entry: Option<Line>,
}

/// A database of users' documents.
struct Tier {
    name: &'static str,
    what: &'static str,
    documents: Option<String>,
    age: String,
}

/// The result within a page's time limit; none where it fails or takes longer.
pub(super) async fn within<T, E>(reading: impl Future<Output = Result<T, E>>) -> Option<T> {
    tokio::time::timeout(PATIENCE, reading).await.ok()?.ok()
}

/// The overview.
pub(super) async fn get(State(state): State<HttpState>, by: Operator) -> PageResult {
    let service = &state.mover.service;
    let inspector = Inspector::from(service);
    let failed = RecordFilter {
        status: Some(mover::Status::Failed),
        user: None,
    };
    let status = async { Ok::<_, ()>(inspector.status(state.mover.scan_interval).await) };
    let (findings, status, outlook, oldest, failures, quarantine, alerts) = tokio::join!(
        state.health.findings(),
        within(status),
        within(inspector.simulate(DAY)),
        oldest_in_temp(&state),
        within(inspector.migrations(&failed, None, LISTED)),
        within(inspector.quarantined(LISTED)),
        within(service.open_alerts()),
    );
    let is_paused = status.as_ref().is_some_and(|it| it.paused == Some(true));
    let pause = if is_paused {
        pause(&state, by.words).await
    } else {
        None
    };
    let away: Vec<Role> = findings.away().collect();
    let tiers = tiers(status.as_ref(), oldest, by.words);
    let mut alerts = alerts;
    let safety = Safety::of(&away, status.as_ref(), alerts.as_deref());
    if let Some(alerts) = &mut alerts {
        alerts.truncate(LISTED);
    }
    ok(&Overview {
        frame: Frame::inside("Overview", Some(Place::Overview), &by),
        words: by.words,
        safety,
        tiers,
        databases: databases::rows(&findings.databases, status.as_ref()),
        status,
        outlook: outlook.map(|simulation| {
            let chart = Chart::of(&simulation);
            (simulation, chart)
        }),
        pause,
        failures: failures.map(|page| page.records),
        quarantine,
        alerts,
    })
}

/// The pause that is in effect.
async fn pause(state: &HttpState, words: Words) -> Option<Pause> {
    let since = within(state.mover.service.paused_since()).await??;
    let last = within(state.audit.last_action("pause")).await.flatten();
    // Recorded before it took effect. One that came later has paused what was paused already.
    let latest = clock::after(since, CLOCKS_DIFFER);
    let entry = match &last {
        Some(Listed::Entry(entry)) if entry.at() <= latest => last.as_ref(),
        Some(_) | None => None,
    };
    let entry = entry.map(|entry| lines(std::slice::from_ref(entry), words));
    Some(Pause {
        since: words.at(since),
        entry: entry.and_then(|mut lines| lines.pop()),
    })
}

/// When the oldest document of temp entered it, by index.
async fn oldest_in_temp(state: &HttpState) -> Option<When> {
    let engine = state.mover.service.engine();
    let now = engine.clock().now();
    let find = Find::new(Query::Due(now)).limit(1).head();
    let store = engine.databases().raseen_temp_db().store();
    let found = within(store.find(RaseenTempUser::USERS, &find)).await?;
    let staged_at = document::staged_at(found.first()?)?;
    Some(Words::new(now).at(staged_at))
}

fn tiers(status: Option<&Status>, oldest: Option<When>, words: Words) -> Vec<Tier> {
    let count = |role: Role| {
        let mut rows = status?.databases.iter();
        rows.find(|row| row.name == role)?.documents
    };
    let last_run = status.and_then(|status| status.last_run.as_ref());
    // Without an answer of the audit database the last run is unknown, which is told apart by the pause.
    let is_known = status.is_some_and(|status| status.paused.is_some());
    let none = if is_known {
        "no moves yet"
    } else {
        "last move unknown"
    };
    let arrived = last_run.map_or_else(
        || none.to_owned(),
        |run| {
            let ago = words.when(Some(&run.finished_at)).ago();
            format!("last move {ago}")
        },
    );
    let is_known = status.is_some_and(|status| status.due.is_some());
    let in_temp = match oldest {
        None if !is_known => "oldest document unknown".to_owned(),
        Some(oldest) => format!("oldest document staged {}", oldest.ago()),
        None => "no staged documents".to_owned(),
    };
    let tier = |role: Role, what, age: &str| Tier {
        name: role.name(),
        what,
        documents: count(role).map(number),
        age: age.to_owned(),
    };
    vec![
        tier(
            Role::RaseenTempUser,
            "internal users, not yet moved",
            &in_temp,
        ),
        tier(
            Role::RaseenMainUser,
            "internal users, after the move",
            &arrived,
        ),
        tier(Role::SrieMainUser, "backup of main", &arrived),
        tier(Role::ExternalUsers, "external users", "never moved"),
    ]
}

/// What the mover is doing.
fn phase(status: &Status) -> String {
    let phase = status.mover.phase;
    match &status.mover.holder {
        Some(holder) => match &holder.run {
            Some(run) => {
                let left = status.time_left().map(|left| left.as_secs());
                let left = left.map(|seconds| format!(", {} left", span(seconds)));
                format!(
                    "{}: {} moved so far, {:.0}/s{}",
                    phase.as_str(),
                    run.moved,
                    run.per_second,
                    left.unwrap_or_default()
                )
            }
            None => phase.as_str().to_owned(),
        },
        None => match phase {
            MoverPhase::Idle => "idle: no documents are due".into(),
            MoverPhase::Waiting => "waiting: due documents move at the next scan".into(),
            MoverPhase::Moving => "moving".into(),
            MoverPhase::Stuck => "stuck: documents are overdue and no process moves them".into(),
            MoverPhase::Paused => "paused in every process until it is resumed".into(),
            MoverPhase::Unknown => {
                "unknown: a database that is needed to tell is unavailable".into()
            }
        },
    }
}

/// What waits for its backup.
fn waiting(status: &Status) -> String {
    let pending = status.backup_pending;
    let count = |pending: Option<u64>, one, more| match pending {
        Some(pending) => many(pending, one, more),
        None => format!("an unknown number of {more}"),
    };
    match (pending.user, pending.hr) {
        (Some(0), Some(0)) => "none pending".into(),
        (user, hr) => format!(
            "pending: {}, {}",
            count(user, "move", "moves"),
            count(hr, "HR record", "HR records")
        ),
    }
}

/// A number, where it is known.
fn known(count: impl Borrow<Option<u64>>) -> String {
    count.borrow().map_or_else(|| "unknown".to_owned(), number)
}

/// How many are overdue, and for how long.
fn overdue(status: &Status) -> String {
    match (status.overdue, status.lag_seconds) {
        (Some(overdue @ 1..), Some(lag)) => {
            format!("{}, the oldest by {}", number(overdue), span(lag))
        }
        (overdue, _) => known(overdue),
    }
}

/// What the list of quarantined documents leaves out.
fn unlisted(listed: usize, status: Option<&Status>) -> Option<u64> {
    let all = status?.quarantined?;
    let listed = u64::try_from(listed).unwrap_or(u64::MAX);
    Some(all.saturating_sub(listed)).filter(|left| *left > 0)
}

fn stopped_by(error: &LastError) -> String {
    format!("{} was unavailable ({})", error.database, error.error)
}
