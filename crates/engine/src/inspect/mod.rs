//! What operators are shown: the system at a glance, one user, what will move, the records. Only reads.

use std::sync::Arc;

use crate::context::Engine;
use crate::mover::{MigrationService, MoverSettings};

pub(crate) mod explain;
pub(crate) mod mover_status;
pub(crate) mod records;
pub(crate) mod simulate;
pub(crate) mod status;

/// Reads what operators are shown, and writes nothing. Clones share the engine.
#[derive(Clone, Debug)]
pub struct Inspector {
    engine: Arc<Engine>,
    settings: MoverSettings,
}

impl Inspector {
    /// An inspector of these databases, for a mover with these settings.
    pub fn new(engine: Arc<Engine>, settings: MoverSettings) -> Self {
        Self { engine, settings }
    }
}

impl From<&MigrationService> for Inspector {
    /// An inspector of the databases that this service moves between, with its settings.
    fn from(service: &MigrationService) -> Self {
        Self::new(Arc::clone(service.engine()), service.settings)
    }
}
