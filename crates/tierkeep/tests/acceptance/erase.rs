//! Erasing users with the built binary: by command, over HTTP, and under `kill -9`.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};
use tierkeep::clock::SystemClock;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, State};
use tierkeep_testkit::documents::{SeedUser, seed_user};

use super::program::{Backend, Deployment, github, token};

const TIERS: [Role; 3] = [
    Role::RaseenTempUser,
    Role::RaseenMainUser,
    Role::SrieMainUser,
];
const AWAY: &str = "mongodb://127.0.0.1:1/away?serverSelectionTimeoutMS=200";
const USERS: u32 = 60;

fn id(n: u32) -> String {
    SeedUser::new(n, SystemClock.now()).user_id()
}

/// Users of these numbers as another program writes them, in main and srie, and every second one in temp
/// alone.
async fn plant(deployment: &Deployment, numbers: std::ops::Range<u32>) {
    let old = clock::before(SystemClock.now(), Duration::from_hours(25));
    let young = clock::before(SystemClock.now(), Duration::from_hours(1));
    let dated = |n: u32| seed_user(n, if n.is_multiple_of(2) { old } else { young });
    let documents: Vec<_> = numbers.map(dated).collect();
    let temp = deployment.open(Role::RaseenTempUser).await;
    temp.insert("internal_users", &documents).await.unwrap();
    deployment.json(&["migrate", "run", "--json"]);
}

