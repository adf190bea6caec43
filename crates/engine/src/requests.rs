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
    /// When the last one ended, or the process began.
    since: Instant,
    is_first_awaited: bool,
}

/// For how long after its beginning a process counts as asked: callers may have waited for it, and ask at once.
const BEGINNING: Duration = Duration::from_secs(1);

/// A request, until it is dropped.
#[must_use]
#[derive(Debug)]
pub(crate) struct RequestAtWork<'a>(&'a Requests);

impl Default for Requests {
    fn default() -> Self {
        Self(Mutex::new(State {
            at_work: 0,
            since: Instant::now(),
            is_first_awaited: true,
        }))
    }
}

impl Requests {
    /// A request begins.
    pub(crate) fn begin(&self) -> RequestAtWork<'_> {
        let mut state = self.state();
        state.at_work += 1;
        state.is_first_awaited = false;
        drop(state);
        RequestAtWork(self)
    }

    /// Whether none was at work for so long; before the first, whether the process is older than a second.
    pub(crate) fn are_quiet_for(&self, long: Duration) -> bool {
        let state = self.state();
        let long = if state.is_first_awaited {
            long.min(BEGINNING)
        } else {
            long
        };
        state.at_work == 0 && state.since.elapsed() >= long
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RequestAtWork<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.at_work = state.at_work.saturating_sub(1);
        state.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_are_quiet_a_while_after_the_last_has_ended() {
        let long = 5 * BEGINNING;
        let requests = Requests::default();
        assert!(!requests.are_quiet_for(long), "just begun");
        tokio::time::advance(BEGINNING).await;
        assert!(requests.are_quiet_for(long), "before the first");
        let (one, other) = (requests.begin(), requests.begin());
        drop(one);
        tokio::time::advance(2 * long).await;
        assert!(!requests.are_quiet_for(long), "one is at work");
        drop(other);
        tokio::time::advance(BEGINNING).await;
        assert!(!requests.are_quiet_for(long), "after the first");
        tokio::time::advance(4 * BEGINNING).await;
        assert!(requests.are_quiet_for(long));
    }
}
