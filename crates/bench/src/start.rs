//! The release binary from outside: its size, and how long the embedded service takes until
//! it is ready.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::measure::{median, quantile};
use crate::report::{self, Section};
use crate::{Bench, program};

const STARTS: usize = 11;
const SIZE_GOAL_MIB: f64 = 40.0;
const READY_GOAL_MS: f64 = 300.0;

/// Starts the service on fresh and on existing data directories in turn.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let home = bench.folder.join("start");
    let (mut fresh, mut existing) = (Vec::new(), Vec::new());
    for start in 0..STARTS {
        let data = home.join(start.to_string());
        fresh.push(ready_after_ms(&bench.binary, &data).await?);
        existing.push(ready_after_ms(&bench.binary, &data).await?);
    }
    std::fs::remove_dir_all(&home)?;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let size = std::fs::metadata(&bench.binary)?.len() as f64 / 1_048_576.0;
    let mut text = format!(
        "{}; medians of {STARTS} starts, with minimum and maximum in brackets.\n\n\
         | what | measured | goal | of the goal |\n|---|---|---|---|\n\
         | binary | {size:.1} MiB | {SIZE_GOAL_MIB:.0} MiB | {:.2} |\n",
        report::taken(),
        size / SIZE_GOAL_MIB
    );
    for (name, times) in [("fresh", fresh), ("existing", existing)] {
        let middle = median(times.clone());
        let _ = writeln!(
            text,
            "| start to ready, {name} data directory | {middle:.0} ms ({:.0} to {:.0}) | {READY_GOAL_MS:.0} ms | {:.2} |",
            quantile(times.clone(), 0.0),
            quantile(times, 1.0),
            middle / READY_GOAL_MS
        );
    }
    Ok(vec![Section {
        file: "benchmarks.md",
        name: "start",
        text,
    }])
}

/// Starts the service and asks until it says that it is ready.
async fn ready_after_ms(binary: &Path, data: &Path) -> Result<f64> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let environment = [("TIERKEEP_DATA_DIR".to_owned(), data.display().to_string())];
    let listen = address.to_string();
    let started = Instant::now();
    let mut child = program::command(binary, &environment, &["serve", "--listen", &listen])?
        .spawn()
        .context("the release binary cannot be started")?;
    program::ready(&format!("http://{address}")).await?;
    let took = started.elapsed();
    child.kill().await?;
    Ok(took.as_secs_f64() * 1e3)
}
