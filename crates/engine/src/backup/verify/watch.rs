//! Verifying slowly beside the service: everything once in each period, a little at a time.
//!
//! The position of a pass is kept in `evaluation_audit.control`, so that it continues there after a restart. Of several
//! services one at a time takes a turn, by compare-and-set; two that take the same one have only looked twice.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocument;
use bson::{Bson, DateTime, Document, doc};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::compare::{CopyKind, Side};
use tierkeep_core::document;
use tierkeep_core::store::{Cursor, Query, StoreError};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::backup::verify::examine::Examination;
use crate::backup::verify::merge::Merge;
use crate::backup::verify::{Verified, VerifyOptions, clear, pairs, raise, up_to};
use crate::context::Engine;
use crate::copies::pair::Pair;
use crate::databases::lease::{Lease, stands};
use crate::databases::retry::repeating;

/// Names the pass's document in `control`.
pub(super) const PASS: &str = "verification";
/// The longest wait between two turns, and the shortest.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// Verifies everything once in each period.
#[derive(Clone, Debug)]
pub struct VerificationWatch {
    engine: Arc<Engine>,
    period: Duration,
}

/// The position of the pass.
#[derive(Clone, PartialEq, Debug, Default)]
struct Pass {
    /// Raised with every change.
    rev: i64,
    /// The next turn is not before this, by the clock of `evaluation_audit`.
    next_at: Option<DateTime>,
    /// When the pass began.
    began_at: Option<DateTime>,
    /// How many documents there were then.
    documents: i64,
    /// How many of the pairs are behind it.
    pairs_done: i64,
    /// The last `_id` of the pair at hand that is behind it.
    after: Option<Bson>,
    /// How many documents of this pass differ: users and HR records.
    users_left: i64,
    hr_left: i64,
}

impl Pass {
    fn read(document: &RawDocument) -> Self {
        let number = |name: &str| document.get_i64(name).unwrap_or_default();
        let date = |name: &str| document.get_datetime(name).ok();
        let after = document.get("after").ok().flatten();
        Self {
            rev: number("rev"),
            next_at: date("next_at"),
            began_at: date("began_at"),
            documents: number("documents"),
            pairs_done: number("pairs_done"),
            after: after
                .and_then(|after| Bson::try_from(after).ok())
                .filter(|after| *after != Bson::Null),
            users_left: number("users_left"),
            hr_left: number("hr_left"),
        }
    }

    fn fields(&self) -> Document {
        doc! {
            "kind": PASS,
            "rev": self.rev,
            "next_at": self.next_at,
            "began_at": self.began_at,
            "documents": self.documents,
            "pairs_done": self.pairs_done,
            "after": self.after.clone().unwrap_or(Bson::Null),
            "users_left": self.users_left,
            "hr_left": self.hr_left,
        }
    }

    fn left(&mut self, kind: CopyKind) -> &mut i64 {
        match kind {
            CopyKind::Users => &mut self.users_left,
            CopyKind::Hr => &mut self.hr_left,
        }
    }
}

impl VerificationWatch {
    /// A watch over these databases that covers everything in about `period`.
    pub fn new(engine: Arc<Engine>, period: Duration) -> Self {
        Self { engine, period }
    }

