//! The mover's lease: a claim that keeps several services from scanning the same documents at once.
//!
//! It saves work and nothing else. A mover that holds no claim, or has lost it without noticing, moves as safely as the
//! holder, because versions guard a move. So nothing here needs clocks that agree. A claim is valid while its time, by
//! the clock of the database that keeps it, has not come and is no further away than a claim lasts; and it falls,
//! whatever the clocks say, when a waiting process has measured that it has seen no sign of the holder for as long.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, Document, doc};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::collection;
use tierkeep_core::store::{Change, Find, Guard, Inserted, Query, StoreError, Written};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::context::Engine;
use crate::databases::lease::stands;
use crate::databases::retry::repeating;
use crate::mover::sharing::Earlier;
use crate::mover::{MigrationService, Progress, Summary};

/// The document of the mover's lease.
pub(crate) const MOVER: &str = "mover";
/// How long a claim is valid without a renewal by its holder.
pub const CLAIM_LASTS: Duration = Duration::from_secs(8);
/// How often a holder gives a sign of itself.
const RENEWED_EVERY: Duration = Duration::from_secs(2);
/// How often a race for the lease is entered before it is left to the others.
const ROUNDS: usize = 3;

/// What a process that waits for the lease has seen of its holder.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseObserver(Option<(Sign, Instant)>);

/// Changes with every sign of life that a holder gives.
type Sign = (i64, i64);

impl LeaseObserver {
    /// Whether the holder has given no new sign for as long as a claim lasts.
    fn is_silent(&mut self, sign: Sign, now: Instant) -> bool {
        match self.0 {
            Some((seen, since)) if seen == sign => {
                now.saturating_duration_since(since) >= CLAIM_LASTS
            }
            Some(_) | None => {
                self.0 = Some((sign, now));
                false
            }
        }
    }
}

/// The lease as it is stored.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Stored {
    /// Who holds it or held it last.
    pub(crate) holder: String,
    /// Raised with every claim.
    pub(crate) fence: i64,
    /// Raised with every sign of life.
    beat: i64,
    /// When the claim falls, by the clock of the database; `None` once it was given back.
    expires_at: Option<DateTime>,
    /// How far the holder's run is.
    pub(crate) run: Option<RunView>,
}

/// How far a run is, as others see it.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct RunView {
    /// Names the run.
    pub run_id: String,
    /// Documents moved so far.
    pub moved: i64,
    /// Attempts that failed so far.
    pub failed: i64,
    /// Bytes of BSON moved so far.
    pub bytes: i64,
    /// Documents moved in each second lately.
    pub per_second: f64,
}

impl Stored {
    fn read(document: &RawDocument) -> Option<Self> {
        Some(Self {
            holder: document.get_str("holder").ok()?.to_owned(),
            fence: document.get_i64("fence").ok()?,
            beat: document.get_i64("beat").ok()?,
            expires_at: document.get_datetime("expires_at").ok(),
            run: document.get_document("run").ok().and_then(run_view),
        })
    }

    fn sign(&self) -> Sign {
        (self.fence, self.beat)
    }

    /// Whether the claim is valid at `now` by the clock of the database.
    pub(crate) fn stands(&self, now: DateTime) -> bool {
        stands(self.expires_at, now, CLAIM_LASTS + RENEWED_EVERY)
    }
}

fn run_view(run: &RawDocument) -> Option<RunView> {
    Some(RunView {
        run_id: run.get_str("run_id").ok()?.to_owned(),
        moved: run.get_i64("moved").ok()?,
        failed: run.get_i64("failed").ok()?,
        bytes: run.get_i64("bytes").ok()?,
        per_second: run.get_f64("per_second").ok()?,
    })
}

/// The mover's lease with its present or last holder.
pub(crate) async fn read(engine: &Engine) -> Result<Option<Stored>, StoreError> {
    let found = stored_lease(engine).await?;
    Ok(found.and_then(|lease| Stored::read(&lease)))
}

