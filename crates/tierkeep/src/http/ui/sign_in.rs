//! Signing in and out: owns the form, and the cookies.
//!
//! The JWT comes in the body of a POST and goes nowhere from there: not into a page, a URL, a cookie or a log.

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::Response;

use super::form::Fields;
use super::operator::Signed;
use super::page::{Frame, PageResult, Place, Refused, render, see};
use crate::http::request::caller::Admin;
use crate::http::response::problem::Problem;
use crate::http::response::problem::causes::RoleError;
use crate::http::state::HttpState;
use crate::http::state::sessions::{SESSION, cookies, fresh};

/// Ties the sign-in form to the browser that asked for it.
const FORM: &str = "tierkeep_sign_in";
const FORM_PATH: &str = "/ui/sign-in";
const FORM_SECONDS: u64 = 3_600;
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[derive(Template)]
#[template(path = "ui/sign_in.html")]
struct SignIn<'a> {
    frame: Frame,
    csrf: &'a str,
    next: &'a str,
    why: Option<String>,
}

/// The dashboard's sign-in form. The pages are under `/ui/`; the session cookie is not accepted by the API.
#[utoipa::path(
    get,
    path = "/",
    tag = "about",
    operation_id = "dashboard",
    responses((status = 200, description = "the sign-in form", body = String, content_type = "text/html")),
)]
pub(in crate::http) async fn get() -> Response {
    form(StatusCode::OK, Place::Overview.path(), None)
}

/// The form, for a request that needs a session and has none.
pub(super) fn required(parts: &Parts) -> Response {
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let next = if parts.method.is_safe() { path } else { "" };
    let had_one = parts.headers.contains_key(COOKIE);
    let why = had_one.then(|| "The session has ended. Sign in again to continue.".to_owned());
    form(StatusCode::UNAUTHORIZED, inside(next), why)
}

fn form(status: StatusCode, next: &str, why: Option<String>) -> Response {
    let csrf = fresh();
    let page = SignIn {
        frame: Frame::outside("Sign in"),
        csrf: &csrf,
        next,
        why,
    };
    let mut answer = render(status, &page);
    set(
        &mut answer,
        Cookie {
            name: FORM,
            value: &csrf,
            path: FORM_PATH,
            seconds: FORM_SECONDS,
        },
        Scheme::Any,
    );
    answer
}

/// Begins a session for an administrator's JWT.
pub(super) async fn post(State(state): State<HttpState>, request: Request<Body>) -> PageResult {
    let (parts, body) = request.into_parts();
    let head = Parts::clone(&parts);
    let fields = Fields::read(Request::from_parts(parts, body)).await?;
    let known = cookies(&head.headers, FORM).any(|cookie| fields.carries(cookie));
    let next = inside(fields.get("next").unwrap_or_default());
    if !known || is_foreign(&head.headers) {
        let why = "The form has expired or was sent from another site. Please try again.";
        return Ok(form(StatusCode::FORBIDDEN, next, Some(why.to_owned())));
    }
    let given = fields.get("token").unwrap_or_default().trim();
    let token = given.strip_prefix("Bearer ").unwrap_or(given).trim();
    match Admin::signs_in(&state, &head, token).await {
        Ok((admin, believed_until)) => {
            let begun = state.sessions.begin(admin.user().clone(), believed_until);
            let (secret, lasts) = begun;
            let mut answer = see(next);
            let session = Cookie {
                name: SESSION,
                value: &secret,
                path: "/ui/",
                seconds: lasts,
            };
            set(&mut answer, session, Scheme::of(&head.headers));
            set(&mut answer, Cookie::gone(FORM, FORM_PATH), Scheme::Any);
            Ok(answer)
        }
        Err(refused @ (RoleError::JwtRequired(..) | RoleError::RoleRequired(_))) => {
            let problem = Problem::from(refused);
            let why = format!("Not signed in: {problem}.");
            Ok(form(problem.code().status(), next, Some(why)))
        }
        Err(other) => Err(Refused::Problem(other.into())),
    }
}

/// Ends the session.
pub(super) async fn out(
    State(state): State<HttpState>,
    headers: HeaderMap,
    signed: Signed,
) -> Response {
    drop(signed);
    state.sessions.end(&headers);
    let mut answer = see("/");
    set(
        &mut answer,
        Cookie::gone(SESSION, "/ui/"),
        Scheme::of(&headers),
    );
    answer
}

