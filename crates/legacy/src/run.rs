//! A whole import, from the first look to the report.

use std::sync::Arc;

use bson::{DateTime, Timestamp};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::legacy::Composed;
use tierkeep_engine::{Import, ImportOutcome};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::batch::{BYTES, Batch, Ready, Users, account};
use crate::index::{Collection, Index};
use crate::refusals::Refusals;
use crate::report::{Report, Tally};
use crate::{ImportError, Importer, Progress};

/// How many batches are at work at once.
const BATCHES_IN_FLIGHT: usize = 5;
/// From how many bytes at work on no further batch begins: one of large documents holds more than it was meant to.
const BYTES_IN_FLIGHT: u64 = BATCHES_IN_FLIGHT as u64 * BYTES;
const NOT_REACHED: &str = "not imported: the run was stopped";

/// What became of a batch.
#[derive(Debug)]
struct Worked {
    ready: Vec<Ready>,
    taken: Vec<ImportOutcome>,
    secrets: u64,
    /// As the batch had.
    bytes: u64,
}

impl Importer {
    /// Imports everything, once. Idempotent, and safe at any moment to kill and start again; beside others too.
    ///
    /// # Errors
    /// [`ImportError`]: a database was away, or is not what it should be.
    pub async fn run(
        &self,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<(Report, Refusals), ImportError> {
        let started = self.engine.clock().now();
        self.refuse_own_databases().await?;
        // A secondary that is behind answers only when it has everything that was there before.
        let times = self.cluster_times().await?;
        let mut index = self.look(&times, progress, stop).await?;
        self.copy(&mut index, &times, progress, stop).await?;
        self.report(index, started, stop)
    }

    pub(crate) fn intake(&self) -> Import {
        let intake = Import::new(Arc::clone(&self.engine), self.settings);
        if self.options.dry_run {
            intake.dry()
        } else {
            intake
        }
    }

    /// Reading one of tierkeep's own databases as the predecessor's would import it into itself.
    pub(crate) async fn refuse_own_databases(&self) -> Result<(), ImportError> {
        for source in &self.sources {
            let hello = source.hello().await?;
            for role in Role::ALL {
                let Some(store) = self.engine.databases().store(role) else {
                    continue;
                };
                // One that is away is found by its stamp.
                if let Ok(own) = store.hello().await
                    && own.is_same_database(&hello)
                {
                    let database = source.name().to_owned();
                    return Err(ImportError::OwnDatabase { database, role });
                }
            }
        }
        Ok(())
    }

    /// Puts all users together and hands them to the engine, several batches at work at once.
    pub(crate) async fn copy(
        &self,
        index: &mut Index,
        not_before: &[Option<Timestamp>],
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<(), ImportError> {
        let (all, refused) = index.scratch.counts()?;
        let mut tally = std::mem::take(&mut index.tally);
        tally.source_documents += all + refused;
        tally.refused += refused;
        let done = self
            .take(
                index,
                Users::default(),
                not_before,
                &mut tally,
                stop,
                &|done| {
                    progress.settled(done, all);
                },
            )
            .await;
        index.tally = tally;
        let done = done?;
        index
            .tally
            .left_out("", NOT_REACHED, all.saturating_sub(done));
        let mut tally = std::mem::take(&mut index.tally);
        let copied = self
            .copy_records(index, not_before, &mut tally, progress, stop)
            .await;
        index.tally = tally;
        copied
    }

    /// Imports these users; answers how many documents are accounted for.
    pub(crate) async fn take(
        &self,
        index: &Index,
        mut users: Users,
        not_before: &[Option<Timestamp>],
        tally: &mut Tally,
        stop: &CancellationToken,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<u64, ImportError> {
        let collections: Arc<[Collection]> = index.collections.as_slice().into();
        let not_before: Arc<[Option<Timestamp>]> = not_before.into();
        // Given up when this is dropped.
        let mut at_work = JoinSet::new();
        let (mut done, mut bytes_at_work) = (0, 0);
        loop {
            while at_work.len() < BATCHES_IN_FLIGHT
                && bytes_at_work < BYTES_IN_FLIGHT
                && !stop.is_cancelled()
            {
                let Some(batch) = users.next(&index.scratch)? else {
                    break;
                };
                bytes_at_work += batch.bytes;
                let (collections, times) = (Arc::clone(&collections), Arc::clone(&not_before));
                at_work.spawn(self.clone().work(collections, batch, times));
            }
            let Some(worked) = at_work.join_next().await else {
                break;
            };
            let worked = worked.map_err(|_| ImportError::BrokenOff)??;
            bytes_at_work -= worked.bytes;
            tally.secrets += worked.secrets;
            done += worked.ready.iter().map(|it| count(&it.filed)).sum::<u64>();
            let refused = account(&collections, tally, worked.ready, worked.taken);
            index.scratch.refuse(&refused)?;
            progress(done);
        }
        Ok(done)
    }

    async fn work(
        self,
        collections: Arc<[Collection]>,
        batch: Batch,
        not_before: Arc<[Option<Timestamp>]>,
    ) -> Result<Worked, ImportError> {
        let bytes = batch.bytes;
        let (ready, composed) = self.put_together(&collections, batch, &not_before).await?;
        let secrets = composed.iter().map(|it: &Composed| it.secrets).sum();
        let taken = self.intake().take(&composed).await?;
        Ok(Worked {
            ready,
            taken,
            secrets,
            bytes,
        })
    }

    pub(crate) fn report(
        &self,
        mut index: Index,
        started: DateTime,
        stop: &CancellationToken,
    ) -> Result<(Report, Refusals), ImportError> {
        let tally = std::mem::take(&mut index.tally);
        let refusals = Refusals::of(index);
        let now = self.engine.clock().now();
        let elapsed = now.saturating_duration_since(started).as_millis();
        let report = Report {
            dry_run: self.options.dry_run,
            stopped: stop.is_cancelled(),
            elapsed_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
            ..tally.report(refusals.listed()?)
        };
        Ok((report, refusals))
    }
}

fn count<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}
