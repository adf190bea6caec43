//! Read-only commands answer promptly during any outage, show what is known, and name what is unavailable with the
//! reason.

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tierkeep_core::db::Role;

use super::outage::servers::{ReplicaSet, free_ports};
use super::program::{Backend, Deployment};

/// How long a command that looks may take.
const SOON: Duration = Duration::from_secs(12);
const USER: &str = "internal_507f1f77bcf86cd799439011";
const LOOKS: [&[&str]; 6] = [
    &["status", "--json"],
    &["migrate", "status", "--json"],
    &["explain", USER, "--json"],
    &["alerts", "list", "--json"],
    &["simulate", "--json"],
    &["doctor", "--json"],
];

/// Runs them at the same time; each must end soon and say that a database could not be reached.
fn look(deployment: &Deployment) -> Vec<(&'static [&'static str], Output)> {
    let run = |arguments: &'static [&'static str]| {
        let mut command = deployment.command(arguments);
        thread::spawn(move || {
            let began = Instant::now();
            let output = command.output().unwrap();
            let took = began.elapsed();
            assert!(took < SOON, "{arguments:?} took {took:?}: {output:?}");
            assert_eq!(output.status.code(), Some(3), "{arguments:?}: {output:?}");
            (arguments, output)
        })
    };
    let looks: Vec<_> = LOOKS.into_iter().map(run).collect();
    looks.into_iter().map(|it| it.join().unwrap()).collect()
}

