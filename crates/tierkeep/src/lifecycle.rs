//! The life of a process: its stop signals, and its notifications to a service manager.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first SIGINT or SIGTERM. A second one ends the process as it would without us:
/// everything on disk is safe at any moment.
pub fn cancel_on_signal(stop: CancellationToken) {
    tokio::spawn(async move {
        if signalled().await {
            tracing::info!("stopping: completing requests and batches in progress");
        }
        stop.cancel();
        if signalled().await {
            tracing::warn!("stopping immediately after a second signal");
            #[expect(clippy::disallowed_methods, reason = "the second signal means now")]
            std::process::exit(130);
        }
    });
}

/// Each SIGHUP of this process, which ends it no longer from the moment that this is made.
#[derive(Debug)]
pub struct Hangups {
    #[cfg(unix)]
    signals: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    /// From now on.
    pub fn of_this_process() -> Self {
        Self {
            #[cfg(unix)]
            signals: {
                use tokio::signal::unix::{SignalKind, signal};
                let signals = signal(SignalKind::hangup());
                signals
                    .inspect_err(|error| tracing::warn!(%error, "cannot listen for SIGHUP"))
                    .ok()
            },
        }
    }

    /// Waits for the next; several that came meanwhile are one. Cancel safe.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signals) = &mut self.signals
            && signals.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn signalled() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => true,
        _ = terminate.recv() => true,
    }
}

#[cfg(not(unix))]
async fn signalled() -> bool {
    tokio::signal::ctrl_c().await.is_ok()
}

/// Tells systemd that requests are answered, and from then on that the process lives, as often as the unit's
/// `WatchdogSec` wants. Does nothing where no service manager listens.
pub async fn report_alive(end: CancellationToken) {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return;
    };
    // Half of it, so that one late turn of the runtime is no reason to be restarted.
    let every = (patience / 2).max(Duration::from_millis(1));
    while !end.is_cancelled() {
        tell(&[NotifyState::Watchdog]);
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = end.cancelled() => break,
        }
    }
}

/// Tells systemd that what is at work is being finished.
pub fn report_stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("completing requests and batches in progress"),
    ]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = notify(state) {
        tracing::warn!(%error, "the service manager cannot be notified");
    }
}

/// As `sd_notify::notify`, which takes the name of an abstract socket for that of a file.
///
/// Rule source: `sd_notify(3)`, `NOTIFY_SOCKET` with `@` at its start.
#[cfg(target_os = "linux")]
fn notify(state: &[NotifyState<'_>]) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    #[expect(
        clippy::disallowed_methods,
        reason = "the service manager's variable is no setting"
    )]
    let socket = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    let Some(name) = socket.as_encoded_bytes().strip_prefix(b"@") else {
        return sd_notify::notify(state);
    };
    let lines: Vec<String> = state.iter().map(ToString::to_string).collect();
    let message = lines.join("\n");
    let address = SocketAddr::from_abstract_name(name)?;
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.send(message.as_bytes()).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn notify(state: &[NotifyState<'_>]) -> io::Result<()> {
    sd_notify::notify(state)
}
