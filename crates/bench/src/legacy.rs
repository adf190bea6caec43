//! Importing the predecessor's data: `tierkeep import-legacy` compared with a raw copy of the same documents by one
//! client.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use bson::doc;
use bson::raw::RawDocumentBuf;
use mongodb::options::{Acknowledgment, CollectionOptions, ReadConcern, WriteConcern};
use mongodb::{Collection, Database};
use serde_json::Value;
use tierkeep_core::bson;

use crate::measure::{Measured, Stopwatch, median, spread};
use crate::place::{Home, Place};
use crate::report::{self, Section};
use crate::{Bench, documents, program};

/// More rounds take long and tell little.
const MOST_ROUNDS: usize = 3;
/// The collections that documents are in, alternately, and what the copy of them is called.
const COLLECTIONS: [&str; 2] = ["external_users", "internal_users"];
const SOURCE: &str = "benchlegacy_git_Evaluator";
const COPY: &str = "benchlegacy_copy";
/// How many documents are written with one command, and about how many bytes at most.
const AT_ONCE: usize = 500;
const AT_ONCE_BYTES: usize = 8 * 1024 * 1024;

/// Which types of users there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Users {
    /// External ones: one copy each.
    External,
    /// One of two is internal and was stored long ago: a copy in main, one in srie, and both are read back.
    Mixed,
}

/// One set of documents, each of another user.
#[derive(Clone, Copy, Debug)]
struct Set {
    documents: u64,
    size: usize,
    users: Users,
}

/// What one round found.
#[derive(Clone, Copy, Debug)]
struct Round {
    copied: Measured,
    imported: Measured,
    peak_bytes: u64,
}

/// Imports sets of large and of small documents with the release binary.
pub async fn measure(bench: &Bench) -> Result<Vec<Section>> {
    let rounds = bench.arguments.rounds.min(MOST_ROUNDS);
    let mut text = format!(
        "{}{}; {rounds} interleaved rounds of `tierkeep import-legacy` of the release binary and of one client that reads \
         batches and inserts them elsewhere, one after the other, each document of a different user; medians, with \
         minimum and maximum in brackets; the peak is the kernel's (VmHWM).\n\n\
         | documents | bytes each | users | documents/s copied | documents/s imported | of the copy | goal | CPU µs each, copied | imported | peak, MB | goal |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        report::taken(),
        bench.settings()
    );
    let sets = [
        (bench.arguments.documents * 2 / 5, 100_000, Users::External),
        (bench.arguments.documents * 2 / 5, 100_000, Users::Mixed),
        (bench.large(), 2_000, Users::External),
        (bench.large(), 2_000, Users::Mixed),
    ];
    for (documents, size, users) in sets {
        let set = Set {
            documents,
            size,
            users,
        };
        let source = bench.server.client.database(SOURCE);
        source.drop().await?;
        plant(&source, set).await?;
        let mut found = Vec::new();
        for n in 0..rounds {
            let one = round(bench, &source, set, n % 2 == 0).await?;
            crate::say(&format!(
                "legacy, {set:?}: {:.0}/s copied, {:.0}/s imported, {:.0} and {:.0} µs of CPU each, {:.1} MB",
                one.copied.rate(),
                one.imported.rate(),
                one.copied.cpu_micros(),
                one.imported.cpu_micros(),
                megabytes(one.peak_bytes)
            ));
            found.push(one);
        }
        source.drop().await?;
        let all = |of: fn(&Round) -> f64| -> Vec<f64> { found.iter().map(of).collect() };
        let ratios = all(|one| one.imported.rate() / one.copied.rate().max(1e-9));
        let peak = found.iter().map(|one| one.peak_bytes).max();
        let _ = writeln!(
            text,
            "| {documents} | {size} | {} | {:.0} | {:.0} | {} | 0.5 | {:.0} | {:.0} | {:.0} | 100 |",
            match users {
                Users::External => "external",
                Users::Mixed => "half of them internal, stored twice and read back",
            },
            median(all(|one| one.copied.rate())),
            median(all(|one| one.imported.rate())),
            spread(ratios),
            median(all(|one| one.copied.cpu_micros())),
            median(all(|one| one.imported.cpu_micros())),
            megabytes(peak.unwrap_or_default()),
        );
    }
    Ok(vec![Section {
        file: "benchmarks.md",
        name: "legacy",
        text,
    }])
}

