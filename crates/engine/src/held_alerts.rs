//! Alerts that `evaluation_audit` could not take: kept in memory, sent from there, and stored after its return. Must
//! never give one up that was not stored, unless there are too many.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bson::DateTime;
use tierkeep_core::bson;
use tracing::{error, warn};

/// How many are kept at most.
const MOST: usize = 1_000;
/// The name of the kind that the breaker logs itself.
const BREAKER_OPEN: &str = "breaker_open";

/// One alert that is not stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    /// The kind's name.
    pub(crate) kind: &'static str,
    pub(crate) subject: String,
    pub(crate) first_at: DateTime,
    pub(crate) last_at: DateTime,
    pub(crate) count: i64,
    pub(crate) message: String,
    pub(crate) resolved_at: Option<DateTime>,
    /// The channels through which its present state was sent, by their fields.
    pub(crate) told: Vec<&'static str>,
}

impl Held {
    /// One that is raised now.
    pub(crate) fn new(kind: &'static str, subject: &str, message: &str, now: DateTime) -> Self {
        Self {
            kind,
            subject: subject.to_owned(),
            first_at: now,
            last_at: now,
            count: 1,
            message: message.to_owned(),
            resolved_at: None,
            told: Vec::new(),
        }
    }

    fn key(&self) -> Key {
        (self.kind, self.subject.clone())
    }
}

/// Kind and subject.
type Key = (&'static str, String);

/// The alerts of this process that are not stored.
#[derive(Debug, Default)]
pub(crate) struct HeldAlerts(Mutex<BTreeMap<Key, Held>>);

impl HeldAlerts {
    /// Keeps an alert that was raised.
    pub(crate) fn raise(&self, raised: Held) {
        let mut all = self.lock();
        if let Some(held) = all.get_mut(&raised.key()) {
            held.last_at = raised.last_at;
            held.count = held.count.saturating_add(1);
            held.message = raised.message;
            if held.resolved_at.take().is_some() {
                held.told.clear();
            }
            return;
        }
        let (kind, subject, message) = (raised.kind, &raised.subject, &raised.message);
        if all.len() >= MOST {
            error!(
                kind,
                subject,
                reason = message,
                "an alert is lost: evaluation_audit is unavailable, and too many alerts are in memory",
            );
            return;
        }
        // That a database was given up has its own line, which names the database.
        if kind != BREAKER_OPEN {
            warn!(
                kind,
                subject,
                reason = message,
                "an alert is kept in memory until evaluation_audit is available again",
            );
        }
        all.insert(raised.key(), raised);
    }

    /// Notes that the cause of one that is kept is gone. Answers whether it is kept.
    pub(crate) fn resolve(&self, kind: &'static str, subject: &str, now: DateTime) -> bool {
        let mut all = self.lock();
        let Some(held) = all.get_mut(&(kind, subject.to_owned())) else {
            return false;
        };
        if held.resolved_at.is_none() {
            held.resolved_at = Some(now);
            held.told.clear();
        }
        true
    }

    /// Those that are kept, by kind and subject.
    pub(crate) fn all(&self) -> Vec<Held> {
        self.lock().values().cloned().collect()
    }

    /// Records that the state of `held` was sent, unless it has changed since.
    pub(crate) fn told(&self, held: &Held, channel: &'static str) {
        let mut all = self.lock();
        if let Some(now) = all.get_mut(&held.key())
            && now.resolved_at == held.resolved_at
        {
            now.told.push(channel);
        }
    }

    /// Gives up one that is stored now, unless it has changed since.
    pub(crate) fn stored(&self, held: &Held) {
        let mut all = self.lock();
        if all.get(&held.key()) == Some(held) {
            all.remove(&held.key());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
