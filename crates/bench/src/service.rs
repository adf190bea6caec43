//! A running service of the release binary, and what it needs beside its databases. Ended when dropped.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::task::JoinHandle;

use crate::{Bench, program};

/// A stand-in for GitHub's API that knows every token; ended when dropped.
#[derive(Debug)]
pub struct Github {
    /// Where it listens.
    pub url: String,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Github {
    /// Starts it.
    pub async fn start() -> Result<Self> {
        let owner = || async { Json(json!({ "id": 7, "login": "octocat" })) };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().route("/user", get(owner));
        let serving = tokio::spawn(axum::serve(listener, router).into_future());
        Ok(Self { url, serving })
    }
}

impl Drop for Github {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A running `serve`; killed when dropped.
#[derive(Debug)]
pub struct Service {
    /// Where it listens.
    pub url: String,
    process: Child,
}

impl Service {
    /// Its process.
    pub fn process_id(&self) -> Result<u32> {
        self.process.id().context("it has not been waited for")
    }

    /// Starts the release binary in this environment, and waits until it is ready.
    pub async fn start(bench: &Bench, environment: &[(String, String)]) -> Result<Self> {
        let arguments = ["serve", "--listen", "127.0.0.1:0"];
        let mut process = program::command(&bench.binary, environment, &arguments)?
            .stderr(Stdio::piped())
            .spawn()
            .context("the release binary cannot be started")?;
        let log = process.stderr.take().context("it says where it listens")?;
        let mut lines = BufReader::new(log).lines();
        let mut seen = Vec::new();
        while let Some(line) = lines.next_line().await? {
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            let address = said.get("address").and_then(Value::as_str);
            if let Some(address) = address {
                let url = format!("http://{address}");
                // Who does not read what it says would make it wait.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                program::ready(&url).await?;
                return Ok(Self { url, process });
            }
            seen.push(line);
        }
        bail!("serve ended before it listened: {}", seen.join("\n"))
    }
}
