//! The source against the result: every user is put together again and compared with what is stored.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tierkeep_engine::Compared;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, Users};
use crate::index::Collection;
use crate::{ImportError, Importer, Progress};

const BATCHES_IN_FLIGHT: usize = 2;
/// The most differences that are listed.
const LISTED: usize = 10_000;

/// What a comparison found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Verification {
    /// Users and HR records of the source.
    pub checked: u64,
    /// Stored exactly as they should be.
    pub matched: u64,
    /// Not stored at all.
    pub missing: u64,
    /// Stored with other content than the source has, although it was not changed in tierkeep.
    pub different: u64,
    /// Changed in tierkeep since; no difference.
    pub changed: u64,
    /// In tierkeep without any import; no difference.
    pub own: u64,
    /// Erased in tierkeep; no difference.
    pub erased: u64,
    /// Documents of the source that are imported as nothing.
    pub refused: u64,
    /// Those that are missing or different, as many as are listed.
    pub differences: Vec<Difference>,
    /// How many more there are.
    pub differences_not_listed: u64,
}

/// A user or HR record that is not stored as it should be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Difference {
    /// A user's id, or an HR record's collection and id.
    pub subject: String,
    /// `missing` or `different`.
    pub what: &'static str,
}

impl Importer {
    /// Compares source and result; writes nothing.
    ///
    /// # Errors
    /// [`ImportError`] when a database did not answer.
    pub async fn verify(
        &self,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<Verification, ImportError> {
        self.refuse_own_databases().await?;
        let times = self.cluster_times().await?;
        let index = self.look(&times, progress, stop).await?;
        let (all, refused) = index.scratch.counts()?;
        let mut found = Verification {
            refused,
            ..Verification::default()
        };
        let mut users = Users::default();
        let mut at_work = FuturesUnordered::new();
        let mut done = 0;
        loop {
            while at_work.len() < BATCHES_IN_FLIGHT && !stop.is_cancelled() {
                let Some(batch) = users.next(&index.scratch)? else {
                    break;
                };
                at_work.push(self.compare(&index.collections, batch, &times));
            }
            let Some(compared) = at_work.next().await else {
                break;
            };
            for (subject, compared, documents) in compared? {
                done += documents;
                found.count(subject, compared);
            }
            progress.settled(done, all);
        }
        let mut count = |subject, compared| found.count(subject, compared);
        let refused = self
            .compare_records(&index, &times, stop, &mut count)
            .await?;
        found.refused += refused;
        found.differences.sort();
        Ok(found)
    }

    async fn compare(
        &self,
        collections: &[Collection],
        batch: Batch,
        times: &[Option<tierkeep_core::bson::Timestamp>],
    ) -> Result<Vec<(String, Compared, u64)>, ImportError> {
        let (ready, composed) = self.put_together(collections, batch, times).await?;
        let compared = self.intake().compare(&composed).await?;
        let documents = |user: &str| {
            let of = ready.iter().find(|one| one.user.as_str() == user);
            of.map_or(0, |one| u64::try_from(one.filed.len()).unwrap_or_default())
        };
        Ok(composed
            .iter()
            .zip(compared)
            .map(|(one, compared)| {
                let documents = documents(one.user.as_str());
                (one.user.to_string(), compared, documents)
            })
            .collect())
    }

    /// The clusters' times now: what is read afterwards contains everything before.
    pub(crate) async fn cluster_times(
        &self,
    ) -> Result<Vec<Option<tierkeep_core::bson::Timestamp>>, ImportError> {
        let mut times = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            times.push(source.cluster_time().await?);
        }
        Ok(times)
    }
}

impl Verification {
    fn count(&mut self, subject: String, compared: Compared) {
        self.checked += 1;
        let what = match compared {
            Compared::Equal => {
                self.matched += 1;
                return;
            }
            Compared::Changed => {
                self.changed += 1;
                return;
            }
            Compared::Own => {
                self.own += 1;
                return;
            }
            Compared::Erased => {
                self.erased += 1;
                return;
            }
            Compared::Missing => {
                self.missing += 1;
                "missing"
            }
            Compared::Different => {
                self.different += 1;
                "different"
            }
        };
        if self.differences.len() < LISTED {
            self.differences.push(Difference { subject, what });
        } else {
            self.differences_not_listed += 1;
        }
    }

    /// Whether anything is missing or different.
    pub fn has_differences(&self) -> bool {
        self.missing + self.different > 0
    }
}
