//! Whether a request waits for an answer of this process, and for how long none has. Only counts; the worker decides
//! what follows from it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The requests of this process for users' documents and HR records.
#[derive(Debug)]
pub(crate) struct Requests(Mutex<State>);

#[derive(Clone, Copy, Debug)]
struct State {
    at_work: u64,
    /// When the last one ended, or the process began: callers may have waited for that.
    last_ended: Instant,
}

/// A request, until it is dropped.
#[must_use]
#[derive(Debug)]
pub(crate) struct RequestAtWork<'a>(&'a Requests);

impl Default for Requests {
    fn default() -> Self {
        Self(Mutex::new(State {
            at_work: 0,
            last_ended: Instant::now(),
        }))
    }
}

impl Requests {
    /// A request begins.
    pub(crate) fn begin(&self) -> RequestAtWork<'_> {
        self.state().at_work += 1;
        RequestAtWork(self)
    }

    /// Whether none was at work for so long.
    pub(crate) fn are_quiet_for(&self, long: Duration) -> bool {
        let state = self.state();
        state.at_work == 0 && state.last_ended.elapsed() >= long
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RequestAtWork<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.at_work = state.at_work.saturating_sub(1);
        state.last_ended = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_are_quiet_a_while_after_the_last_has_ended() {
        let second = Duration::from_secs(1);
        let requests = Requests::default();
        assert!(!requests.are_quiet_for(second), "just begun");
        tokio::time::advance(second).await;
        assert!(requests.are_quiet_for(second), "before the first");
        let (one, other) = (requests.begin(), requests.begin());
        drop(one);
        tokio::time::advance(2 * second).await;
        assert!(!requests.are_quiet_for(second), "one is at work");
        drop(other);
        assert!(!requests.are_quiet_for(second));
        tokio::time::advance(second).await;
        assert!(requests.are_quiet_for(second));
    }
}
