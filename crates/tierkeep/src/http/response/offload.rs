//! Offloading: owns the choice between converting a document on this thread and on a blocking one.
//!
//! Parsing or writing megabytes of JSON on an async thread delays every other request of that thread.

use crate::http::response::problem::causes::InternalError;

/// The size from which a conversion is offloaded.
const OFFLOAD_BYTES: usize = 256 * 1024;

/// Runs work on `size_bytes` of data, on a blocking thread where the data is large.
///
/// # Errors
/// [`InternalError`] when offloaded work panicked.
pub(in crate::http) async fn run<T: Send + 'static>(
    size_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, InternalError> {
    if size_bytes < OFFLOAD_BYTES {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| InternalError)
}
