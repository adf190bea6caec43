//! Verification: main against its backup in srie, document by document over all content, and repairing what
//! differs.
//!
//! Where to look: `merge` (going through both sides), `examine` (what is doubtful is looked at again until it is
//! certain), `quick` (by versions and claimed digests), `repair` (repairing), `sample` (a few documents in place of all),
//! `watch` (slowly, beside the service), `up_to` (the moment up to which everything was verified).
//! What two copies mean together is `tierkeep_core::compare`.

mod examine;
mod merge;
mod quick;
mod repair;
mod sample;
pub(crate) mod up_to;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tierkeep_core::compare::{Class, CopyKind, Side};
use tierkeep_core::db::Role;
use tierkeep_core::store::{Query, StoreError};
use tokio_util::sync::CancellationToken;

use crate::alerts::{AlertKind, Alerts};
use crate::context::Engine;
pub(crate) use crate::copies::pair::Pair;
use crate::databases::retry::repeating;
use examine::Examination;
use merge::Merge;
use quick::Quick;
pub use watch::VerificationWatch;

/// What a verification should do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyOptions {
    /// Take a pair of one version and one claimed digest for equal without reading its content. A sample is not read
    /// like this: its documents are always read whole.
    pub quick: bool,
    /// Repair what differs, where it is certain what is right.
    pub repair: bool,
    /// The copy to keep where versions and digests do not decide.
    pub prefer: Option<Side>,
    /// About this many documents instead of all.
    pub sample: Option<u64>,
}

/// The most findings that a report lists; all of them are counted.
const LISTED: usize = 1_000;

/// What a verification found. All of `checked` is in one of the five counts after it that are not `repaired`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Verified {
    /// Documents and records that at least one side holds.
    pub checked: u64,
    /// Equal on both sides.
    pub matched: u64,
    /// Main holds them, srie does not.
    pub missing_in_backup: u64,
    /// srie holds them, main does not.
    pub missing_in_main: u64,
    /// Both hold them, and not the same; or a side holds what cannot be read or was erased.
    pub different: u64,
    /// Of the three before, repaired.
    pub repaired: u64,
    /// Moved, delivered or erased at the moment.
    pub in_flight: u64,
    /// The first findings; the counts say how many there are.
    pub findings: Vec<Difference>,
    /// It came to its end.
    pub complete: bool,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl Verified {
    /// How many documents differ and were not repaired.
    pub fn left(&self) -> u64 {
        (self.missing_in_backup + self.missing_in_main + self.different)
            .saturating_sub(self.repaired)
    }

    fn matched(&mut self) {
        self.checked += 1;
        self.matched += 1;
    }

    fn in_flight(&mut self) {
        self.checked += 1;
        self.in_flight += 1;
    }

    fn found(&mut self, finding: Difference) {
        self.checked += 1;
        let count = match finding.class {
            Class::MissingInSrie => &mut self.missing_in_backup,
            Class::Orphan => &mut self.missing_in_main,
            Class::StaleInSrie
            | Class::SrieAhead
            | Class::CorruptMain
            | Class::CorruptSrie
            | Class::Undecided
            | Class::ErasedButPresent
            | Class::Unreadable => &mut self.different,
        };
        *count += 1;
        self.repaired += u64::from(finding.repaired);
        if self.findings.len() < LISTED {
            self.findings.push(finding);
        }
    }
}

/// One document that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// The collection.
    pub collection: String,
    /// The user, the record, or the `_id` where there is neither.
    pub id: String,
    /// How it differs.
    pub class: Class,
    /// The version in main.
    pub main: Option<i64>,
    /// The version in srie.
    pub srie: Option<i64>,
    /// Why it cannot be read.
    pub reason: Option<String>,
    /// It was repaired.
    pub repaired: bool,
}

/// Compares main with srie.
#[derive(Clone, Debug)]
pub struct Verification {
    engine: Arc<Engine>,
}

