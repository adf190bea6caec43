//! HTTP: owns the way from a request to the engine and back, and what answers look like.
//!
//! Must never know a backend, decide who is asking or where a document goes (that is
//! `tierkeep_core`'s), or let a token, a query or a body reach a log.
//!
//! Where to look: one route per file (`user`, `section`, `route`, `health`, `openapi`); `caller` (who is
//! asking), `traffic` (how much), `conditions` (ETags), `body` (what came along), `problem` (every refusal),
//! `layers` (what surrounds every request), `serve` (connections), `starting` (before the databases are open).

mod admin;
mod answer;
mod body;
mod caller;
mod conditions;
mod health;
mod layers;
mod linger;
mod openapi;
mod problem;
mod route;
mod section;
mod serve;
mod starting;
mod traffic;
mod user;
mod visit;
mod weight;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tierkeep_core::user::{Section, UserType};
use tierkeep_engine::{AuditTrail, Bindings, ErasureService, Users};
use tierkeep_identity::UserTypeDetector;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use admin::Mover;
pub use health::{HealthSource, Phase};
pub use problem::{Code, Problem};
pub use serve::serve;
pub use starting::starting;
pub use traffic::{Steady, Traffic, TrafficSettings, steady};

/// Everything that the routes stand on. Clones share it.
#[derive(Clone, Debug)]
pub struct HttpState {
    /// Users' documents.
    pub users: Users,
    /// Erasing them.
    pub erasures: ErasureService,
    /// Who is asking.
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
}

/// How much is taken, and how long is waited for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The largest body of an internal user, in bytes.
    pub max_body_internal_bytes: usize,
    /// The largest body of an external user, in bytes.
    pub max_body_external_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long a request may take altogether; longer than `body_timeout`.
    pub request_timeout: Duration,
}

impl Default for Limits {
    /// 8 MiB internal, 1 MiB external, 30 seconds for a body, 60 for a request.
    fn default() -> Self {
        Self {
            max_body_internal_bytes: 8 << 20,
            max_body_external_bytes: 1 << 20,
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_mins(1),
        }
    }
}

impl Limits {
    /// The largest body from this type of user, in bytes.
    pub fn max_body_bytes(&self, user_type: UserType) -> usize {
        match user_type {
            UserType::Internal => self.max_body_internal_bytes,
            UserType::External => self.max_body_external_bytes,
        }
    }
}

/// Every route, with all that surrounds it.
pub fn router(state: HttpState) -> Router {
    let (routes, api) = routes().split_for_parts();
    let limits = state.limits;
    let routes = routes
        .merge(openapi::router(api))
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::unknown_method)
        .with_state(state);
    layers::around(routes, limits)
}

/// The routes that the OpenAPI document describes.
fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::with_openapi(openapi::document())
        .routes(routes!(user::get, user::delete))
        .routes(routes!(
            section::get,
            section::put,
            section::patch,
            section::delete
        ))
        .routes(routes!(route::get))
        .routes(routes!(admin::overview::get))
        .routes(routes!(admin::user::get))
        .routes(routes!(admin::migrations::get))
        .routes(routes!(admin::run::post))
        .routes(routes!(admin::retry::post))
        .routes(routes!(admin::pause::post))
        .routes(routes!(admin::resume::post))
        .routes(routes!(admin::audit::get))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
}
