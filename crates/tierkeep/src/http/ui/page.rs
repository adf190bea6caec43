//! What surrounds every page: owns the frame, the headers, and how a refusal looks.
//!
//! Must never let a page load anything from elsewhere, be shown inside another, or keep a page in a cache.

use askama::Template;
use axum::http::StatusCode;
use axum::http::header::{
    CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    REFERRER_POLICY, RETRY_AFTER, X_FRAME_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::asset;
use super::operator::Operator;
use super::words::When;
use crate::http::response::problem::Problem;

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
);
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
/// What refusals are on every other route.
const PROBLEM: &str = "application/problem+json";
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// The parts of the dashboard, in the order of the navigation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Overview,
    Users,
    Migrations,
    Backup,
    Databases,
    Alerts,
    Audit,
    Configuration,
}

impl Place {
    pub(super) const ALL: [Self; 8] = [
        Self::Overview,
        Self::Users,
        Self::Migrations,
        Self::Backup,
        Self::Databases,
        Self::Alerts,
        Self::Audit,
        Self::Configuration,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Users => "Users",
            Self::Migrations => "Migrations",
            Self::Backup => "Backup",
            Self::Databases => "Databases",
            Self::Alerts => "Alerts",
            Self::Audit => "Audit trail",
            Self::Configuration => "Configuration",
        }
    }

    /// Whether the page shows what changes by itself, and is loaded again while it is open.
    fn is_live(self) -> bool {
        match self {
            Self::Overview | Self::Migrations | Self::Backup | Self::Databases | Self::Alerts => {
                true
            }
            Self::Users | Self::Audit | Self::Configuration => false,
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Overview => "/ui/",
            Self::Users => "/ui/users",
            Self::Migrations => "/ui/migrations",
            Self::Backup => "/ui/backup",
            Self::Databases => "/ui/databases",
            Self::Alerts => "/ui/alerts",
            Self::Audit => "/ui/audit",
            Self::Configuration => "/ui/configuration",
        }
    }
}

/// What every page has around what is its own.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) title: String,
    /// What the next page after an action tells.
    pub(super) notice: Option<String>,
    /// The administrator who is signed in, and the page.
    pub(super) inside: Option<Inside>,
    pub(super) style: &'static str,
    pub(super) icon: &'static str,
    pub(super) version: &'static str,
}

/// A page behind the sign-in.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) navigation: [Entry; 8],
    pub(super) user: String,
    pub(super) csrf: String,
    /// When the page was made.
    pub(super) now: When,
    /// When the session ends.
    pub(super) until: When,
    /// The script that keeps the page current.
    pub(super) script: Option<&'static str>,
}

/// An entry of the navigation.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: &'static str,
    pub(super) name: &'static str,
    /// The page is of this part.
    pub(super) here: bool,
}

impl Entry {
    fn all(here: Option<Place>) -> [Self; 8] {
        Place::ALL.map(|place| Self {
            path: place.path(),
            name: place.name(),
            here: here == Some(place),
        })
    }
}

impl Frame {
    /// A page without a session.
    pub(super) fn outside(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            notice: None,
            inside: None,
            style: asset::style_path(),
            icon: asset::ICON_PATH,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// A page for an administrator.
    pub(super) fn inside(title: impl Into<String>, place: Option<Place>, by: &Operator) -> Self {
        let inside = Inside {
            navigation: Entry::all(place),
            user: by.admin.user().to_string(),
            csrf: by.csrf.clone(),
            now: by.words.now(),
            until: by.until,
            script: place
                .filter(|place| place.is_live())
                .map(|_| asset::script_path()),
        };
        Self {
            title: title.into(),
            notice: by.notice.clone(),
            inside: Some(inside),
            ..Self::outside("")
        }
    }
}

/// What handlers of pages answer.
pub(super) type PageResult = Result<Response, Refused>;

/// A refusal as a page.
#[derive(Debug)]
pub(super) enum Refused {
    /// As on every other route.
    Problem(Problem),
    /// A form without the token of its session.
    Form,
}

impl<E: Into<Problem>> From<E> for Refused {
    fn from(problem: E) -> Self {
        Self::Problem(problem.into())
    }
}

#[derive(Template)]
#[template(path = "ui/refused.html")]
struct RefusedPage {
    frame: Frame,
    detail: String,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self::Problem(problem) = self else {
            let page = RefusedPage {
                frame: Frame::outside("The form does not belong to this session"),
                detail: "Nothing was changed. Go back, reload the page and submit the form again."
                    .into(),
            };
            return render(StatusCode::FORBIDDEN, &page);
        };
        let code = problem.code();
        let page = RefusedPage {
            frame: Frame::outside(code.title()),
            detail: problem.detail(),
        };
        let mut answer = render(code.status(), &page);
        // After how long it is worth trying again is said as on every other route.
        if let Some(wait) = problem.into_response().headers_mut().remove(RETRY_AFTER) {
            answer.headers_mut().insert(RETRY_AFTER, wait);
        }
        answer
    }
}

/// Whether this is the path of a page.
pub(in crate::http) fn is_page(path: &str) -> bool {
    path.starts_with("/ui/")
}

/// The answer to a request to a page. A refusal becomes a page, wherever it comes from: a deadline, a panic, a method that no page has.
pub(in crate::http) async fn shown_as_page(answer: Response) -> Response {
    let is_problem = answer
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind == PROBLEM);
    if !is_problem {
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    let text = axum::body::to_bytes(body, MOST_REFUSAL_BYTES).await;
    let said = text
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let said: Said = said.unwrap_or_default();
    let page = RefusedPage {
        frame: Frame::outside(&said.title),
        detail: said.detail,
    };
    let (shown, body) = render(head.status, &page).into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.extend(shown.headers);
    Response::from_parts(head, body)
}

/// More than any refusal says.
const MOST_REFUSAL_BYTES: usize = 64 * 1024;

/// What a refusal says to people.
#[derive(Deserialize, Default)]
struct Said {
    title: String,
    #[serde(default)]
    detail: String,
}

/// This page, with this status.
pub(super) fn render(status: StatusCode, page: &impl Template) -> Response {
    let Ok(text) = page.render() else {
        return Problem::Internal.into_response();
    };
    let mut answer = Response::new(text.into());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HTML);
    guard(headers);
    answer
}

/// What keeps a page to itself.
pub(super) fn guard(headers: &mut axum::http::HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    let same_origin = HeaderValue::from_static("same-origin");
    headers.insert(REFERRER_POLICY, same_origin.clone());
    headers.insert(OPENER_POLICY, same_origin);
}

/// This page, with 200.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it is the last line of handlers that may refuse"
)]
pub(super) fn ok(page: &impl Template) -> PageResult {
    Ok(render(StatusCode::OK, page))
}

/// Look there next, with GET.
pub(super) fn see(path: &str) -> Response {
    let mut answer = Response::new(axum::body::Body::empty());
    *answer.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(place) = HeaderValue::try_from(path) {
        answer.headers_mut().insert(LOCATION, place);
    }
    guard(answer.headers_mut());
    answer
}
