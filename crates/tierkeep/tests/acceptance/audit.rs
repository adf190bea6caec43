//! The audit trail of the built binary: two services that are killed at any moment, and a database that goes
//! away and returns.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rand::RngExt;
use reqwest::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep_core::db::{Role, collection};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::program::{Backend, Deployment, mongo_url};

const KEY: &str = "a key that only these tests have";

pub(super) async fn users_in_trail(deployment: &Deployment) -> Vec<String> {
    let name = collection::AUDIT_TRAIL;
    let entries = deployment.all(Role::EvaluationAudit, name).await;
    let users = entries.iter().filter_map(|it| it.get_str("user_id").ok());
    users.map(str::to_owned).collect()
}

fn verified(deployment: &Deployment, arguments: &[&str]) -> (Option<i32>, Value) {
    let command = [&["audit", "verify", "--json"], arguments].concat();
    let output = deployment.run(&command);
    let found = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        found.unwrap_or_else(|_| panic!("{output:?}")),
    )
}

/// Writes as ever new users until the service is gone; answers whose writes were acknowledged, and counts them.
async fn write_as_many(
    base: String,
    client: reqwest::Client,
    names: String,
    count: Arc<AtomicUsize>,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        let name = format!("{names}-{n}");
        let url = format!("{base}/v1/user/scan_cache?username={name}");
        match client.put(&url).json(&json!({ "n": n })).send().await {
            Ok(answer) if answer.status() == StatusCode::CREATED => {
                acknowledged.push(name);
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => panic!("{}", answer.status()),
            Err(_) => break,
        }
    }
    acknowledged
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_chain_holds_when_two_services_are_killed_under_load_and_no_entry_comes_too_late(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend).with("TIERKEEP_AUDIT_KEY", KEY);
    let spool = deployment.dir.path().join("spool");
    let deployment = deployment.with("TIERKEEP_SPOOL_DIR", &spool.display().to_string());
    let client = reqwest::Client::new();
    let mut random = rand::rng();
    let mut acknowledged = Vec::new();
    let mut heads = Vec::new();
    for round in 0..4 {
        let mut services = [deployment.serve(), deployment.serve()];
        let mut writers = JoinSet::new();
        let counts: [Arc<AtomicUsize>; 2] = Default::default();
        for (of, (service, count)) in services.iter().zip(&counts).enumerate() {
            for writer in 0..4 {
                let names = format!("r{round}s{of}w{writer}");
                let base = service.base.clone();
                writers.spawn(write_as_many(
                    base,
                    client.clone(),
                    names,
                    Arc::clone(count),
                ));
            }
        }
        // Both are at work when they are killed, at whatever moment.
        let at_work = async {
            while counts.iter().any(|it| it.load(Ordering::Relaxed) < 3) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let at_work = tokio::time::timeout(Duration::from_mins(1), at_work);
        at_work.await.unwrap();
        let wait = Duration::from_millis(random.random_range(0..200));
        tokio::time::sleep(wait).await;
        services.iter_mut().for_each(super::program::Service::kill);
        acknowledged.extend(writers.join_all().await.into_iter().flatten());

        let (code, found) = verified(&deployment, &[]);
        assert_eq!(
            (code, &found["verdict"]),
            (Some(0), &json!("whole")),
            "{found}"
        );
        heads.push(found["head"].as_str().unwrap().to_owned());
    }
    assert!(acknowledged.len() > 20, "{acknowledged:?}");
    // What a busy machine left in the spool is kept too: the next service delivers it.
    let service = deployment.serve();
    delivered(&spool).await;
    drop(service);
    let users = users_in_trail(&deployment).await;
    let distinct: BTreeSet<&String> = users.iter().collect();
    assert_eq!(distinct.len(), users.len(), "a first decision is kept once");
    for name in acknowledged {
        let user = format!("external_{name}");
        assert!(distinct.contains(&user), "{user} is not in the trail");
    }
    for head in &heads {
        let (code, found) = verified(&deployment, &["--head", head]);
        assert_eq!(
            (code, &found["compared"]),
            (Some(0), &json!(true)),
            "{found}"
        );
    }

    // Without the key everything is altered; with a head that never was, the end.
    let other = deployment.with("TIERKEEP_AUDIT_KEY", "a key that nobody ever had");
    let (code, found) = verified(&other, &[]);
    assert_eq!((code, &found["verdict"]), (Some(1), &json!("broken")));
    assert_eq!(
        found["violations"][0],
        json!({ "what": "altered", "seq": 1 })
    );
    let unreadable = other.run(&["audit", "verify", "--head", "5"]);
    assert_eq!(unreadable.status.code(), Some(2));
}

/// The directory of the spool of a deployment of [`Outage::of`].
pub(super) fn spool_of(deployment: &Deployment) -> PathBuf {
    let folder = deployment.dir.path();
    match deployment.backend {
        Backend::Sqlite => folder.join("data/spool"),
        Backend::Mongo => folder.join("spool"),
    }
}

/// Waits until nothing is left in the spool.
pub(super) async fn delivered(spool: &Path) {
    let emptied = async {
        while std::fs::read_dir(spool).map_or(0, Iterator::count) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), emptied)
        .await
        .unwrap();
}

/// `evaluation_audit`, away when the test wants it to be.
pub(super) enum Outage {
    /// Another connection holds the lock of the file.
    File(rusqlite::Connection),
    /// Connections lead through this gate.
    Gate(Arc<AtomicBool>),
}