async fn stored_lease(engine: &Engine) -> Result<Option<RawDocumentBuf>, StoreError> {
    let store = engine.databases.audit_db().store();
    let find = Find::new(Query::Ids(vec![Bson::String(MOVER.into())])).limit(1);
    let mut found = repeating(|| store.find(collection::LEASES, &find)).await?;
    Ok(found.pop())
}

/// A claim to the mover's lease. Dropping it without [`Claim::release`] leaves it to lapse.
#[derive(Debug)]
pub struct Claim {
    service: MigrationService,
    holder: String,
    fence: i64,
    /// What the intents claim that stood when it was made.
    finds: Earlier,
    report: Mutex<RunReport>,
}

/// What the holder tells of its run.
#[derive(Debug)]
struct RunReport {
    beat: i64,
    summary: Option<Summary>,
    /// How many documents had been moved, and when that was.
    measured: (u64, Instant),
}

impl MigrationService {
    /// Claims the mover's lease; `None` while another claim is valid.
    ///
    /// `observer` is what this caller has seen of the holder in earlier attempts.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer; the lease may be claimed nevertheless.
    pub async fn claim(&self, observer: &mut LeaseObserver) -> Result<Option<Claim>, StoreError> {
        let holder = self.engine.randomness().id();
        let store = self.engine.databases.audit_db().store();
        for _ in 0..ROUNDS {
            let now = repeating(|| store.hello()).await?.now;
            let found = stored_lease(&self.engine).await?;
            let claim = |fence, finds| Claim {
                service: self.clone(),
                holder: holder.clone(),
                fence,
                finds,
                report: Mutex::new(RunReport {
                    beat: 0,
                    summary: None,
                    measured: (0, Instant::now()),
                }),
            };
            let Some(found) = found else {
                let first = claim(1, Earlier::Stand);
                let whole = [first.document(Some(now), None)];
                let inserted = repeating(|| store.insert(collection::LEASES, &whole)).await?;
                match inserted.first() {
                    Some(Inserted::Stored) => return Ok(Some(first)),
                    // Another process was faster, or the answer to this call's own insert was lost.
                    Some(Inserted::Exists | Inserted::Rejected(_)) | None => continue,
                    Some(Inserted::Unsettled(error)) => return Err(error.clone()),
                }
            };
            let (next, guard) = match Stored::read(&found) {
                Some(lease) if lease.holder == holder => {
                    return Ok(Some(claim(lease.fence, Earlier::Stand)));
                }
                Some(lease) => {
                    let silent = observer.is_silent(lease.sign(), Instant::now());
                    if lease.stands(now) && !silent {
                        return Ok(None);
                    }
                    let fence = lease.fence.saturating_add(1);
                    let finds = match lease.expires_at {
                        Some(_) => Earlier::Lapsed,
                        None => Earlier::Stand,
                    };
                    (claim(fence, finds), doc! { "fence": lease.fence })
                }
                // What says nothing claims nothing.
                None => (claim(1, Earlier::Stand), doc! {}),
            };
            let replacement = next.document(Some(now), None);
            if next.put(guard, replacement).await? {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }
}

impl Claim {
    /// The number that rises with every claim.
    pub fn fence(&self) -> i64 {
        self.fence
    }

    /// What the intents claim that stood when the claim was made.
    pub(super) fn finds(&self) -> Earlier {
        self.finds
    }

    /// Gives a sign of life; answers whether the claim is still this one.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer; nothing is lost before the claim lapses.
    pub async fn renew(&self) -> Result<bool, StoreError> {
        let store = self.service.engine.databases.audit_db().store();
        let now = repeating(|| store.hello()).await?.now;
        let run = self.measure();
        self.put(self.own(), self.document(Some(now), run)).await
    }

    /// Gives the lease back, so that the next need not wait. What hinders it only costs them that wait.
    pub async fn release(self) {
        let back = self.document(None, None);
        if let Err(error) = self.put(self.own(), back).await {
            debug!(user_type = "internal", %error, "the mover's lease could not be released and will expire");
        }
    }

    /// Does the work and renews the claim meanwhile. Cancels `lost` once another process has the claim, and goes on
    /// until the work is done.
    pub async fn during<T>(&self, work: impl Future<Output = T>, lost: &CancellationToken) -> T {
        let signs = async {
            loop {
                tokio::time::sleep(RENEWED_EVERY).await;
                match self.renew().await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        debug!(user_type = "internal", %error, "the mover's lease was not renewed");
                    }
                }
            }
            debug!(
                user_type = "internal",
                "the mover's lease was taken over by another process"
            );
            lost.cancel();
            std::future::pending().await
        };
        tokio::select! {
            done = work => done,
            never = signs => never,
        }
    }

