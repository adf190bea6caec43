//! The routes of the API: owns what each one does. One file for each route.
//!
//! Must never know how a connection is served or how a page of the dashboard looks.

pub(in crate::http) mod admin;
pub(in crate::http) mod docs;
mod error;
pub(in crate::http) mod health;
pub(in crate::http) mod hr;
pub(in crate::http) mod metrics;
mod route;
mod section;
mod section_content;
mod sending;
mod user;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::state::HttpState;

/// The routes of callers.
pub(in crate::http) fn public() -> OpenApiRouter<HttpState> {
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
        .routes(routes!(admin::mover::pause))
        .routes(routes!(admin::mover::resume))
        .routes(routes!(admin::verify::post))
        .routes(routes!(admin::restore::post))
        .routes(routes!(admin::backup::post))
        .routes(routes!(admin::audit::get))
        .routes(routes!(admin::alerts::get))
}

/// The probes of a supervisor or load balancer, on every address.
pub(in crate::http) fn probes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
}

/// The routes of operators; `TIERKEEP_OPS_LISTEN` moves them to an address of their own.
pub(in crate::http) fn ops() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(health::databases::all))
        .routes(routes!(health::databases::one))
        .routes(routes!(metrics::get))
}