fn shown(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The names of the databases that `status` says are away.
fn away(status: &Value) -> Vec<String> {
    let databases = status["databases"].as_array().unwrap();
    let away = databases.iter().filter(|it| it["reachable"] == false);
    away.map(|it| it["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn with_all_databases_away_every_look_ends_soon_and_says_unknown() {
    let [port] = free_ports();
    let url = format!("mongodb://me:hunter2@127.0.0.1:{port}/?authSource=admin");
    let mut deployment = Deployment::new(Backend::Sqlite);
    deployment.environment.remove("TIERKEEP_DATA_DIR");
    deployment.environment.remove("TIERKEEP_GITHUB_VERIFY");
    let deployment = deployment.with("TIERKEEP_CLUSTER_URL", &url);
    for (arguments, output) in look(&deployment) {
        let (shown, told) = (shown(&output), told(&output));
        assert!(!told.contains("hunter2"), "{arguments:?}");
        if arguments[0] == "doctor" {
            let said = shown.to_string();
            let cause = format!("127.0.0.1:{port}: connection refused");
            assert!(said.contains(&cause) && said.contains("TIERKEEP_CLUSTER_URL"));
            continue;
        }
        for role in Role::ALL {
            let warning = |line: &&str| {
                line.contains("cannot reach the database") && line.contains(role.name())
            };
            let warnings = told.lines().filter(warning).count();
            assert_eq!(warnings, 1, "{arguments:?} about {role}: {told}");
        }
        let all = told.lines().filter(|line| line.contains("\"WARN\""));
        assert_eq!(all.count(), Role::ALL.len(), "{arguments:?}: {told}");
        // Equal causes are one line, which names all of them, and the setting that was really used.
        let cause = format!(": 127.0.0.1:{port}: connection refused");
        let line = |line: &&str| line.starts_with("  ") && line.ends_with(&cause);
        let line = told.lines().find(line).unwrap();
        assert!(Role::ALL.iter().all(|role| line.contains(role.name())));
        assert!(told.contains("TIERKEEP_CLUSTER_URL"), "{told}");
        assert!(!told.contains("_DB_URL"), "{told}");
        match arguments[0] {
            "status" | "migrate" => {
                assert_eq!(away(&shown).len(), 7);
                for name in ["due", "overdue", "lag_seconds", "failed", "quarantined"] {
                    assert_eq!(shown[name], Value::Null, "{arguments:?} {name}");
                }
                assert_eq!(shown["paused"], Value::Null);
                assert_eq!(shown["verified_up_to"], Value::Null);
                assert_eq!(shown["mover"]["phase"], "unknown");
            }
            "simulate" => assert_eq!(shown["due_now"], Value::Null),
            "alerts" => assert_eq!(shown["items"], Value::Null),
            _ => {
                assert_eq!(shown["authoritative"], Value::Null);
                assert!(shown["next"].as_str().unwrap().starts_with("unknown"));
            }
        }
    }
    let text = deployment.run(&["status"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("due: unknown") && !text.contains("no documents are due"));
}

#[test]
fn with_one_database_away_every_look_shows_what_the_others_know() {
    let deployment = Deployment::new(Backend::Mongo);
    assert!(deployment.run(&["init"]).status.success());
    let [port] = free_ports();
    for role in [
        Role::RaseenMainUser,
        Role::RaseenTempUser,
        Role::EvaluationAudit,
    ] {
        let mut environment = deployment.environment.clone();
        let url = format!("mongodb://127.0.0.1:{port}/nowhere");
        environment.insert(role.url_variable().to_owned(), url);
        let mut one_away = Deployment::new(Backend::Sqlite);
        one_away.environment = environment;
        for (arguments, output) in look(&one_away) {
            let said = told(&output);
            let shown = shown(&output);
            if arguments[0] == "doctor" {
                continue;
            }
            assert!(said.contains(role.url_variable()), "{arguments:?}: {said}");
            if arguments[0] != "status" {
                continue;
            }
            assert_eq!(away(&shown), [role.name()]);
            let is_known = role != Role::RaseenTempUser;
            assert_eq!(shown["due"].is_u64(), is_known, "{role}: {shown}");
            let is_known = role != Role::EvaluationAudit;
            assert_eq!(shown["failed"].is_u64(), is_known, "{role}: {shown}");
        }
    }
}

#[test]
fn files_that_were_removed_are_away_and_not_made_anew() {
    let deployment = Deployment::new(Backend::Sqlite);
    assert!(deployment.run(&["init"]).status.success());
    let data = deployment.dir.path().join("data");
    let file = data.join("raseen_main_user.db");
    std::fs::remove_file(&file).unwrap();
    for (arguments, output) in look(&deployment) {
        let said = told(&output) + &shown(&output).to_string();
        let cause = format!("{}: no such file", file.display());
        assert!(said.contains(&cause), "{arguments:?}: {said}");
    }
    assert!(!file.exists());
    for role in Role::ALL {
        std::fs::remove_file(data.join(format!("{role}.db"))).ok();
    }
    for (arguments, output) in look(&deployment) {
        if arguments[0] == "status" {
            assert_eq!(away(&shown(&output)).len(), 7);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_while_servers_are_stopped_and_sees_their_return() {
    let mut set = ReplicaSet::start("watched", &free_ports::<1>()).await;
    let mut deployment = Deployment::new(Backend::Mongo);
    for role in Role::ALL {
        let url = set.url(role.name(), "appName=looking");
        deployment = deployment.with(role.url_variable(), &url);
    }
    assert!(deployment.run(&["init"]).status.success());
    let mut watch = deployment
        .command(&["status", "--watch", "--every", "200ms", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut seen = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let first = seen.next().unwrap();
    assert!(away(&first).is_empty(), "{first}");
    let at = |shown: &Value| shown["at"].as_str().unwrap().to_owned();
    set.kill(0);
    let dark = seen.find(|shown| away(shown).len() == 7).unwrap();
    assert!(at(&dark) > at(&first) && dark["due"].is_null(), "{dark}");
    for (arguments, output) in look(&deployment) {
        let said = told(&output) + &shown(&output).to_string();
        assert!(said.contains("connection refused"), "{arguments:?}: {said}");
    }
    set.heal().await;
    let back = seen.find(|shown| away(shown).is_empty()).unwrap();
    assert_eq!(back["due"], 0);
    watch.kill().unwrap();
    watch.wait().unwrap();
}
