//! Numbers that are looked up from time to time: what waits, and how many documents there are.
//!
//! Must never cost a database more than a hundredth of its time, or hold up anything else: a look that takes long
//! is followed by a rest that is a hundred times as long, and what a database that is away knows stays as it was.

use std::time::Duration;

use tierkeep_core::db::Role;
use tierkeep_engine::{Inspector, MigrationService, Waiting};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Metrics;

/// The shortest rest between two looks at what waits.
const WAITING_EVERY: Duration = Duration::from_secs(15);
/// The shortest rest between two counts of everything.
const COUNT_EVERY: Duration = Duration::from_mins(1);
/// How many times as long as a look the rest after it is.
const REST: u32 = 100;
/// How often what was measured is cleared up after.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Looks until `stop` is cancelled; `waits` hears what waits.
pub async fn refresh(
    metrics: Metrics,
    service: MigrationService,
    scan_interval: Duration,
    waits: watch::Sender<Option<Waiting>>,
    stop: CancellationToken,
) {
    let engine = service.engine();
    let waiting = async {
        loop {
            let began = Instant::now();
            if let Ok(waiting) = Inspector::from(&service).waiting(scan_interval).await {
                metrics.waits(waiting);
                waits.send_replace(Some(waiting));
                rest(began, WAITING_EVERY).await;
            } else {
                // How long a database took to fail is no measure of what a look costs it.
                tokio::time::sleep(WAITING_EVERY).await;
            }
        }
    };
    let counting = async {
        loop {
            let began = Instant::now();
            for role in Role::ALL {
                if let Ok(documents) = engine.databases().documents(role).await {
                    metrics.holds(role, documents);
                }
            }
            rest(began, COUNT_EVERY).await;
        }
    };
    let upkeep = async {
        loop {
            metrics.upkeep();
            tokio::time::sleep(UPKEEP_EVERY).await;
        }
    };
    tokio::select! {
        never = waiting => never,
        never = counting => never,
        never = upkeep => never,
        () = stop.cancelled() => {}
    }
}

async fn rest(began: Instant, least: Duration) {
    tokio::time::sleep(least.max(began.elapsed() * REST)).await;
}
