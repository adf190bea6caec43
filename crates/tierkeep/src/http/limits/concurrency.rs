//! The concurrency limit: owns how many public requests may use the databases at once.
//!
//! Must never apply to internal users: however many public requests arrive, connections, disks and processors are left
//! for them. A public request without a permit waits in a queue, which costs no more than an open connection. The queue is
//! bounded in length and in time.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::response::problem::causes::NoPermit;

/// The most requests in the queue. Some of them hold a body that was received.
const MAX_QUEUED: usize = 256;
/// The longest wait in the queue: longer than a disk or an election keeps a healthy database from answering.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The right to use the databases; dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub(in crate::http) struct Permit(
    #[expect(dead_code, reason = "given back when dropped")] OwnedSemaphorePermit,
);

/// A semaphore with a bounded queue in front of it.
#[derive(Debug)]
pub(in crate::http) struct ConcurrencyLimit {
    permits: Arc<Semaphore>,
    queue: Semaphore,
    /// How many permits were granted so far.
    granted: AtomicU64,
}

impl ConcurrencyLimit {
    /// A limit of this many permits at once.
    pub(in crate::http) fn new(permits: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            queue: Semaphore::new(MAX_QUEUED),
            granted: AtomicU64::new(0),
        }
    }

    /// Acquires a permit, in order of arrival. Cancel safe.
    ///
    /// # Errors
    /// [`NoPermit::Busy`] when the queue is full or too slow, [`NoPermit::Stalled`] when it does not advance at all.
    pub(in crate::http) async fn acquire(&self) -> Result<Permit, NoPermit> {
        let permit = self.queued().await?;
        self.granted.fetch_add(1, Ordering::Relaxed);
        Ok(Permit(permit))
    }

    async fn queued(&self) -> Result<OwnedSemaphorePermit, NoPermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let _queued = self.queue.try_acquire().map_err(|_| NoPermit::Busy)?;
        let mut permit = pin!(Arc::clone(&self.permits).acquire_owned());
        let mut granted = 0;
        // A queue that did not advance in the second half waits for something that does not answer.
        for _ in 0..2 {
            granted = self.granted.load(Ordering::Relaxed);
            if let Ok(Ok(permit)) = tokio::time::timeout(MAX_WAIT / 2, &mut permit).await {
                return Ok(permit);
            }
        }
        if self.granted.load(Ordering::Relaxed) == granted {
            Err(NoPermit::Stalled)
        } else {
            Err(NoPermit::Busy)
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_without_a_permit_in_time_is_refused() {
        let limit = ConcurrencyLimit::new(1);
        let first = limit.acquire().await.unwrap();
        assert_eq!(limit.acquire().await.unwrap_err(), NoPermit::Stalled);
        let (second, ()) = tokio::join!(limit.acquire(), async {
            tokio::time::sleep(MAX_WAIT / 2).await;
            drop(first);
        });
        drop(second.unwrap());
        drop(limit.acquire().await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_stalls_for_some_seconds_causes_no_refusal() {
        let limit = ConcurrencyLimit::new(2);
        let at_work = join_all([limit.acquire(), limit.acquire()]).await;
        let (third, ()) = tokio::join!(limit.acquire(), async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            drop(at_work);
        });
        drop(third.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded() {
        let limit = ConcurrencyLimit::new(1);
        let _first = limit.acquire().await.unwrap();
        let began = tokio::time::Instant::now();
        let waited = join_all((0..=MAX_QUEUED).map(async |_| {
            let refused = limit.acquire().await.unwrap_err();
            (refused, began.elapsed())
        }));
        let mut refused = waited.await;
        refused.sort_by_key(|(_, waited)| *waited);
        assert_eq!(refused.remove(0), (NoPermit::Busy, Duration::ZERO));
        for refused in refused {
            assert_eq!(refused, (NoPermit::Stalled, MAX_WAIT));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_queue_is_busy_and_not_stalled() {
        let limit = ConcurrencyLimit::new(1);
        let at_work = limit.acquire().await.unwrap();
        // The second gets its permit just before its wait would end, the third gets none.
        let queue = join_all((0..3).map(async |_| {
            let permit = limit.acquire().await?;
            tokio::time::sleep(MAX_WAIT * 6 / 10).await;
            drop(permit);
            Ok::<_, NoPermit>(())
        }));
        let (queue, ()) = tokio::join!(queue, async {
            tokio::time::sleep(MAX_WAIT * 3 / 10).await;
            drop(at_work);
        });
        assert_eq!(queue, [Ok(()), Ok(()), Err(NoPermit::Busy)]);
    }
}
