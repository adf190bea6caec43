//! Turns: owns how many requests of people without credentials may be at work in the databases at once.
//!
//! Must never be asked for by internal users, whose requests wait for nobody's turn: however many public requests
//! arrive, connections, disks and processors are left for them. Who gets no turn waits in line, which takes
//! nothing but an open connection; the line is bounded in length and time.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::response::problem::Problem;

/// How many may wait in line, some of them with a body that was received.
const MOST_WAITING: usize = 256;
/// How long they may: longer than a disk or an election keeps a healthy database from answering.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A turn; it ends when it is dropped.
#[derive(Debug)]
#[must_use = "a turn that is dropped is over"]
pub(in crate::http) struct Turn(
    #[expect(dead_code, reason = "given back when dropped")] OwnedSemaphorePermit,
);

/// So many turns, and a line for those who wait for one.
#[derive(Debug)]
pub(in crate::http) struct Turns {
    free: Arc<Semaphore>,
    line: Semaphore,
    /// How many had a turn so far.
    given: AtomicU64,
}

impl Turns {
    /// So many at once.
    pub(in crate::http) fn new(at_once: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS))),
            line: Semaphore::new(MOST_WAITING),
            given: AtomicU64::new(0),
        }
    }

    /// The next turn, in the order in which they were asked for. Cancel safe.
    ///
    /// # Errors
    /// [`Problem::Busy`] when the line is full or too slow, [`Problem::Stalled`] when it does not move at all.
    pub(in crate::http) async fn take(&self) -> Result<Turn, Problem> {
        let turn = self.permit().await?;
        self.given.fetch_add(1, Ordering::Relaxed);
        Ok(Turn(turn))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        if let Ok(turn) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(turn);
        }
        let _place = self.line.try_acquire().map_err(|_| Problem::Busy)?;
        let mut turn = pin!(Arc::clone(&self.free).acquire_owned());
        let mut given = 0;
        // A line that stood still in the second half waits for something that does not answer.
        for _ in 0..2 {
            given = self.given.load(Ordering::Relaxed);
            if let Ok(Ok(turn)) = tokio::time::timeout(LONGEST_WAIT / 2, &mut turn).await {
                return Ok(turn);
            }
        }
        if self.given.load(Ordering::Relaxed) == given {
            Err(Problem::Stalled)
        } else {
            Err(Problem::Busy)
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_gets_no_turn_in_time_is_asked_to_come_again() {
        let turns = Turns::new(1);
        let first = turns.take().await.unwrap();
        assert_eq!(turns.take().await.unwrap_err(), Problem::Stalled);
        let (second, ()) = tokio::join!(turns.take(), async {
            tokio::time::sleep(LONGEST_WAIT / 2).await;
            drop(first);
        });
        drop(second.unwrap());
        drop(turns.take().await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_stands_still_for_some_seconds_refuses_nobody() {
        let turns = Turns::new(2);
        let at_work = join_all([turns.take(), turns.take()]).await;
        let (third, ()) = tokio::join!(turns.take(), async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            drop(at_work);
        });
        drop(third.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_has_an_end() {
        let turns = Turns::new(1);
        let _first = turns.take().await.unwrap();
        let began = tokio::time::Instant::now();
        let waited = join_all((0..=MOST_WAITING).map(async |_| {
            let refused = turns.take().await.unwrap_err();
            (refused, began.elapsed())
        }));
        let mut refused = waited.await;
        refused.sort_by_key(|(_, waited)| *waited);
        assert_eq!(refused.remove(0), (Problem::Busy, Duration::ZERO));
        for refused in refused {
            assert_eq!(refused, (Problem::Stalled, LONGEST_WAIT));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_is_too_slow_is_not_one_that_stands_still() {
        let turns = Turns::new(1);
        let at_work = turns.take().await.unwrap();
        // The second gets its turn just before it would have to go, and the third none.
        let line = join_all((0..3).map(async |_| {
            let turn = turns.take().await?;
            tokio::time::sleep(LONGEST_WAIT * 6 / 10).await;
            drop(turn);
            Ok::<_, Problem>(())
        }));
        let (line, ()) = tokio::join!(line, async {
            tokio::time::sleep(LONGEST_WAIT * 3 / 10).await;
            drop(at_work);
        });
        assert_eq!(line, [Ok(()), Ok(()), Err(Problem::Busy)]);
    }
}
