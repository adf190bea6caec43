//! Connections: owns accepting them and ending them.
//!
//! Must never let one caller's silence hold a connection for ever, or an end cut a request off before its
//! grace has passed.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::util::MapRequest;
use tracing::{debug, warn};

use super::traffic::Peer;

/// How long a caller may take to send a request's head, and a connection be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after the system has refused a connection, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `router` on `listener` until `shutdown`; then accepts nothing more, and waits `grace` at most for
/// requests in flight. Dropping the future leaves connections open.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    grace: Duration,
) {
    let connections = TaskTracker::new();
    let end = CancellationToken::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                let served = connection(stream, Peer(peer), router.clone(), shutdown.clone());
                let end = end.clone();
                connections.spawn(async move { end.run_until_cancelled(served).await });
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

/// A caller that has left already is no trouble; anything else may pass.
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

async fn connection(stream: TcpStream, peer: Peer, router: Router, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection keeps small packets back");
    }
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    let known = MapRequest::new(router, move |mut request: Request<_>| {
        request.extensions_mut().insert(peer);
        request
    });
    let service = TowerToHyperService::new(known);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
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
