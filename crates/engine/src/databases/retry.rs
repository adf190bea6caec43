//! Repeating a guarded step: the one loop around store calls.

use std::future::Future;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tierkeep_core::store::{StoreError, Verdict};

/// Runs `step` again, with backoff and jitter, while its error says that this may help.
///
/// Only for steps that guards make idempotent: an error may leave the effect applied.
pub(crate) async fn repeating<T, F, Fut>(step: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    step.retry(
        ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(3)
            .with_jitter(),
    )
    .when(|error: &StoreError| error.verdict() == Verdict::Retry)
    .await
}
