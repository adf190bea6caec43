//! The HTTP server: owns the routers of each address and the layers around every route.
//!
//! Where to look: `connections` (accepting and ending them), `table` (which ones give way), `framing` (heads that are refused), `starting` (responses until the databases are open), `layers`
//! (around every request), `to_its_end` (requests whose callers are gone), `drain_body` (unread bodies).

mod connections;
mod drain_body;
mod framing;
mod heard;
mod layers;
mod starting;
mod table;
mod to_its_end;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::connections::{Connections, serve};
pub use self::starting::starting;
use crate::http::response::problem;
use crate::http::routes::{docs, probes, public};
use crate::http::state::HttpState;
use crate::http::{openapi, routes, ui};

/// The routes on two addresses.
#[derive(Clone, Debug)]
pub struct Routers {
    /// The routes of callers.
    pub public: Router,
    /// The routes of operators.
    pub ops: Router,
}

/// Every route on one address, inside the layers.
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

/// The routes, the document about them and the layers around them.
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

/// A router without routes, with the OpenAPI document.
fn described() -> OpenApiRouter<HttpState> {
    OpenApiRouter::with_openapi(openapi::document())
}

/// The routes of operators, with the dashboard.
fn ops() -> OpenApiRouter<HttpState> {
    routes::ops()
        .routes(routes!(ui::sign_in::get))
        .merge(ui::pages().into())
}
