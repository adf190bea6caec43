//! What the routes share: owns [`HttpState`] and the parts of it that exist for HTTP alone.
//!
//! Must never hold anything that belongs to one request.
//!
//! Where to look: `probe` (the state of the databases), `mover` (runs that administrators began), `sessions` (sessions
//! of the dashboard).

pub(in crate::http) mod mover;
pub(in crate::http) mod probe;
pub(in crate::http) mod sessions;

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use tierkeep_core::user::Section;
use tierkeep_engine::{AuditTrail, Bindings, Channel, ErasureService, HrRecords, Users};
use tierkeep_identity::UserTypeDetector;

use self::mover::Mover;
use self::probe::HealthSource;
use self::sessions::Sessions;
use crate::config::shown::ShownSetting;
use crate::http::limits::Limits;
use crate::http::limits::memory::BodyMemory;
use crate::http::limits::traffic::Traffic;
use crate::metrics::Metrics;

/// Everything that the routes use. Clones share it: axum makes several for each request.
#[derive(Clone, Debug)]
pub struct HttpState(Arc<Shared>);

impl From<Shared> for HttpState {
    fn from(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl Deref for HttpState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What an [`HttpState`] shares.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Users' documents.
    pub users: Users,
    /// HR records.
    pub hr: HrRecords,
    /// Erases users.
    pub erasures: ErasureService,
    /// Identifies callers.
    pub detector: Arc<UserTypeDetector>,
    /// The GitHub accounts that internal users are bound to.
    pub bindings: Bindings,
    /// The sections that exist, in the order of messages.
    pub sections: Arc<[Section]>,
    /// The limits of size and time.
    pub limits: Limits,
    /// The memory of bodies.
    pub memory: BodyMemory,
    /// Rate limits and the concurrency limit.
    pub traffic: Traffic,
    /// The health of the service.
    pub health: HealthSource,
    /// The audit trail.
    pub audit: AuditTrail,
    /// The movement, for administrators.
    pub mover: Mover,
    /// The counters of the service.
    pub metrics: Metrics,
    /// The sessions of the dashboard.
    pub sessions: Sessions,
    /// Where files with the copies of a conflict go; none where the service has no directory of its own.
    pub copies_dir: Option<PathBuf>,
    /// The ways in which alerts are delivered, for a test message.
    pub channels: Arc<[Arc<dyn Channel>]>,
    /// The effective settings, for the dashboard.
    pub settings: Arc<[ShownSetting]>,
}