impl Outage {
    /// A deployment whose `evaluation_audit` can be taken away.
    pub(super) async fn of(backend: Backend) -> (Deployment, Self) {
        let deployment = Deployment::new(backend).with("TIERKEEP_AUDIT_KEY", KEY);
        match backend {
            Backend::Sqlite => {
                assert!(deployment.run(&["init"]).status.success());
                let path = deployment.dir.path().join("data/evaluation_audit.db");
                let file = rusqlite::Connection::open(path).unwrap();
                (deployment, Self::File(file))
            }
            Backend::Mongo => {
                let url = deployment.environment["EVALUATION_AUDIT_DB_URL"].clone();
                let rest = url.trim_start_matches("mongodb://");
                let (host, database) = rest.split_once('/').unwrap();
                assert!(url.starts_with(&mongo_url("")[.."mongodb://".len() + host.len()]));
                let shut = Arc::new(AtomicBool::new(false));
                let gate = gate(host.parse().unwrap(), Arc::clone(&shut)).await;
                let database = database.split('?').next().unwrap();
                let url = format!(
                    "mongodb://{gate}/{database}?directConnection=true&serverSelectionTimeoutMS=1000"
                );
                let spool = deployment.dir.path().join("spool").display().to_string();
                let deployment = deployment
                    .with("EVALUATION_AUDIT_DB_URL", &url)
                    .with("TIERKEEP_SPOOL_DIR", &spool);
                (deployment, Self::Gate(shut))
            }
        }
    }

    pub(super) fn begin(&self) {
        match self {
            Self::File(file) => file.execute_batch("BEGIN IMMEDIATE").unwrap(),
            Self::Gate(shut) => shut.store(true, Ordering::SeqCst),
        }
    }

    pub(super) fn end(&self) {
        match self {
            Self::File(file) => file.execute_batch("ROLLBACK").unwrap(),
            Self::Gate(shut) => shut.store(false, Ordering::SeqCst),
        }
    }
}

/// Passes connections on, until it is shut: then it cuts them and takes no new ones.
async fn gate(server: SocketAddr, shut: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let shut = Arc::clone(&shut);
            tokio::spawn(async move {
                if shut.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mut far) = TcpStream::connect(server).await else {
                    return;
                };
                let cut = async {
                    while !shut.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = cut => {}
                }
            });
        }
    });
    address
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn decisions_of_an_outage_are_delivered_once_in_their_order_also_across_a_kill(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let (deployment, outage) = Outage::of(backend).await;
    let mut service = deployment.serve();
    let client = reqwest::Client::new();
    let write = |base: &str, name: &str| {
        let url = format!("{base}/v1/user/scan_cache?username={name}");
        client.put(url).json(&json!({})).send()
    };
    let mut expected = Vec::new();
    for n in 0..3 {
        let name = format!("before{n}");
        let answer = write(&service.base, &name).await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        expected.push(format!("external_{name}"));
    }
    outage.begin();
    for n in 0..10 {
        if n == 5 {
            // A request is killed amidst its write to the spool; what was acknowledged stays.
            let url = format!("{}/v1/user?username=cut", service.base);
            let cut = tokio::spawn(client.get(url).send());
            service.kill();
            cut.await.unwrap().ok();
            outage.end();
            service = deployment.serve();
            outage.begin();
        }
        let name = format!("during{n}");
        let answer = write(&service.base, &name).await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{name}");
        expected.push(format!("external_{name}"));
    }
    service.kill();
    outage.end();
    let service = deployment.serve();
    let answer = write(&service.base, "after").await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    expected.push("external_after".to_owned());

    // The spool is delivered within moments of the start; the service is asked until it is empty.
    delivered(&spool_of(&deployment)).await;
    let mut users = users_in_trail(&deployment).await;
    users.retain(|user| user != "external_cut");
    assert_eq!(users, expected);
    let (code, found) = verified(&deployment, &[]);
    assert_eq!(
        (code, &found["violations"]),
        (Some(0), &json!([])),
        "{found}"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_verifies_and_prunes_the_trail(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    assert!(deployment.run(&["init"]).status.success());
    for command in [
        ["migrate", "pause"],
        ["migrate", "resume"],
        ["migrate", "run"],
    ] {
        assert!(deployment.run(&command).status.success());
    }
    let dry = deployment.run(&["migrate", "run", "--dry-run"]);
    assert!(dry.status.success());
    let page = deployment.json(&["audit", "list", "--kind", "admin_action", "--json"]);
    let items = page["items"].as_array().unwrap();
    let said: Vec<_> = items
        .iter()
        .map(|it| {
            (
                it["decision"].as_str().unwrap(),
                it["actor"].as_str().unwrap(),
            )
        })
        .collect();
    let by = "command line";
    assert_eq!(said, [("pause", by), ("resume", by), ("run", by)]);
    assert_eq!(page["next_cursor"], Value::Null);
    let first = deployment.json(&["audit", "list", "--limit", "2", "--json"]);
    assert_eq!(first["next_cursor"], "2");
    let second = deployment.json(&["audit", "list", "--cursor", "2", "--json"]);
    assert_eq!(second["items"][0]["decision"], "run");

    let (_, before) = verified(&deployment, &[]);
    let pruned = deployment.json(&["audit", "prune", "--older-than", "0s", "--json"]);
    assert_eq!(
        (&pruned["pruned"], &pruned["through"]),
        (&json!(3), &json!(3))
    );
    let head = before["head"].as_str().unwrap();
    let (code, found) = verified(&deployment, &["--head", head]);
    assert_eq!(code, Some(0), "{found}");
    assert_eq!(
        (&found["entries"], &found["compared"]),
        (&json!(1), &json!(true))
    );
    let text = deployment.run(&["audit", "list"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("checkpoint"), "{text}");
    let unknown = deployment.run(&["audit", "list", "--kind", "actions"]);
    assert_eq!(unknown.status.code(), Some(2));
}
