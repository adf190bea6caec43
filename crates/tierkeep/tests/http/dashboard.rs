//! The dashboard: who gets in, what its forms need, and what its pages never show.

use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::user::UserId;
use tierkeep_identity::RoleClaim;
use tierkeep_testkit::documents::native_user;
use tierkeep_testkit::fault::{Fault, Moment};

use crate::common::{Answer, Ask, Backend, HOUR, Options, Public, SUBJECT, World};

const PAGES: [&str; 12] = [
    "/ui/",
    "/ui/users",
    "/ui/users/external_reader",
    "/ui/migrations",
    "/ui/backup",
    "/ui/databases",
    "/ui/databases?contents=all",
    "/ui/alerts",
    "/ui/audit",
    "/ui/configuration",
    "/ui/actions/pause",
    "/ui/actions/verify",
];
const CONTENT: &str = "what-is-in-the-document";

/// The value of the hidden field `csrf` of a page.
pub(super) fn csrf(page: &Answer) -> String {
    let (_, rest) = page.text().split_once("name=\"csrf\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// The cookies that an answer sets, as they are sent back.
pub(super) fn cookies(answer: &Answer) -> Vec<String> {
    let all = answer.headers.get_all("set-cookie").into_iter();
    all.map(|line| line.to_str().unwrap().to_owned()).collect()
}

pub(super) fn form(ask: Ask, fields: &[(&str, &str)]) -> Ask {
    let pairs = fields.iter().map(|(name, value)| format!("{name}={value}"));
    let body = pairs.collect::<Vec<_>>().join("&");
    ask.header("content-type", "application/x-www-form-urlencoded")
        .body(body)
}

/// What the form answers to this token.
async fn sign_in(world: &World, token: &str) -> Answer {
    let page = world.ask("GET", "/").send().await.expect(200);
    let cookie = cookies(&page).remove(0);
    let ask = world.ask("POST", "/ui/sign-in").header("cookie", cookie);
    let fields = [("csrf", csrf(&page)), ("token", token.to_owned())];
    let fields = fields
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    form(ask, &fields).send().await
}

/// The cookie of an administrator's session.
pub(super) async fn session(world: &World) -> String {
    let token = world.token(SUBJECT, Some(RoleClaim::Admin));
    let answer = sign_in(world, &token).await.expect(303);
    assert_eq!(answer.header("location"), Some("/ui/"));
    let cookie = cookies(&answer).remove(0);
    cookie.split(';').next().unwrap().to_owned()
}

pub(super) async fn page(world: &World, cookie: &str, path: &str) -> Answer {
    world.ask("GET", path).header("cookie", cookie).send().await
}

#[tokio::test]
async fn without_a_session_every_page_is_the_sign_in_form() {
    let world = World::new(Backend::Memory).await;
    let front = world.ask("GET", "/").send().await.expect(200);
    assert!(front.text().contains("name=\"token\" type=\"password\""));
    for path in PAGES {
        let answer = world.ask("GET", path).send().await.expect(401);
        assert!(answer.text().contains("action=\"/ui/sign-in\""), "{path}");
        let guessed = page(&world, "tierkeep_session=guessed", path).await;
        guessed.expect(401);
        // Neither is a JWT a session.
        let jwt = world.token(SUBJECT, Some(RoleClaim::Admin));
        world.ask("GET", path).jwt(&jwt).send().await.expect(401);
    }
    let post = world.ask("POST", "/ui/actions/pause");
    form(post, &[]).send().await.expect(401);
}

#[tokio::test]
async fn the_cookie_is_for_the_dashboard_alone_and_for_an_hour_at_most() {
    let world = World::new(Backend::Memory).await;
    let token = world.token(SUBJECT, Some(RoleClaim::Admin));
    let answer = sign_in(&world, &token).await.expect(303);
    let cookie = cookies(&answer).remove(0);
    for part in [
        "; Path=/ui/;",
        "; HttpOnly",
        "; SameSite=Strict",
        "; Max-Age=3600",
        "; Secure",
    ] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap();
    for path in ["/v1/admin/overview", "/v1/admin/migrations"] {
        let answer = page(&world, cookie, path).await;
        answer.refused(401, "credentials_required");
    }
    page(&world, cookie, "/ui/").await.expect(200);
    world.jwt_clock.advance(HOUR);
    page(&world, cookie, "/ui/").await.expect(401);
}

#[tokio::test]
async fn a_session_is_no_longer_than_the_jwt_that_opened_it() {
    let world = World::new(Backend::Memory).await;
    let token = world.token(SUBJECT, Some(RoleClaim::Admin));
    world.jwt_clock.advance(HOUR / 2);
    let answer = sign_in(&world, &token).await.expect(303);
    let cookie = cookies(&answer).remove(0);
    assert!(cookie.contains("Max-Age=1800"), "{cookie}");
}

#[tokio::test]
async fn the_dashboard_refuses_callers_who_are_not_administrators() {
    let world = World::new(Backend::Memory).await;
    for (token, status) in [
        (world.expired(SUBJECT), 401),
        (world.forged(SUBJECT), 401),
        ("nonsense".to_owned(), 401),
        (String::new(), 401),
        (world.token(SUBJECT, None), 403),
        (world.token(SUBJECT, Some(RoleClaim::Hr)), 403),
    ] {
        let answer = sign_in(&world, &token).await.expect(status);
        let cookies = cookies(&answer);
        assert!(cookies.iter().all(|it| !it.starts_with("tierkeep_session")));
        let said = format!("{:?} {}", answer.headers, answer.text());
        assert!(token.is_empty() || token == "nonsense" || !said.contains(&token));
    }
}

#[tokio::test]
async fn failed_sign_ins_have_the_bucket_of_failed_authentication() {
    let public = Public {
        rate: 1,
        burst: 3,
        new_users: 10,
        concurrency: 10,
        writes: true,
    };
    let options = Options {
        public: Some(public),
        ..Options::default()
    };
    let world = World::with(Backend::Memory, options).await;
    for _ in 0..3 {
        sign_in(&world, "nonsense").await.expect(401);
    }
    let answer = sign_in(&world, "nonsense").await.expect(429);
    assert!(answer.header("retry-after").is_some());
    session(&world).await;
}

#[tokio::test]
async fn a_form_without_its_csrf_token_is_refused() {
    let world = World::new(Backend::Memory).await;
    let token = world.token(SUBJECT, Some(RoleClaim::Admin));
    let ask = world.ask("POST", "/ui/sign-in");
    form(ask, &[("token", &token)]).send().await.expect(403);
    let cookie = session(&world).await;
    let before = world.everything().await;
    let post = |path| world.ask("POST", path).header("cookie", &cookie);
    for path in [
        "/ui/actions/pause",
        "/ui/actions/resume",
        "/ui/actions/run",
        "/ui/actions/retry",
        "/ui/actions/verify",
        "/ui/actions/restore",
        "/ui/actions/release",
        "/ui/actions/keep-main",
        "/ui/actions/download",
        "/ui/sign-out",
    ] {
        form(post(path), &[]).send().await.expect(403);
        let guessed = form(post(path), &[("csrf", "guessed")]);
        guessed.send().await.expect(403);
        post(path).json("{}").send().await.expect(415);
    }
    assert_eq!(world.everything().await, before);
    page(&world, &cookie, "/ui/").await.expect(200);
}

/// The page without the one element that loads the dashboard's own script; each page has it once at most.
fn without_own_script(page: &str) -> String {
    let begin = "<script src=\"/ui/live.js?v=";
    let end = "\" defer></script>";
    let Some((before, after)) = page.split_once(begin) else {
        return page.to_owned();
    };
    let (hash, after) = after.split_once(end).unwrap();
    assert!(hash.chars().all(|c| c.is_ascii_hexdigit()), "{hash}");
    format!("{before}{after}")
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_and_stay_in_no_cache() {
    let world = World::new(Backend::Memory).await;
    let put = world.external("PUT", "/v1/user/scan_cache").json("{}");
    put.send().await.expect(201);
    let cookie = session(&world).await;
    let front = world.ask("GET", "/").send().await;
    let mut pages = vec![front];
    for path in PAGES {
        pages.push(page(&world, &cookie, path).await.expect(200));
    }
    pages.push(
        page(&world, &cookie, "/ui/users/nobody-here")
            .await
            .expect(404),
    );
    pages.push(page(&world, &cookie, "/ui/nothing").await.expect(404));
    for answer in &pages {
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'self'"),
            "{policy}"
        );
        assert!(
            !policy.contains("http") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        let text = without_own_script(answer.text());
        for word in ["<script", " style=", "=\"http", "=\"//", "onclick"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
    let style = world.ask("GET", "/ui/style.css").send().await.expect(200);
    assert_eq!(
        style.header("content-type"),
        Some("text/css; charset=utf-8")
    );
    assert!(!style.text().contains("url("));
    let script = world.ask("GET", "/ui/live.js").send().await.expect(200);
    assert_eq!(
        script.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    for word in ["http", "eval", "innerHTML = "] {
        assert!(!script.text().contains(word), "{word}");
    }
}

#[tokio::test]
async fn hostile_texts_are_shown_as_texts_and_content_is_not_shown() {
    let world = World::new(Backend::Memory).await;
    let hostile = "<script>alert(1)</script>\"'&";
    let temp = &world.stores[&Role::RaseenTempUser];
    let nameless =
        bson::rawdoc! { "_id": hostile, "user_id": "<b>", "created_at": "never", "x": CONTENT };
    temp.insert("internal_users", &[nameless]).await.unwrap();
    let put = world.external("PUT", "/v1/user/scan_cache");
    let put = put.json(format!("{{\"k\":\"{CONTENT}\"}}"));
    put.send().await.expect(201);
    let stop = world.mover.stop.clone();
    let run = world.mover.service.migrate_expired_data(
        tierkeep_engine::RunOptions::default(),
        &tierkeep_engine::NoProgress,
        &stop,
    );
    run.await.unwrap();
    let cookie = session(&world).await;
    let mut quarantined = 0;
    let searched = "/ui/users?q=%3Cscript%3Ealert(1)%3C/script%3E";
    let filtered = "/ui/migrations?user=%22%3E%3Cscript%3E&status=%22%3E";
    let trail = "/ui/audit?user=%22%3E%3Cscript%3E";
    for path in PAGES.into_iter().chain([searched, filtered, trail]) {
        let answer = page(&world, &cookie, path).await;
        let text = without_own_script(answer.text());
        assert!(!text.contains("<script"), "{text}");
        assert!(!text.contains(CONTENT), "{text}");
        quarantined += usize::from(text.contains("&#60;script&#62;alert(1)"));
    }
    assert!(quarantined >= 3, "{quarantined}");
}

#[tokio::test]
async fn the_dashboard_moves_with_what_operators_look_at() {
    let world = World::new(Backend::Memory).await;
    let routers = tierkeep::http::routers(world.state.clone());
    let cookie = session(&world).await;
    let status = async |router: &axum::Router, path: &str| {
        let ask = Ask::new(router.clone(), "GET", path).header("cookie", &cookie);
        ask.send().await.status.as_u16()
    };
    for path in PAGES
        .into_iter()
        .chain(["/", "/ui/style.css", "/ui/icon.svg"])
    {
        let status = (
            status(&routers.ops, path).await,
            status(&routers.public, path).await,
        );
        // The user of one of the pages does not exist.
        let there = if path == "/ui/users/external_reader" {
            404
        } else {
            200
        };
        assert_eq!(status, (there, 404), "{path}");
    }
}

#[tokio::test]
async fn whatever_refuses_a_request_to_a_page_is_shown_as_a_page() {
    let world = World::new(Backend::Memory).await;
    let cookie = session(&world).await;
    let is_page = |answer: &Answer| {
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert!(answer.text().starts_with("<!doctype html>"));
    };
    let post = world.ask("POST", "/ui/users").header("cookie", &cookie);
    let answer = form(post, &[]).send().await.expect(405);
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    is_page(&answer);
    // Elsewhere a refusal stays what it is.
    let answer = world.ask("POST", "/v1/route").send().await;
    answer.refused(405, "method_not_allowed");

    let limits = tierkeep::http::Limits {
        request_timeout: std::time::Duration::ZERO,
        ..tierkeep::http::Limits::default()
    };
    let hurried = tierkeep::http::Shared {
        limits,
        ..tierkeep::http::Shared::clone(&world.state)
    };
    let router = tierkeep::http::router(hurried.into());
    let _held = world.faults.hold(Fault::nth(1, Moment::Before).of("hello"));
    let ask = Ask::new(router, "GET", "/ui/").header("cookie", &cookie);
    let answer = ask.send().await.expect(503);
    assert!(answer.header("retry-after").is_some());
    is_page(&answer);
}

#[tokio::test]
async fn a_user_is_found_by_id_and_by_name_in_any_case() {
    let world = World::new(Backend::Memory).await;
    let put = world.external("PUT", "/v1/user/scan_cache").json("{}");
    put.send().await.expect(201);
    let cookie = session(&world).await;
    for text in ["reader", "READER", "External_Reader"] {
        let found = page(&world, &cookie, &format!("/ui/users?q={text}")).await;
        let found = found.expect(303);
        assert_eq!(found.header("location"), Some("/ui/users/external_reader"));
        let shown = page(&world, &cookie, &format!("/ui/users/{text}")).await;
        let shown = shown.expect(200);
        assert!(shown.text().contains("<code>external_users</code>"));
        assert!(shown.text().contains("decision"), "{}", shown.text());
    }
    page(&world, &cookie, "/ui/users?q=nobody")
        .await
        .expect(404);
}

#[tokio::test]
async fn what_is_left_of_an_erased_user_is_no_difference() {
    let world = World::new(Backend::Memory).await;
    let user = native_user(1, 1);
    let id = user.id().to_owned();
    let temp = &world.stores[&Role::RaseenTempUser];
    temp.insert("internal_users", &[user.build()])
        .await
        .unwrap();
    let erased = UserId::parse(&id).unwrap();
    world.state.erasures.erase(&erased).await.unwrap();
    let cookie = session(&world).await;
    let shown = page(&world, &cookie, &format!("/ui/users/{id}")).await;
    let shown = shown.expect(200);
    let shown = shown.text();
    assert!(shown.contains("only tombstones are left"), "{shown}");
    assert!(!shown.contains("tag bad"), "{shown}");
}

#[tokio::test]
async fn the_overview_is_there_whatever_database_is_away() {
    let world = World::new(Backend::Memory).await;
    let cookie = session(&world).await;
    let calm = page(&world, &cookie, "/ui/").await.expect(200);
    let calm = calm.text();
    assert!(calm.contains("Data is safe: every database answers"));
    for role in Role::ALL {
        let world = World::new(Backend::Memory).await;
        let cookie = session(&world).await;
        world.faults.set_down(role, true);
        let overview = page(&world, &cookie, "/ui/").await.expect(200);
        let overview = overview.text();
        assert!(
            overview.contains(&format!("{role} is unavailable")),
            "{role}"
        );
        assert!(!overview.contains("Data is safe: every"), "{role}");
        let rows = page(&world, &cookie, "/ui/databases").await.expect(200);
        assert!(rows.text().contains(role.url_variable()), "{role}");
        let rows = page(&world, &cookie, "/ui/databases?contents=all").await;
        let silent = rows.expect(200).text().matches("did not answer").count();
        assert_eq!(silent, 1, "{role}");
    }
}

#[tokio::test]
async fn signing_out_ends_the_session() {
    let world = World::new(Backend::Memory).await;
    let cookie = session(&world).await;
    let overview = page(&world, &cookie, "/ui/").await.expect(200);
    let out = world.ask("POST", "/ui/sign-out").header("cookie", &cookie);
    let out = form(out, &[("csrf", &csrf(&overview))]).send().await;
    assert_eq!(out.expect(303).header("location"), Some("/"));
    page(&world, &cookie, "/ui/").await.expect(401);
}

#[tokio::test]
async fn secrets_are_not_among_the_settings_shown() {
    let world = World::new(Backend::Memory).await;
    let cookie = session(&world).await;
    let shown = page(&world, &cookie, "/ui/configuration").await.expect(200);
    assert!(shown.text().contains("<code>*** (set)</code>"));
    assert!(!shown.text().contains(crate::common::SECRET));
    assert!(shown.text().contains("TIERKEEP_RETENTION"));
}