impl Verification {
    /// A verification of these databases.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Compares every document in bounded memory, whole unless [`VerifyOptions::quick`]. What moves meanwhile is no
    /// difference. Where every document was read whole and none differed, `evaluation_audit` keeps the moment at which this
    /// began.
    ///
    /// When `stop` is cancelled it ends early, and says so. `progress` gets the counts from time to time. Dropping
    /// the future is as harmless as a crash: every repair is a guarded step of its own.
    ///
    /// # Errors
    /// [`StoreError`] when a database did not answer.
    pub async fn run(
        &self,
        options: &VerifyOptions,
        progress: &(dyn Fn(&Verified) + Sync),
        stop: &CancellationToken,
    ) -> Result<Verified, StoreError> {
        let clock = self.engine.clock();
        let started = clock.now();
        let is_of_everything = options.sample.is_none() && !options.quick;
        let began = if is_of_everything {
            Some(up_to::now(&self.engine).await?)
        } else {
            None
        };
        let mut verified = Verified::default();
        let mut left = BTreeMap::from([(backup(CopyKind::Users), 0), (backup(CopyKind::Hr), 0)]);
        for (pair, share) in self.shares(options.sample).await? {
            let before = verified.left();
            let mut examination = Examination::of(&pair, options, &mut verified);
            if let Some(share) = share {
                let randomness = self.engine.randomness();
                for name in sample::names(&pair, share, randomness).await? {
                    examination.name(name).await?;
                }
                examination.finish().await?;
                continue;
            }
            let mut scan = Scan::of(&pair, options.quick);
            while let Some(is_good_moment) = scan.next(&mut examination).await? {
                if is_good_moment {
                    progress(examination.verified());
                    if stop.is_cancelled() {
                        break;
                    }
                }
            }
            examination.finish().await?;
            *left.entry(backup(pair.kind)).or_default() += verified.left() - before;
        }
        verified.complete = !stop.is_cancelled();
        // One that did not read the content does not know that what an alert was about is gone.
        if let Some(began) = began.filter(|_| verified.complete) {
            if verified.is_without_difference() {
                up_to::keep(&self.engine, began).await?;
            }
            for kind in [CopyKind::Users, CopyKind::Hr] {
                if left.get(&backup(kind)) == Some(&0) {
                    clear(&self.engine, kind).await?;
                }
            }
        }
        let elapsed = clock.now().saturating_duration_since(started).as_millis();
        verified.elapsed_ms = u64::try_from(elapsed).unwrap_or(u64::MAX);
        Ok(verified)
    }

    /// What is compared, and how many documents of it where not all are: a share by size.
    async fn shares(&self, sample: Option<u64>) -> Result<Vec<(Pair, Option<u64>)>, StoreError> {
        let pairs = pairs(&self.engine);
        let Some(sample) = sample else {
            return Ok(pairs.into_iter().map(|pair| (pair, None)).collect());
        };
        let mut sizes = Vec::with_capacity(pairs.len());
        for pair in &pairs {
            let mut size = 0;
            for side in [Side::Main, Side::Srie] {
                let store = pair.store(side);
                let counted = repeating(|| store.count(&pair.collection, &Query::All)).await?;
                size = size.max(counted);
            }
            sizes.push(u128::from(size));
        }
        let whole = sizes.iter().sum::<u128>().max(1);
        let shares = sizes.into_iter().map(|size| {
            let share = (u128::from(sample) * size).div_ceil(whole);
            Some(u64::try_from(share).unwrap_or(u64::MAX))
        });
        Ok(pairs.into_iter().zip(shares).collect())
    }
}

/// Going through a collection: whole documents, or what they claim.
enum Scan<'a> {
    Whole(Box<Merge>),
    Quick(Box<Quick<'a>>),
}

impl<'a> Scan<'a> {
    fn of(pair: &'a Pair, is_quick: bool) -> Self {
        if is_quick {
            Self::Quick(Box::new(Quick::of(pair)))
        } else {
            Self::Whole(Box::new(Merge::of(pair, None)))
        }
    }

    /// Has the next pair examined; answers whether it is a good moment to stop, and `None` after the last.
    async fn next(
        &mut self,
        examination: &mut Examination<'_>,
    ) -> Result<Option<bool>, StoreError> {
        match self {
            Self::Quick(quick) => quick.next(examination).await,
            Self::Whole(merge) => match merge.next().await? {
                Some(both) => examination.take(both).await.map(Some),
                None => Ok(None),
            },
        }
    }
}

/// The database that an alert about these documents names.
fn backup(kind: CopyKind) -> Role {
    match kind {
        CopyKind::Users => Role::SrieMainUser,
        CopyKind::Hr => Role::SrieMainHr,
    }
}

/// Says that documents differ.
async fn raise(
    engine: &Arc<Engine>,
    kind: CopyKind,
    left: i64,
    verified: &Verified,
) -> Result<(), StoreError> {
    let first = verified.findings.last();
    let first = first.map(|it| format!("{} {}: {}", it.collection, it.id, it.class.as_str()));
    let message = format!(
        "{left} documents differ from their backup, the last one {}; list them with: tierkeep verify",
        first.unwrap_or_default(),
    );
    let alerts = Alerts::new(Arc::clone(engine));
    let alert = AlertKind::VerificationDifference;
    alerts.raise(alert, backup(kind).name(), &message).await
}

/// Says that none does.
async fn clear(engine: &Arc<Engine>, kind: CopyKind) -> Result<(), StoreError> {
    let alerts = Alerts::new(Arc::clone(engine));
    let alert = AlertKind::VerificationDifference;
    alerts.resolve(alert, backup(kind).name()).await
}

/// Every collection of main that has a backup.
pub(crate) fn pairs(engine: &Arc<Engine>) -> Vec<Pair> {
    let records = engine.databases.hr_collections().iter();
    let records = records.map(|collection| Pair::hr(engine, collection));
    [Pair::users(engine)].into_iter().chain(records).collect()
}