    /// What the lease says while it is this claim's.
    fn own(&self) -> Document {
        doc! { "fence": self.fence, "holder": &self.holder }
    }

    /// Replaces the lease where its fields are these; answers whether it is this claim's now.
    async fn put(&self, fields: Document, whole: RawDocumentBuf) -> Result<bool, StoreError> {
        let (id, guard) = (Bson::String(MOVER.into()), Guard::Fields(fields));
        let change = Change::Replace(whole);
        let store = self.service.engine.databases.audit_db().store();
        let written = repeating(|| store.write(collection::LEASES, &id, &guard, &change)).await?;
        match written {
            Written::Applied(_) => Ok(true),
            // A lost answer to this holder's own write looks the same as the claim of another process.
            Written::Unmatched | Written::TooLarge | Written::Rejected(_) => {
                let found = read(&self.service.engine).await?;
                Ok(found.is_some_and(|it| it.holder == self.holder && it.fence == self.fence))
            }
        }
    }

    fn document(&self, now: Option<DateTime>, run: Option<Document>) -> RawDocumentBuf {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.beat += 1;
        let whole = doc! {
            "_id": MOVER,
            "holder": &self.holder,
            "fence": self.fence,
            "beat": report.beat,
            "expires_at": now.map(|now| clock::after(now, CLAIM_LASTS)),
            "run": run,
        };
        // Numbers, dates and texts of our own: always BSON.
        RawDocumentBuf::try_from(&whole).unwrap_or_default()
    }

    /// How far the run is, and how fast it was since this was asked last.
    fn measure(&self) -> Option<Document> {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let summary = report.summary.clone()?;
        let (before, since) = std::mem::replace(&mut report.measured, (summary.moved, now));
        let moved = u32::try_from(summary.moved.saturating_sub(before)).unwrap_or(u32::MAX);
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Some(doc! {
            "run_id": summary.run_id,
            "moved": number(summary.moved),
            "failed": number(summary.failed),
            "bytes": number(summary.bytes),
            "per_second": f64::from(moved) / seconds.max(0.001),
        })
    }
}

impl Progress for Claim {
    fn report(&self, summary: &Summary) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.summary = Some(summary.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_silent_once_its_sign_has_not_changed_for_as_long_as_a_claim_lasts() {
        let mut observer = LeaseObserver::default();
        let start = Instant::now();
        assert!(!observer.is_silent((1, 1), start));
        assert!(!observer.is_silent((1, 1), start + CLAIM_LASTS / 2));
        assert!(!observer.is_silent((1, 2), start + CLAIM_LASTS), "a sign");
        assert!(!observer.is_silent((1, 2), start + CLAIM_LASTS * 2 - RENEWED_EVERY));
        assert!(observer.is_silent((1, 2), start + CLAIM_LASTS * 2));
        assert!(
            !observer.is_silent((2, 1), start + CLAIM_LASTS * 3),
            "another"
        );
    }

    #[test]
    fn a_dead_holders_claim_lapses_within_ten_seconds() {
        assert!(CLAIM_LASTS + RENEWED_EVERY <= Duration::from_secs(10));
    }
}
