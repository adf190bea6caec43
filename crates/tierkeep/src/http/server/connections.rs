//! Connections: owns accepting them and ending them.
//!
//! Must never let a caller that neither sends nor reads hold a connection without a deadline, let one address have the
//! places of the others, or cut off a request before the grace period of a shutdown has passed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::util::MapRequest;
use tracing::{debug, warn};

use super::framing;
use super::heard::Heard;
use super::table::{Activity, Table};
use crate::http::limits::address::{Peer, network};

/// The limits of connections: how many, and the time-outs of each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connections {
    /// The most open connections; for a further one, the one that was silent for longest is ended.
    pub most: usize,
    /// The time-out for the head of a request, and for an idle connection.
    pub head_timeout: Duration,
    /// The time-out for a caller that does not read the response.
    pub read_nothing_timeout: Duration,
    /// The proxies, whose connections are those of many.
    pub trusted_proxies: Arc<[IpNet]>,
}

impl Default for Connections {
    /// 4,096 connections, 30 seconds each, no proxies.
    fn default() -> Self {
        Self {
            most: 4096,
            head_timeout: Duration::from_secs(30),
            read_nothing_timeout: Duration::from_secs(30),
            trusted_proxies: Arc::default(),
        }
    }
}

impl Connections {
    /// The address whose share a connection from `peer` counts for; none for a trusted proxy.
    fn share(&self, peer: SocketAddr) -> Option<IpAddr> {
        let address = peer.ip().to_canonical();
        let is_proxy = self.trusted_proxies.iter().any(|it| it.contains(&address));
        (!is_proxy).then(|| network(address))
    }
}

/// The most headers of a request. Beyond: 431.
const HEADERS: usize = 100;
/// The pause after the system has refused a connection, for want of memory for example.
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
    let table = Table::of(limits.most);
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = table.enter(limits.share(peer)) else {
                    debug!("a connection was refused: all other connections are in use");
                    continue;
                };
                let (router, limits, shutdown) = (router.clone(), limits.clone(), shutdown.clone());
                let end = end.clone();
                connections.spawn(async move {
                    let (gives_way, activity) = (place.end.clone(), place.activity.clone());
                    let served = connection(stream, (peer, activity), router, limits, shutdown);
                    let served = gives_way.run_until_cancelled(served);
                    end.run_until_cancelled(served).await;
                    drop(place);
                });
            }
            Err(error) => refused(&error, &table).await,
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
            "requests exceeded the grace period and were aborted"
        );
        end.cancel();
        connections.wait().await;
    }
}

/// A caller that has disconnected already is ignored; after any other error one connection is ended, for the descriptor
/// that it holds, and accepting pauses.
async fn refused(error: &io::Error, table: &Table) {
    let left = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    );
    if !left {
        warn!(%error, "a connection could not be accepted");
        table.end_one();
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn connection(
    stream: TcpStream,
    (peer, activity): (SocketAddr, Activity),
    router: Router,
    limits: Connections,
    shutdown: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY could not be set on a connection");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.read_nothing_timeout));
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(framing::HEAD_BYTES)
        .max_headers(HEADERS);
    let stream = Heard::new(Box::pin(stream), activity.clone());
    let known = MapRequest::new(router, move |mut request: Request<_>| {
        let fault = framing::fault(&request);
        let extensions = request.extensions_mut();
        extensions.insert(Peer(peer));
        extensions.insert(Arc::new(activity.works()));
        if let Some(fault) = fault {
            extensions.insert(fault);
        }
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
