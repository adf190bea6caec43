//! Measuring one contender: time, processor time of client and server, and requests that the server saw.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bson::{Bson, Document, doc};
use mongodb::Client;
use tierkeep_core::bson;

/// How many of the kernel's ticks make a second; the same on every Linux that people run.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one contender took for its documents.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// How many documents went.
    pub documents: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Processor time of this process.
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
    async fn requests(&self) -> Result<u64> {
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

    /// Brings everything written so far to disk, so that nobody pays for what came before.
    pub async fn settle(&self) -> Result<()> {
        let fsync: Document = doc! { "fsync": 1 };
        self.client.database("admin").run_command(fsync).await?;
        Ok(())
    }
}

fn whole(value: &Bson) -> Option<u64> {
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

    /// What `documents` took since the start, up to the server's next checkpoint: who deletes last would
    /// otherwise leave the server's work on it to nobody.
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

/// The processor time of a process so far, its threads together, user and system.
pub fn processor_time(process: u32) -> Result<Duration> {
    let path = PathBuf::from(format!("/proc/{process}/stat"));
    let stat = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ticks(&stat).with_context(|| format!("{} cannot be understood", path.display()))
}

fn ticks(stat: &str) -> Option<Duration> {
    // The name, in brackets, may hold anything; what follows it does not.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11);
    let user: u32 = ticks.next()?.parse().ok()?;
    let system: u32 = ticks.next()?.parse().ok()?;
    let ticks = f64::from(user) + f64::from(system);
    Some(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

/// The processor time that the server's threads for connections have used so far.
pub fn connections_time(process: u32) -> Result<Duration> {
    let mut all = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let path = task?.path();
        // A thread may end between the two.
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with("conn") {
            all += ticks(&fs::read_to_string(path.join("stat")).unwrap_or_default())
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
    fn processor_time_never_falls() {
        let me = std::process::id();
        let before = processor_time(me).unwrap();
        assert!(processor_time(me).unwrap() >= before);
    }
}
