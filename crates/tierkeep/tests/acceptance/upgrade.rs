//! Two builds side by side on the same databases, in both orders and back again, under writes, moves, erasures and HR records.
//!
//! A full run uses the previous build, which the test command makes from a pinned commit; any other run uses this build
//! twice, which tests two processes of one version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tierkeep::clock::SystemClock;
use tierkeep_core::clock::{self, Clock as _};
use tierkeep_core::db::Role;
use tierkeep_core::store::Query;
use tierkeep_identity::RoleClaim;
use tierkeep_testkit::documents::native_user;
use tokio::time::{Instant, sleep};

use super::audit::{Outage, delivered, spool_of, users_in_trail};
use super::program::{Backend, Deployment, SERVE, Service, github, token, token_of};

const USERS: usize = 6;
const PATIENCE: Duration = Duration::from_mins(1);
const INTERVAL: Duration = Duration::from_millis(20);
/// How many writes each user's writer has acknowledged between two steps of the upgrade.
const WRITES: usize = 6;

/// This build.
fn current() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_tierkeep"))
}

/// The previous build, or this one again.
#[expect(
    clippy::disallowed_methods,
    reason = "the test command hands the build over this way"
)]
fn previous() -> PathBuf {
    std::env::var_os("TIERKEEP_PREVIOUS_BIN").map_or_else(current, PathBuf::from)
}

fn subject(n: usize) -> String {
    format!("507f1f77bcf86cd7994390{n:02}")
}

fn serve(deployment: &Deployment, build: &Path) -> Service {
    Deployment::serve_by(deployment.command_of(build, SERVE))
}

/// Ends a service as an upgrade does.
async fn stop(mut service: Service) {
    let process = Pid::from_raw(service.id().try_into().unwrap()).unwrap();
    kill_process(process, Signal::TERM).unwrap();
    assert!(service.ended().await.success());
}

/// Where requests go; a service that is about to end leaves it first, as a load balancer would see to.
#[derive(Clone, Default)]
struct Balancer(Arc<Mutex<Vec<String>>>, Arc<AtomicUsize>);

impl Balancer {
    fn add(&self, service: &Service) {
        self.0.lock().unwrap().push(service.base.clone());
    }

    fn remove(&self, service: &Service) {
        self.0.lock().unwrap().retain(|base| *base != service.base);
    }

    fn next(&self) -> String {
        let bases = self.0.lock().unwrap();
        bases[self.1.fetch_add(1, Ordering::Relaxed) % bases.len()].clone()
    }
}

/// What one user's writer knows.
#[derive(Clone, Debug, Default)]
struct Known {
    /// What was acknowledged last.
    acknowledged: i64,
    writes: usize,
    refused: Vec<String>,
}

/// Writers, one for each user, that put ever higher numbers, one after the other.
struct Writers {
    known: Arc<Mutex<BTreeMap<usize, Known>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    fn start(balancer: &Balancer) -> Self {
        let mut writers = Self {
            known: Arc::default(),
            stop: Arc::default(),
            tasks: Vec::new(),
        };
        for user in 0..USERS {
            let (balancer, known, stop) = (
                balancer.clone(),
                Arc::clone(&writers.known),
                Arc::clone(&writers.stop),
            );
            writers.tasks.push(tokio::spawn(async move {
                let client = Client::new();
                let token = token(&subject(user));
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let url = format!("{}/v1/user/scan_cache", balancer.next());
                    let put = client.put(url).bearer_auth(&token);
                    let put = put.header("x-github-token", "gho_something");
                    let answer = put.json(&json!({ "n": n })).send().await;
                    let mut known = known.lock().unwrap();
                    let known = known.entry(user).or_default();
                    match answer {
                        Ok(answer) if answer.status().is_success() => {
                            known.acknowledged = n;
                            known.writes += 1;
                        }
                        Ok(answer) => known.refused.push(answer.status().to_string()),
                        Err(error) => known.refused.push(error.to_string()),
                    }
                }
            }));
        }
        writers
    }

    /// Waits until each has had its writes acknowledged since now.
    async fn go_on(&self) {
        let before = self.known.lock().unwrap().clone();
        let began = Instant::now();
        let writes = |known: &BTreeMap<usize, Known>, user| {
            known.get(&user).map_or(0, |known: &Known| known.writes)
        };
        loop {
            let now = self.known.lock().unwrap().clone();
            let wanted = |user: usize| writes(&now, user) >= writes(&before, user) + WRITES;
            if (0..USERS).all(wanted) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{now:?}");
            sleep(INTERVAL).await;
        }
    }

    async fn end(self) -> BTreeMap<usize, Known> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        Arc::into_inner(self.known).unwrap().into_inner().unwrap()
    }
}

