//! The ways to move documents that are compared.
//!
//! On MongoDB all of them read, write and delete on the same collections with the same indexes, and ask a
//! majority to acknowledge with its journal; on SQLite every transaction is synchronous.

mod dump;
mod embedded;
mod server;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bson::{Bson, DateTime};
use clap::ValueEnum;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::document;
use tierkeep_core::mover::{Verify, main_form};
use tierkeep_core::store::{Cursor, Fence, Find, Query};
use tierkeep_engine::{MigrationService, MoverSettings, NoProgress, RunOptions};
use tokio_util::sync::CancellationToken;

use crate::place::{Home, Place, USERS, before_now};

pub use dump::tools_missing;

/// A way to move documents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Contender {
    /// Plain inserts to both, then one delete by age: nothing guarded, verified or recorded.
    Limit,
    /// The same made by the server alone: `$merge` into both, then one delete by age.
    Merge,
    /// tierkeep as it is by default.
    Full,
    /// The same, by two runs at once that share the work.
    Two,
    /// As [`Contender::Full`], with documents that another program wrote.
    Foreign,
    /// tierkeep with `TIERKEEP_VERIFY=version`.
    Version,
    /// One client that sends guarded upserts batch by batch, and deletes by version.
    Upserts,
    /// `mongodump` into `mongorestore`, for both copies, then one delete by age.
    Dump,
    /// One document in each transaction, guarded.
    Single,
    /// One document at a time, with its record.
    Predecessor,
}

/// How many documents a batch of the simple contenders has.
const BATCH: usize = 1_000;
/// How many documents those move that take one at a time.
const SAMPLE: u64 = 2_000;

impl Contender {
    /// Those that run in `home`, the limit first.
    pub fn of(home: &Home) -> Vec<Self> {
        match home {
            Home::Mongodb { .. } => {
                let mut all = vec![
                    Self::Limit,
                    Self::Merge,
                    Self::Full,
                    Self::Two,
                    Self::Foreign,
                    Self::Version,
                    Self::Upserts,
                ];
                if tools_missing().is_none() {
                    all.push(Self::Dump);
                }
                all.push(Self::Predecessor);
                all
            }
            Home::Sqlite(_) => vec![
                Self::Limit,
                Self::Full,
                Self::Foreign,
                Self::Version,
                Self::Single,
            ],
        }
    }

    /// What it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit: plain inserts, delete by age",
            Self::Merge => "`$merge` on the server, delete by age",
            Self::Full => "tierkeep, every stored byte verified",
            Self::Two => "the same, two runs at once",
            Self::Foreign => "the same, documents of another program",
            Self::Version => "tierkeep, version and digest verified",
            Self::Upserts => "one client, guarded upserts",
            Self::Dump => "dump and restore twice, delete by age",
            Self::Single => "one document in each transaction",
            Self::Predecessor => "the predecessor's algorithm",
        }
    }

    /// How many of `documents` it moves in a round: a sample where it takes them one at a time.
    pub fn documents(self, documents: u64) -> u64 {
        match self {
            Self::Single | Self::Predecessor => documents.min(SAMPLE),
            Self::Limit
            | Self::Merge
            | Self::Full
            | Self::Two
            | Self::Foreign
            | Self::Version
            | Self::Upserts
            | Self::Dump => documents,
        }
    }

    /// Plants what it moves.
    pub async fn plant(self, place: &Place, documents: u64) -> Result<()> {
        if self == Self::Foreign {
            place.plant_foreign(documents).await
        } else {
            place.plant(documents).await
        }
    }

    /// Moves everything that is due in `place`.
    pub async fn run(self, home: &Home, place: &Place) -> Result<()> {
        match (self, home) {
            (Self::Limit, Home::Mongodb { .. }) => server::limit(place).await,
            (Self::Limit, Home::Sqlite(_)) => embedded::limit(place).await,
            (Self::Merge, Home::Mongodb { .. }) => server::merge(place).await,
            (Self::Full | Self::Foreign, _) => tierkeep(place, Verify::Full).await,
            (Self::Two, _) => Box::pin(two_runs(place)).await,
            (Self::Version, _) => tierkeep(place, Verify::Version).await,
            (Self::Upserts, _) => guarded(place, BATCH).await,
            (Self::Single, _) => guarded(place, 1).await,
            (Self::Dump, Home::Mongodb { url, .. }) => dump::dump_and_restore(place, url).await,
            (Self::Predecessor, Home::Mongodb { .. }) => server::predecessor(place).await,
            (Self::Merge | Self::Dump | Self::Predecessor, Home::Sqlite(_)) => {
                anyhow::bail!("{} is for MongoDB", self.name())
            }
        }
    }
}

/// Documents staged until then are due.
fn due_before() -> DateTime {
    before_now(std::time::Duration::from_hours(24))
}

/// Moves with tierkeep's own mover, in this process.
pub async fn tierkeep(place: &Place, verify: Verify) -> Result<()> {
    let settings = MoverSettings {
        verify,
        ..MoverSettings::default()
    };
    let service = MigrationService::new(place.engine.clone(), settings);
    let stop = CancellationToken::new();
    let run = service.migrate_expired_data(RunOptions::default(), &NoProgress, &stop);
    let summary = run.await?;
    ensure!(summary.failed == 0, "{} documents failed", summary.failed);
    Ok(())
}

/// Moves with two of tierkeep's movers, each with an engine of its own, as `tierkeep migrate run` does when it is started
/// twice.
async fn two_runs(place: &Place) -> Result<()> {
    let run = async || -> Result<()> {
        let service =
            MigrationService::new(place.another_engine().await?, MoverSettings::default());
        let stop = CancellationToken::new();
        let run = service.run_beside_others(RunOptions::default(), &NoProgress, &stop);
        let summary = run.await?;
        ensure!(summary.failed == 0, "{} documents failed", summary.failed);
        Ok(())
    };
    let (one, other) = tokio::join!(run(), run());
    one.and(other)
}

/// Guarded upserts of `batch` documents to srie, then to main, then deletes by version, one after the other.
async fn guarded(place: &Place, batch: usize) -> Result<()> {
    let temp = place.store(Role::RaseenTempUser)?;
    let before = due_before();
    let mut after = None;
    loop {
        let find = Find::new(Query::Due(before))
            .limit(BATCH)
            .after(after.take());
        let page = temp.find(USERS, &find).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(Cursor::after(last));
        for documents in page.chunks(batch.max(1)) {
            let copies: Vec<_> = documents
                .iter()
                .map(|document| main_form(document, &Digest::of(document)))
                .collect();
            for role in [Role::SrieMainUser, Role::RaseenMainUser] {
                place.store(role)?.put_newer(USERS, &copies).await?;
            }
            let mut by_version = BTreeMap::new();
            for document in documents {
                let version =
                    document::version(document).context("every document has a version")?;
                let ids: &mut Vec<Bson> = by_version.entry(version).or_default();
                ids.push(document::id(document));
            }
            let fences: Vec<_> = by_version
                .into_iter()
                .map(|(version, ids)| Fence::Version { version, ids })
                .collect();
            temp.delete(USERS, &fences).await?;
        }
    }
}
