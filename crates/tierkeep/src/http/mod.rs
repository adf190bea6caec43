//! HTTP: owns the way from a request to the engine and back, and what answers look like.
//!
//! Must never know a backend, decide who is asking or where a document goes (that is
//! `tierkeep_core`'s), or let a token, a query or a body reach a log.
//!
//! Where to look: one route per file (`user`, `section`, `route`, `health`, `openapi`, `docs`); `caller` (who is
//! asking), `traffic` and `turns` (how much), `conditions` (ETags), `body` (what came along), `problem` (every refusal),
//! `ui` (the dashboard), `layers` (what surrounds every request), `serve` (connections), `starting` (before the databases are open).

mod admin;
mod answer;
mod body;
mod caller;
mod conditions;
mod docs;
mod health;
mod hr;
mod layers;
mod linger;
mod metrics;
mod openapi;
mod problem;
mod route;
mod section;
mod serve;
mod starting;
mod traffic;
mod turns;
mod ui;
mod user;
mod visit;
mod weight;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tierkeep_core::user::{Section, UserType};
use tierkeep_engine::{AuditTrail, Bindings, ErasureService, HrRecords, Users};
use tierkeep_identity::UserTypeDetector;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::shown::Shown;
use crate::metrics::Metrics;

pub use admin::Mover;
pub use health::{HealthSource, Phase};
pub use problem::{Code, Problem};
pub use serve::{Connections, serve};
pub use starting::starting;
pub use traffic::{Steady, Traffic, TrafficSettings, steady};
pub use ui::Sessions;

/// Everything that the routes stand on. Clones share it.
#[derive(Clone, Debug)]
pub struct HttpState {
    /// Users' documents.
    pub users: Users,
    /// HR records.
    pub hr: HrRecords,
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
    /// What the service counts.
    pub metrics: Metrics,
    /// Who is signed in to the dashboard.
    pub sessions: Sessions,
    /// The effective settings, for the dashboard.
    pub settings: Arc<[Shown]>,
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

/// The routes on two addresses.
#[derive(Clone, Debug)]
pub struct Routers {
    /// What callers need.
    pub public: Router,
    /// What operators look at.
    pub ops: Router,
}

/// Every route on one address, with all that surrounds it.
pub fn router(state: HttpState) -> Router {
    let routes = described().merge(public()).merge(probes()).merge(ops());
    finished(routes, state)
}

/// Callers' routes on one address, those of operators on another.
pub fn routers(state: HttpState) -> Routers {
    let public = described().merge(public()).merge(probes());
    let ops = described().merge(probes()).merge(ops());
    Routers {
        public: finished(public, state.clone()),
        ops: finished(ops, state),
    }
}

/// The routes with the document about them and all that surrounds them.
fn finished(routes: OpenApiRouter<HttpState>, state: HttpState) -> Router {
    let (routes, mut api) = routes.split_for_parts();
    openapi::expect(&mut api, &state.metrics);
    let (limits, metrics) = (state.limits, state.metrics.clone());
    let routes = routes
        .merge(openapi::router(api, &state.sections))
        .merge(docs::router())
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::unknown_method)
        .with_state(state);
    layers::around(routes, limits, metrics)
}

/// No route yet, and what the document says beyond them.
fn described() -> OpenApiRouter<HttpState> {
    OpenApiRouter::with_openapi(openapi::document())
}

/// What callers need.
fn public() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(user::get, user::delete))
        .routes(routes!(
            section::get,
            section::put,
            section::patch,
            section::delete
        ))
        .routes(routes!(route::get))
        .routes(routes!(hr::list::get))
        .routes(routes!(
            hr::record::get,
            hr::record::put,
            hr::record::patch,
            hr::record::delete
        ))
        .routes(routes!(admin::overview::get))
        .routes(routes!(admin::user::get))
        .routes(routes!(admin::migrations::get))
        .routes(routes!(admin::run::post))
        .routes(routes!(admin::retry::post))
        .routes(routes!(admin::pause::post))
        .routes(routes!(admin::resume::post))
        .routes(routes!(admin::verify::post))
        .routes(routes!(admin::restore::post))
        .routes(routes!(admin::audit::get))
        .routes(routes!(admin::alerts::get))
}

/// What whoever runs the process asks, on every address.
fn probes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
}

/// What operators look at; `TIERKEEP_OPS_LISTEN` moves it to an address of its own.
fn ops() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(health::databases::all))
        .routes(routes!(health::databases::one))
        .routes(routes!(metrics::get))
        .routes(routes!(ui::sign_in::get))
        .merge(ui::pages().into())
}
