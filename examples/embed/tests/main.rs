//! The example works: it is started, asked by public and internal users, moves a document, and ends when it is
//! signalled.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tierkeep_engine::core::bson::DateTime;
use tierkeep_engine::core::clock::Clock;
use tierkeep_identity::{RoleClaim, issue_development_token};

const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes!";
const SUBJECT: &str = "507f1f77bcf86cd799439011";

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the example believes its own")]
    fn now(&self) -> DateTime {
        DateTime::now()
    }
}

/// The running example; killed when dropped.
struct Example {
    child: Child,
    base: String,
    client: Client,
}

impl Drop for Example {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Example {
    fn start(dir: &std::path::Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_embed"))
            .arg(dir)
            .arg("127.0.0.1:0")
            .env("SECRET_KEY", SECRET)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut said).unwrap();
        let base = said.trim().strip_prefix("listening on ").unwrap();
        Self {
            base: base.to_owned(),
            child,
            client: Client::builder().no_proxy().build().unwrap(),
        }
    }

    async fn ask(&self, method: Method, path: &str, role: Who, body: Value) -> (StatusCode, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        let role = match role {
            Who::Nobody => None,
            Who::Internal => Some(None),
            Who::Administrator => Some(Some(RoleClaim::Admin)),
        };
        if let Some(role) = role {
            let (secret, ttl) = (SECRET.into(), Duration::from_mins(5));
            let token = issue_development_token(&secret, SUBJECT, role, ttl, &SystemClock).unwrap();
            request = request
                .bearer_auth(token.expose_secret())
                .header("x-github-token", "gho_any");
        }
        let answer = request.json(&body).send().await.unwrap();
        let status = answer.status();
        let body = answer.text().await.unwrap();
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    async fn get(&self, path: &str, who: Who) -> (StatusCode, Value) {
        self.ask(Method::GET, path, who, json!({})).await
    }
}

#[derive(Clone, Copy)]
enum Who {
    Nobody,
    Internal,
    Administrator,
}

#[tokio::test]
async fn the_example_keeps_users_apart_and_moves_the_internal_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut example = Example::start(&dir.path().join("data"));
    let (put, named) = (Method::PUT, "/report?username=Octocat");
    let report = json!({ "score": 87 });

    let (status, answer) = example.get("/report", Who::Nobody).await;
    assert_eq!((status, answer), (StatusCode::UNAUTHORIZED, Value::Null));
    let written = example.ask(put.clone(), named, Who::Nobody, report.clone());
    let expected = json!({ "user_id": "external_octocat", "database": "external_users" });
    assert_eq!(written.await, (StatusCode::OK, expected));
    let written = example.ask(put, "/report", Who::Internal, report.clone());
    let expected =
        json!({ "user_id": format!("internal_{SUBJECT}"), "database": "raseen_temp_user" });
    assert_eq!(written.await, (StatusCode::OK, expected));

    let (status, _) = example
        .ask(Method::POST, "/move", Who::Internal, json!({}))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, run) = example
        .ask(Method::POST, "/move", Who::Administrator, json!({}))
        .await;
    assert_eq!((status, &run["moved"]), (StatusCode::OK, &json!(1)));
    let expected = json!({ "database": "raseen_main_user", "report": report });
    let found = example.get("/report", Who::Internal).await;
    assert_eq!(found, (StatusCode::OK, expected));
    let expected = json!({ "database": "external_users", "report": report });
    assert_eq!(example.get(named, Who::Nobody).await.1, expected);

    let pid = Pid::from_child(&example.child);
    kill_process(pid, Signal::INT).unwrap();
    assert!(example.child.wait().unwrap().success());
}

/// The Rust lines of the README's section about embedding.
fn shown(readme: &str) -> Vec<&str> {
    let (_, section) = readme.split_once("\n## Embed it\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let (_, code) = section.split_once("```rust\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    code.lines().map(str::trim).collect()
}

#[test]
fn what_the_readme_shows_is_what_the_example_does() {
    let lines = |text: &'static str| text.lines().map(str::trim).collect::<Vec<_>>();
    let files = [
        include_str!("../src/main.rs"),
        include_str!("../src/caller.rs"),
    ]
    .map(lines);
    let shown = shown(include_str!("../../../README.md"));
    assert!(shown.len() > 10, "{shown:?}");
    for part in shown.split(|line| line.is_empty()) {
        let there = |file: &Vec<&str>| file.windows(part.len()).any(|lines| lines == part);
        assert!(files.iter().any(there), "the example lacks {part:#?}");
    }
}
