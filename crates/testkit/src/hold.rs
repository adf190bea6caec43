//! Holding one call of a store back, so that a test decides what happens in between.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// How long a test waits for a call: far longer than any call takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A call that waits, before it has any effect, until it is let go.
#[derive(Clone, Debug)]
pub struct Hold(Arc<Gates>);

#[derive(Debug)]
struct Gates {
    reached: Semaphore,
    free: Semaphore,
}

impl Hold {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Gates {
            reached: Semaphore::new(0),
            free: Semaphore::new(0),
        }))
    }

    /// Waits until the call has come.
    ///
    /// # Panics
    /// When it has not come within [`PATIENCE`]: a test that waits for a call that is never made fails, instead of
    /// stopping the whole suite.
    pub async fn reached(&self) {
        let reached = tokio::time::timeout(PATIENCE, self.0.reached.acquire()).await;
        let permit = reached.expect("the call that the test waits for is made");
        if let Ok(permit) = permit {
            permit.forget();
        }
    }

    /// Lets the call go.
    pub fn release(&self) {
        self.0.free.add_permits(1);
    }

    /// The call is here, and waits.
    pub(crate) async fn wait(&self) {
        self.0.reached.add_permits(1);
        if let Ok(permit) = self.0.free.acquire().await {
            permit.forget();
        }
    }
}
