//! Signing in with forged tokens, cookies, forms and origins.

use tierkeep_identity::RoleClaim;

use super::dashboard::{cookies, csrf, form, page, session};
use crate::common::{Ask, Backend, KNOWN_TOKEN, Options, Public, SUBJECT, World};
use crate::tokens::hostile::all;

/// The sign-in form, posted.
fn post(world: &World) -> Ask {
    world.ask("POST", "/ui/sign-in")
}

/// A text as a form carries it.
fn encoded(text: &str) -> String {
    let one = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(one).collect()
}

#[tokio::test]
async fn no_hostile_token_signs_in() {
    let world = World::new(Backend::Memory).await;
    let admin = world.token(SUBJECT, Some(RoleClaim::Admin));
    let mut tokens: Vec<(&str, String)> = all()
        .into_iter()
        // Spaces around a token are cut off, and these are what is left then.
        .filter(|hostile| !matches!(hostile.what, "leading space" | "trailing newline"))
        .map(|hostile| (hostile.what, hostile.token))
        .collect();
    tokens.extend([
        ("twice", format!("{admin} {admin}")),
        ("in quotes", format!("\"{admin}\"")),
        ("the scheme twice", format!("Bearer Bearer {admin}")),
        ("another scheme", format!("Token {admin}")),
        ("a GitHub token", KNOWN_TOKEN.to_owned()),
    ]);
    for (what, token) in tokens {
        let asked = world.ask("GET", "/").send().await.expect(200);
        let ask = post(&world).header("cookie", cookies(&asked).remove(0));
        let fields = [("csrf", csrf(&asked)), ("token", encoded(&token))];
        let fields = fields.each_ref().map(|(name, value)| (*name, &**value));
        let answer = form(ask, &fields).send().await;
        // A form has its own longest size.
        assert!(
            [401, 413].contains(&answer.status.as_u16()),
            "{what}: {answer:?}"
        );
        let begun = cookies(&answer);
        assert!(
            begun.iter().all(|it| !it.starts_with("tierkeep_session")),
            "{what}: {begun:?}"
        );
    }
}

#[tokio::test]
async fn no_made_up_cookie_goes_with_a_made_up_form() {
    let world = World::new(Backend::Memory).await;
    let token = world.token(SUBJECT, Some(RoleClaim::Admin));
    for (cookie, csrf) in [
        (None, None),
        (None, Some("")),
        (Some("tierkeep_sign_in="), None),
        (Some("tierkeep_sign_in="), Some("")),
        (Some("tierkeep_sign_in"), Some("")),
        (Some("tierkeep_sign_in=; tierkeep_sign_in="), Some("")),
        (Some("tierkeep_sign_in=one"), Some("other")),
        (Some("tierkeep_sign_in_=one"), Some("one")),
        (Some("x=tierkeep_sign_in=one"), Some("one")),
    ] {
        let ask = match cookie {
            Some(cookie) => post(&world).header("cookie", cookie),
            None => post(&world),
        };
        let mut fields = vec![("token", token.as_str())];
        fields.extend(csrf.map(|csrf| ("csrf", csrf)));
        let answer = form(ask, &fields).send().await;
        assert_eq!(answer.status, 403, "{cookie:?} {csrf:?}: {answer:?}");
    }
    // Neither does an empty session.
    for cookie in [
        "tierkeep_session=",
        "tierkeep_session",
        "tierkeep_session=;",
    ] {
        page(&world, cookie, "/ui/").await.expect(401);
    }
}

