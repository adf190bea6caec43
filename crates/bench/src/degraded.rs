//! Internal users' requests while srie is unavailable, compared with calm, in alternating rounds, on one service of the
//! release binary. Connections to srie pass a proxy that is closed for half of each round.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tierkeep_core::db::Role;
use tokio_util::sync::CancellationToken;

use crate::Bench;
use crate::callers::{CallKind, Callers, Crowd, PACE, Round, Window, cells, seen};
use crate::door::Door;
use crate::measure::quantile;
use crate::place::{Home, Place};
use crate::report::{self, Section};
use crate::service::{Github, Service};

const CROWD: Crowd = Crowd {
    readers: 4,
    writers: 4,
    newcomers: 2,
};
/// How long each half of a round takes.
const HALF: Duration = Duration::from_secs(8);
const USERS: u64 = 500;
const INTERVAL: Duration = Duration::from_millis(100);
/// How long health may take to name what is away, and to forget it.
const SOON: Duration = Duration::from_secs(10);

/// Shuts srie out and lets it in again.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let rounds = bench.arguments.rounds;
    let place = Place::fresh(&bench.mongodb, "benchdegraded").await?;
    place.plant_young(0..USERS).await?;
    let github = Github::start().await?;
    let mut door = Door::before(server_of(&bench.mongodb)?).await?;
    let mut environment = bench.environment_of(&place);
    environment.push(("GITHUB_API_URL".into(), github.url.clone()));
    for (name, value) in &mut environment {
        let srie = [Role::SrieMainUser, Role::SrieMainHr].map(Role::url_variable);
        if srie.contains(&name.as_str()) {
            *value = through(value, &door)?;
        }
    }
    let service = Service::start(bench, &environment).await?;
    let stop = CancellationToken::new();
    let at_work = Callers::of(0..USERS)?.ask(&service.url, CROWD, &stop);
    let mut windows = Vec::new();
    let (mut named, mut cleared) = (Vec::new(), Vec::new());
    // Every user is known, and every connection open.
    tokio::time::sleep(HALF).await;
    for _ in 0..rounds {
        let calm = half().await;
        let from = Instant::now();
        door.shut().await;
        named.push(until(&service.url, "down").await?);
        tokio::time::sleep(HALF).await;
        // From the first moment on, and not only once it is known.
        let away = Window {
            from,
            to: Instant::now(),
        };
        door.open().await?;
        cleared.push(until(&service.url, "up").await?);
        windows.push((calm, away));
    }
    stop.cancel();
    let samples = seen(at_work).await?;
    drop(service);
    place.remove().await?;
    let wrong: Vec<&String> = samples.iter().filter_map(|it| it.wrong.as_ref()).collect();
    let mut all: BTreeMap<CallKind, Vec<Round>> = BTreeMap::new();
    for kind in [CallKind::Read, CallKind::Write, CallKind::Create] {
        for (calm, away) in &windows {
            let round = Round {
                calm: calm.of(kind, &samples),
                other: away.of(kind, &samples),
            };
            crate::say(&format!(
                "degraded, {kind:?}: p50 {:.2} ms calm, {:.2} without srie",
                quantile(round.calm.clone(), 0.5),
                quantile(round.other.clone(), 0.5),
            ));
            all.entry(kind).or_default().push(round);
        }
    }
    let text = text(
        bench,
        rounds,
        &all,
        samples.len(),
        &wrong,
        [&named, &cleared],
    );
    Ok(vec![Section {
        file: "benchmarks.md",
        name: "degraded",
        text,
    }])
}

fn text(
    bench: &Bench,
    rounds: usize,
    all: &BTreeMap<CallKind, Vec<Round>>,
    requests: usize,
    wrong: &[&String],
    [named, cleared]: [&[f64]; 2],
) -> String {
    let mut text = format!(
        "{}{}; MongoDB; {} readers, {} writers and {} that create a user with each request, each with a request \
         every {} ms; {rounds} rounds of {} s calm and {} s without srie_main_user and srie_main_hr. Medians of the rounds, in ms. \
         {requests} requests in total, {} failed. Health named srie after {:.1} s at most, and cleared it after {:.1} s at \
         most (goal: 10).\n\n\
         | requests | calm p50 | without srie p50 | ratio | goal | calm p99 | without srie p99 | ratio |\n\
         |---|---|---|---|---|---|---|---|\n",
        report::taken(),
        bench.settings(),
        CROWD.readers,
        CROWD.writers,
        CROWD.newcomers,
        PACE.as_millis(),
        HALF.as_secs(),
        HALF.as_secs(),
        wrong.len(),
        quantile(named.to_vec(), 1.0),
        quantile(cleared.to_vec(), 1.0),
    );
    for (kind, rounds) in all {
        let _ = writeln!(text, "| {} | {} |", kind.name(), cells(rounds, 1.5));
    }
    if let Some(first) = wrong.first() {
        let _ = writeln!(text, "\nThe first that failed: {first}");
    }
    text
}

async fn half() -> Window {
    let from = Instant::now();
    tokio::time::sleep(HALF).await;
    Window {
        from,
        to: Instant::now(),
    }
}

/// Waits until health says this of srie; answers after how many seconds.
async fn until(url: &str, status: &str) -> Result<f64> {
    let begun = Instant::now();
    let row = format!("{url}/health/databases/{}", Role::SrieMainUser);
    loop {
        let told: Value = reqwest::get(&row).await?.json().await?;
        if told.get("status").and_then(Value::as_str) == Some(status) {
            return Ok(begun.elapsed().as_secs_f64());
        }
        ensure!(
            begun.elapsed() < SOON,
            "srie_main_user is not {status}: {told}"
        );
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The one server of a connection string.
fn server_of(home: &Home) -> Result<&str> {
    let Home::Mongodb { url, .. } = home else {
        bail!("an embedded database has no server");
    };
    let rest = url.strip_prefix("mongodb://").unwrap_or(url);
    let server = rest.split(['/', '?']).next();
    server.context("a connection string names a server")
}

/// The connection string of the same database behind the door.
fn through(url: &str, door: &Door) -> Result<String> {
    let path = url.strip_prefix("mongodb://").unwrap_or(url);
    let (_, path) = path.split_once('/').context("a database is named")?;
    let database = path.split('?').next().unwrap_or_default();
    let address = door.address;
    // Servers tell other names for themselves, which lead past the door.
    Ok(format!(
        "mongodb://{address}/{database}?directConnection=true"
    ))
}
