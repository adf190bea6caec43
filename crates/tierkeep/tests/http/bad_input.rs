//! Input that must be refused: with its documented status and code, and without any change in a database.

use axum::body::{Body, Bytes};
use rstest::rstest;
use tierkeep_identity::RoleClaim;

use crate::common::{Ask, Backend, SUBJECT, World};

const SECTION: &str = "/v1/user/scan_cache";
const MIB: usize = 1 << 20;

struct Row {
    name: &'static str,
    ask: Ask,
    expected: (u16, &'static str),
}

/// Requests with their documented status and code.
fn refused<const N: usize>(
    expected: (u16, &'static str),
    asks: [(&'static str, Ask); N],
) -> Vec<Row> {
    asks.into_iter()
        .map(|(name, ask)| Row {
            name,
            ask,
            expected,
        })
        .collect()
}

/// An object of exactly this many bytes.
fn sized(bytes: usize) -> String {
    let frame = r#"{"a":""}"#.len();
    format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - frame))
}

fn nested(levels: usize) -> String {
    format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels))
}

/// A body of unknown length, in small pieces.
fn chunked(text: String) -> Body {
    let pieces: Vec<_> = text
        .into_bytes()
        .chunks(60_000)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect();
    Body::from_stream(futures_util::stream::iter(pieces))
}

/// A body that breaks off.
fn broken_off() -> Body {
    let pieces = [
        Ok(Bytes::from_static(b"{\"a\"")),
        Err(std::io::Error::other("gone")),
    ];
    Body::from_stream(futures_util::stream::iter(pieces))
}

