//! Heavy work: owns the choice between doing it here and on a thread that may block.
//!
//! Reading or writing megabytes of JSON takes long enough to make every other request wait.

use crate::http::response::problem::Problem;

/// The size of a document from which work on it is moved away.
const HEAVY_BYTES: usize = 256 * 1024;

/// Does work on `size_bytes` of data where it keeps nobody waiting.
///
/// # Errors
/// [`Problem::Internal`] when the work panicked elsewhere.
pub(in crate::http) async fn run<T: Send + 'static>(
    size_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    if size_bytes < HEAVY_BYTES {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Problem::Internal)
}
