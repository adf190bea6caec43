//! Requests while documents move: readers and writers over HTTP, first while the mover is paused and then while
//! it moves, on one service of the release binary.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::routing::get;
use axum::{Json, Router};
use reqwest::{Client, Method};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tierkeep_core::db::Role;
use tierkeep_core::store::{Find, Query};
use tierkeep_engine::{MigrationService, MoverSettings};
use tierkeep_identity::issue_development_token;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::measure::{median, quantile};
use crate::place::{MachineClock, Place, USERS, before_now};
use crate::report::{self, Section};
use crate::{Bench, documents, program};

const MOST_ROUNDS: usize = 3;
const READERS: u64 = 8;
const WRITERS: u64 = 4;
/// How long after one request each of them sends the next.
const PACE: Duration = Duration::from_millis(25);
/// How long requests are measured while nothing moves.
const CALM: Duration = Duration::from_secs(10);
/// How many users that move, and how many that do not, are asked for.
const USERS_OF_EACH: u64 = 500;
/// How often it is looked whether anything is left to move.
const INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_mins(10);

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Read,
    Write,
}

/// One request.
#[derive(Clone, Debug)]
struct Sample {
    kind: Kind,
    begun: Instant,
    took_ms: f64,
    /// What was wrong with the answer.
    wrong: Option<String>,
}

/// The requests of one kind in one round.
#[derive(Clone, Debug, Default)]
struct Round {
    calm: Vec<f64>,
    moving: Vec<f64>,
}

/// Asks while nothing moves, then while everything does.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let rounds = bench.arguments.rounds.min(MOST_ROUNDS);
    let mut all: BTreeMap<Kind, Vec<Round>> = BTreeMap::new();
    let (mut requests, mut wrong) = (0, Vec::new());
    for round in 0..rounds {
        let (samples, moving) = once(bench).await?;
        requests += samples.len();
        wrong.extend(samples.iter().filter_map(|sample| sample.wrong.clone()));
        for kind in [Kind::Read, Kind::Write] {
            let of = |during: &dyn Fn(Instant) -> bool| {
                let kept = samples
                    .iter()
                    .filter(|sample| sample.kind == kind && during(sample.begun));
                kept.map(|sample| sample.took_ms).collect::<Vec<f64>>()
            };
            let one = Round {
                calm: of(&|at| at < moving.resumed),
                moving: of(&|at| at >= moving.begun && at < moving.ended),
            };
            crate::say(&format!(
                "latency {round} {kind:?}: p50 {:.2} ms calm, {:.2} moving, over {:.1} s",
                quantile(one.calm.clone(), 0.5),
                quantile(one.moving.clone(), 0.5),
                (moving.ended - moving.begun).as_secs_f64(),
            ));
            all.entry(kind).or_default().push(one);
        }
    }
    Ok(vec![Section {
        file: "benchmarks-move.md",
        name: "latency",
        text: text(bench, rounds, &all, requests, &wrong),
    }])
}

fn text(
    bench: &Bench,
    rounds: usize,
    all: &BTreeMap<Kind, Vec<Round>>,
    requests: usize,
    wrong: &[String],
) -> String {
    let mut text = format!(
        "{}{}; {rounds} rounds, in each {READERS} readers and {WRITERS} writers over HTTP, each with a request every {} ms, \
         for users that move and users that do not; {} s calm, then while {} documents move. Medians of the rounds, in \
         ms. {requests} requests in all, {} failed.\n\n\
         | requests | calm p50 | moving p50 | ratio | goal | calm p99 | moving p99 | ratio |\n\
         |---|---|---|---|---|---|---|---|\n",
        report::taken(),
        bench.settings(),
        PACE.as_millis(),
        CALM.as_secs(),
        bench.arguments.documents,
        wrong.len(),
    );
    for (kind, rounds) in all {
        let calm = |share| median_of(rounds, |round| quantile(round.calm.clone(), share));
        let moving = |share| median_of(rounds, |round| quantile(round.moving.clone(), share));
        let ratio = |share| {
            median_of(rounds, |round| {
                quantile(round.moving.clone(), share) / quantile(round.calm.clone(), share)
            })
        };
        let name = match kind {
            Kind::Read => "reads",
            Kind::Write => "writes",
        };
        let _ = writeln!(
            text,
            "| {name} | {:.2} | {:.2} | {:.2} | 2.00 | {:.2} | {:.2} | {:.2} |",
            calm(0.5),
            moving(0.5),
            ratio(0.5),
            calm(0.99),
            moving(0.99),
            ratio(0.99),
        );
    }
    if let Some(first) = wrong.first() {
        let _ = writeln!(text, "\nThe first that failed: {first}");
    }
    text
}

fn median_of(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    median(rounds.iter().map(of).collect())
}

/// When the mover was let go, and between which moments documents were seen to move.
#[derive(Clone, Copy, Debug)]
struct Moving {
    resumed: Instant,
    begun: Instant,
    ended: Instant,
}

