//! Nothing secret leaves the service: every route, with every kind of caller, while everything works and while
//! each database is away; then every log line, every answer and everything in `evaluation_audit` is searched.

use bson::Document;
use serde_json::{Value, json};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::{Change, CollectionLayout, Find, Guard, IndexLayout, Layout, Query};
use tierkeep_engine::{AuditDecisions, AuditKeeper, NoProgress, RunOptions};
use tierkeep_identity::RoleClaim;
use tierkeep_testkit::documents::native_user;

use super::logging::listen;
use crate::common::{
    Answer, Backend, HOUR, KNOWN_TOKEN, Options, SECRET, SUBJECT, UNKNOWN_TOKEN, UNREACHABLE_TOKEN,
    World,
};

const CONTENT: &str = "c-marks-the-content";
const STORED: &str = "s-marks-what-is-stored";
const QUERY: &str = "q-marks-the-query";
const HEADER: &str = "h-marks-a-header";

/// What is sent where: a method, a path, a body.
async fn routes(world: &World) -> Vec<(String, String, String)> {
    let document = world.ask("GET", "/openapi.json").send().await.value();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path
                .replace("{section}", "scan_cache")
                .replace("{user_id}", "external_reader");
            for body in bodies(method) {
                routes.push((method.to_uppercase(), path.clone(), body));
            }
        }
    }
    routes
}

