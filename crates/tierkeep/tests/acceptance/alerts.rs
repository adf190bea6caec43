//! Alerts are delivered: signed, once, also after outages.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use bson::DateTime;
use bson::raw::RawDocumentBuf;
use futures_util::stream::{self, StreamExt as _};
use rstest::rstest;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tierkeep::clock::SystemClock;
use tierkeep_core::bson;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, Edit};
use tierkeep_core::store::{Change, CollectionLayout, Find, Guard, IndexLayout, Layout, Query};
use tierkeep_testkit::documents::seed_user;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::outage::servers::{ReplicaSet, free_ports};
use super::program::{Backend, Deployment};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PATIENCE: Duration = Duration::from_mins(1);
const INTERVAL: Duration = Duration::from_millis(20);

/// An address with no listener.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

async fn receiver(address: &str, status: u16) -> MockServer {
    let listener = TcpListener::bind(address).unwrap();
    let server = MockServer::builder().listener(listener).start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(status))
        .mount(&server)
        .await;
    server
}

/// The payload of a request whose signature holds.
#[track_caller]
fn verified(request: &Request) -> Value {
    let webhook = Webhook::new(SECRET).unwrap();
    webhook.verify(&request.body, &request.headers).unwrap();
    serde_json::from_slice(&request.body).unwrap()
}

/// The payloads of all that has arrived, once something has.
async fn arrived(server: &MockServer) -> Vec<Value> {
    let mut waited = Duration::ZERO;
    loop {
        let requests = server.received_requests().await.unwrap();
        if !requests.is_empty() {
            return requests.iter().map(verified).collect();
        }
        assert!(waited < PATIENCE, "nothing has arrived");
        tokio::time::sleep(INTERVAL).await;
        waited += INTERVAL;
    }
}

/// Waits until a delivery has failed.
async fn failed(deployment: &Deployment) {
    let audit = deployment.open(Role::EvaluationAudit).await;
    let desk = Find::new(Query::Ids(vec!["alert_delivery/webhook".into()]));
    let mut waited = Duration::ZERO;
    loop {
        let found = audit.find("control", &desk).await.unwrap();
        let failures = found.first().and_then(|desk| desk.get_i32("failures").ok());
        if failures.is_some_and(|failures| failures > 0) {
            return;
        }
        assert!(waited < PATIENCE, "no delivery has failed");
        tokio::time::sleep(INTERVAL).await;
        waited += INTERVAL;
    }
}

const FAILURES: u32 = 1_000;
/// How many of them a message shows.
const SHOWN: usize = 50;
/// How many calls to a database run concurrently.
const AT_ONCE: usize = 16;

/// Another user's document, whose backup is in the way of the move of user `n`.
fn squatter(n: u32, created_at: DateTime) -> RawDocumentBuf {
    let user = seed_user(FAILURES + n, created_at);
    Edit::new().set("n", i64::from(n)).apply(&user)
}

/// Documents that are due and whose moves have failed for good: srie holds their values in a unique index.
async fn given_up(deployment: &Deployment) {
    let old = clock::before(SystemClock.now(), Duration::from_hours(25));
    let temp = deployment.open(Role::RaseenTempUser).await;
    let srie = deployment.open(Role::SrieMainUser).await;
    let main = deployment.open(Role::RaseenMainUser).await;
    let unique = IndexLayout::over(&["n"]).unique();
    let users = CollectionLayout {
        name: "internal_users".into(),
        indexes: vec![unique],
        keeps_out: None,
    };
    let layout = Layout {
        collections: vec![users],
    };
    srie.prepare(&layout).await.unwrap();
    let numbered = |n: u32| Edit::new().set("n", i64::from(n)).apply(&seed_user(n, old));
    let due: Vec<RawDocumentBuf> = (0..FAILURES).map(numbered).collect();
    temp.insert("internal_users", &due).await.unwrap();
    let squatters: Vec<RawDocumentBuf> = (0..FAILURES).map(|n| squatter(n, old)).collect();
    main.insert("internal_users", &squatters).await.unwrap();
    srie.insert("internal_users", &squatters).await.unwrap();
    for _ in 0..4 {
        let run = deployment.run(&["migrate", "run", "--json"]);
        assert_eq!(run.status.code(), Some(1), "{run:?}");
    }
}

async fn clear(deployment: &Deployment) {
    let any = Guard::Fields(bson::doc! {});
    for role in [Role::RaseenMainUser, Role::SrieMainUser] {
        let store = deployment.open(role).await;
        let removed = (0..FAILURES).map(async |n| {
            let id = document::id(&squatter(n, SystemClock.now()));
            let removed = store.write("internal_users", &id, &any, &Change::Remove);
            removed.await.unwrap();
        });
        stream::iter(removed)
            .buffer_unordered(AT_ONCE)
            .for_each(async |()| {})
            .await;
    }
}

