//! Requests while documents move: readers and writers over HTTP, first while the mover is paused and then while
//! it moves, on one service of the release binary.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bson::DateTime;
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Find, Query};
use tierkeep_engine::{MigrationService, MoverSettings};
use tokio_util::sync::CancellationToken;

use crate::Bench;
use crate::callers::{CallKind, Callers, Crowd, PACE, Round, Sample, Window, cells, seen};
use crate::measure::quantile;
use crate::place::{Place, USERS, before_now};
use crate::report::{self, Section};
use crate::service::{Github, Service};

const MOST_ROUNDS: usize = 3;
const CROWD: Crowd = Crowd {
    readers: 8,
    writers: 4,
    newcomers: 0,
};
/// How long requests are measured while nothing moves.
const CALM: Duration = Duration::from_secs(10);
/// How many users that move, and how many that do not, are asked for.
const USERS_OF_EACH: u64 = 500;
/// How often it is looked whether anything is left to move.
const INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_mins(10);

/// Asks while nothing moves, then while everything does.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    Ok(vec![Section {
        file: "benchmarks-move.md",
        name: "latency",
        text: while_moving(bench, Planted::Own).await?,
    }])
}

/// Who wrote the documents that move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// tierkeep.
    Own,
    /// Another program.
    Foreign,
}

/// What requests took in calm and while documents move, as a table.
pub async fn while_moving(bench: &Bench, planted: Planted) -> Result<String> {
    let rounds = bench.arguments.rounds.min(MOST_ROUNDS);
    let mut all: BTreeMap<CallKind, Vec<Round>> = BTreeMap::new();
    let (mut requests, mut wrong) = (0, Vec::new());
    for round in 0..rounds {
        let (samples, moving) = once(bench, planted).await?;
        requests += samples.len();
        wrong.extend(samples.iter().filter_map(|sample| sample.wrong.clone()));
        for kind in [CallKind::Read, CallKind::Write] {
            let calm = Window {
                from: moving.asked,
                to: moving.resumed,
            };
            let under_way = Window {
                from: moving.begun,
                to: moving.ended,
            };
            let one = Round {
                calm: calm.of(kind, &samples),
                other: under_way.of(kind, &samples),
            };
            crate::say(&format!(
                "latency {round} {kind:?}: p50 {:.2} ms calm, {:.2} moving, over {:.1} s",
                quantile(one.calm.clone(), 0.5),
                quantile(one.other.clone(), 0.5),
                (moving.ended - moving.begun).as_secs_f64(),
            ));
            all.entry(kind).or_default().push(one);
        }
    }
    Ok(text(bench, rounds, &all, requests, &wrong))
}

fn text(
    bench: &Bench,
    rounds: usize,
    all: &BTreeMap<CallKind, Vec<Round>>,
    requests: usize,
    wrong: &[String],
) -> String {
    let mut text = format!(
        "{}{}; {rounds} rounds, in each {} readers and {} writers over HTTP, each with a request every {} ms, \
         for users that move and users that do not; {} s calm, then while {} documents move. Medians of the rounds, in \
         ms. {requests} requests in total, {} failed.\n\n\
         | requests | calm p50 | moving p50 | ratio | goal | calm p99 | moving p99 | ratio |\n\
         |---|---|---|---|---|---|---|---|\n",
        report::taken(),
        bench.settings(),
        CROWD.readers,
        CROWD.writers,
        PACE.as_millis(),
        CALM.as_secs(),
        bench.arguments.documents,
        wrong.len(),
    );
    for (kind, rounds) in all {
        let _ = writeln!(text, "| {} | {} |", kind.name(), cells(rounds, 2.0));
    }
    if let Some(first) = wrong.first() {
        let _ = writeln!(text, "\nThe first that failed: {first}");
    }
    text
}

/// When callers began to ask, when the mover was let go, and between which moments documents were seen to move.
#[derive(Clone, Copy, Debug)]
struct Moving {
    asked: Instant,
    resumed: Instant,
    begun: Instant,
    ended: Instant,
}

async fn once(bench: &Bench, planted: Planted) -> Result<(Vec<Sample>, Moving)> {
    let documents = bench.arguments.documents;
    let place = Place::fresh(&bench.mongodb, "benchlatency").await?;
    match planted {
        Planted::Own => place.plant(documents).await?,
        Planted::Foreign => place.plant_foreign(documents).await?,
    }
    let young = documents..documents + USERS_OF_EACH;
    place.plant_young(young.clone()).await?;
    bench.server.settle().await?;
    let mover = MigrationService::new(place.engine.clone(), MoverSettings::default());
    mover.pause().await?;
    let github = Github::start().await?;
    let mut environment = bench.environment_of(&place);
    environment.push(("GITHUB_API_URL".into(), github.url.clone()));
    environment.push(("TIERKEEP_SCAN_INTERVAL".into(), "500ms".into()));
    let service = Service::start(bench, &environment).await?;
    let every = usize::try_from(documents.div_ceil(USERS_OF_EACH))?;
    let callers = Callers::of((0..documents).step_by(every).chain(young))?;
    let stop = CancellationToken::new();
    let asked = Instant::now();
    let at_work = callers.ask(&service.url, CROWD, &stop);
    tokio::time::sleep(CALM).await;
    mover.resume().await?;
    let moving = watch(&place, asked).await;
    stop.cancel();
    let samples = seen(at_work).await?;
    drop(service);
    place.remove().await?;
    Ok((samples, moving?))
}

/// Waits until documents move, and then until none is left that is due.
async fn watch(place: &Place, asked: Instant) -> Result<Moving> {
    let resumed = Instant::now();
    let before = before_now(Duration::from_hours(24));
    let first = first_due(place, before).await?;
    let mut begun = None;
    loop {
        ensure!(
            resumed.elapsed() < PATIENCE,
            "still moving after {PATIENCE:?}"
        );
        let now = first_due(place, before).await?;
        if now != first && begun.is_none() {
            begun = Some(Instant::now());
        }
        if now.is_none() {
            return Ok(Moving {
                asked,
                resumed,
                begun: begun.unwrap_or(resumed),
                ended: Instant::now(),
            });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The first document that is due, of other programs' where there is none of tierkeep's own.
pub async fn first_due(place: &Place, before: DateTime) -> Result<Option<RawDocumentBuf>> {
    let temp = place.store(Role::RaseenTempUser)?;
    for query in [Query::Due(before), Query::Unstaged] {
        let find = Find::new(query).keys().limit(1);
        let found = temp.find(USERS, &find).await?.pop();
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