fn malformed(world: &World, method: &str) -> Vec<Row> {
    let put = |body: &str| world.internal(method, SECTION).json(body.to_owned());
    let sent = |body: Body| world.internal(method, SECTION).json(body);
    refused(
        (400, "malformed"),
        [
            ("an empty body", put("")),
            ("an object left open", put("{")),
            ("a comma too many", put(r#"{"a":1,}"#)),
            ("two objects", put("{}{}")),
            ("not a number", put(r#"{"a":NaN}"#)),
            ("a lone surrogate", put(r#"{"a":"\ud800"}"#)),
            ("no UTF-8", sent((&b"{\"a\":\"\xff\"}"[..]).into())),
            ("a body that breaks off", sent(broken_off())),
        ],
    )
}

fn contents(world: &World, method: &str) -> Vec<Row> {
    let put = |body: &str| world.internal(method, SECTION).json(body.to_owned());
    refused(
        (422, "invalid_content"),
        [
            ("an array", put("[]")),
            ("an array of objects", put("[{}]")),
            ("a text", put(r#""a""#)),
            ("a number", put("7")),
            ("null", put("null")),
            ("an id", put(r#"{"$oid":"507f1f77bcf86cd799439011"}"#)),
            ("an operator", put(r#"{"$set":{"a":1}}"#)),
            ("an operator inside", put(r#"{"a":[{"$where":"1"}]}"#)),
            ("an invalid date", put(r#"{"a":{"$date":"yesterday"}}"#)),
            ("NUL in a key", put(r#"{"a\u0000b":1}"#)),
            ("a key twice", put(r#"{"a":1,"a":1}"#)),
            ("a key twice, inside", put(r#"{"b":{"a":1,"\u0061":1}}"#)),
            ("more than int64", put(r#"{"a":9223372036854775808}"#)),
            ("less than int64", put(r#"{"a":-9223372036854775809}"#)),
            ("a float outside f64", put(r#"{"a":1e999}"#)),
            ("101 levels", put(&nested(101))),
            ("400 levels", put(&nested(400))),
            ("a hundred thousand levels", put(&nested(100_000))),
        ],
    )
}

fn sizes(world: &World, method: &str) -> Vec<Row> {
    let internal = |body: Body| world.internal(method, SECTION).json(body);
    let external = |body: Body| world.external(method, SECTION).json(body);
    let announced = |ask: Ask, bytes: usize| ask.header("content-length", bytes.to_string());
    refused(
        (413, "too_large"),
        [
            ("9 MiB", internal(sized(9 * MIB).into())),
            ("9 MiB in pieces", internal(chunked(sized(9 * MIB)))),
            ("a byte too many", internal(sized(8 * MIB + 1).into())),
            ("announced", announced(internal(Body::empty()), 9 * MIB)),
            ("external", external(sized(MIB + 1).into())),
            ("external in pieces", external(chunked(sized(MIB + 1)))),
            (
                "external, announced",
                announced(external(Body::empty()), MIB + 1),
            ),
        ],
    )
}

fn types(world: &World, method: &str) -> Vec<Row> {
    let untyped = || world.internal(method, SECTION).body(r#"{"a":1}"#);
    let typed = |name: &str| untyped().header("content-type", name);
    let json = || typed("application/json");
    refused(
        (415, "unsupported_media_type"),
        [
            ("no type", untyped()),
            ("plain text", typed("text/plain")),
            ("a form", typed("application/x-www-form-urlencoded")),
            ("a JSON patch", typed("application/json-patch+json")),
            ("another charset", typed("application/json; charset=latin1")),
            ("two types", json().header("content-type", "text/plain")),
            ("compression", json().header("content-encoding", "gzip")),
            ("9 MiB of text", typed("text/plain").body(sized(9 * MIB))),
        ],
    )
}

fn conditions(world: &World, method: &str) -> Vec<Row> {
    let put = |name: &str, value: &[u8]| {
        let ask = world.internal(method, SECTION).json(r#"{"a":1}"#);
        ask.header(name, value)
    };
    let mut rows = refused(
        (400, "malformed"),
        [
            ("an unquoted ETag", put("if-match", b"7")),
            ("an ETag left open", put("if-match", b"\"7")),
            ("an ETag that is no text", put("if-match", b"\"\xff\"")),
            ("If-None-Match with an ETag", put("if-none-match", b"\"7\"")),
        ],
    );
    rows.extend(refused(
        (412, "version_mismatch"),
        [
            ("another version", put("if-match", b"\"8\"")),
            ("a weak ETag", put("if-match", b"W/\"1\"")),
            ("an ETag that is not a version", put("if-match", b"\"abc\"")),
            ("create only", put("if-none-match", b"*")),
            (
                "exclusive",
                put("if-none-match", b"*").header("if-match", "*"),
            ),
        ],
    ));
    rows
}

fn sections(world: &World, method: &str) -> Vec<Row> {
    let to = |path: &str| world.internal(method, path).json(r#"{"a":1}"#);
    let mut rows = refused(
        (404, "unknown_section"),
        [
            ("an unknown section", to("/v1/user/nothing")),
            ("a field of our own", to("/v1/user/metadata")),
            ("the key", to("/v1/user/_id")),
            ("a path into a section", to("/v1/user/scan_cache.a")),
            ("an operator", to("/v1/user/$set")),
            ("upper case", to("/v1/user/SCAN_CACHE")),
            ("a space", to("/v1/user/scan_cache%20")),
            ("an encoded slash", to("/v1/user/scan_cache%2F")),
            ("dots", to("/v1/user/..")),
            ("NUL", to("/v1/user/scan_cache%00")),
            ("no UTF-8", to("/v1/user/%ff%fe")),
            ("half an escape", to("/v1/user/scan_cache%2")),
            (
                "a long name",
                to(&format!("/v1/user/{}", "a".repeat(5_000))),
            ),
        ],
    );
    rows.extend(refused(
        (404, "not_found"),
        [
            ("an empty name", to("/v1/user/")),
            ("a path below a section", to("/v1/user/scan_cache/a")),
            ("a path that is none", to("/v1/users/scan_cache")),
            ("another version of the service", to("/v2/user/scan_cache")),
        ],
    ));
    rows
}

fn names(world: &World, method: &str) -> Vec<Row> {
    let named = |name: &str| world.ask(method, SECTION).named(name).json(r#"{"a":1}"#);
    let query = |part: &str| world.ask(method, SECTION).query(part).json("{}");
    refused(
        (422, "invalid_username"),
        [
            ("an empty name", named("")),
            ("a name without a value", query("username")),
            ("a name of 40 characters", named(&"a".repeat(40))),
            ("a name with a dot", named("a.b")),
            ("a name with a space", named("a+b")),
            ("a name with a slash", named("..%2fadmin")),
            ("a name with NUL", named("a%00")),
            ("a name with a line end", named("a%0d%0aX:1")),
            ("a name that is no ASCII", named("%C3%A4")),
            ("a name that is no UTF-8", named("%ff")),
            ("a name given twice", named("a").named("b")),
            ("the same name given twice", named("a").named("a")),
            ("a name given empty and not", named("").named("a")),
            (
                "with credentials",
                world.internal(method, SECTION).named("a.b"),
            ),
        ],
    )
}

/// What comes first where several things are wrong.
fn orders(world: &World) -> Vec<Row> {
    let huge = || sized(9 * MIB);
    let section = || world.external("PUT", SECTION);
    let nothing = |ask: Ask| ask.body(huge());
    let mut rows = refused(
        (401, "credentials_required"),
        [(
            "nobody, nowhere",
            nothing(world.ask("PUT", "/v1/user/nothing")),
        )],
    );
    rows.extend(refused(
        (404, "unknown_section"),
        [(
            "of no type",
            nothing(world.external("PUT", "/v1/user/nothing")),
        )],
    ));
    rows.extend(refused(
        (415, "unsupported_media_type"),
        [("of no type and too large", nothing(section()))],
    ));
    rows.extend(refused(
        (413, "too_large"),
        [("too large and no JSON", section().json("x".repeat(2 * MIB)))],
    ));
    rows.extend(refused(
        (400, "malformed"),
        [(
            "no JSON, another version",
            section().json("{").header("if-match", "\"9\""),
        )],
    ));
    rows
}

fn removals(world: &World) -> Vec<Row> {
    let hr = world.token(SUBJECT, Some(RoleClaim::Hr));
    let plain = world.token(SUBJECT, None);
    let delete = || world.external("DELETE", SECTION);
    let mut rows = refused(
        (403, "role_required"),
        [
            ("a removal by a user", delete().jwt(&plain)),
            ("a removal by HR", delete().jwt(&hr)),
        ],
    );
    rows.extend(refused(
        (401, "credentials_required"),
        [
            ("a removal by nobody", world.ask("DELETE", SECTION)),
            ("a removal by anybody", delete()),
            (
                "a removal by the past",
                delete().jwt(&world.expired(SUBJECT)),
            ),
        ],
    ));
    let other = world
        .internal("DELETE", SECTION)
        .header("if-match", "\"9\"");
    rows.extend(refused(
        (412, "version_mismatch"),
        [("a removal of another version", other)],
    ));
    let missing = world.internal("DELETE", "/v1/user/analysis_progress");
    rows.extend(refused(
        (404, "section_not_found"),
        [("a removal of nothing", missing)],
    ));
    rows
}

#[rstest]
#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing(
    #[values(Backend::Memory, Backend::Sqlite)] backend: Backend,
) {
    let world = World::new(backend).await;
    let stored = r#"{"kept":true}"#;
    world
        .internal("PUT", SECTION)
        .json(stored)
        .send()
        .await
        .expect(201);
    world
        .external("PUT", SECTION)
        .json(stored)
        .send()
        .await
        .expect(201);
    let before = world.everything().await;

    let mut rows = orders(&world);
    rows.extend(removals(&world));
    for method in ["PUT", "PATCH"] {
        rows.extend(malformed(&world, method));
        rows.extend(contents(&world, method));
        rows.extend(sizes(&world, method));
        rows.extend(types(&world, method));
        rows.extend(conditions(&world, method));
    }
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        rows.extend(sections(&world, method));
        rows.extend(names(&world, method));
    }
    assert!(rows.len() > 200, "{}", rows.len());
    for Row {
        name,
        ask,
        expected: (status, code),
    } in rows
    {
        let outcome = ask.send().await.outcome();
        assert_eq!(outcome, (status, code.to_owned()), "{name}");
        assert_eq!(world.everything().await, before, "{name}");
    }
}

#[rstest]
#[case("POST", "/v1/user/scan_cache", "GET,HEAD,PUT,PATCH,DELETE")]
#[case("OPTIONS", "/v1/user/scan_cache", "GET,HEAD,PUT,PATCH,DELETE")]
#[case("BREW", "/v1/user/scan_cache", "GET,HEAD,PUT,PATCH,DELETE")]
#[case("PUT", "/v1/user", "GET,HEAD,DELETE")]
#[case("POST", "/v1/user", "GET,HEAD,DELETE")]
#[case("PATCH", "/v1/user", "GET,HEAD,DELETE")]
#[case("POST", "/v1/route", "GET,HEAD")]
#[case("POST", "/health/live", "GET,HEAD")]
#[case("POST", "/health/ready", "GET,HEAD")]
#[case("POST", "/openapi.json", "GET,HEAD")]
#[tokio::test]
async fn a_wrong_method_is_told_which_ones_there_are(
    #[case] method: &str,
    #[case] path: &str,
    #[case] allowed: &str,
) {
    let world = World::new(Backend::Memory).await;
    for ask in [world.ask(method, path), world.internal(method, path)] {
        let answer = ask.send().await.refused(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some(allowed));
    }
}

#[tokio::test]
async fn bodies_up_to_the_limits_are_taken() {
    let world = World::new(Backend::Memory).await;
    let largest = sized(8 * MIB);
    let put = world.internal("PUT", SECTION).json(largest.clone());
    put.send().await.expect(201);
    let read = world.internal("GET", SECTION).send().await.expect(200);
    assert!(read.text() == largest);
    let put = world.external("PUT", SECTION).json(chunked(sized(MIB)));
    put.send().await.expect(201);
    let put = world.external("PUT", SECTION).json(nested(100));
    put.send().await.expect(200);
    let read = world.external("GET", SECTION).send().await.expect(200);
    assert_eq!(read.text(), nested(100));
}

#[tokio::test]
async fn a_document_that_would_outgrow_its_limit_is_refused_and_stays() {
    let world = World::new(Backend::Memory).await;
    let put = world.internal("PUT", SECTION).json(sized(8 * MIB));
    put.send().await.expect(201);
    let before = world.everything().await;
    let put = world.internal("PUT", "/v1/user/analysis_progress");
    let put = put.json(sized(8 * MIB)).send().await;
    put.refused(413, "too_large");
    assert!(world.everything().await == before);
}
