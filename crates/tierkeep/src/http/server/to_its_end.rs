//! Requests whose callers are gone: owns that they run on to their end.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A future that continues in a separate task when it is dropped before its end. A request holds what others wait for:
/// a permit, memory, a connection to a database, a lock, a single flight. Cut off in the middle, it would leave that to
/// be found out by the next one; a driver's connection, for example, is closed and must be opened again.
#[must_use]
pub(super) struct ToItsEnd<T: 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: 'static> ToItsEnd<T> {
    pub(super) fn of(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<T: 'static> Future for ToItsEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Taken out, so that one that panics is not polled again.
        let Some(mut future) = self.0.take() else {
            return Poll::Pending;
        };
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            self.0 = Some(future);
        }
        polled
    }
}

impl<T: 'static> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        // A runtime that ends takes no more tasks.
        if let (Some(rest), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(async move {
                rest.await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Notify, oneshot};

    use super::*;

    #[tokio::test]
    async fn what_is_dropped_goes_on() {
        let (tells, told) = oneshot::channel();
        let go = Arc::new(Notify::new());
        let until = Arc::clone(&go);
        let begun = Arc::new(Notify::new());
        let begins = Arc::clone(&begun);
        let future = ToItsEnd::of(async move {
            begins.notify_one();
            until.notified().await;
            tells.send(7).unwrap();
        });
        let asked = tokio::spawn(future);
        begun.notified().await;
        asked.abort();
        assert!(asked.await.is_err());
        go.notify_one();
        assert_eq!(told.await, Ok(7));
    }

    #[tokio::test]
    async fn what_has_ended_is_not_begun_again() {
        assert_eq!(ToItsEnd::of(async { 7 }).await, 7);
    }
}
