//! The dashboard: `/` and the pages under `/ui/`, for people. One page per file; the templates are in
//! `templates/ui`.
//!
//! Must never show the content of a document or a token (a quarantined document may be downloaded), load anything from elsewhere, change anything on a GET, or
//! do what `/v1/admin` does a second way. Every page works without JavaScript; the only script loads the page again.
//!
//! Where to look: `sign_in` and `session` (who is in), `operator` (what every page and form behind that needs),
//! `page` (what surrounds every page), `safety` (the verdict).

mod actions;
mod alerts;
mod asset;
mod audit;
mod backup;
mod chart;
mod configuration;
mod databases;
mod form;
mod migrations;
mod operator;
mod overview;
mod page;
mod quarantine;
mod safety;
pub(super) mod sign_in;
mod users;
mod words;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};

pub(super) use page::{is_page, shown_as_page};

use crate::http::response::problem::Problem;
use crate::http::state::HttpState;

/// The pages behind the sign-in form. They are no part of the API, and its document does not describe them.
pub(super) fn pages() -> Router<HttpState> {
    let pages = Router::new()
        .route("/ui", get(async || Redirect::permanent("/ui/")))
        .route("/ui/", get(overview::get))
        .route("/ui/style.css", get(asset::style))
        .route("/ui/live.js", get(asset::script))
        .route("/ui/icon.svg", get(asset::icon))
        .route(
            "/ui/sign-in",
            post(sign_in::post).get(async || Redirect::to("/")),
        )
        .route("/ui/sign-out", post(sign_in::out))
        .route("/ui/users", get(users::find))
        .route("/ui/users/{user}", get(users::get))
        .route("/ui/migrations", get(migrations::get))
        .route("/ui/backup", get(backup::get))
        .route("/ui/databases", get(databases::get))
        .route("/ui/alerts", get(alerts::get))
        .route("/ui/audit", get(audit::get))
        .route("/ui/configuration", get(configuration::get))
        .route(
            "/ui/actions/{action}",
            get(actions::ask).post(actions::post),
        )
        .route("/ui/{*other}", get(elsewhere));
    pages.layer(DefaultBodyLimit::max(form::MOST_BYTES))
}

async fn elsewhere(_by: operator::Operator) -> Response {
    page::Refused::Problem(Problem::UnknownPath).into_response()
}