/// Whether another site sent the form. Browsers say so in `Sec-Fetch-Site`, but only to https and to this machine; elsewhere the
/// `Origin` must be the host that was asked. What sends neither is no browser.
fn is_foreign(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(FETCH_SITE) {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let origin = origin.to_str().ok().and_then(|it| it.split_once("://"));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let (Some((scheme, origin)), Some(host)) = (origin, host) else {
        return true;
    };
    let without_port = |host: &str| {
        let port = if scheme == "https" { ":443" } else { ":80" };
        let host = host.strip_suffix(port).unwrap_or(host);
        host.to_ascii_lowercase()
    };
    without_port(origin) != without_port(host)
}

/// A page of ours to go to, whatever came along.
fn inside(next: &str) -> &str {
    let plain = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let page = next.starts_with("/ui/") && !next.starts_with("/ui//");
    let no_action = !next.starts_with(FORM_PATH) && !next.starts_with("/ui/sign-out");
    if plain && page && no_action {
        next
    } else {
        Place::Overview.path()
    }
}

/// The schemes over which the browser may send a cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scheme {
    /// https alone.
    Https,
    /// http too.
    Any,
}

impl Scheme {
    /// https where the browser came over it, as its `Origin` says: proxies in between do not matter. Without `Origin`, https
    /// unless the host is this machine.
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        match text(ORIGIN) {
            Some(origin) if origin.starts_with("http://") => Self::Any,
            Some(origin) if origin.starts_with("https://") => Self::Https,
            Some(_) | None if text(HOST).is_some_and(is_loopback) => Self::Any,
            Some(_) | None => Self::Https,
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A cookie that no script can read.
#[derive(Clone, Copy)]
struct Cookie<'a> {
    name: &'a str,
    value: &'a str,
    path: &'a str,
    /// How long the browser keeps it.
    seconds: u64,
}

impl<'a> Cookie<'a> {
    /// One that the browser drops at once.
    fn gone(name: &'a str, path: &'a str) -> Self {
        Self {
            name,
            value: "",
            path,
            seconds: 0,
        }
    }
}

fn set(answer: &mut Response, cookie: Cookie<'_>, scheme: Scheme) {
    let secure = match scheme {
        Scheme::Https => "; Secure",
        Scheme::Any => "",
    };
    let Cookie {
        name,
        value,
        path,
        seconds,
    } = cookie;
    let cookie = format!(
        "{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    );
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/ui/users?q=a", "/ui/users?q=a")]
    #[case("/ui/", "/ui/")]
    #[case("https://elsewhere.example/ui/", "/ui/")]
    #[case("//elsewhere.example", "/ui/")]
    #[case("/ui//elsewhere.example", "/ui/")]
    #[case("/ui/\\elsewhere", "/ui/")]
    #[case("/ui/sign-in", "/ui/")]
    #[case("/v1/user", "/ui/")]
    fn signing_in_leads_only_to_own_pages(#[case] next: &str, #[case] path: &str) {
        assert_eq!(inside(next), path);
    }

    #[rstest]
    #[case(&[], false)]
    #[case(&[("sec-fetch-site", "same-origin"), ("origin", "https://ops.example"), ("host", "inner:8080")], false)]
    #[case(&[("sec-fetch-site", "none")], false)]
    #[case(&[("sec-fetch-site", "same-site")], true)]
    #[case(&[("sec-fetch-site", "cross-site")], true)]
    #[case(&[("sec-fetch-site", "")], true)]
    #[case(&[("origin", "http://ops.example"), ("host", "ops.example")], false)]
    #[case(&[("origin", "http://Ops.example"), ("host", "ops.example:80")], false)]
    #[case(&[("origin", "https://ops.example:443"), ("host", "ops.example")], false)]
    #[case(&[("origin", "http://127.0.0.1:8080"), ("host", "127.0.0.1:8080")], false)]
    #[case(&[("origin", "http://[::1]:8080"), ("host", "[::1]:8080")], false)]
    #[case(&[("origin", "http://ops.example"), ("host", "ops.example:8080")], true)]
    #[case(&[("origin", "https://elsewhere.example"), ("host", "ops.example")], true)]
    #[case(&[("origin", "https://ops.example.elsewhere.example"), ("host", "ops.example")], true)]
    #[case(&[("origin", "null"), ("host", "ops.example")], true)]
    #[case(&[("origin", ""), ("host", "ops.example")], true)]
    #[case(&[("origin", "https://ops.example")], true)]
    fn a_form_comes_from_the_host_that_was_asked(
        #[case] sent: &[(&'static str, &'static str)],
        #[case] foreign: bool,
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        assert_eq!(is_foreign(&headers), foreign);
    }

    #[rstest]
    #[case(Some("https://ops.example"), "ops.example", true)]
    #[case(Some("http://ops.example"), "ops.example", false)]
    #[case(Some("null"), "ops.example", true)]
    #[case(None, "ops.example:8080", true)]
    #[case(None, "127.0.0.1:8080", false)]
    #[case(None, "localhost", false)]
    #[case(None, "[::1]:8080", false)]
    fn a_cookie_is_for_https_where_the_browser_uses_it(
        #[case] origin: Option<&'static str>,
        #[case] host: &'static str,
        #[case] secure: bool,
    ) {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        headers.insert(HOST, HeaderValue::from_static(host));
        assert_eq!(Scheme::of(&headers) == Scheme::Https, secure);
    }
}