/// How many alerts there are, resolved ones too, read in pages of this many.
fn listed(deployment: &Deployment, limit: usize) -> usize {
    let limit = limit.to_string();
    let arguments = ["alerts", "list", "--all", "--json", "--limit", &limit];
    let mut page = deployment.json(&arguments);
    let mut listed = 0;
    loop {
        listed += page["items"].as_array().unwrap().len();
        let Some(next) = page["next_cursor"].as_str() else {
            return listed;
        };
        page = deployment.json(&[&arguments[..], &["--cursor", next]].concat());
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_failures_reach_a_receiver_that_was_down_as_one_message_by_a_service_that_was_killed(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let address = free_address();
    let deployment = Deployment::new(backend)
        .with("TIERKEEP_RETRY_BACKOFF", "0s")
        .with("TIERKEEP_SCAN_INTERVAL", "1h")
        .with(
            "TIERKEEP_ALERT_WEBHOOK_URL",
            &format!("http://{address}/hook"),
        )
        .with("TIERKEEP_ALERT_WEBHOOK_SECRET", SECRET);
    given_up(&deployment).await;
    let mut service = deployment.serve();
    failed(&deployment).await;
    service.kill();

    let server = receiver(&address, 204).await;
    let mut service = deployment.serve();
    let told = arrived(&server).await;
    let [told] = told.as_slice() else {
        panic!("{told:#?}")
    };
    assert_eq!(told["type"], "alert.raised");
    assert_eq!(told["data"]["kind"], "migration_failed");
    assert_eq!(told["data"]["total"], FAILURES);
    let alerts = told["data"]["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), SHOWN);
    assert!(alerts.iter().all(|alert| alert["count"] == 1), "{told:#}");
    service.kill();
    server.reset().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(204))
        .mount(&server)
        .await;

    clear(&deployment).await;
    deployment.json(&["migrate", "retry", "--all", "--json"]);
    let open = deployment.json(&["alerts", "list", "--json"]);
    assert_eq!(open, json!({ "items": [], "next_cursor": null }));
    assert_eq!(listed(&deployment, 300), FAILURES as usize);
    let _service = deployment.serve();
    let told = arrived(&server).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["type"], "alert.resolved");
    assert_eq!(told[0]["data"]["total"], FAILURES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_message_says_whether_it_arrived() {
    let deployment = Deployment::new(Backend::Sqlite);
    let none = deployment.run(&["alerts", "test"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("TIERKEEP_ALERT_WEBHOOK_URL"));

    let address = free_address();
    let deployment = deployment
        .with(
            "TIERKEEP_ALERT_WEBHOOK_URL",
            &format!("http://{address}/hook?key=hunter2"),
        )
        .with("TIERKEEP_ALERT_WEBHOOK_SECRET", SECRET);
    let down = deployment.run(&["alerts", "test"]);
    assert_eq!(down.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&down.stdout),
        "webhook: NOT delivered: connection failed\n"
    );
    let server = receiver(&address, 200).await;
    let tested = deployment.json(&["alerts", "test", "--json"]);
    let outcome = json!({ "channel": "webhook", "delivered": true, "error": null });
    assert_eq!(tested, json!({ "channels": [outcome] }));
    assert_eq!(arrived(&server).await[0]["type"], "alert.test");
    drop(server);

    // A redirect is an answer like any other: nothing is sent where it leads.
    let server = receiver(&free_address(), 307).await;
    let deployment = deployment.with("TIERKEEP_ALERT_WEBHOOK_URL", &server.uri());
    let refused = deployment.run(&["alerts", "test"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("status 307"));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_data_directory_the_signing_secret_is_made_once() {
    let address = free_address();
    let server = receiver(&address, 200).await;
    let deployment = Deployment::new(Backend::Sqlite)
        .with("TIERKEEP_ALERT_WEBHOOK_URL", &format!("http://{address}/"));
    deployment.json(&["alerts", "test", "--json"]);
    deployment.json(&["alerts", "test", "--json"]);
    let data = &deployment.environment["TIERKEEP_DATA_DIR"];
    let secret = std::fs::read_to_string(format!("{data}/webhook.key")).unwrap();
    let webhook = Webhook::new(secret.trim()).unwrap();
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        webhook.verify(&request.body, &request.headers).unwrap();
    }
}

/// A mail server that accepts one mail, and gives the configured answers.
fn mail_server(listener: TcpListener) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut stream = stream;
        let mut heard = String::new();
        let mut in_data = false;
        stream.write_all(b"220 mail\r\n").unwrap();
        while let Some(Ok(line)) = lines.next() {
            heard.push_str(&line);
            heard.push('\n');
            let answer = match line.split(' ').next().unwrap_or_default() {
                "." => {
                    in_data = false;
                    "250 taken\r\n"
                }
                _ if in_data => continue,
                "DATA" => {
                    in_data = true;
                    "354 go on\r\n"
                }
                "QUIT" => "221 bye\r\n",
                _ => "250 ok\r\n",
            };
            if stream.write_all(answer.as_bytes()).is_err() || line == "QUIT" {
                break;
            }
        }
        heard
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_arrives_where_the_setting_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let deployment = Deployment::new(Backend::Sqlite).with(
        "TIERKEEP_ALERT_EMAIL",
        &format!(
            "smtp://{address}?from=tierkeep@example.org&to=ops+day@example.org,night@example.org"
        ),
    );
    let server = mail_server(listener);
    let tested = deployment.run(&["alerts", "test"]);
    assert_eq!(
        String::from_utf8_lossy(&tested.stdout),
        "email: delivered\n"
    );
    let heard = server.join().unwrap();
    for said in [
        "MAIL FROM:<tierkeep@example.org>",
        "RCPT TO:<ops+day@example.org>",
        "RCPT TO:<night@example.org>",
        "Subject: [tierkeep] test message",
        "This is a test message: alerts are delivered to this address.",
    ] {
        assert!(heard.contains(said), "{said:?} is not in: {heard}");
    }
    let gone = deployment.run(&["alerts", "test"]);
    assert_eq!(gone.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&gone.stdout),
        "email: NOT delivered: connection failed\n"
    );
}

/// A service on servers of its own, whose webhook is `receiver`.
fn told_to(receiver: &MockServer, urls: impl Fn(Role) -> String) -> Deployment {
    let mut deployment = Deployment::new(Backend::Mongo)
        .with("TIERKEEP_ALERT_WEBHOOK_URL", &receiver.uri())
        .with("TIERKEEP_ALERT_WEBHOOK_SECRET", SECRET);
    for role in Role::ALL {
        deployment = deployment.with(role.url_variable(), &urls(role));
    }
    assert!(deployment.run(&["init"]).status.success());
    deployment
}

/// Waits for the message that the database of `role` is away, a minute from its loss at most.
async fn until_told_of(receiver: &MockServer, role: Role) {
    let began = std::time::Instant::now();
    loop {
        let requests = receiver.received_requests().await.unwrap();
        let heard = requests.iter().map(verified).any(|told| {
            let alerts = told["data"]["alerts"].as_array().unwrap();
            told["type"] == "alert.raised"
                && alerts
                    .iter()
                    .any(|alert| alert["kind"] == "breaker_open" && alert["subject"] == role.name())
        });
        if heard {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "no message about {role} has arrived"
        );
        tokio::time::sleep(INTERVAL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_every_server_is_stopped_people_are_told_and_the_list_knows_it_afterwards() {
    let receiver = receiver(&free_address(), 204).await;
    let mut set = ReplicaSet::start("dark", &free_ports::<1>()).await;
    let url = |role: Role| set.url(role.name(), "serverSelectionTimeoutMS=2000");
    let deployment = told_to(&receiver, url);
    let service = deployment.serve();
    let stopped = std::time::Instant::now();
    set.kill(0);
    until_told_of(&receiver, Role::EvaluationAudit).await;
    let rest = Duration::from_secs(20).saturating_sub(stopped.elapsed());
    tokio::time::sleep(rest).await;
    // A line for each database, and few about what waits for them.
    let log = service.log.lock().unwrap().clone();
    let wrong = |line: &&String| line.contains("\"WARN\"") || line.contains("\"ERROR\"");
    let wrong: Vec<_> = log.iter().filter(wrong).collect();
    assert!((7..=16).contains(&wrong.len()), "{wrong:#?}");
    set.heal().await;
    let began = std::time::Instant::now();
    loop {
        let listed = deployment.run(&["alerts", "list", "--all", "--json"]);
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
        let known = listed["items"].as_array().is_some_and(|items| {
            items.iter().any(|alert| {
                alert["kind"] == "breaker_open" && alert["subject"] == "evaluation_audit"
            })
        });
        if known {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "the list does not know it: {listed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_of_one_database_that_is_away() {
    let receiver = receiver(&free_address(), 204).await;
    let main = ReplicaSet::start("light", &free_ports::<1>()).await;
    let mut srie = ReplicaSet::start("shade", &free_ports::<1>()).await;
    let deployment = told_to(&receiver, |role| {
        let set = if role == Role::SrieMainUser {
            &srie
        } else {
            &main
        };
        set.url(role.name(), "serverSelectionTimeoutMS=2000")
    });
    let _service = deployment.serve();
    srie.kill(0);
    until_told_of(&receiver, Role::SrieMainUser).await;
}
