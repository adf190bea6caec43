//! Listeners: owns binding the addresses of the service, and which router answers on each.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::HttpSettings;
use crate::descriptors::{self, Places};
use crate::exit::UsageError;
use crate::http::{self, Connections, HttpState};
use crate::metrics::Metrics;

/// How long requests in flight may take to finish when the service is stopped.
const GRACE: Duration = Duration::from_secs(20);
/// How many connections wait to be accepted, where the system allows it. A caller who finds this queue full tries again only after a
/// second; the usual 128 are taken by one caller in a few milliseconds.
const BACKLOG: u32 = 4096;

/// The listeners of the service.
#[derive(Debug)]
pub(super) struct Listeners {
    public: Listener,
    /// The listener of operators, where it is another.
    ops: Option<Listener>,
}

/// An address, and the server on it.
#[derive(Debug)]
struct Listener {
    address: SocketAddr,
    opened: Arc<OnceLock<Router>>,
    serving: JoinHandle<()>,
}

impl Listeners {
    /// Binds the addresses, and serves them until `stop`. Until [`Listeners::open`] the responses say that the service is
    /// starting.
    ///
    /// # Errors
    /// [`UsageError`] where an address is in use, or is not one of this machine.
    pub(super) fn at(
        settings: &HttpSettings,
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let places = Places::of(descriptors::raised());
        let trusted_proxies: Arc<[IpNet]> = settings.traffic.trusted_proxies.as_slice().into();
        let connections = |most| Connections {
            most,
            trusted_proxies: Arc::clone(&trusted_proxies),
            ..Connections::default()
        };
        let public = bind(settings.listen, "--listen")?;
        let ops = match settings.ops_listen {
            Some(listen) => Some(bind(listen, "TIERKEEP_OPS_LISTEN")?),
            None => None,
        };
        Ok(Self {
            public: Listener::serve(public, connections(places.public), metrics, stop)?,
            ops: ops
                .map(|ops| Listener::serve(ops, connections(places.ops), metrics, stop))
                .transpose()?,
        })
    }

    /// The address of callers, with the port that the system chose.
    pub(super) fn address(&self) -> SocketAddr {
        self.public.address
    }

    /// The address of operators, where it is another.
    pub(super) fn ops_address(&self) -> Option<SocketAddr> {
        self.ops.as_ref().map(|ops| ops.address)
    }

    /// Lets the routes answer.
    pub(super) fn open(&self, state: HttpState) {
        let Some(ops) = &self.ops else {
            self.public.opened.set(http::router(state)).ok();
            return;
        };
        let routers = http::routers(state);
        self.public.opened.set(routers.public).ok();
        ops.opened.set(routers.ops).ok();
    }

    /// Waits until every server has ended.
    pub(super) async fn ended(self) {
        for listener in std::iter::once(self.public).chain(self.ops) {
            if listener.serving.await.is_err() {
                warn!("the service ended early");
            }
        }
    }
}

fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    let listener = listen(address).map_err(|error| UsageError {
        message: format!("cannot listen on {address}: {error}"),
        remedy: Some(format!(
            "stop the process that listens there, or set another address with {setting}"
        )),
    })?;
    Ok(listener)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A restart does not wait for connections of before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Listener {
    fn serve(
        listener: TcpListener,
        connections: Connections,
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let opened = Arc::new(OnceLock::new());
        let router = http::starting(Arc::clone(&opened), metrics.clone());
        let serving = http::serve(listener, router, connections, stop.clone(), GRACE);
        Ok(Self {
            address,
            opened,
            serving: tokio::spawn(serving),
        })
    }
}
