//! The life of a process: when it is told to stop.

use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first SIGINT or SIGTERM. A second one ends the process as it would without us:
/// everything on disk is safe at any moment.
pub fn cancel_on_signal(stop: CancellationToken) {
    tokio::spawn(async move {
        if signalled().await {
            tracing::info!("told to stop: finishing what is at work");
        }
        stop.cancel();
        if signalled().await {
            tracing::warn!("told to stop again: leaving at once");
            #[expect(clippy::disallowed_methods, reason = "the second signal means now")]
            std::process::exit(130);
        }
    });
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
