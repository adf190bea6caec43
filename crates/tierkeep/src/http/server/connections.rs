//! Connections: owns accepting them and ending them.
//!
//! Must never let a caller that neither sends nor reads hold a connection without a deadline, or cut off a request before
//! the grace period of a shutdown has passed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::util::MapRequest;
use tracing::{debug, warn};

use crate::http::limits::address::Peer;

/// The limits of connections: how many, and the time-outs of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connections {
    /// The most open connections; further ones wait until one ends.
    pub most: usize,
    /// The time-out for the head of a request, and for an idle connection.
    pub head_timeout: Duration,
    /// The time-out for a caller that does not read the response.
    pub read_nothing_timeout: Duration,
}

impl Default for Connections {
    /// 4,096 connections, 30 seconds each.
    fn default() -> Self {
        Self {
            most: 4096,
            head_timeout: Duration::from_secs(30),
            read_nothing_timeout: Duration::from_secs(30),
        }
    }
}

/// The most bytes of a request's head, its URL among them, and the most headers. Beyond: 431.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 100;
/// The pause after the system has refused a connection, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `router` on `listener` until `shutdown`; then accepts nothing more, and waits `grace` at most for
/// requests in flight. Dropping the future leaves connections open.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Connections,
    shutdown: CancellationToken,
    grace: Duration,
) {
    let connections = TaskTracker::new();
    let end = CancellationToken::new();
    let places = Arc::new(Semaphore::new(limits.most));
    while let Some(accepted) = shutdown
        .run_until_cancelled(accept(&listener, &places))
        .await
    {
        match accepted {
            Ok((stream, peer, place)) => {
                let served = connection(stream, peer, router.clone(), limits, shutdown.clone());
                let end = end.clone();
                connections.spawn(async move {
                    end.run_until_cancelled(served).await;
                    drop(place);
                });
            }
            Err(error) => refused(&error).await,
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(grace, connections.wait())
        .await
        .is_err()
    {
        warn!(
            connections = connections.len(),
            "requests outlasted the grace and are cut off"
        );
        end.cancel();
        connections.wait().await;
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Peer, Option<OwnedSemaphorePermit>)> {
    // The semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok();
    let (stream, peer) = listener.accept().await?;
    Ok((stream, Peer(peer), place))
}

/// A caller that has disconnected already is ignored; after any other error accepting pauses.
async fn refused(error: &io::Error) {
    let left = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    );
    if !left {
        warn!(%error, "a connection could not be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    router: Router,
    limits: Connections,
    shutdown: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection keeps small packets back");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.read_nothing_timeout));
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS);
    let known = MapRequest::new(router, move |mut request: Request<_>| {
        request.extensions_mut().insert(peer);
        request
    });
    let service = TowerToHyperService::new(known);
    let serving = builder.serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}
