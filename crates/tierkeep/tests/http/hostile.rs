//! Forged credentials and requests: none is accepted, nothing is read or written.

use axum::http::HeaderValue;
use rstest::rstest;
use serde_json::Value;
use tierkeep_core::db::Role;

use crate::common::{Ask, Backend, KNOWN_TOKEN, SUBJECT, World};
use crate::tokens::hostile::all;

/// Every route that asks who is asking.
const ROUTES: [(&str, &str); 14] = [
    ("GET", "/v1/user"),
    ("DELETE", "/v1/user"),
    ("GET", "/v1/user/scan_cache"),
    ("PUT", "/v1/user/scan_cache"),
    ("PATCH", "/v1/user/scan_cache"),
    ("DELETE", "/v1/user/scan_cache"),
    ("GET", "/v1/route"),
    ("GET", "/v1/admin/overview"),
    ("GET", "/v1/admin/users/external_reader"),
    ("GET", "/v1/admin/migrations"),
    ("POST", "/v1/admin/migrations/run"),
    ("POST", "/v1/admin/migrations/retry"),
    ("POST", "/v1/admin/mover/pause"),
    ("POST", "/v1/admin/mover/resume"),
];

fn asked(world: &World, method: &str, path: &str) -> Ask {
    let ask = world.ask(method, path).github(KNOWN_TOKEN);
    match method {
        "PUT" | "PATCH" => ask.json("{}"),
        _ => ask,
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_hostile_credential_is_believed_on_any_route(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let honest = world.token(SUBJECT, None);
    let put = asked(&world, "PUT", "/v1/user/scan_cache").jwt(&honest);
    put.send().await.expect(201);
    let mut credentials: Vec<(&str, Vec<Vec<u8>>)> = all()
        .into_iter()
        // After the scheme, spaces are no part of the token.
        .filter(|hostile| hostile.what != "leading space")
        .map(|hostile| {
            (
                hostile.what,
                vec![format!("Bearer {}", hostile.token).into()],
            )
        })
        .collect();
    credentials.extend([
        ("twice", vec![format!("Bearer {honest}").into(); 2]),
        (
            "twice, one of them empty",
            vec![format!("Bearer {honest}").into(), Vec::new()],
        ),
        (
            "two in one",
            vec![format!("Bearer {honest}, Bearer {honest}").into()],
        ),
        ("another scheme", vec![format!("Token {honest}").into()]),
        ("no scheme", vec![honest.clone().into()]),
        ("in quotes", vec![format!("Bearer \"{honest}\"").into()]),
        (
            "a tab for a space",
            vec![format!("Bearer\t{honest}").into()],
        ),
        ("an equals sign", vec![format!("Bearer={honest}").into()]),
        ("a colon", vec![format!("Bearer: {honest}").into()]),
        ("a trailing comma", vec![format!("Bearer {honest},").into()]),
        (
            "a trailing semicolon",
            vec![format!("Bearer {honest};").into()],
        ),
        ("more after it", vec![format!("Bearer {honest} x").into()]),
        (
            "the scheme twice",
            vec![format!("Bearer Bearer {honest}").into()],
        ),
        ("the scheme alone", vec![b"Bearer".to_vec()]),
        (
            "a no-break space",
            vec![[&b"Bearer\xa0"[..], honest.as_bytes()].concat()],
        ),
        (
            "beside another scheme",
            vec![format!("Bearer {honest}").into(), b"Basic eDp5".to_vec()],
        ),
    ]);
    let sendable = |value: &Vec<u8>| HeaderValue::from_bytes(value).is_ok();
    credentials.retain(|(_, values)| values.iter().all(sendable));
    assert!(credentials.len() >= 60, "{}", credentials.len());
    let (before, calls) = (world.everything().await, asked_for_data(&world));
    for (what, values) in &credentials {
        for (method, path) in ROUTES {
            let ask = values
                .iter()
                .fold(asked(&world, method, path), |ask, value| {
                    ask.header("authorization", value)
                });
            let (status, code) = ask.send().await.outcome();
            assert_eq!(
                (status, code.as_str()),
                (401, "credentials_required"),
                "{what}: {method} {path}"
            );
        }
    }
    assert_eq!(asked_for_data(&world), calls, "a database was asked");
    assert_eq!(world.everything().await, before);
}

/// How many calls went to databases that hold people's data. Refusals themselves are put into the audit trail.
fn asked_for_data(world: &World) -> usize {
    let calls = world.faults.calls();
    calls
        .iter()
        .filter(|call| call.database != Role::EvaluationAudit)
        .count()
}

/// Headers that other systems use to identify the caller or to route the request.
fn tricks(world: &World) -> Vec<(&'static str, String)> {
    let admin = world.token(SUBJECT, Some(tierkeep_identity::RoleClaim::Admin));
    let mut tricks: Vec<(&'static str, String)> = [
        ("x-user-type", "internal"),
        ("x-user-id", "internal_507f1f77bcf86cd799439012"),
        ("x-user-role", "admin"),
        ("x-role", "admin"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-user", "admin"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-prefix", "/v1/admin"),
        ("forwarded", "for=127.0.0.1;by=admin"),
        ("x-real-ip", "127.0.0.1"),
        ("x-original-url", "/v1/admin/overview"),
        ("x-rewrite-url", "/v1/admin/overview"),
        ("x-http-method-override", "DELETE"),
        ("x-http-method", "DELETE"),
        ("x-method-override", "DELETE"),
        ("x-github-login", "octocat"),
        ("x-authenticated-user", "admin"),
        ("remote-user", "admin"),
        ("x-username", "somebody"),
        ("username", "somebody"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into();
    tricks.extend([
        (
            "cookie",
            format!("token={admin}; jwt={admin}; session={admin}; username=somebody"),
        ),
        ("x-authorization", format!("Bearer {admin}")),
        ("proxy-authorization", format!("Bearer {admin}")),
        ("x-access-token", admin.clone()),
        ("x-jwt", admin),
    ]);
    tricks
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_header_and_no_query_changes_who_is_asking(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let world = World::new(backend).await;
    let admin = world.token(SUBJECT, Some(tierkeep_identity::RoleClaim::Admin));
    let paths = ["/v1/route", "/v1/user/scan_cache", "/v1/admin/overview"];
    let callers: [fn(&World, &str) -> Ask; 3] = [
        |world, path| world.ask("GET", path),
        |world, path| world.external("GET", path),
        |world, path| world.internal("GET", path),
    ];
    for ask in ["external", "internal"] {
        let put = match ask {
            "external" => world.external("PUT", "/v1/user/scan_cache"),
            _ => world.internal("PUT", "/v1/user/scan_cache"),
        };
        put.json("{}").send().await.expect(201);
    }
    let before = world.everything().await;
    for path in paths {
        for caller in callers {
            let plain = caller(&world, path).send().await;
            let same = |what: &str, answer: crate::common::Answer| {
                let body = |answer: &crate::common::Answer| -> Value { answer.value() };
                assert_eq!(answer.status, plain.status, "{what} on {path}");
                assert_eq!(body(&answer), body(&plain), "{what} on {path}");
                let decision = "tierkeep-decision";
                assert_eq!(
                    answer.header(decision),
                    plain.header(decision),
                    "{what} on {path}"
                );
            };
            for (name, value) in tricks(&world) {
                same(name, caller(&world, path).header(name, value).send().await);
            }
            for name in [
                "access_token",
                "token",
                "jwt",
                "authorization",
                "user_id",
                "user_type",
                "role",
                "Username",
                "_method",
            ] {
                let query = format!("{name}={admin}");
                same(name, caller(&world, path).query(&query).send().await);
            }
        }
    }
    assert_eq!(world.everything().await, before);
}

#[rstest]
#[case("/v1/user/../admin/overview")]
#[case("/v1/user/..%2fadmin/overview")]
#[case("/v1/user/%2e%2e/admin/overview")]
#[case("//v1/admin/overview")]
#[case("/v1//admin/overview")]
#[case("/v1/admin//overview")]
#[case("/v1/admin/overview/")]
#[case("/v1/admin/overview%00")]
#[case("/v1/admin/overview;a=b")]
#[case("/v1/admin/overview%2f")]
#[case("/V1/ADMIN/OVERVIEW")]
#[case("/v1/%61dmin/overview")]
#[case("/v1/admin/./overview")]
#[case("/health/../v1/admin/overview")]
#[case("/v1/user/scan_cache%00")]
#[case("/v1/user/scan_cache/..")]
#[case("/v1/user/SCAN_CACHE")]
#[case("/v1/user/metadata")]
#[case("/v1/user/_id")]
#[case("/v1/user/$where")]
#[tokio::test]
async fn no_path_leads_past_a_check(#[case] path: &str) {
    let world = World::new(Backend::Memory).await;
    world
        .internal("PUT", "/v1/user/scan_cache")
        .json("{}")
        .send()
        .await
        .expect(201);
    let calls = asked_for_data(&world);
    for method in ["GET", "PUT", "DELETE", "POST"] {
        for ask in [world.ask(method, path), world.internal(method, path)] {
            let answer = ask.json("{}").send().await;
            assert!(
                answer.status.is_client_error(),
                "{method} {path}: {answer:?}"
            );
        }
    }
    assert_eq!(asked_for_data(&world), calls, "{path}");
}

#[tokio::test]
async fn a_method_is_the_one_of_the_request_line() {
    let world = World::new(Backend::Memory).await;
    let section = "/v1/user/scan_cache";
    world
        .internal("PUT", section)
        .json("{}")
        .send()
        .await
        .expect(201);
    for name in [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ] {
        let post = world.internal("POST", section).header(name, "DELETE");
        post.send().await.refused(405, "method_not_allowed");
        let get = world.internal("GET", section).header(name, "DELETE");
        get.send().await.expect(200);
    }
    world.internal("GET", section).send().await.expect(200);
}
