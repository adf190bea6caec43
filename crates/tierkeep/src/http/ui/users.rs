//! `/ui/users`: finding a user, and everything about one but the content of the document.

use askama::Template;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tierkeep_core::db::Role;
use tierkeep_core::user::UserId;
use tierkeep_engine::{AuditFilter, Copy, Explanation, Inspector};

use super::audit::{Line, lines};
use super::migrations::class;
use super::operator::Operator;
use super::overview::within;
use super::page::{Frame, PageResult, Place, ok, render, see};
use super::words::{Words, bytes, many};
use crate::http::state::HttpState;
use crate::lookup::candidates;

/// How many entries of the audit trail are shown with a user.
const ENTRIES: usize = 50;

#[derive(Deserialize, Default)]
pub(super) struct UserSearch {
    #[serde(default)]
    q: String,
}

#[derive(Template)]
#[template(path = "ui/users.html")]
struct UserSearchPage {
    frame: Frame,
    q: String,
    /// Why no user was found.
    why: Option<String>,
}

#[derive(Template)]
#[template(path = "ui/user.html")]
struct UserPage {
    frame: Frame,
    words: Words,
    user: Explanation,
    agreement: Agreement,
    decisions: Option<Vec<Line>>,
    more: bool,
    failed: bool,
    /// Whether srie holds a newer copy than main.
    can_restore: bool,
}

/// Whether a user's copies agree.
struct Agreement {
    class: &'static str,
    text: String,
}

/// The form to find a user with; a user that is found has a page.
pub(super) async fn find(
    State(state): State<HttpState>,
    by: Operator,
    query: Result<Query<UserSearch>, QueryRejection>,
) -> PageResult {
    let q = query.map_or_else(|_| String::new(), |Query(search)| search.q);
    if q.trim().is_empty() {
        return ok(&UserSearchPage {
            frame: Frame::inside("Find a user", Some(Place::Users), &by),
            q: String::new(),
            why: None,
        });
    }
    match known(&state, &q).await {
        Some((user, _)) => Ok(see(&format!("/ui/users/{user}"))),
        None => Ok(nobody(&by, q)),
    }
}

/// One user, by id or name.
pub(super) async fn get(
    State(state): State<HttpState>,
    by: Operator,
    text: Result<Path<String>, PathRejection>,
) -> PageResult {
    let text = text.map_or_else(|_| String::new(), |Path(text)| text);
    let Some((id, user)) = known(&state, &text).await else {
        return Ok(nobody(&by, text));
    };
    let filter = AuditFilter {
        kind: None,
        user: Some(id),
    };
    let page = within(state.audit.newest(&filter, None, ENTRIES)).await;
    let more = page.as_ref().is_some_and(|page| page.next.is_some());
    ok(&UserPage {
        frame: Frame::inside(user.user_id.clone(), Some(Place::Users), &by),
        words: by.words,
        agreement: Agreement::of(&user),
        decisions: page.map(|page| lines(&page.items, by.words)),
        more,
        failed: failed(&user),
        can_restore: can_restore(&user),
        user,
    })
}

/// The first of the users that a text may name that is stored, or may be.
async fn known(state: &HttpState, text: &str) -> Option<(UserId, Explanation)> {
    for user in candidates(text) {
        if let Some(explanation) = Inspector::from(&state.mover.service).explain(&user).await {
            return Some((user, explanation));
        }
    }
    None
}

fn nobody(by: &Operator, q: String) -> axum::response::Response {
    let why = if candidates(&q).is_empty() {
        "Not a valid user id or user name. Enter internal_… or external_…, 24 hex digits, or a user name."
    } else {
        "No database holds anything about this user. Every database answered."
    };
    let page = UserSearchPage {
        frame: Frame::inside("User not found", Some(Place::Users), by),
        q,
        why: Some(why.to_owned()),
    };
    render(StatusCode::NOT_FOUND, &page)
}

fn failed(user: &Explanation) -> bool {
    let mut records = user.records.iter().flatten();
    records.any(|record| record.status == "failed")
}

/// Whether srie holds a live copy, and main none or a live one of a lower version.
fn can_restore(user: &Explanation) -> bool {
    let copy = |role: Role| user.copies.iter().find(|copy| copy.database == role);
    let live = |copy: &&Copy| copy.state == LIVE;
    let is_known = !user.unreachable.contains(&Role::RaseenMainUser);
    let is_behind = |srie: &Copy| match copy(Role::RaseenMainUser) {
        Some(main) => live(&main) && main.version < srie.version,
        None => true,
    };
    let srie = copy(Role::SrieMainUser).filter(live);
    is_known && srie.is_some_and(is_behind)
}

impl UserPage {
    fn counts(&self, copy: &Copy) -> bool {
        self.user.authoritative == Some(copy.database)
    }
}

impl Agreement {
    fn of(user: &Explanation) -> Self {
        let say = |class, text: &str| Self {
            class,
            text: text.to_owned(),
        };
        if !user.unreachable.is_empty() {
            return say("warn", "Unknown: not every database answered.");
        }
        if !user.copies.is_empty() && user.copies.iter().all(|copy| copy.state == ERASED) {
            return say(
                "good",
                "Erased: only tombstones are left. They hold no content and are removed when they expire.",
            );
        }
        let several = |role: Role| {
            let of_role = user.copies.iter().filter(|copy| copy.database == role);
            of_role.count() > 1
        };
        if user.copies.iter().any(|copy| several(copy.database)) {
            return say(
                "bad",
                "Several documents in one database claim this user. An operator has to decide which one is current.",
            );
        }
        let copy = |role: Role| user.copies.iter().find(|copy| copy.database == role);
        let (temp, main) = (copy(Role::RaseenTempUser), copy(Role::RaseenMainUser));
        match (main, copy(Role::SrieMainUser)) {
            (Some(main), Some(srie)) if same(main, srie) => match temp {
                Some(temp) if temp.version > main.version => say(
                    "good",
                    "Main and its backup agree; temp holds a newer version, which moves to main when it is due.",
                ),
                Some(temp) if temp.state == LIVE && temp.version < main.version => say(
                    "bad",
                    "Temp holds an older version than main. An operator has to decide which one is current: see the \
                     Migrations page.",
                ),
                Some(_) | None => say(
                    "good",
                    "Main and its backup agree: the same version and the same digest.",
                ),
            },
            (Some(_), Some(_)) => say(
                "bad",
                "Main and its backup differ. This is normal for a moment during a move; otherwise run tierkeep verify.",
            ),
            (Some(_), None) => say("bad", "The copy in main has no backup in srie."),
            (None, Some(_)) if temp.is_none() => {
                say("bad", "Missing in main: only the backup in srie exists.")
            }
            (None, Some(_)) => say(
                "warn",
                "The backup exists, the copy in main does not: a move has started and is not complete.",
            ),
            (None, None) => {
                let count = u64::try_from(user.copies.len()).unwrap_or_default();
                let copies = many(count, "copy", "copies");
                say("good", &format!("Nothing to compare: {copies} in total."))
            }
        }
    }
}

/// How the state of a copy with content is called.
const LIVE: &str = "live";
/// How the state of what is left of an erased user is called.
const ERASED: &str = "erased";

fn same(main: &Copy, srie: &Copy) -> bool {
    main.version == srie.version && main.digest == srie.digest && main.state == srie.state
}

/// Enough of a digest to compare by eye.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// The size of a copy.
fn size(copy: &Copy) -> String {
    bytes(u64::try_from(copy.size).unwrap_or(u64::MAX))
}
