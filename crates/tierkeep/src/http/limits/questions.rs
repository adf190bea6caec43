//! Questions to GitHub: owns how many are asked for the callers of one address.
//!
//! A question costs the address one of its failed authentications, given back when GitHub knows the owner: whoever comes with
//! tokens that are valid is never limited, and whoever makes tokens up makes GitHub hear no more than the limit. Where nothing is
//! left, a caller waits for the questions of others that are under way and may give theirs back.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tierkeep_identity::{Question, QuestionLimit};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, timeout_at};

use super::bucket::{Allowance, MOST_KEYS};
use super::traffic::Traffic;

/// How long a caller waits for the questions of others: GitHub is given up after as long.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// The most that an address has back; beyond it, it asks anew.
const MOST_CREDITS: u32 = 10_000;

/// What is asked for the callers of each address.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<HashMap<IpAddr, Asking>>);

#[derive(Debug, Default)]
struct Asking {
    /// Questions under way.
    open: u32,
    /// Questions that were paid for and cost nothing.
    credits: u32,
    ended: Arc<Notify>,
}

impl Questions {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Asking>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a question, paid with what `pay` takes; an error where nothing is left, with what to wait for if anything.
    fn begin(
        &self,
        from: IpAddr,
        pay: impl FnOnce() -> Result<Allowance, Allowance>,
    ) -> Result<(), (Allowance, Option<OwnedNotified>)> {
        let mut table = self.lock();
        if table.len() >= MOST_KEYS {
            table.retain(|_, asking| asking.open > 0);
        }
        let asking = table.entry(from).or_default();
        if asking.credits > 0 {
            asking.credits -= 1;
        } else if let Err(refused) = pay() {
            // Made while the table is locked: a question that ends from now on wakes it.
            let others = (asking.open > 0).then(|| Arc::clone(&asking.ended).notified_owned());
            if others.is_none() {
                table.remove(&from);
            }
            return Err((refused, others));
        }
        asking.open += 1;
        Ok(())
    }

    fn end(&self, from: IpAddr, is_given_back: bool) {
        let mut table = self.lock();
        let Some(asking) = table.get_mut(&from) else {
            return;
        };
        asking.open = asking.open.saturating_sub(1);
        if is_given_back {
            asking.credits = MOST_CREDITS.min(asking.credits + 1);
            asking.ended.notify_one();
        }
        if asking.open == 0 {
            // Nothing more is given back: those who wait hear it.
            asking.ended.notify_waiters();
            if asking.credits == 0 {
                table.remove(&from);
            }
        }
    }
}

/// The limit on the questions for one request.
pub(in crate::http) struct GithubLimit {
    traffic: Traffic,
    from: IpAddr,
    refused: OnceLock<Allowance>,
    charged: Arc<AtomicBool>,
}

impl GithubLimit {
    pub(super) fn new(traffic: Traffic, from: IpAddr) -> Self {
        Self {
            traffic,
            from,
            refused: OnceLock::new(),
            charged: Arc::default(),
        }
    }

    /// What is left of the address's bucket, where GitHub was not asked because of it.
    pub(in crate::http) fn refused(&self) -> Option<Allowance> {
        self.refused.get().copied()
    }

    /// Whether the request cost a failed authentication.
    pub(in crate::http) fn is_charged(&self) -> bool {
        self.charged.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for GithubLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GithubLimit").field(&self.from).finish()
    }
}

impl QuestionLimit for GithubLimit {
    type Question = OpenQuestion;

    async fn acquire(&self) -> Result<OpenQuestion, Duration> {
        let deadline = Instant::now() + MAX_WAIT;
        loop {
            let pay = || self.traffic.failed(self.from);
            let (refused, others) = match self.traffic.questions().begin(self.from, pay) {
                Ok(()) => break,
                Err(refused) => refused,
            };
            let heard = match others {
                Some(others) => timeout_at(deadline, others).await.is_ok(),
                None => false,
            };
            if !heard {
                self.refused.get_or_init(|| refused);
                return Err(Duration::from_secs(refused.retry_after_seconds()));
            }
        }
        self.charged.store(true, Ordering::Relaxed);
        Ok(OpenQuestion {
            traffic: self.traffic.clone(),
            from: self.from,
            charged: Arc::clone(&self.charged),
            is_given_back: false,
        })
    }
}

/// A question under way.
pub(in crate::http) struct OpenQuestion {
    traffic: Traffic,
    from: IpAddr,
    charged: Arc<AtomicBool>,
    is_given_back: bool,
}

impl Question for OpenQuestion {
    fn succeeded(mut self) {
        self.is_given_back = true;
        self.charged.store(false, Ordering::Relaxed);
    }
}

impl Drop for OpenQuestion {
    fn drop(&mut self) {
        self.traffic.questions().end(self.from, self.is_given_back);
    }
}
