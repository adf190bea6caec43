//! What must be refused at the start, before anything is written.

use rstest::rstest;
use tierkeep_core::db::{Role, collection};

use super::program::{Backend, Deployment, mongo_url};

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_host_names_for_one_server_do_not_hide_a_shared_database() {
    let deployment = Deployment::new(Backend::Mongo);
    let shared = deployment.environment["RASEEN_MAIN_USER_DB_URL"].clone();
    let other = shared.replace("127.0.0.1", "localhost");
    assert_ne!(shared, other);
    let deployment = deployment.with("SRIE_MAIN_USER_DB_URL", &other);
    for command in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["init"],
        &["migrate", "run"],
    ] {
        let output = deployment.run(command);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{command:?}: {}",
            stderr(&output)
        );
        let message = stderr(&output);
        assert!(message.contains("raseen_main_user") && message.contains("srie_main_user"));
        assert!(!message.contains("mongodb://"), "{message}");
    }
    for role in Role::ALL {
        assert!(
            deployment.all(role, collection::IDENTITY).await.is_empty(),
            "{role} was stamped"
        );
    }
}

#[test]
fn a_path_that_names_another_role_is_refused() {
    let deployment = Deployment::new(Backend::Mongo)
        .with("SRIE_MAIN_USER_DB_URL", &mongo_url("raseen_main_user"));
    let output = deployment.run(&["init"]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(
        message.contains("raseen_main_user") && message.contains("srie_main_user"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_of_another_role_is_refused() {
    let deployment = Deployment::new(Backend::Mongo);
    assert!(deployment.run(&["init"]).status.success());
    let (main, srie) = (
        deployment.environment["RASEEN_MAIN_USER_DB_URL"].clone(),
        deployment.environment["SRIE_MAIN_USER_DB_URL"].clone(),
    );
    let crossed = deployment
        .with("RASEEN_MAIN_USER_DB_URL", &srie)
        .with("SRIE_MAIN_USER_DB_URL", &main);
    let output = crossed.run(&["migrate", "run"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("stamped"), "{}", stderr(&output));
}

#[test]
fn a_critical_database_that_stays_away_is_exit_code_3() {
    let deployment = Deployment::new(Backend::Mongo)
        .with(
            "RASEEN_TEMP_USER_DB_URL",
            "mongodb://127.0.0.1:1/away?serverSelectionTimeoutMS=200",
        )
        .with("TIERKEEP_CONNECT_RETRIES", "2")
        .with("TIERKEEP_CONNECT_BACKOFF", "10ms");
    let output = deployment.run(&["init"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(
        message.contains("attempt 1 of 2") && message.contains("attempt 2 of 2"),
        "{message}"
    );
    assert!(message.contains("raseen_temp_user"), "{message}");
}

#[rstest]
#[case(&["EVALUATION_AUDIT_DB_URL"])]
#[case(&["EXTERNAL_USERS_DB_URL", "RASEEN_TEMP_USER_DB_URL"])]
fn a_service_without_what_every_user_needs_does_not_start(#[case] away: &[&str]) {
    let mut deployment = Deployment::new(Backend::Mongo).with("TIERKEEP_CONNECT_RETRIES", "0");
    for variable in away {
        let database = variable.to_ascii_lowercase();
        let url = format!("mongodb://127.0.0.1:1/{database}?serverSelectionTimeoutMS=200");
        deployment = deployment.with(variable, &url);
    }
    let output = deployment.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

#[rstest]
#[case("SRIE_MAIN_USER_DB_URL", "srie_main_user")]
#[case("RASEEN_MAIN_USER_DB_URL", "raseen_main_user")]
#[case("RASEEN_TEMP_USER_DB_URL", "raseen_temp_user")]
#[case("EXTERNAL_USERS_DB_URL", "external_users")]
fn another_database_that_stays_away_only_degrades(#[case] variable: &str, #[case] name: &str) {
    let deployment = Deployment::new(Backend::Mongo)
        .with(
            variable,
            "mongodb://127.0.0.1:1/away?serverSelectionTimeoutMS=200",
        )
        .with("TIERKEEP_CONNECT_RETRIES", "0");
    let service = deployment.serve();
    let ready = std::process::Command::new("curl")
        .args(["-s", &service.url("/health/ready")])
        .output()
        .unwrap();
    let ready = String::from_utf8_lossy(&ready.stdout).into_owned();
    assert!(
        ready.contains("degraded") && ready.contains(name),
        "{ready}"
    );
}

#[tokio::test]
async fn a_service_that_waits_for_its_databases_says_that_it_is_starting() {
    // Takes connections and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!(
        "mongodb://{}/away?serverSelectionTimeoutMS=1500",
        silent.local_addr().unwrap()
    );
    let deployment = Deployment::new(Backend::Mongo)
        .with("EVALUATION_AUDIT_DB_URL", &silent_url)
        .with("TIERKEEP_GITHUB_VERIFY", "on")
        .with("TIERKEEP_CONNECT_RETRIES", "1")
        .with("TIERKEEP_CONNECT_BACKOFF", "10ms");
    let mut child = deployment
        .command(&["serve", "--listen", "127.0.0.1:0"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let base = loop {
        let line = lines
            .next()
            .expect("serve ended before it started")
            .unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(address) = line["address"].as_str() {
            break format!("http://{address}");
        }
    };
    let client = reqwest::Client::new();
    let ready = client
        .get(format!("{base}/health/ready"))
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 503);
    let ready: serde_json::Value = ready.json().await.unwrap();
    assert_eq!(ready["status"], "starting", "{ready}");
    let live = client
        .get(format!("{base}/health/live"))
        .send()
        .await
        .unwrap();
    assert_eq!(live.status(), 200);
    let user = client
        .get(format!("{base}/v1/user?username=reader"))
        .send()
        .await
        .unwrap();
    assert_eq!(user.status(), 503);
    assert!(user.headers().contains_key("retry-after"));
    assert!(user.headers().contains_key("x-request-id"));
    let user: serde_json::Value = user.json().await.unwrap();
    assert_eq!(user["code"], "database_unavailable", "{user}");
    let ended = child.wait().unwrap();
    assert_eq!(ended.code(), Some(3));
}
