//! What the routes share: owns [`HttpState`] and the parts of it that exist for HTTP alone.
//!
//! Must never hold anything that belongs to one request.
//!
//! Where to look: `probe` (the state of the databases), `mover` (runs that administrators began), `sessions` (sessions
//! of the dashboard).

pub(in crate::http) mod mover;
pub(in crate::http) mod probe;
pub(in crate::http) mod sessions;

use std::sync::Arc;

use tierkeep_core::user::Section;
use tierkeep_engine::{AuditTrail, Bindings, ErasureService, HrRecords, Users};
use tierkeep_identity::UserTypeDetector;

use self::mover::Mover;
use self::probe::HealthSource;
use self::sessions::Sessions;
use crate::config::shown::Shown;
use crate::http::limits::Limits;
use crate::http::limits::traffic::Traffic;
use crate::metrics::Metrics;

/// Everything that the routes stand on. Clones share it.
#[derive(Clone, Debug)]
pub struct HttpState {
    /// Users' documents.
    pub users: Users,
    /// HR records.
    pub hr: HrRecords,
    /// Erasing them.
    pub erasures: ErasureService,
    /// Who is caller.
    pub detector: Arc<UserTypeDetector>,
    /// Which GitHub account internal users came with before.
    pub bindings: Bindings,
    /// The sections that exist, in the order in which they are named to callers.
    pub sections: Arc<[Section]>,
    /// How much is taken, and how long is waited for it.
    pub limits: Limits,
    /// How much callers may ask.
    pub traffic: Traffic,
    /// Whether the service is fit to serve.
    pub health: HealthSource,
    /// Proof of what is decided and done.
    pub audit: AuditTrail,
    /// The movement, for administrators.
    pub mover: Mover,
    /// What the service counts.
    pub metrics: Metrics,
    /// Who is signed in to the dashboard.
    pub sessions: Sessions,
    /// The effective settings, for the dashboard.
    pub settings: Arc<[Shown]>,
}
