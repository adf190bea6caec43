//! Turns: owns how many requests of people without credentials may be at work in the databases at once.
//!
//! Must never be asked for by internal users, whose requests wait for nobody's turn: however many public requests
//! arrive, connections, disks and processors are left for them. Who gets no turn waits in line, which takes
//! nothing but an open connection; the line is bounded in length and time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// How many may wait in line, some of them with a body that was received.
const MOST_WAITING: usize = 256;
/// How long they may.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A turn; it ends when it is dropped.
#[derive(Debug)]
#[must_use = "a turn that is dropped is over"]
pub(super) struct Turn(
    #[expect(dead_code, reason = "given back when dropped")] OwnedSemaphorePermit,
);

/// So many turns, and a line for those who wait for one.
#[derive(Debug)]
pub(super) struct Turns {
    free: Arc<Semaphore>,
    line: Semaphore,
}

impl Turns {
    /// So many at once.
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS))),
            line: Semaphore::new(MOST_WAITING),
        }
    }

    /// The next turn, in the order in which they were asked for. Cancel safe.
    ///
    /// # Errors
    /// [`Problem::Busy`] when the line is full or does not move.
    pub(super) async fn take(&self) -> Result<Turn, Problem> {
        let free = Arc::clone(&self.free);
        if let Ok(turn) = Arc::clone(&free).try_acquire_owned() {
            return Ok(Turn(turn));
        }
        let _place = self.line.try_acquire().map_err(|_| Problem::Busy)?;
        match tokio::time::timeout(LONGEST_WAIT, free.acquire_owned()).await {
            Ok(Ok(turn)) => Ok(Turn(turn)),
            Ok(Err(_)) | Err(_) => Err(Problem::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_gets_no_turn_in_a_second_is_asked_to_come_again() {
        let turns = Turns::new(1);
        let first = turns.take().await.unwrap();
        assert_eq!(turns.take().await.unwrap_err(), Problem::Busy);
        let (second, ()) = tokio::join!(turns.take(), async {
            tokio::time::sleep(LONGEST_WAIT / 2).await;
            drop(first);
        });
        drop(second.unwrap());
        drop(turns.take().await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_has_an_end() {
        let turns = Turns::new(1);
        let _first = turns.take().await.unwrap();
        let began = tokio::time::Instant::now();
        let waited = join_all((0..=MOST_WAITING).map(async |_| {
            let refused = turns.take().await.unwrap_err();
            assert_eq!(refused, Problem::Busy);
            began.elapsed()
        }));
        let waited = waited.await;
        let at_once = waited.iter().filter(|waited| waited.is_zero()).count();
        assert_eq!(at_once, 1, "{waited:?}");
    }
}
