//! Internal users that send a request as soon as the last one is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use reqwest::Client;
use serde_json::json;
use tokio::task::JoinSet;

use super::contender::Contender;
use crate::callers;
use crate::measure::processor_time;

/// How long one contender is asked at a time.
pub const WINDOW: Duration = Duration::from_secs(2);
/// How long before that, so that connections, caches and pools are warm.
const WARM: Duration = Duration::from_millis(500);

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Method {
    /// A section is read.
    Get,
    /// It is replaced.
    Put,
}

impl Method {
    /// What it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
        }
    }
}

/// What was seen in one window.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How long each request took, in milliseconds.
    pub took_ms: Vec<f64>,
    /// The processor time of the service.
    cpu: Duration,
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
impl Seen {
    /// Microseconds of the service's processor time for each request.
    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.took_ms.len().max(1) as f64
    }

    /// Requests in a second.
    pub fn rate(&self) -> f64 {
        self.took_ms.len() as f64 / WINDOW.as_secs_f64()
    }
}

/// Users with their tokens, and what they write.
#[derive(Clone, Debug)]
pub struct Load {
    tokens: Arc<Vec<String>>,
    body: Arc<str>,
}

impl Load {
    /// The first `users`.
    pub fn of(users: u64) -> Result<Self> {
        let body = json!({
            "scan_date": "2026-11-24", "overallScore": 71.5,
            "repositories": [{ "name": "latency-1", "stars": 40, "summary": "a word and another ".repeat(82) }],
        });
        Ok(Self {
            tokens: Arc::new((0..users).map(callers::token).collect::<Result<_>>()?),
            body: body.to_string().into(),
        })
    }

    /// Reads once for each user: the first decision about each is put on the trail, which no later one is.
    pub async fn ask_each_once(&self, contender: &Contender) -> Result<()> {
        let client = Client::builder().http1_only().build()?;
        let section = contender.section();
        for user in 0..self.tokens.len() {
            self.ask(&client, &section, Method::Get, user).await?;
        }
        Ok(())
    }

    /// Asks `contender` over this many connections, after a while of the same that does not count.
    pub async fn run(
        &self,
        contender: &Contender,
        method: Method,
        connections: usize,
    ) -> Result<Seen> {
        let counts_from = Instant::now() + WARM;
        let until = counts_from + WINDOW;
        let mut at_work = JoinSet::new();
        for connection in 0..connections {
            let (load, client) = (self.clone(), Client::builder().http1_only().build()?);
            let section = contender.section();
            // Each connection has its own users, so that writes do not conflict.
            let own = (connection..self.tokens.len()).step_by(connections);
            at_work.spawn(async move {
                let mut took_ms = Vec::new();
                for user in own.cycle() {
                    let begun = Instant::now();
                    if begun >= until {
                        break;
                    }
                    load.ask(&client, &section, method, user).await?;
                    if begun >= counts_from {
                        took_ms.push(begun.elapsed().as_secs_f64() * 1e3);
                    }
                }
                anyhow::Ok(took_ms)
            });
        }
        tokio::time::sleep_until(counts_from.into()).await;
        let before = processor_time(contender.process)?;
        tokio::time::sleep_until(until.into()).await;
        let cpu = processor_time(contender.process)?.saturating_sub(before);
        let mut took_ms = Vec::new();
        while let Some(done) = at_work.join_next().await {
            took_ms.extend(done??);
        }
        Ok(Seen { took_ms, cpu })
    }

    async fn ask(&self, client: &Client, section: &str, method: Method, user: usize) -> Result<()> {
        let token = self.tokens.get(user).context("each user has a token")?;
        let request = match method {
            Method::Get => client.get(section),
            Method::Put => client
                .put(section)
                .header("content-type", "application/json")
                .body(self.body.to_string()),
        };
        let request = request
            .bearer_auth(token)
            .header("x-github-token", "a-token");
        let answer = request.send().await?.error_for_status()?;
        answer.bytes().await?;
        Ok(())
    }
}