    /// Takes turns until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.turn(&stop).await {
                debug!(
                    user_type = "internal",
                    database = %error.database,
                    error = error.class.as_str(),
                    "the background comparison is waiting for a database",
                );
            }
            tokio::select! {
                () = tokio::time::sleep(self.wait()) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    fn wait(&self) -> Duration {
        (self.period / 20).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    /// One turn: as many documents as its share of the period. Answers how many were compared.
    ///
    /// # Errors
    /// [`StoreError`] when a database did not answer; the next turn begins where this one did.
    pub async fn turn(&self, stop: &CancellationToken) -> Result<u64, StoreError> {
        let now = up_to::now(&self.engine).await?;
        let Some(mut pass) = self.claim(now).await? else {
            return Ok(0);
        };
        let pairs = pairs(&self.engine);
        let is_over = usize::try_from(pass.pairs_done).is_ok_and(|done| done >= pairs.len());
        if pass.began_at.is_none() || is_over {
            let waits = |began| clock::after(began, self.period) > now && began <= now;
            if is_over && pass.began_at.is_some_and(waits) {
                return Ok(0);
            }
            pass = Pass {
                rev: pass.rev,
                next_at: pass.next_at,
                began_at: Some(now),
                documents: count(&pairs).await?,
                ..Pass::default()
            };
        }
        let mut share = self.share(pass.documents);
        let mut verified = Verified::default();
        while let Some(pair) = usize::try_from(pass.pairs_done)
            .ok()
            .and_then(|done| pairs.get(done))
        {
            let differing = verified.left();
            share = self.part(pair, &mut pass, share, &mut verified).await?;
            let more = i64::try_from(verified.left() - differing).unwrap_or(i64::MAX);
            *pass.left(pair.kind) = pass.left(pair.kind).saturating_add(more);
            if more > 0 {
                raise(&self.engine, pair.kind, *pass.left(pair.kind), &verified).await?;
            }
            if share == 0 || stop.is_cancelled() {
                break;
            }
        }
        if pass.pairs_done >= i64::try_from(pairs.len()).unwrap_or(i64::MAX) {
            for kind in [CopyKind::Users, CopyKind::Hr] {
                if *pass.left(kind) == 0 {
                    clear(&self.engine, kind).await?;
                }
            }
            if let (Some(began_at), 0, 0) = (pass.began_at, pass.users_left, pass.hr_left) {
                up_to::keep(&self.engine, began_at).await?;
            }
        }
        // A crash before this line verifies the same part once more.
        self.keep(&pass).await?;
        Ok(verified.checked)
    }

    /// Verifies up to `share` documents of a pair; answers how many are left of the share.
    async fn part(
        &self,
        pair: &Pair,
        pass: &mut Pass,
        mut share: u64,
        verified: &mut Verified,
    ) -> Result<u64, StoreError> {
        let after = pass.after.take().map(|id| Cursor {
            staged_at: Bson::Null,
            id,
        });
        let options = VerifyOptions::default();
        let mut last = after.clone().map(|after| after.id);
        let mut examination = Examination::of(pair, &options, verified);
        let mut merge = Merge::of_share(pair, after.as_ref(), share);
        while share > 0 {
            let Some(both) = merge.next().await? else {
                pass.pairs_done += 1;
                last = None;
                break;
            };
            if let Some(document) = both.either().filter(|document| document::has_id(document)) {
                last = Some(document::id(document));
            }
            examination.take(both).await?;
            share -= 1;
        }
        examination.finish().await?;
        pass.after = last;
        Ok(share)
    }

    /// How many documents belong to one turn.
    fn share(&self, documents: i64) -> u64 {
        let turns = self.period.as_millis() / self.wait().as_millis().max(1);
        // A little faster than needed, so that a pass is over before the next begins.
        let turns = u64::try_from(turns * 9 / 10).unwrap_or(u64::MAX).max(1);
        u64::try_from(documents).unwrap_or_default().div_ceil(turns) + 1
    }

    /// Claims the turn; `None` when it is another service's, or too early.
    async fn claim(&self, now: DateTime) -> Result<Option<Pass>, StoreError> {
        let audit = self.engine.databases.audit_db().store();
        let lease = Lease::new(audit.as_ref(), PASS, "rev");
        let Some(found) = lease.read().await? else {
            let pass = Pass {
                rev: 1,
                next_at: Some(clock::after(now, self.wait())),
                ..Pass::default()
            };
            return Ok(lease.begin(pass.fields()).await?.then_some(pass));
        };
        let mut pass = Pass::read(&found);
        if stands(pass.next_at, now, self.wait() * 2) {
            return Ok(None);
        }
        pass.next_at = Some(clock::after(now, self.wait()));
        Ok(self.keep(&pass).await?.then(|| Pass {
            rev: pass.rev + 1,
            ..pass
        }))
    }

    /// Stores the pass, unless another process has stored one meanwhile; answers whether it was stored.
    async fn keep(&self, pass: &Pass) -> Result<bool, StoreError> {
        let audit = self.engine.databases.audit_db().store();
        let next = Pass {
            rev: pass.rev + 1,
            ..pass.clone()
        };
        // Also where the answer to an own change was lost: the next turn begins where this one did.
        let lease = Lease::new(audit.as_ref(), PASS, "rev");
        lease.set(pass.rev, &next.fields()).await
    }
}

async fn count(pairs: &[Pair]) -> Result<i64, StoreError> {
    let mut documents = 0;
    for pair in pairs {
        let mut most = 0;
        for side in [Side::Main, Side::Srie] {
            let store = pair.store(side);
            let counted = repeating(|| store.count(&pair.collection, &Query::All)).await?;
            most = most.max(counted);
        }
        documents += most;
    }
    Ok(i64::try_from(documents).unwrap_or(i64::MAX))
}
