//! A call that times out for its caller and arrives later, so that a test decides when it takes effect.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tierkeep_core::db::Role;
use tierkeep_core::store::{Class, StoreError};

type Arrival = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// A call that timed out for its caller while it is still in flight.
#[derive(Clone, Default)]
pub struct Late(Arc<Mutex<Option<Arrival>>>);

impl std::fmt::Debug for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Late")
    }
}

impl Late {
    /// Keeps the call, and returns the error for its caller.
    pub(crate) fn keep<T>(
        &self,
        database: Role,
        operation: &'static str,
        arrival: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(arrival));
        Err(StoreError {
            database,
            operation,
            class: Class::Timeout,
            code: 0,
        })
    }

    /// Whether the call was made and has not arrived yet.
    pub fn is_on_its_way(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// The call arrives and has whatever effect its guard allows.
    ///
    /// # Errors
    /// The store's own.
    ///
    /// # Panics
    /// When the call was never made.
    pub async fn arrive(&self) -> Result<(), StoreError> {
        let arrival = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        arrival.expect("the call was made").await
    }
}
