//! Verification: how fast `tierkeep verify` compares whole documents, compared with one client that only reads both
//! sides, how fast `tierkeep verify --quick` is, and their peak memory.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bson::raw::RawDocumentBuf;
use mongodb::Client;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tierkeep_core::bson;
use tierkeep_core::db::Role;

use crate::measure::{median, processor_time};
use crate::place::{Home, Place, TABLE, USERS};
use crate::report::{self, Section};
use crate::{Bench, program};

/// More rounds take long and tell little.
const MOST_ROUNDS: usize = 3;
/// What a document takes, in bytes.
const BYTES: usize = 2_048;

/// What one verification took, and one reading of the same before it.
#[derive(Clone, Copy, Debug)]
struct Once {
    verified: Took,
    quick: Took,
    read: Took,
    /// The larger one of the two.
    peak_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Took {
    elapsed: Duration,
    client: Duration,
    server: Duration,
}

/// Compares four times the documents of a move with the release binary, several times.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let documents = bench.large();
    let rounds = bench.arguments.rounds.min(MOST_ROUNDS);
    let mut text = format!(
        "{}{}; over {documents} equal pairs of {BYTES} bytes: one client that only reads both sides at once (raw), one `tierkeep verify` \
         of the release binary, and one `tierkeep verify --quick`, in alternating rounds; medians of {rounds}; the time of a core is that \
         of client and server together; the peak is the kernel's (VmHWM).\n\n\
         | where | way | pairs/s | of raw reading | pairs/s of a core | client, µs each | server, µs each | peak, MB | \
         goals |\n|---|---|---|---|---|---|---|---|---|\n",
        report::taken(),
        bench.settings()
    );
    for home in [&bench.mongodb, &bench.sqlite] {
        let place = Place::fresh(home, "benchverify").await?;
        place.plant_moved(documents, BYTES).await?;
        let mut taken = Vec::new();
        for _ in 0..rounds {
            let one = once(bench, home, &place, documents).await?;
            crate::say(&format!("verify, {}: {one:?}", home.name()));
            taken.push(one);
        }
        place.remove().await?;
        text.push_str(&rows(home.name(), &taken, documents));
    }
    Ok(vec![Section {
        file: "benchmarks.md",
        name: "verify",
        text,
    }])
}

/// What it is called, what it took, and its goals.
type Way = (&'static str, fn(&Once) -> Took, &'static str);

/// A row for each way.
fn rows(place: &str, taken: &[Once], documents: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let count = documents.max(1) as f64;
    let peak = taken.iter().map(|one| one.peak_bytes).max();
    let ways: [Way; 3] = [
        ("raw reading", |it| it.read, ""),
        ("`verify`", |it| it.verified, "0.7 of raw reading, 100 MB"),
        (
            "`verify --quick`",
            |it| it.quick,
            "100,000 of a core, 100 MB",
        ),
    ];
    let mut text = String::new();
    for (way, took, goals) in ways {
        let each = |of: fn(&Took) -> Duration| {
            let micros = taken.iter().map(|one| of(&took(one)).as_secs_f64() * 1e6);
            median(micros.map(|micros| micros / count).collect())
        };
        let (client, server) = (each(|it| it.client), each(|it| it.server));
        let of_reading =
            |one: &Once| one.read.elapsed.as_secs_f64() / took(one).elapsed.as_secs_f64().max(1e-9);
        let _ = writeln!(
            text,
            "| {place} | {way} | {:.0} | {:.2} | {:.0} | {client:.1} | {server:.1} | {} | {goals} |",
            1e6 / each(|it| it.elapsed).max(1e-9),
            median(taken.iter().map(of_reading).collect()),
            1e6 / (client + server).max(1e-9),
            if goals.is_empty() {
                "-".to_owned()
            } else {
                format!("{:.0}", megabytes(peak.unwrap_or_default()))
            },
        );
    }
    text
}