#[tokio::test]
async fn no_other_site_posts_the_form() {
    let world = World::new(Backend::Memory).await;
    let token = world.token(SUBJECT, Some(RoleClaim::Admin));
    let asked = world.ask("GET", "/").send().await.expect(200);
    let (cookie, csrf) = (cookies(&asked).remove(0), csrf(&asked));
    let sent = |headers: &[(&str, &str)]| {
        let ask = post(&world).header("cookie", &cookie);
        let ask = headers
            .iter()
            .fold(ask, |ask, (name, value)| ask.header(name, value));
        form(ask, &[("csrf", &csrf), ("token", &token)]).send()
    };
    let host = ("host", "ops.example:8080");
    for headers in [
        &[host, ("origin", "https://elsewhere.example")][..],
        &[host, ("origin", "http://ops.example")],
        &[host, ("origin", "null")],
        &[host, ("sec-fetch-site", "cross-site")],
        &[host, ("sec-fetch-site", "same-site")],
        &[("origin", "http://ops.example:8080")],
    ] {
        let answer = sent(headers).await.expect(403);
        assert!(
            cookies(&answer)
                .iter()
                .all(|it| !it.starts_with("tierkeep_session")),
            "{headers:?}"
        );
    }
    for headers in [
        &[host, ("origin", "http://ops.example:8080")][..],
        &[host, ("sec-fetch-site", "same-origin")],
        &[],
    ] {
        sent(headers).await.expect(303);
    }
}

#[tokio::test]
async fn a_session_is_worth_nothing_elsewhere_and_no_header_replaces_it() {
    let world = World::new(Backend::Memory).await;
    let cookie = session(&world).await;
    let secret = cookie.split_once('=').unwrap().1;
    for path in ["/v1/admin/overview", "/v1/user", "/v1/hr/hr_candidates"] {
        for (name, value) in [
            ("cookie", cookie.clone()),
            ("authorization", format!("Bearer {secret}")),
            ("authorization", format!("Cookie {cookie}")),
            ("x-session", secret.to_owned()),
        ] {
            let ask = world.ask("GET", path).header(name, value);
            ask.send().await.refused(401, "credentials_required");
        }
    }
    let admin = world.token(SUBJECT, Some(RoleClaim::Admin));
    for (name, value) in [
        ("authorization", format!("Bearer {admin}")),
        ("x-tierkeep-session", secret.to_owned()),
        ("cookie", format!("session={secret}")),
        ("cookie", format!("Tierkeep_Session={secret}")),
        ("cookie2", cookie.clone()),
    ] {
        let ask = world.ask("GET", "/ui/").header(name, value);
        ask.send().await.expect(401);
    }
}

/// Headers that carry a GitHub token in a way that is not the one way.
#[tokio::test]
async fn a_github_token_comes_in_one_header_and_as_it_is() {
    let options = Options {
        public: Some(Public {
            rate: 1_000,
            burst: 1_000,
            new_users: 10,
            concurrency: 10,
            writes: true,
        }),
        ..Options::default()
    };
    let world = World::with(Backend::Memory, options).await;
    let jwt = world.token(SUBJECT, None);
    let known = |name: &'static str, value: String| vec![(name, value)];
    let mut twice = known("x-github-token", KNOWN_TOKEN.into());
    twice.extend(twice.clone());
    for headers in [
        twice,
        known("x-github-token", String::new()),
        known("x-github-token", format!("Bearer {KNOWN_TOKEN}")),
        known("x-github-token", format!("token {KNOWN_TOKEN}")),
        known("x-github-token", format!("{KNOWN_TOKEN}, {KNOWN_TOKEN}")),
        known("x-github-token", format!("{KNOWN_TOKEN}\u{e9}")),
        known("x-github-token", format!("{KNOWN_TOKEN}\t")),
        known("x-github-token", "g".repeat(1_025)),
        known("github-token", KNOWN_TOKEN.into()),
        known("x-github-authorization", KNOWN_TOKEN.into()),
        known("cookie", format!("x-github-token={KNOWN_TOKEN}")),
    ] {
        let ask = world.ask("GET", "/v1/route").jwt(&jwt);
        let ask = headers
            .iter()
            .fold(ask, |ask, (name, value)| ask.header(name, value));
        let answer = ask.send().await;
        assert_eq!(
            answer.outcome(),
            (401, "credentials_required".to_owned()),
            "{headers:?}"
        );
    }
    let padded = world.ask("GET", "/v1/route").jwt(&jwt);
    let padded = padded.github(&format!("  {KNOWN_TOKEN} "));
    padded.send().await.expect(200);
}
