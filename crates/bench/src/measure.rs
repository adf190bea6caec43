//! Measuring one contender: time, processor time of client and server, and requests to the server.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bson::{Bson, Document, doc};
use mongodb::Client;
use tierkeep_core::bson;
use tokio::task::JoinHandle;

/// How many of the kernel's ticks make a second; the same on every Linux that people run.
const TICKS_PER_SECOND: f64 = 100.0;

/// How often a peak is read; it only rises, and the kernel forgets it when the process ends.
const PEAK_INTERVAL: Duration = Duration::from_millis(5);

/// What one contender took for its documents.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// How many documents went.
    pub documents: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Processor time of this process and of those that it started and that have ended.
    pub client: Duration,
    /// Processor time of the server; zero where there is none.
    pub server: Duration,
    /// Of that, the threads that serve connections; the rest is the storage engine's own.
    pub connections: Duration,
    /// Commands that the server received.
    pub requests: u64,
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
impl Measured {
    /// Documents in a second.
    pub fn rate(&self) -> f64 {
        self.documents as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Documents in a second of one core's time, client's or server's.
    pub fn rate_per_core(&self) -> f64 {
        1e6 / self.cpu_micros().max(1e-9)
    }

    /// Microseconds of client and server together for each document.
    pub fn cpu_micros(&self) -> f64 {
        self.client_micros() + self.server_micros()
    }

    /// Microseconds of the client for each document.
    pub fn client_micros(&self) -> f64 {
        self.client.as_secs_f64() * 1e6 / self.documents.max(1) as f64
    }

    /// Microseconds of the server for each document.
    pub fn server_micros(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / self.documents.max(1) as f64
    }

    /// Microseconds of the server's connections for each document.
    pub fn connections_micros(&self) -> f64 {
        self.connections.as_secs_f64() * 1e6 / self.documents.max(1) as f64
    }

    /// Commands for a thousand documents.
    pub fn requests_per_thousand(&self) -> f64 {
        self.requests as f64 * 1_000.0 / self.documents.max(1) as f64
    }
}

/// The server that is measured.
#[derive(Clone, Debug)]
pub struct Server {
    /// A client of its own, to ask it.
    pub client: Client,
    /// Its process.
    pub process: u32,
}

impl Server {
    /// How many commands it has received so far.
    pub async fn requests(&self) -> Result<u64> {
        let wanted =
            doc! { "serverStatus": 1, "repl": 0, "metrics": 0, "locks": 0, "wiredTiger": 0 };
        let status = self.client.database("admin").run_command(wanted).await?;
        let requests = status
            .get_document("network")
            .ok()
            .and_then(|network| network.get("numRequests"))
            .and_then(whole);
        requests.context("the server does not say how many requests it had")
    }

    /// Brings everything written so far to disk, so that no measurement pays for what came before.
    pub async fn settle(&self) -> Result<()> {
        let fsync: Document = doc! { "fsync": 1 };
        self.client.database("admin").run_command(fsync).await?;
        Ok(())
    }
}

/// A number of whichever type the server chose.
pub fn whole(value: &Bson) -> Option<u64> {
    let value = value.as_i64().or_else(|| value.as_i32().map(i64::from))?;
    u64::try_from(value).ok()
}

/// A measurement under way.
#[derive(Debug)]
pub struct Stopwatch {
    server: Option<Server>,
    started: Instant,
    client: Duration,
    spent: Duration,
    connections: Duration,
    requests: u64,
}

impl Stopwatch {
    /// Starts measuring this process and the server, where there is one.
    pub async fn start(server: Option<&Server>) -> Result<Self> {
        let (spent, connections, requests) = match server {
            Some(server) => {
                server.settle().await?;
                (
                    processor_time(server.process)?,
                    connections_time(server.process)?,
                    server.requests().await?,
                )
            }
            None => (Duration::ZERO, Duration::ZERO, 0),
        };
        Ok(Self {
            server: server.cloned(),
            client: processor_time(std::process::id())?,
            spent,
            connections,
            requests,
            started: Instant::now(),
        })
    }

