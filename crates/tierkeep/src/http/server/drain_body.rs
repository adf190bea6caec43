//! Draining: owns what happens to the unread rest of a request body.
//!
//! A connection that is closed while the caller still sends is reset, and the caller may not see the response. So the
//! rest of the body is received and discarded, up to a bound of size and time, while the response is sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use futures_util::{Stream, StreamExt};
use tokio::runtime::Handle;

const MAX_BYTES: usize = 64 << 20;
const MAX_TIME: Duration = Duration::from_secs(5);

/// The request with a body that drains its rest when it is dropped.
pub(super) fn draining(request: Request) -> Request {
    if request.body().is_end_stream() {
        return request;
    }
    let waits_for_go_ahead = request.headers().contains_key(EXPECT);
    request.map(|body| {
        Body::from_stream(DrainOnDrop {
            rest: Some(body.into_data_stream()),
            coming: !waits_for_go_ahead,
        })
    })
}

struct DrainOnDrop {
    /// The unread rest; `None` at the end.
    rest: Option<BodyDataStream>,
    /// The caller sends, or was told to with 100 Continue.
    coming: bool,
}

impl Stream for DrainOnDrop {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.coming = true;
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let chunk = ready!(rest.poll_next_unpin(cx));
        if !matches!(chunk, Some(Ok(_))) {
            self.rest = None;
        }
        Poll::Ready(chunk)
    }
}

impl Drop for DrainOnDrop {
    fn drop(&mut self) {
        if let (true, Some(rest), Ok(runtime)) =
            (self.coming, self.rest.take(), Handle::try_current())
        {
            runtime.spawn(tokio::time::timeout(MAX_TIME, discard(rest)));
        }
    }
}

async fn discard(mut rest: BodyDataStream) {
    let mut left = MAX_BYTES;
    while let Some(Ok(chunk)) = rest.next().await {
        match left.checked_sub(chunk.len()) {
            Some(less) => left = less,
            None => return,
        }
    }
}