async fn round(bench: &Bench, source: &Database, set: Set, copy_first: bool) -> Result<Round> {
    let (copied, (imported, peak_bytes));
    if copy_first {
        copied = copy(bench, source, set).await?;
        (imported, peak_bytes) = import(bench, set).await?;
    } else {
        (imported, peak_bytes) = import(bench, set).await?;
        copied = copy(bench, source, set).await?;
    }
    Ok(Round {
        copied,
        imported,
        peak_bytes,
    })
}

fn acknowledged(database: &Database, name: &str) -> Collection<RawDocumentBuf> {
    let by_majority = WriteConcern::builder()
        .w(Acknowledgment::Majority)
        .journal(true)
        .build();
    let options = CollectionOptions::builder()
        .write_concern(by_majority)
        .read_concern(ReadConcern::majority())
        .build();
    database.collection_with_options(name, options)
}

async fn plant(source: &Database, set: Set) -> Result<()> {
    for (part, name) in COLLECTIONS.into_iter().enumerate() {
        let collection = acknowledged(source, name);
        let mut batch = Batch::default();
        for n in 0..set.documents {
            let internal = set.users == Users::Mixed && n % 2 == 1;
            if usize::from(internal) == part {
                batch.push(documents::legacy(n, set.size, internal));
            }
            if batch.is_full() {
                batch.insert(&collection).await?;
            }
        }
        batch.insert(&collection).await?;
    }
    Ok(())
}

/// Documents that are written with one command.
#[derive(Debug, Default)]
struct Batch {
    documents: Vec<RawDocumentBuf>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, document: RawDocumentBuf) {
        self.bytes += document.as_bytes().len();
        self.documents.push(document);
    }

    fn is_full(&self) -> bool {
        self.documents.len() >= AT_ONCE || self.bytes >= AT_ONCE_BYTES
    }

    async fn insert(&mut self, to: &Collection<RawDocumentBuf>) -> Result<()> {
        let batch = std::mem::take(self);
        if !batch.documents.is_empty() {
            to.insert_many(batch.documents).ordered(false).await?;
        }
        Ok(())
    }
}

/// What one client without any care does: read, insert, and again.
async fn copy(bench: &Bench, source: &Database, set: Set) -> Result<Measured> {
    let to = bench.server.client.database(COPY);
    to.drop().await?;
    let stopwatch = Stopwatch::start(Some(&bench.server)).await?;
    for name in COLLECTIONS {
        let (from, to) = (acknowledged(source, name), acknowledged(&to, name));
        let mut cursor = from.find(doc! {}).await?;
        let mut batch = Batch::default();
        while cursor.advance().await? {
            batch.push(cursor.current().to_owned());
            if batch.is_full() {
                batch.insert(&to).await?;
            }
        }
        batch.insert(&to).await?;
    }
    let measured = stopwatch.stop(set.documents).await?;
    to.drop().await?;
    Ok(measured)
}

async fn import(bench: &Bench, set: Set) -> Result<(Measured, u64)> {
    let home = &bench.mongodb;
    let place = Place::fresh(home, "benchlegacy").await?;
    let Home::Mongodb { url, .. } = home else {
        anyhow::bail!("the predecessor's database is on a server");
    };
    let mut environment = bench.environment_of(&place);
    environment.push(("MONGODB_URL".into(), url.clone()));
    environment.push(("DATABASE_NAME".into(), SOURCE.into()));
    let stopwatch = Stopwatch::start(Some(&bench.server)).await?;
    let arguments = ["import-legacy", "--json"];
    let (report, peak) = program::outcome(&bench.binary, &environment, &arguments).await?;
    let measured = stopwatch.stop(set.documents).await?;
    ensure!(
        report.get("imported").and_then(Value::as_u64) == Some(set.documents),
        "import-legacy says {report}"
    );
    place.remove().await?;
    Ok((measured, peak))
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
