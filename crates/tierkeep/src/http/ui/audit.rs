//! `/ui/audit`: the audit trail, the newest entries first.

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::Value;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::store::StoreError;
use tierkeep_engine::{AuditFilter, Listed};

use super::operator::Operator;
use super::overview::within;
use super::page::{Frame, PageResult, Place, ok};
use super::words::{When, Words};
use crate::http::response::problem::Problem;
use crate::http::state::HttpState;
use crate::lookup::candidates;

/// How many entries are on a page.
const PAGE: usize = 50;

/// What the form asks for.
#[derive(Deserialize, Default)]
pub(super) struct AuditSearch {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    user: String,
    /// Only entries before this place.
    #[serde(default)]
    before: String,
}

/// An entry as pages show it.
pub(super) struct Line {
    pub(super) seq: String,
    pub(super) at: When,
    pub(super) kind: String,
    pub(super) user: Option<String>,
    pub(super) actor: String,
    pub(super) decision: String,
    pub(super) reason: String,
    pub(super) request: String,
}

#[derive(Template)]
#[template(path = "ui/audit.html")]
struct Audit {
    frame: Frame,
    search: AuditSearch,
    kinds: [&'static str; 8],
    /// None while the audit database is unavailable.
    lines: Option<Vec<Line>>,
    next: Option<String>,
    nobody: bool,
}

/// A page of the trail.
pub(super) async fn get(
    State(state): State<HttpState>,
    by: Operator,
    query: Result<Query<AuditSearch>, QueryRejection>,
) -> PageResult {
    let Query(search) = query.map_err(|_| Problem::Malformed("the query cannot be read"))?;
    let user = candidates(&search.user).into_iter().next();
    let nobody = user.is_none() && !search.user.trim().is_empty();
    let filter = AuditFilter {
        kind: AuditKind::parse(&search.kind),
        user,
    };
    let found = if nobody {
        Some((Vec::new(), None))
    } else {
        within(newest(&state, &search, &filter, by.words)).await
    };
    let (lines, next) = found.map_or((None, None), |(lines, next)| (Some(lines), next));
    ok(&Audit {
        frame: Frame::inside("Audit trail", Some(Place::Audit), &by),
        search,
        kinds: AuditKind::ALL.map(AuditKind::as_str),
        lines,
        next,
        nobody,
    })
}

/// What of the trail is shown, and the address of what follows.
type Found = (Vec<Line>, Option<String>);

/// The last entries before a place, or of all, that the filter lets through; and where those before them are.
async fn newest(
    state: &HttpState,
    search: &AuditSearch,
    filter: &AuditFilter,
    words: Words,
) -> Result<Found, StoreError> {
    let before = search.before.parse().ok();
    let page = state.audit.newest(filter, before, PAGE).await?;
    let kind = filter.kind.map_or("", AuditKind::as_str);
    let user = filter.user.as_ref().map_or("", |user| user.as_str());
    let next = page.next;
    let next = next.map(|at| format!("/ui/audit?kind={kind}&user={user}&before={at}"));
    Ok((lines(&page.items, words), next))
}

/// Entries as pages show them.
pub(super) fn lines(items: &[Listed], words: Words) -> Vec<Line> {
    let line = |listed: &Listed| {
        let value = serde_json::to_value(listed).unwrap_or_default();
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let entry = matches!(listed, Listed::Entry(_));
        let seq = value.get("seq").and_then(Value::as_i64);
        Line {
            seq: seq.map_or_else(String::new, |seq| seq.to_string()),
            at: words.when(text("at").as_deref()),
            kind: text("kind").unwrap_or_else(|| "unreadable".into()),
            user: text("user_id"),
            actor: text("actor").unwrap_or_default(),
            decision: text("decision").unwrap_or_default(),
            reason: text("reason").unwrap_or_else(|| {
                let why = "this entry was changed; run `tierkeep audit verify` for details";
                if entry { String::new() } else { why.into() }
            }),
            request: text("request_id").unwrap_or_default(),
        }
    };
    items.iter().map(line).collect()
}
