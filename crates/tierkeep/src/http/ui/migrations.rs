//! `/ui/migrations`: migration records, and what is in quarantine.

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use tierkeep_core::bson::oid::ObjectId;
use tierkeep_core::mover::Status;
use tierkeep_engine::{Inspector, MigrationView, QuarantineView, RecordFilter, RecordPage};

use super::operator::Operator;
use super::overview::within;
use super::page::{Frame, PageResult, Place, ok};
use super::words::{Words, bytes, many};
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;
use crate::lookup::candidates;

/// How many records are on a page.
const PAGE: usize = 50;
/// How many quarantined documents are listed.
const QUARANTINED: usize = 100;
const DAY_SECONDS: i64 = 86_400;
/// What the form offers as the time in which documents entered temp.
const SINCE: [(&str, &str, i64); 4] = [
    ("", "at any time", 0),
    ("2d", "within 2 days", 2),
    ("7d", "within 7 days", 7),
    ("30d", "within 30 days", 30),
];

/// What the form asks for.
#[derive(Deserialize, Default)]
pub(super) struct MigrationSearch {
    #[serde(default)]
    status: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    cursor: String,
}

#[derive(Template)]
#[template(path = "ui/migrations.html")]
struct Migrations {
    frame: Frame,
    words: Words,
    search: MigrationSearch,
    statuses: [&'static str; 3],
    since: [(&'static str, &'static str, i64); 4],
    /// None while the audit database is away.
    records: Option<Vec<MigrationView>>,
    next: Option<String>,
    quarantine: Option<Vec<QuarantineView>>,
    /// How many more cannot be moved.
    unlisted: Option<u64>,
    /// The text is not that of a user.
    nobody: bool,
}

/// Records of the status and the user that are asked for, page by page.
pub(super) async fn get(
    State(state): State<HttpState>,
    by: Operator,
    query: Result<Query<MigrationSearch>, QueryRejection>,
) -> PageResult {
    let Query(search) = query.map_err(|_| Problem::Malformed("the query cannot be read"))?;
    let user = candidates(&search.user).into_iter().next();
    let nobody = user.is_none() && !search.user.trim().is_empty();
    let filter = RecordFilter {
        status: Status::parse(&search.status),
        user,
    };
    let before = ObjectId::parse_str(&search.cursor).ok();
    let oldest = since(&state, &search.since);
    let inspector = Inspector::from(&state.mover.service);
    let (records, next) = if nobody {
        (Some(Vec::new()), None)
    } else {
        let page = within(inspector.migrations(&filter, before, PAGE)).await;
        page.map_or((None, None), |page| {
            let (records, next) = no_older_than(oldest, page);
            (Some(records), next)
        })
    };
    let (quarantine, waiting) = tokio::join!(
        within(inspector.quarantined(QUARANTINED)),
        within(inspector.waiting(state.mover.scan_interval)),
    );
    let all = waiting.and_then(|waiting| waiting.quarantined);
    let listed = quarantine.as_ref().map_or(0, Vec::len);
    let listed = u64::try_from(listed).unwrap_or(u64::MAX);
    let unlisted = all.map(|all| all.saturating_sub(listed));
    ok(&Migrations {
        frame: Frame::inside("Migrations", Some(Place::Migrations), &by),
        words: by.words,
        next: next.map(|next| search.following(&next.to_hex())),
        statuses: [Status::Failed, Status::Pending, Status::Completed].map(Status::as_str),
        since: SINCE,
        search,
        records,
        quarantine,
        unlisted: unlisted.filter(|left| *left > 0),
        nobody,
    })
}

/// The page up to the first record that is older.
fn no_older_than(
    oldest: Option<ObjectId>,
    page: RecordPage,
) -> (Vec<MigrationView>, Option<ObjectId>) {
    let Some(oldest) = oldest.map(ObjectId::to_hex) else {
        return (page.records, page.next);
    };
    let mut records = page.records;
    let next = page.next.filter(|next| next.to_hex() >= oldest);
    records.retain(|record| record.migration_id >= oldest);
    (records, next)
}

/// The lowest id of a record whose document entered temp since then: ids begin with the second in which it did (ADR 2).
fn since(state: &HttpState, search: &str) -> Option<ObjectId> {
    let (_, _, days) = SINCE.iter().find(|(name, _, _)| *name == search)?;
    let now = state.mover.service.engine().clock().now();
    let began = now.timestamp_millis() / 1_000 - days * DAY_SECONDS;
    let began = u32::try_from(began).ok().filter(|_| *days > 0)?;
    let mut id = [0; 12];
    id[..4].copy_from_slice(&began.to_be_bytes());
    Some(ObjectId::from_bytes(id))
}

impl MigrationSearch {
    /// Whether every record is asked for.
    fn is_empty(&self) -> bool {
        [&self.status, &self.user, &self.since, &self.cursor]
            .iter()
            .all(|text| text.is_empty())
    }

    /// The address of the page after this one.
    fn following(&self, cursor: &str) -> String {
        // Whatever is no letter, digit or one of these is no status, user or time either.
        let plain = |text: &str| -> String {
            let fits = |c: &char| c.is_ascii_alphanumeric() || "_-".contains(*c);
            text.chars().filter(fits).collect()
        };
        let (status, user) = (plain(&self.status), plain(&self.user));
        let since = plain(&self.since);
        format!("/ui/migrations?status={status}&user={user}&since={since}&cursor={cursor}")
    }
}

/// How a status looks.
pub(super) fn class(status: &str) -> &'static str {
    match status {
        "completed" => "good",
        "failed" => "bad",
        _ => "warn",
    }
}

/// The size of a record; never below zero.
fn size(record: &MigrationView) -> String {
    bytes(u64::try_from(record.data_size).unwrap_or_default())
}

/// The `_id` of a quarantined document.
pub(super) fn document_id(view: &QuarantineView) -> String {
    match view.document_id.as_str() {
        Some(text) => text.to_owned(),
        None => view.document_id.to_string(),
    }
}