async fn once(bench: &Bench, home: &Home, place: &Place, documents: u64) -> Result<Once> {
    let clock = Clock::start(bench, home)?;
    let pairs = read(home, place).await?;
    ensure!(pairs == documents * 2, "{pairs} documents were read");
    let read = clock.stop()?;
    let clock = Clock::start(bench, home)?;
    let whole_bytes = verify(bench, place, documents, &["verify", "--json"]).await?;
    let verified = clock.stop()?;
    let clock = Clock::start(bench, home)?;
    let quick_bytes = verify(bench, place, documents, &["verify", "--quick", "--json"]).await?;
    Ok(Once {
        verified,
        quick: clock.stop()?,
        read,
        peak_bytes: whole_bytes.max(quick_bytes),
    })
}

/// Since when, and what had been spent until then.
struct Clock {
    server: Option<u32>,
    began: Instant,
    client: Duration,
    spent: Duration,
}

impl Clock {
    fn start(bench: &Bench, home: &Home) -> Result<Self> {
        let server = bench.server_of(home).map(|server| server.process);
        Ok(Self {
            server,
            began: Instant::now(),
            client: processor_time(std::process::id())?,
            spent: server.map_or(Ok(Duration::ZERO), processor_time)?,
        })
    }

    fn stop(self) -> Result<Took> {
        let spent = self.server.map_or(Ok(Duration::ZERO), processor_time)?;
        Ok(Took {
            elapsed: self.began.elapsed(),
            // Of those that have ended the one that was measured, with what watching it took.
            client: processor_time(std::process::id())?.saturating_sub(self.client),
            server: spent.saturating_sub(self.spent),
        })
    }
}

/// Reads both sides at once with one client; answers how many documents there were.
async fn read(home: &Home, place: &Place) -> Result<u64> {
    let roles = [Role::RaseenMainUser, Role::SrieMainUser];
    match home {
        Home::Mongodb { url, .. } => {
            let client = Client::with_uri_str(url).await?;
            let database = |role| Ok::<_, anyhow::Error>(place.database(role)?.name().to_owned());
            let [main, srie] = roles.map(database);
            let (main, srie) = (main?, srie?);
            let (main, srie) = tokio::join!(
                tokio::spawn(read_collection(client.clone(), main)),
                tokio::spawn(read_collection(client.clone(), srie))
            );
            client.shutdown().immediate(true).await;
            Ok(main?? + srie??)
        }
        Home::Sqlite(_) => {
            let reading = roles.map(|role| {
                let file = place.file(role);
                tokio::task::spawn_blocking(move || -> Result<u64> {
                    let file = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                    let mut all = file.prepare(&format!("SELECT doc FROM {TABLE} ORDER BY key"))?;
                    let mut rows = all.query([])?;
                    let (mut count, mut bytes) = (0, 0);
                    while let Some(row) = rows.next()? {
                        bytes += row.get_ref(0)?.as_bytes()?.len();
                        count += 1;
                    }
                    ensure!(bytes > 0, "nothing was read");
                    Ok(count)
                })
            });
            let [main, srie] = reading;
            Ok(main.await?? + srie.await??)
        }
    }
}

async fn read_collection(client: Client, database: String) -> Result<u64> {
    let users = client
        .database(&database)
        .collection::<RawDocumentBuf>(USERS);
    let mut cursor = users
        .find(bson::doc! {})
        .sort(bson::doc! { "_id": 1 })
        .await?;
    let (mut count, mut bytes) = (0, 0);
    while cursor.advance().await? {
        bytes += cursor.current().as_bytes().len();
        count += 1;
    }
    ensure!(bytes > 0, "nothing was read");
    Ok(count)
}

/// Runs the release binary; answers the most memory that it had.
async fn verify(bench: &Bench, place: &Place, documents: u64, arguments: &[&str]) -> Result<u64> {
    let environment = bench.environment_of(place);
    let (found, peak) = program::outcome(&bench.binary, &environment, arguments).await?;
    for count in ["checked", "matched"] {
        ensure!(
            found.get(count).and_then(Value::as_u64) == Some(documents),
            "verify says {found}"
        );
    }
    Ok(peak)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
