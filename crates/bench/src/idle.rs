//! An idle tick: the cost of a scan when temp holds documents and none is due.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bson::{Document, doc};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_engine::{LeaseObserver, MigrationService, MoverSettings, Worker};
use tokio_util::sync::CancellationToken;

use crate::Bench;
use crate::measure::{median, whole};
use crate::place::{Home, Place};
use crate::report::{self, Section};

/// How many ticks are looked into by the server's profiler.
const PROFILED: usize = 10;
/// How many ticks are timed.
const TIMED: usize = 50;
/// As `serve` has it by default.
const SCAN_INTERVAL: Duration = Duration::from_mins(1);

/// What one tick did in one database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Seen {
    keys: u64,
    documents: u64,
    commands: u64,
}

/// Ticks with documents in temp of which none is due.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let documents = bench.arguments.documents;
    let mut text = format!(
        "{}; {documents} documents in temp, none of them due.\n\n",
        report::taken()
    );
    for home in [&bench.mongodb, &bench.sqlite] {
        let place = Place::fresh(home, "benchidle").await?;
        place.plant_young(0..documents).await?;
        let tick = Tick::new(&place);
        // The first finds no lease and makes it.
        tick.run().await?;
        if let Home::Mongodb { .. } = home {
            text.push_str(&profiled(&place, &tick).await?);
        }
        let mut times = Vec::new();
        for _ in 0..TIMED {
            let begun = Instant::now();
            tick.run().await?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        place.remove().await?;
        let middle = median(times);
        crate::say(&format!("idle, {}: {middle:.2} ms a tick", home.name()));
        let _ = writeln!(
            text,
            "{}: a tick takes {middle:.2} ms (median of {TIMED}).\n",
            home.name()
        );
    }
    Ok(vec![Section {
        file: "benchmarks-move.md",
        name: "idle",
        text,
    }])
}

/// What `serve` does every scan interval.
struct Tick {
    service: MigrationService,
    worker: Worker,
    stop: CancellationToken,
}

impl Tick {
    fn new(place: &Place) -> Self {
        let service = MigrationService::new(place.engine.clone(), MoverSettings::default());
        Self {
            worker: Worker::new(service.clone(), SCAN_INTERVAL),
            service,
            stop: CancellationToken::new(),
        }
    }

    async fn run(&self) -> Result<()> {
        let begun = tokio::time::Instant::now();
        ensure!(!self.service.is_paused().await?, "the mover is paused");
        let mut observer = LeaseObserver::default();
        let run = self
            .service
            .run_with_lease(&mut observer, &self.stop)
            .await?;
        let summary = run.context("no other mover runs")?;
        ensure!(summary.due == 0, "{} documents were due", summary.due);
        self.worker.next_look(begun).await;
        Ok(())
    }
}

/// The most that a tick examined in each database, by the server's profiler.
async fn profiled(place: &Place, tick: &Tick) -> Result<String> {
    let mut most: BTreeMap<Role, Seen> = BTreeMap::new();
    for _ in 0..PROFILED {
        for role in Role::ALL {
            profile(place, role, 2).await?;
        }
        tick.run().await?;
        for role in Role::ALL {
            profile(place, role, 0).await?;
            let seen = seen(place, role).await?;
            let most = most.entry(role).or_default();
            *most = seen.max(*most);
        }
    }
    let mut text = String::from(
        "| database | index keys examined | documents examined | commands | goal |\n|---|---|---|---|---|\n",
    );
    for (role, seen) in most {
        let goal = if role == Role::RaseenTempUser {
            "1 key"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "| {role} | {} | {} | {} | {goal} |",
            seen.keys, seen.documents, seen.commands
        );
    }
    let _ = writeln!(
        text,
        "\nThe maximum of {PROFILED} ticks, from the server's profiler.\n"
    );
    Ok(text)
}

async fn profile(place: &Place, role: Role, level: i32) -> Result<()> {
    let database = place.database(role)?;
    database.run_command(doc! { "profile": level }).await?;
    Ok(())
}

/// What the profiler wrote, which is thrown away then.
async fn seen(place: &Place, role: Role) -> Result<Seen> {
    let profile = place
        .database(role)?
        .collection::<Document>("system.profile");
    let mut cursor = profile.find(doc! {}).await?;
    let mut seen = Seen::default();
    while cursor.advance().await? {
        let entry = cursor.deserialize_current()?;
        let number = |name| entry.get(name).and_then(whole).unwrap_or_default();
        let is_profile = entry
            .get_document("command")
            .is_ok_and(|command| command.contains_key("profile"));
        if !is_profile {
            seen.keys += number("keysExamined");
            seen.documents += number("docsExamined");
            seen.commands += 1;
        }
    }
    profile.drop().await?;
    Ok(seen)
}
