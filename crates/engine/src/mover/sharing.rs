//! Sharing the work between movers: the documents that the intent of another run names are left to that run while it
//! shows signs of life.
//!
//! It saves work and nothing else. Two movers may move the same document, because versions guard a move; so nothing here
//! compares clocks of different machines. A run measures by its own clock for how long it has seen an intent, and for how
//! long that intent gave no sign.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::{Bson, DateTime};
use tierkeep_core::bson;
use tierkeep_core::mover::{Intent, IntentHead};
use tierkeep_core::store::StoreError;
use tokio::time::Instant;

use crate::context::Engine;
use crate::intents;

/// After so long without a sign of its batch an intent claims nothing.
const SILENCE: Duration = Duration::from_secs(3);
/// An intent claims nothing for longer than this: a batch that takes longer is stalled.
const CLAIM_LASTS: Duration = Duration::from_secs(8);
/// How often a batch at work gives a sign.
pub(super) const SIGN_EVERY: Duration = Duration::from_secs(1);

/// What the intents that stand when a run begins claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Earlier {
    /// They are those of runs at work.
    Stand,
    /// Nothing: the run took the lease over from a holder that was silent for as long as a claim lasts.
    Lapsed,
}

/// What one run has seen of the intents of other runs.
#[derive(Debug)]
pub(crate) struct Sharing {
    run_id: String,
    seen: Mutex<HashMap<String, Sighting>>,
    /// Whether what is seen next claims nothing: the first look after the lease was taken over.
    are_lapsed: AtomicBool,
}

/// What is known of one intent of another run.
#[derive(Clone, Debug)]
struct Sighting {
    begun_at: DateTime,
    users: Arc<HashSet<String>>,
    first: Instant,
    /// The last sign, and when it was seen first.
    sign: (i64, Instant),
    is_lapsed: bool,
}

impl Sighting {
    /// Whether its documents are left to its run.
    fn claims(&self, now: Instant) -> bool {
        !self.is_lapsed
            && now.saturating_duration_since(self.first) < CLAIM_LASTS
            && now.saturating_duration_since(self.sign.1) < SILENCE
    }
}

/// The documents that other runs are moving.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claimed(Vec<Arc<HashSet<String>>>);

impl Claimed {
    /// Whether another run is moving the document of this user.
    pub(crate) fn has(&self, user: &str) -> bool {
        self.0.iter().any(|users| users.contains(user))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Sharing {
    /// Between this run and all others.
    pub(crate) fn new(run_id: &str, earlier: Earlier) -> Self {
        Self {
            run_id: run_id.to_owned(),
            seen: Mutex::default(),
            are_lapsed: AtomicBool::new(earlier == Earlier::Lapsed),
        }
    }

    /// The documents that other runs are moving now.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub(crate) async fn claimed(&self, engine: &Engine) -> Result<Claimed, StoreError> {
        self.look(engine).await?;
        Ok(self.standing(|_, _| true))
    }

    /// The documents that other runs announced before `own` was announced. Of two runs that announce the same documents at
    /// once, the later one gives way.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub(crate) async fn claimed_before(
        &self,
        engine: &Engine,
        own: &Intent,
    ) -> Result<Claimed, StoreError> {
        self.look(engine).await?;
        let own = (own.begun_at, own.id.as_str());
        Ok(self.standing(|id, seen| (seen.begun_at, id) < own))
    }

    fn standing(&self, is_wanted: impl Fn(&str, &Sighting) -> bool) -> Claimed {
        let now = Instant::now();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let claims = seen
            .iter()
            .filter(|(id, it)| it.claims(now) && is_wanted(id, it));
        Claimed(claims.map(|(_, it)| Arc::clone(&it.users)).collect())
    }

    /// Reads the heads of all intents, and those of other runs that were not seen before.
    async fn look(&self, engine: &Engine) -> Result<(), StoreError> {
        let mut heads = intents::heads(engine).await?;
        heads.retain(|head| head.run_id != self.run_id);
        let is_lapsed = self.are_lapsed.swap(false, Ordering::Relaxed);
        let new = self.note(&heads, Instant::now());
        if new.is_empty() {
            return Ok(());
        }
        let found = intents::read(engine, new).await?;
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for intent in found {
            let beats = heads.iter().find(|head| head.id == intent.id);
            let sighting = Sighting {
                begun_at: intent.begun_at,
                users: Arc::new(intent.users().map(str::to_owned).collect()),
                first: now,
                sign: (beats.map_or(0, |head| head.beat), now),
                is_lapsed,
            };
            seen.entry(intent.id).or_insert(sighting);
        }
        Ok(())
    }

    /// Notes signs and forgets what is gone; answers which intents were not seen before.
    fn note(&self, heads: &[IntentHead], now: Instant) -> Vec<Bson> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stands: HashSet<&str> = heads.iter().map(|head| head.id.as_str()).collect();
        seen.retain(|id, _| stands.contains(id.as_str()));
        let mut new = Vec::new();
        for head in heads {
            match seen.get_mut(&head.id) {
                Some(sighting) if sighting.sign.0 != head.beat => sighting.sign = (head.beat, now),
                Some(_) => {}
                None => new.push(Bson::String(head.id.clone())),
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_claims_while_it_gives_signs_and_never_for_long() {
        let start = Instant::now();
        let seen = |sign: Instant| Sighting {
            begun_at: DateTime::MIN,
            users: Arc::default(),
            first: start,
            sign: (0, sign),
            is_lapsed: false,
        };
        let second = Duration::from_secs(1);
        assert!(seen(start).claims(start + 2 * second));
        assert!(!seen(start).claims(start + 3 * second), "silent");
        assert!(seen(start + 6 * second).claims(start + 7 * second));
        assert!(
            !seen(start + 7 * second).claims(start + 8 * second),
            "stalled"
        );
        const { assert!(CLAIM_LASTS.as_secs() + SIGN_EVERY.as_secs() < 10) };
    }

    #[test]
    fn what_is_gone_is_forgotten_and_a_new_sign_renews_a_claim() {
        let sharing = Sharing::new("own", Earlier::Stand);
        let head = |beat| IntentHead {
            id: "a".into(),
            run_id: "another".into(),
            begun_at: DateTime::MIN,
            beat,
            moves: 1,
        };
        let start = Instant::now();
        assert_eq!(sharing.note(&[head(0)], start).len(), 1);
        let sighting = Sighting {
            begun_at: DateTime::MIN,
            users: Arc::new(HashSet::from(["internal_1".to_owned()])),
            first: start,
            sign: (0, start),
            is_lapsed: false,
        };
        let mut seen = sharing.seen.lock().unwrap();
        seen.insert("a".into(), sighting);
        drop(seen);
        assert!(sharing.standing(|_, _| true).has("internal_1"));
        let later = start + SILENCE;
        assert_eq!(sharing.note(&[head(1)], later), []);
        assert_eq!(sharing.seen.lock().unwrap()["a"].sign, (1, later));
        assert_eq!(sharing.note(&[], later), []);
        assert!(sharing.standing(|_, _| true).is_empty());
    }
}
