//! Drain: how fast `serve` alone moves a backlog of other programs' documents, compared with `migrate run`, and what requests
//! take meanwhile.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::latency::{Planted, first_due, while_moving};
use crate::measure::{median, spread};
use crate::place::{Home, Place, before_now};
use crate::report::{self, Section};
use crate::service::Service;
use crate::{Bench, program};

/// How often it is looked whether anything is left to move.
const INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_mins(10);

/// Drains the same backlog by `migrate run` and by `serve`, in rounds, then by `serve` while callers ask.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let documents = bench.arguments.documents;
    let mut text = format!(
        "{}{}; {} interleaved rounds, each with {documents} overdue documents of another program: the release binary from its \
         start until none is left, by `migrate run` and by `serve`, to which no request is made; \
         medians.\n\n\
         | where | `migrate run`, documents/s | `serve`, documents/s | ratio | goal |\n|---|---|---|---|---|\n",
        report::taken(),
        bench.settings(),
        bench.arguments.rounds,
    );
    for home in [&bench.mongodb, &bench.sqlite] {
        let (mut runs, mut services) = (Vec::new(), Vec::new());
        for round in 0..bench.arguments.rounds {
            let run = by_run(bench, home).await?;
            let service = by_service(bench, home).await?;
            crate::say(&format!(
                "drain, {}, {round}: migrate run {run:.0}/s, serve {service:.0}/s",
                home.name()
            ));
            runs.push(run);
            services.push(service);
        }
        let ratios = services
            .iter()
            .zip(&runs)
            .map(|(service, run)| service / run);
        let ratios = spread(ratios.collect());
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {ratios} | 0.50 |",
            home.name(),
            median(runs),
            median(services),
        );
    }
    let _ = write!(
        text,
        "\nRequests to `serve` meanwhile, on MongoDB:\n\n{}",
        while_moving(bench, Planted::Foreign).await?
    );
    Ok(vec![Section {
        file: "benchmarks-move.md",
        name: "drain",
        text,
    }])
}

/// Documents a second by `tierkeep migrate run`.
async fn by_run(bench: &Bench, home: &Home) -> Result<f64> {
    let place = planted(bench, home).await?;
    let environment = bench.environment_of(&place);
    let begun = Instant::now();
    program::outcome(&bench.binary, &environment, &["migrate", "run", "--json"]).await?;
    rate(bench, place, begun.elapsed()).await
}

/// Documents a second by `tierkeep serve` while no request is made.
async fn by_service(bench: &Bench, home: &Home) -> Result<f64> {
    let place = planted(bench, home).await?;
    let environment = bench.environment_of(&place);
    let before = before_now(Duration::from_hours(24));
    let begun = Instant::now();
    let service = Service::start(bench, &environment).await?;
    while first_due(&place, before).await?.is_some() {
        ensure!(
            begun.elapsed() < PATIENCE,
            "still moving after {PATIENCE:?}"
        );
        tokio::time::sleep(INTERVAL).await;
    }
    let took = begun.elapsed();
    drop(service);
    rate(bench, place, took).await
}

async fn planted(bench: &Bench, home: &Home) -> Result<Place> {
    let place = Place::fresh(home, "benchdrain").await?;
    place.plant_foreign(bench.arguments.documents).await?;
    bench.server.settle().await?;
    Ok(place)
}

async fn rate(bench: &Bench, place: Place, took: Duration) -> Result<f64> {
    place.check_moved(bench.arguments.documents).await?;
    place.remove().await?;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    Ok(bench.arguments.documents as f64 / took.as_secs_f64())
}