fn bodies(method: &str) -> Vec<String> {
    if method == "get" || method == "delete" {
        return vec![String::new()];
    }
    [
        format!(r#"{{"k":"{CONTENT}"}}"#),
        format!(r#"{{"k":"{CONTENT}","k":1}}"#),
        format!(r#"{{"$date":"{CONTENT}"}}"#),
        format!(r#"["{CONTENT}"]"#),
        format!(r#"{{"k":"{CONTENT}"#),
        String::new(),
    ]
    .into()
}

/// A caller: a JWT, a GitHub token and a name.
fn callers(world: &World) -> Vec<[Option<String>; 3]> {
    let jwt = |role| Some(world.token(SUBJECT, role));
    let github = |token: &str| Some(token.to_owned());
    let name = |name: &str| Some(name.to_owned());
    vec![
        [None, None, None],
        [None, None, name("reader")],
        [None, None, name(&format!("{QUERY}."))],
        [jwt(None), github(KNOWN_TOKEN), None],
        [jwt(None), github(UNKNOWN_TOKEN), None],
        [jwt(None), github(UNREACHABLE_TOKEN), None],
        [jwt(None), github(KNOWN_TOKEN), name("reader")],
        [jwt(Some(RoleClaim::Hr)), None, None],
        [jwt(Some(RoleClaim::Admin)), None, None],
        [jwt(Some(RoleClaim::Admin)), None, name("reader")],
        [Some(world.expired(SUBJECT)), github(KNOWN_TOKEN), None],
        [Some(world.forged(SUBJECT)), github(KNOWN_TOKEN), None],
    ]
}

async fn ask_everything(world: &World, answers: &mut Vec<Answer>) {
    let mut asked = Vec::new();
    for (method, path, body) in &routes(world).await {
        for [jwt, github, name] in callers(world) {
            let mut ask = world
                .ask(method, path)
                .query(&format!("x={QUERY}"))
                .header("cookie", HEADER)
                .header("x-api-key", HEADER);
            if let Some(jwt) = &jwt {
                ask = ask.jwt(jwt);
            }
            if let Some(github) = &github {
                ask = ask.github(github);
            }
            if let Some(name) = &name {
                ask = ask.named(name);
            }
            if !body.is_empty() {
                ask = ask.json(body.clone());
            }
            asked.push(ask.send());
        }
    }
    // Concurrently: while a database is away each request waits for it.
    answers.extend(futures_util::future::join_all(asked).await);
}

/// Makes main refuse a document of temp for good: another document holds its unique field.
async fn plant_a_move_that_fails(world: &World) {
    let main = &world.stores[&Role::RaseenMainUser];
    let unique = IndexLayout::over(&["scan_cache.serial"]).unique();
    let layout = Layout {
        collections: vec![CollectionLayout {
            name: "internal_users".into(),
            indexes: vec![unique],
            keeps_out: None,
        }],
    };
    main.prepare(&layout).await.unwrap();
    let now = world.stores[&Role::RaseenTempUser]
        .hello()
        .await
        .unwrap()
        .now;
    let old = clock::before(now, 25 * HOUR);
    let user = |n| {
        let content = bson::rawdoc! { "serial": STORED, "text": STORED };
        native_user(n, 1).dated(old).content(content).build()
    };
    main.insert("internal_users", &[user(1)]).await.unwrap();
    let temp = &world.stores[&Role::RaseenTempUser];
    temp.insert("internal_users", &[user(2)]).await.unwrap();
}

/// Moves what is due, as far as that goes.
async fn move_what_is_due(world: &World) {
    let stop = tokio_util::sync::CancellationToken::new();
    let service = &world.mover.service;
    let run = service.run_beside_others(RunOptions::default(), &NoProgress, &stop);
    run.await.ok();
}

/// Everything in `evaluation_audit`, as text.
async fn records(world: &World) -> String {
    let audit = &world.stores[&Role::EvaluationAudit];
    let names = [
        collection::AUDIT_TRAIL,
        collection::ALERTS,
        collection::MIGRATION_RECORDS,
        collection::CONTROL,
        collection::ERASURES,
        collection::LEASES,
    ];
    let mut text = String::new();
    for name in names {
        let find = Find::new(Query::All).limit(100_000).max_bytes(usize::MAX);
        for document in audit.find(name, &find).await.unwrap() {
            let document = Document::try_from(&document).unwrap();
            text.push_str(&Value::from(bson::Bson::Document(document)).to_string());
            text.push('\n');
        }
    }
    text
}

#[tokio::test]
async fn no_token_key_query_or_content_reaches_a_log_an_error_or_a_record() {
    let options = Options {
        decisions: AuditDecisions::All,
        ..Options::default()
    };
    let world = World::with(Backend::Memory, options).await;
    let (lines, _listening) = listen();
    let put = world.external("PUT", "/v1/user/scan_cache");
    let stored = json!({ "k": STORED }).to_string();
    put.json(stored.clone()).send().await.expect(201);
    let put = world.internal("PUT", "/v1/user/scan_cache");
    put.json(stored).send().await.expect(201);
    plant_a_move_that_fails(&world).await;

    for _ in 0..5 {
        move_what_is_due(&world).await;
        world.clock.advance(2 * HOUR);
    }
    let mut answers = Vec::new();
    ask_everything(&world, &mut answers).await;
    for role in Role::ALL {
        world.faults.set_down(role, true);
        ask_everything(&world, &mut answers).await;
        move_what_is_due(&world).await;
        world.faults.set_down(role, false);
    }
    let trail = world.engine.audit_trail();
    trail.deliver().await.unwrap();
    // A broken chain is reported too.
    let (first, whatever) = (bson::Bson::Int64(1), Guard::Fields(bson::doc! {}));
    let audit = &world.stores[&Role::EvaluationAudit];
    let removed = audit.write(collection::AUDIT_TRAIL, &first, &whatever, &Change::Remove);
    removed.await.unwrap();
    let engine = std::sync::Arc::clone(&world.engine);
    AuditKeeper::new(engine).verify().await.unwrap();

    let records = records(&world).await;
    let log = lines.text();
    for what in [
        "failed_move",
        "audit_chain_broken",
        "\"refused\"",
        "\"erase\"",
        "\"pause\"",
    ] {
        assert!(records.contains(what), "{what} never happened");
    }
    assert!(
        log.contains("broken audit chain") && log.contains("error in"),
        "{log}"
    );
    assert!(
        answers
            .iter()
            .any(|answer| answer.status.as_u16() == 500 + 3)
    );
    let jwts: Vec<String> = callers(&world)
        .into_iter()
        .filter_map(|[jwt, ..]| jwt)
        .collect();
    let tokens = [
        SECRET,
        KNOWN_TOKEN,
        UNKNOWN_TOKEN,
        UNREACHABLE_TOKEN,
        HEADER,
    ];
    let secrets: Vec<&str> = jwts.iter().map(String::as_str).chain(tokens).collect();
    for secret in &secrets {
        assert!(!log.contains(secret), "{secret} in the log");
        assert!(!records.contains(secret), "{secret} in evaluation_audit");
    }
    for content in [CONTENT, STORED, QUERY] {
        assert!(!log.contains(content), "{content} in the log");
        assert!(!records.contains(content), "{content} in evaluation_audit");
    }
    for answer in &answers {
        let said = format!("{:?} {}", answer.headers, answer.text());
        for secret in &secrets {
            assert!(!said.contains(secret), "{secret} in {said}");
        }
        // A refusal may quote the request body, but never stored content.
        let refused = !answer.status.is_success();
        assert!(!(refused && said.contains(STORED)), "{said}");
    }
}