    /// What `documents` took since the start, up to the server's next checkpoint: otherwise a contender that deletes
    /// last would leave the server's work on the deletions unmeasured.
    pub async fn stop(self, documents: u64) -> Result<Measured> {
        if let Some(server) = &self.server {
            server.settle().await?;
        }
        let elapsed = self.started.elapsed();
        let client = processor_time(std::process::id())?.saturating_sub(self.client);
        let (server, connections, requests) = match &self.server {
            Some(server) => (
                processor_time(server.process)?.saturating_sub(self.spent),
                connections_time(server.process)?.saturating_sub(self.connections),
                server.requests().await?.saturating_sub(self.requests),
            ),
            None => (Duration::ZERO, Duration::ZERO, 0),
        };
        Ok(Measured {
            documents,
            elapsed,
            client,
            server,
            connections,
            requests,
        })
    }
}

/// The processor time of a process so far, its threads together, user and system, with that of the processes
/// that it started and waited for.
pub fn processor_time(process: u32) -> Result<Duration> {
    let path = PathBuf::from(format!("/proc/{process}/stat"));
    let stat = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ticks(&stat, 4).with_context(|| format!("{} cannot be understood", path.display()))
}

/// The sum of the first `fields` of: user time, system time, and both of the children that were waited for.
fn ticks(stat: &str, fields: usize) -> Option<Duration> {
    // The name, in brackets, may hold anything; what follows it does not.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = 0.0;
    let mut values = rest.split_whitespace().skip(11);
    for _ in 0..fields {
        ticks += f64::from(values.next()?.parse::<u32>().ok()?);
    }
    Some(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

/// The most memory that a process has had so far, in bytes; `None` once it has ended.
fn peak_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The most memory that a process has until it ends, in bytes.
pub fn peak_of(process: u32) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut peak = 0;
        while let Some(now) = peak_memory(process) {
            peak = peak.max(now);
            tokio::time::sleep(PEAK_INTERVAL).await;
        }
        peak
    })
}

/// The processor time that the server's threads for connections have used so far.
pub fn connections_time(process: u32) -> Result<Duration> {
    let mut all = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let path = task?.path();
        // A thread may end between the two.
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with("conn") {
            all += ticks(
                &fs::read_to_string(path.join("stat")).unwrap_or_default(),
                2,
            )
            .unwrap_or_default();
        }
    }
    Ok(all)
}

/// The middle of `values`; of two the mean.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(value), 1) => *value,
        (Some(value), _) => {
            f64::midpoint(*value, values.get(middle - 1).copied().unwrap_or(*value))
        }
        (None, _) => f64::NAN,
    }
}

/// The median, with the least and the most.
pub fn spread(values: Vec<f64>) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.2} ({least:.2} to {most:.2})", median(values))
}

/// The value that `share` of `values` do not exceed.
pub fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let place = (values.len() as f64 * share).ceil() as usize;
    values
        .get(place.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_quantile_is_the_value_that_so_many_do_not_exceed() {
        let values = || (1..=200).rev().map(f64::from).collect();
        assert!((quantile(values(), 0.5) - 100.0).abs() < 1e-9);
        assert!((quantile(values(), 0.99) - 198.0).abs() < 1e-9);
        assert!(quantile(Vec::new(), 0.5).is_nan());
    }

    #[test]
    fn a_process_that_runs_has_memory_and_no_other_has() {
        assert!(peak_memory(std::process::id()).unwrap() > 100_000);
        assert_eq!(peak_memory(u32::MAX), None);
    }

    #[test]
    fn processor_time_never_falls() {
        let me = std::process::id();
        let before = processor_time(me).unwrap();
        assert!(processor_time(me).unwrap() >= before);
    }
}
