//! Erasures that have not reached every database, as this process knows them: what only waits to be erased is
//! treated as absent, also where it can still be read.
//!
//! A service asks the ledger every half second in a task of its own ([`Pending::watch`]); reads and writes rely on an answer
//! that is at most two seconds old, and ask only where there is none. An erasure that stays pending is answered no
//! sooner than that after its entry was made, so that every process knows of it by then (ADR 26). No version and no deletion
//! depends on this, and no request waits for a ledger that has stopped answering.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tierkeep_core::db::Role;
use tierkeep_core::erasure::Stage;
use tierkeep_core::store::{Class, StoreError};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::context::Engine;

/// Of more, each is looked up by itself.
const REMEMBERED: usize = 500;
/// How often a service asks.
const ASKED_EVERY: Duration = Duration::from_millis(500);

/// What is known of pending erasures. Clones know the same.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// How long an answer is waited for.
    longest_look: Duration,
    known: Arc<Mutex<Known>>,
    /// Held by the task that asks the ledger.
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Known {
    /// When the answer was asked for, or its failure known.
    asked_at: Option<Instant>,
    fences: HashMap<UserId, Version>,
    /// There may be more of them.
    more: bool,
    /// Why the last answer did not come.
    failed: Option<Class>,
    /// It did not come in time: until one does, it is asked for in the background.
    hangs: bool,
}

impl Pending {
    /// Nothing is known yet.
    pub(super) fn new(longest_look: Duration) -> Self {
        Self {
            longest_look,
            known: Arc::default(),
            asking: Arc::default(),
        }
    }

    /// Asks every half second. Dropping the future ends that.
    pub(super) async fn watch(&self, engine: &Arc<Engine>) {
        loop {
            let next = Instant::now() + ASKED_EVERY;
            self.ask_aside(engine);
            tokio::time::sleep_until(next).await;
        }
    }

    /// The version at and below which nothing of `user` counts, where an erasure of the user is pending.
    ///
    /// While `evaluation_audit` is away no user can be erased, and the last known answer stays valid.
    pub(super) async fn fence(&self, engine: &Arc<Engine>, user: &UserId) -> Option<Version> {
        self.refresh(engine).await;
        let (remembered, look) = {
            let known = self.known();
            let remembered = known.fences.get(user).copied();
            (remembered, known.more && !known.hangs)
        };
        if remembered.is_some() || !look {
            return remembered;
        }
        let Ok(entry) = timeout(self.longest_look, engine.ledger().entry(user)).await else {
            self.known().failed(Class::Timeout);
            return None;
        };
        let entry = entry.ok()??;
        match entry.stage {
            Stage::Pending => entry.fence(),
            Stage::Verified | Stage::Closed => None,
        }
    }

    async fn refresh(&self, engine: &Arc<Engine>) {
        let begun = Instant::now();
        let hangs = {
            let known = self.known();
            if known.is_from(begun, engine) {
                return;
            }
            known.hangs
        };
        if hangs {
            self.ask_aside(engine);
            return;
        }
        let asked = async {
            let asking = Arc::clone(&self.asking).lock_owned().await;
            // One answer serves all requests that waited for it.
            if self.known().is_from(begun, engine) {
                return;
            }
            // In a task: the request that asks may be cut off, and others wait for the same answer.
            let (pending, engine) = (self.clone(), Arc::clone(engine));
            let asked = tokio::spawn(async move {
                pending.ask(&engine).await;
                drop(asking);
            });
            asked.await.ok();
        };
        if timeout(self.longest_look, asked).await.is_err() {
            self.known().failed(Class::Timeout);
        }
    }

    /// Asks in the background, where nothing does yet.
    fn ask_aside(&self, engine: &Arc<Engine>) {
        if let Ok(asking) = Arc::clone(&self.asking).try_lock_owned() {
            let (pending, engine) = (self.clone(), Arc::clone(engine));
            tokio::spawn(async move {
                pending.ask(&engine).await;
                drop(asking);
            });
        }
    }

    /// Asks once; what does not answer in time counts as away.
    async fn ask(&self, engine: &Engine) {
        let now = Instant::now();
        let answer = timeout(self.longest_look, engine.ledger().pending(REMEMBERED)).await;
        let mut known = self.known();
        match answer {
            Ok(Ok(pending)) => {
                *known = Known {
                    asked_at: Some(now),
                    more: pending.len() >= REMEMBERED,
                    fences: pending.into_iter().collect(),
                    failed: None,
                    hangs: false,
                }
            }
            Ok(Err(StoreError { class, .. })) => known.failed(class),
            Err(_) => known.failed(Class::Timeout),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether a request that came at `begun` need not ask again.
    fn is_from(&self, begun: Instant, engine: &Engine) -> bool {
        self.asked_at
            .is_some_and(|at| at >= begun || begun.duration_since(at) < engine.pending_known_for())
    }

    /// The answer did not come.
    fn failed(&mut self, why: Class) {
        self.asked_at = Some(Instant::now());
        self.hangs = why == Class::Timeout;
        // How calls fail changes while the database stays unavailable.
        if self.failed.replace(why).is_none() {
            warn!(
                user_type = "internal",
                database = %Role::EvaluationAudit,
                error = why.as_str(),
                "pending erasures are unknown",
            );
        }
    }
}