/// Whether any database holds a live document of the user.
async fn is_stored(deployment: &Deployment, user: &str) -> bool {
    for role in TIERS {
        let live = deployment.users(role).await.iter().any(|document| {
            document::user_id(document) == Some(user)
                && document::state(document) != Some(State::Erased)
        });
        if live {
            return true;
        }
    }
    false
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_names_copies_and_exports_and_erases_nothing(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let deployment = Deployment::new(backend);
    deployment.json(&["init", "--json"]);
    plant(&deployment, 0..4).await;
    let directory = deployment.dir.path().join("dump");
    let directory = directory.to_str().unwrap();
    deployment.json(&["export", directory, "--json"]);
    let others = deployment.dir.path().join("others");
    let others = others.to_str().unwrap();
    deployment.json(&["export", others, "--user", &id(2), "--json"]);
    let report = deployment.json(&["erase", &id(0), "--dry-run", "--json"]);
    assert_eq!(report["dry_run"], true);
    assert_eq!(report["pending"], json!([]));
    let copies = report["copies"].as_array().unwrap();
    let databases: Vec<&Value> = copies.iter().map(|copy| &copy["database"]).collect();
    assert_eq!(databases, ["raseen_main_user", "srie_main_user"]);
    assert!(copies.iter().all(|copy| copy["size"].as_u64() > Some(0)));
    // The export of another user holds nothing of this one.
    assert_eq!(report["exports"]["count"], 1);
    assert_eq!(report["exports"]["newest"][0]["directory"], directory);
    assert!(is_stored(&deployment, &id(0)).await);
    let erased = deployment.json(&["erase", &id(0), "--yes", "--json"]);
    assert_eq!(erased["exports"]["count"], 1);
    assert!(!is_stored(&deployment, &id(0)).await);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_erases_a_user(#[values(Backend::Sqlite, Backend::Mongo)] backend: Backend) {
    let deployment = Deployment::new(backend);
    deployment.json(&["init", "--json"]);
    plant(&deployment, 0..4).await;
    let erased = deployment.json(&["erase", &id(0), "--json"]);
    assert_eq!(erased["user_id"], id(0));
    assert_eq!(erased["dry_run"], false);
    assert_eq!(erased["pending"], json!([]));
    assert_eq!(erased["exports"], json!({ "count": 0, "newest": [] }));
    let text = deployment.run(&["erase", &id(1)]);
    assert_eq!(
        String::from_utf8(text.stdout).unwrap(),
        format!(
            "erased {} from raseen_temp_user, raseen_main_user, srie_main_user\n",
            id(1)
        )
    );
    for n in 0..4 {
        assert_eq!(is_stored(&deployment, &id(n)).await, n > 1, "{n}");
    }
    let explained = deployment.json(&["explain", &id(0), "--json"]);
    assert_eq!(explained["erased"], true);
    assert_eq!(explained["erasure"]["stage"], "verified");
    let text = deployment.run(&["explain", &id(0)]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("erased: once, last requested at "), "{text}");
    assert!(text.contains(", confirmed by every database\n"), "{text}");
    assert!(deployment.run(&["erase", &id(0)]).status.success());

    let unknown = deployment.run(&["erase", "external_nobody", "--json"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(unknown.stdout.is_empty());
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert_eq!(said, "error: no such user: external_nobody\n");
    // A move afterwards brings nothing back.
    deployment.json(&["migrate", "run", "--older-than", "0s", "--json"]);
    assert!(!is_stored(&deployment, &id(0)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_waits_for_a_database_that_is_away_and_needs_its_ledger() {
    let deployment = Deployment::new(Backend::Mongo).with("TIERKEEP_CONNECT_RETRIES", "0");
    deployment.json(&["init", "--json"]);
    plant(&deployment, 0..1).await;
    let with = |role: Role| {
        let mut command = deployment.command(&["erase", &id(0), "--json"]);
        command.env(role.url_variable(), AWAY);
        command.output().unwrap()
    };
    let refused = with(Role::EvaluationAudit);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(refused.stdout.is_empty());
    assert!(is_stored(&deployment, &id(0)).await);

    let pending = with(Role::SrieMainUser);
    assert_eq!(pending.status.code(), Some(3), "{pending:?}");
    let said: Value = serde_json::from_slice(&pending.stdout).unwrap();
    assert_eq!(said["pending"], json!(["srie_main_user"]));
    let explained = deployment.json(&["explain", &id(0), "--json"]);
    assert_eq!(explained["erased"], true);
    assert_eq!(explained["erasure"]["pending"], json!(["srie_main_user"]));
    let _service = deployment.serve();
    finished(&deployment, &[id(0)]).await;
    assert!(!is_stored(&deployment, &id(0)).await);
}

/// Waits until no erasure of these users is pending.
async fn finished(deployment: &Deployment, users: &[String]) {
    let deadline = Instant::now() + Duration::from_mins(1);
    for user in users {
        loop {
            let explained = deployment.json(&["explain", user, "--json"]);
            if explained["erasure"]["stage"] != "pending" {
                break;
            }
            assert!(Instant::now() < deadline, "{explained}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killing_serve_undoes_no_erasure_that_was_acknowledged_and_leaves_none_half_done(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let github = github().await;
    let deployment = Deployment::new(backend)
        .with("TIERKEEP_SCAN_INTERVAL", "100ms")
        .with("GITHUB_API_URL", &github.uri());
    deployment.json(&["init", "--json"]);
    plant(&deployment, 0..USERS).await;
    let client = reqwest::Client::new();
    let (mut erased, mut cut_off) = (Vec::new(), 0);
    for round in 0..6 {
        let mut service = deployment.serve();
        let mut requests = tokio::task::JoinSet::new();
        for n in (round * USERS / 6)..((round + 1) * USERS / 6) {
            let subject = id(n)["internal_".len()..].to_owned();
            let request = client
                .delete(service.url("/v1/user"))
                .bearer_auth(token(&subject))
                .header("x-github-token", "gho_any")
                .send();
            requests.spawn(async move { (n, request.await.map(|answer| answer.status())) });
        }
        // The first answers cut the others off.
        for _ in 0..=round {
            let Some(answer) = requests.join_next().await else {
                break;
            };
            let (n, status) = answer.unwrap();
            let told = [StatusCode::NO_CONTENT, StatusCode::ACCEPTED];
            assert!(status.is_ok_and(|status| told.contains(&status)));
            erased.push(id(n));
        }
        service.kill();
        while let Some(answer) = requests.join_next().await {
            let (n, status) = answer.unwrap();
            match status {
                Ok(_) => erased.push(id(n)),
                Err(_) => cut_off += 1,
            }
        }
    }
    assert!(cut_off > 5, "only {cut_off} erasures were cut off");
    let _service = deployment.serve();
    let all: Vec<String> = (0..USERS).map(id).collect();
    finished(&deployment, &all).await;
    deployment.json(&["migrate", "run", "--older-than", "0s", "--json"]);
    for user in &erased {
        assert!(!is_stored(&deployment, user).await, "{user}");
    }
    for user in &all {
        let explained = deployment.json(&["explain", user, "--json"]);
        let gone = explained["erased"] == true;
        assert_eq!(gone, !is_stored(&deployment, user).await, "{explained}");
    }
}