async fn once(bench: &Bench) -> Result<(Vec<Sample>, Moving)> {
    let documents = bench.arguments.documents;
    let place = Place::fresh(&bench.mongodb, "benchlatency").await?;
    place.plant(documents).await?;
    let young = documents..documents + USERS_OF_EACH;
    place.plant_young(young.clone()).await?;
    bench.server.settle().await?;
    let mover = MigrationService::new(place.databases.clone(), MoverSettings::default());
    mover.pause().await?;
    let github = Github::start().await?;
    let service = Service::start(bench, &place, &github.url).await?;
    let every = usize::try_from(documents.div_ceil(USERS_OF_EACH))?;
    let callers = Callers::of((0..documents).step_by(every).chain(young))?;
    let stop = CancellationToken::new();
    let mut at_work = callers.ask(&service.url, &stop);
    tokio::time::sleep(CALM).await;
    let resumed = Instant::now();
    mover.resume().await?;
    let moving = watch(&place, resumed).await;
    stop.cancel();
    let mut samples = Vec::new();
    while let Some(done) = at_work.join_next().await {
        samples.extend(done?);
    }
    drop(service);
    place.remove().await?;
    Ok((samples, moving?))
}

/// Waits until documents move, and then until none is left that is due.
async fn watch(place: &Place, resumed: Instant) -> Result<Moving> {
    let temp = place.store(Role::RaseenTempUser)?;
    let before = before_now(Duration::from_hours(24));
    let find = Find::new(Query::Due(before)).keys().limit(1);
    let first = temp.find(USERS, &find).await?;
    let mut begun = None;
    loop {
        ensure!(
            resumed.elapsed() < PATIENCE,
            "still moving after {PATIENCE:?}"
        );
        let now = temp.find(USERS, &find).await?;
        if now != first && begun.is_none() {
            begun = Some(Instant::now());
        }
        if now.is_empty() {
            return Ok(Moving {
                resumed,
                begun: begun.unwrap_or(resumed),
                ended: Instant::now(),
            });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Users with their tokens.
#[derive(Clone, Debug)]
struct Callers(Arc<Vec<String>>);

impl Callers {
    fn of(users: impl Iterator<Item = u64>) -> Result<Self> {
        let ttl = Duration::from_hours(2);
        let secret = program::SECRET.into();
        let tokens = users.map(|n| {
            let subject = documents::subject(n);
            let token = issue_development_token(&secret, &subject, None, ttl, &MachineClock)?;
            Ok(token.expose_secret().to_owned())
        });
        Ok(Self(Arc::new(tokens.collect::<Result<_>>()?)))
    }

    /// Sends requests for all of them in turn, until `stop`.
    fn ask(&self, url: &str, stop: &CancellationToken) -> JoinSet<Vec<Sample>> {
        let client = Client::new();
        let section = format!("{url}/v1/user/scan_cache");
        let body =
            json!({ "scan_date": "2026-11-24", "summary": "a word and another ".repeat(200) });
        let body = Arc::new(body.to_string());
        let mut at_work = JoinSet::new();
        for worker in 0..READERS + WRITERS {
            let kind = if worker < READERS {
                Kind::Read
            } else {
                Kind::Write
            };
            let (callers, client, section, body, stop) = (
                self.clone(),
                client.clone(),
                section.clone(),
                Arc::clone(&body),
                stop.clone(),
            );
            at_work.spawn(async move {
                let mut samples = Vec::new();
                let mut pace = tokio::time::interval(PACE);
                pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                // Each begins elsewhere, and all come by everybody.
                let from = usize::try_from(worker).unwrap_or(0) * 83;
                for token in callers.0.iter().cycle().skip(from) {
                    tokio::select! {
                        _ = pace.tick() => {}
                        () = stop.cancelled() => break,
                    }
                    samples.push(request(&client, &section, kind, token, &body).await);
                }
                samples
            });
        }
        at_work
    }
}

async fn request(client: &Client, section: &str, kind: Kind, token: &str, body: &str) -> Sample {
    let method = match kind {
        Kind::Read => Method::GET,
        Kind::Write => Method::PUT,
    };
    let mut request = client
        .request(method, section)
        .bearer_auth(token)
        .header("x-github-token", "a-token");
    if kind == Kind::Write {
        request = request
            .header("content-type", "application/json")
            .body(body.to_owned());
    }
    let begun = Instant::now();
    let wrong = match request.send().await {
        Ok(answer) => {
            let status = answer.status();
            match answer.text().await {
                Ok(_) if status.is_success() => None,
                Ok(text) => Some(format!("{kind:?}: {status}: {text}")),
                Err(error) => Some(format!("{kind:?}: {error}")),
            }
        }
        Err(error) => Some(format!("{kind:?}: {error}")),
    };
    Sample {
        kind,
        begun,
        took_ms: begun.elapsed().as_secs_f64() * 1e3,
        wrong,
    }
}

/// A stand-in for GitHub's API that knows every token; ended when dropped.
struct Github {
    url: String,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Github {
    async fn start() -> Result<Self> {
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
struct Service {
    url: String,
    _process: Child,
}

impl Service {
    async fn start(bench: &Bench, place: &Place, github: &str) -> Result<Self> {
        let mut environment = bench.environment_of(place);
        environment.push(("GITHUB_API_URL".into(), github.into()));
        environment.push(("TIERKEEP_SCAN_INTERVAL".into(), "500ms".into()));
        let arguments = ["serve", "--listen", "127.0.0.1:0"];
        let mut process = program::command(&bench.binary, &environment, &arguments)?
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
                return Ok(Self {
                    url,
                    _process: process,
                });
            }
            seen.push(line);
        }
        bail!("serve ended before it listened: {}", seen.join("\n"))
    }
}