async fn read(base: &str, user: usize) -> (StatusCode, Value) {
    let get = Client::new()
        .get(format!("{base}/v1/user/scan_cache"))
        .bearer_auth(token(&subject(user)))
        .header("x-github-token", "gho_something");
    let answer = get.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

async fn erase(base: &str, user: usize) -> StatusCode {
    let delete = Client::new()
        .delete(format!("{base}/v1/user"))
        .bearer_auth(token(&subject(user)))
        .header("x-github-token", "gho_something");
    delete.send().await.unwrap().status()
}

async fn put_hr(base: &str, id: &str, n: i64) -> Value {
    let put = Client::new()
        .put(format!("{base}/v1/hr/hr_candidates/{id}"))
        .bearer_auth(token_of(&subject(0), Some(RoleClaim::Hr)));
    let answer = put.json(&json!({ "n": n })).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    answer.json().await.unwrap()
}

/// Everything that was acknowledged is there for both builds, and nothing that was erased.
async fn nothing_is_lost(
    deployment: &Deployment,
    builds: [&Path; 2],
    known: &BTreeMap<usize, Known>,
    erased: &[usize],
) {
    for build in builds {
        let service = serve(deployment, build);
        for (user, known) in known {
            let (status, found) = read(&service.base, *user).await;
            assert_eq!(status, StatusCode::OK, "{user}: {known:?}");
            assert_eq!(found["n"], known.acknowledged, "{user}");
        }
        for user in erased {
            assert_eq!(read(&service.base, *user).await.0, StatusCode::NOT_FOUND);
        }
        let record = Client::new()
            .get(service.url("/v1/hr/hr_candidates/shared"))
            .bearer_auth(token_of(&subject(0), Some(RoleClaim::Hr)));
        let record: Value = record.send().await.unwrap().json().await.unwrap();
        assert_eq!(record["n"], 6, "{record}");
        stop(service).await;
        let run = |arguments: &[&str]| deployment.command_of(build, arguments).output().unwrap();
        for arguments in [
            &["verify", "--json"][..],
            &["audit", "verify"],
            &["alerts", "list", "--json"],
        ] {
            let output = run(arguments);
            assert!(output.status.success(), "{arguments:?}: {output:?}");
        }
        let status = run(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(
            (&status["failed"], &status["quarantined"]),
            (&json!(0), &json!(0)),
            "{status}"
        );
    }
    let intents = deployment
        .all(Role::EvaluationAudit, "migration_intents")
        .await;
    assert_eq!(intents, []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_builds_work_side_by_side_in_either_order_and_back(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let (previous, current) = (previous(), current());
    side_by_side(backend, [&previous, &current]).await;
    if previous != current {
        side_by_side(backend, [&current, &previous]).await;
    }
}

/// Starts with the first build, brings in the second, and goes back to the first.
async fn side_by_side(backend: Backend, builds: [&Path; 2]) {
    let github = github().await;
    let deployment = Deployment::new(backend)
        .with("GITHUB_API_URL", &github.uri())
        .with("TIERKEEP_RETENTION", "300ms")
        .with("TIERKEEP_SCAN_INTERVAL", "200ms");
    let [first, second] = builds;
    let balancer = Balancer::default();
    let one = serve(&deployment, first);
    balancer.add(&one);
    // Users who are erased later, each through another build than the one that took them.
    let erased = [USERS, USERS + 1];
    let writers = Writers::start(&balancer);
    for user in erased {
        let put = Client::new()
            .put(one.url("/v1/user/scan_cache"))
            .bearer_auth(token(&subject(user)))
            .header("x-github-token", "gho_something");
        assert!(
            put.json(&json!({ "n": 1 }))
                .send()
                .await
                .unwrap()
                .status()
                .is_success()
        );
    }
    put_hr(&one.base, "shared", 1).await;
    writers.go_on().await;

    // The other beside it, then alone.
    let other = serve(&deployment, second);
    balancer.add(&other);
    assert_eq!(erase(&other.base, erased[0]).await, StatusCode::NO_CONTENT);
    for (n, base) in [(2, &other.base), (3, &one.base), (4, &other.base)] {
        put_hr(base, "shared", n).await;
    }
    writers.go_on().await;
    balancer.remove(&one);
    // Each writer has chosen another by then.
    writers.go_on().await;
    stop(one).await;
    writers.go_on().await;

    // And back.
    let again = serve(&deployment, first);
    balancer.add(&again);
    assert_eq!(erase(&again.base, erased[1]).await, StatusCode::NO_CONTENT);
    put_hr(&again.base, "shared", 5).await;
    writers.go_on().await;
    balancer.remove(&other);
    put_hr(&other.base, "shared", 6).await;
    writers.go_on().await;
    stop(other).await;
    writers.go_on().await;
    let known = writers.end().await;
    stop(again).await;
    let refused: Vec<_> = known.values().flat_map(|known| &known.refused).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let moved = deployment.json(&["migrate", "run", "--older-than", "0s", "--json"]);
    assert_eq!(moved["failed"], 0, "{moved}");
    nothing_is_lost(&deployment, builds, &known, &erased).await;
}

/// Documents that a later version may have written: they are neither moved nor changed nor erased by version, and are
/// reported to operators.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_a_newer_form_stays_as_it_is_and_is_reported(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let github = github().await;
    let deployment = Deployment::new(backend).with("GITHUB_API_URL", &github.uri());
    deployment.json(&["init", "--json"]);
    let old = tierkeep_core::bson::DateTime::from_millis(1_700_000_000_000);
    let newer = native_user(7, 3)
        .dated(old)
        .set_meta("schema_version", 2)
        .build();
    let user = tierkeep_core::document::user_id(&newer).unwrap().to_owned();
    let temp = deployment.open(Role::RaseenTempUser).await;
    temp.insert("internal_users", std::slice::from_ref(&newer))
        .await
        .unwrap();
    let run = deployment.json(&["migrate", "run", "--json"]);
    assert_eq!(
        (&run["moved"], &run["quarantined"]),
        (&json!(0), &json!(1)),
        "{run}"
    );
    let service = deployment.serve();
    let subject = user.trim_start_matches("internal_");
    let put = Client::new()
        .put(service.url("/v1/user/scan_cache"))
        .bearer_auth(token(subject))
        .header("x-github-token", "gho_something");
    let refused = put.json(&json!({ "n": 1 })).send().await.unwrap();
    assert!(!refused.status().is_success(), "{refused:?}");
    let doctor = deployment.run(&["doctor", "--json"]);
    let told = String::from_utf8_lossy(&doctor.stdout);
    assert!(told.contains("metadata.schema_version is 2"), "{told}");
    assert_eq!(deployment.users(Role::RaseenTempUser).await, [newer]);
    assert_eq!(deployment.users(Role::RaseenMainUser).await, []);
}

/// How many documents are due when a run is killed.
const DUE: u32 = 2_000;

/// Decisions in the spool, an alert that is open, and a run that was killed while it moved documents.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_build_has_left_open_the_other_completes(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let (previous, current) = (previous(), current());
    left_open(backend, [&previous, &current]).await;
    if previous != current {
        left_open(backend, [&current, &previous]).await;
    }
}

async fn left_open(backend: Backend, [first, second]: [&Path; 2]) {
    let (deployment, outage) = Outage::of(backend).await;
    let deployment = deployment.with("TIERKEEP_SCAN_INTERVAL", "500ms");
    let run = |build: &Path, arguments: &[&str]| {
        let output = deployment.command_of(build, arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output.stdout
    };
    run(first, &["init"]);
    run(first, &["migrate", "pause"]);
    let two_days_ago = clock::before(SystemClock.now(), Duration::from_hours(48));
    let users: Vec<_> = (0..DUE)
        .map(|n| native_user(n, 1).dated(two_days_ago).build())
        .collect();
    let temp = deployment.open(Role::RaseenTempUser).await;
    temp.insert("internal_users", &users).await.unwrap();

    let mut service = serve(&deployment, first);
    let raised = alert(&deployment, first, |alert| alert["resolved_at"].is_null()).await;
    outage.begin();
    let names: Vec<_> = (0..5).map(|n| format!("spooled{n}")).collect();
    for name in &names {
        let url = service.url(&format!("/v1/user/scan_cache?username={name}"));
        let put = Client::new().put(url).json(&json!({})).send().await;
        assert_eq!(put.unwrap().status(), StatusCode::CREATED);
    }
    service.kill();
    outage.end();
    run(first, &["migrate", "resume"]);
    killed_while_moving(&deployment, first).await;

    let service = serve(&deployment, second);
    delivered(&spool_of(&deployment)).await;
    let trail = users_in_trail(&deployment).await;
    for name in &names {
        let user = format!("external_{name}");
        assert_eq!(trail.iter().filter(|it| **it == user).count(), 1, "{user}");
    }
    let resolved = alert(&deployment, second, |alert| !alert["resolved_at"].is_null()).await;
    assert_eq!(resolved["first_at"], raised["first_at"]);
    stop(service).await;
    // What the previous build does not know of is completed by this one.
    run(&current(), &["migrate", "run"]);
    for (role, count) in [(Role::RaseenTempUser, 0), (Role::RaseenMainUser, DUE)] {
        let count = usize::try_from(count).unwrap();
        assert_eq!(deployment.users(role).await.len(), count, "{role}");
    }
    let audit = |collection| deployment.all(Role::EvaluationAudit, collection);
    let records = audit("migration_records").await;
    assert!(
        records
            .iter()
            .all(|it| it.get_str("status").ok() == Some("completed"))
    );
    assert_eq!(records.len(), usize::try_from(DUE).unwrap());
    assert_eq!(audit("migration_intents").await, []);
    for build in [first, second] {
        run(build, &["verify"]);
        run(build, &["audit", "verify"]);
    }
}

/// Waits for the alert about overdue documents to be so, and answers it.
async fn alert(deployment: &Deployment, build: &Path, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let listed = deployment
            .command_of(build, &["alerts", "list", "--all", "--json"])
            .output()
            .unwrap();
        let alerts: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
        let alerts = alerts["items"].as_array().cloned().unwrap_or_default();
        let mut of_kind = alerts
            .into_iter()
            .filter(|it| it["kind"] == "documents_overdue");
        if let Some(found) = of_kind.find(|alert| is_so(alert)) {
            return found;
        }
        assert!(began.elapsed() < 2 * PATIENCE, "{listed:?}");
        sleep(10 * INTERVAL).await;
    }
}

/// Starts a run and ends it after its first documents have reached main.
async fn killed_while_moving(deployment: &Deployment, build: &Path) {
    let arguments = ["migrate", "run", "--max-rate", "200"];
    let mut run = deployment.command_of(build, &arguments).spawn().unwrap();
    let main = deployment.open(Role::RaseenMainUser).await;
    let began = Instant::now();
    while main.count("internal_users", &Query::All).await.unwrap() == 0 {
        assert!(began.elapsed() < PATIENCE);
        sleep(INTERVAL / 4).await;
    }
    run.kill().unwrap();
    run.wait().unwrap();
    assert_ne!(deployment.users(Role::RaseenTempUser).await, []);
}
