//! `/ui/configuration`: the effective settings and where each came from. Secrets stay hidden.

use askama::Template;
use axum::extract::State;

use super::operator::Operator;
use super::page::{Frame, PageResult, Place, ok};
use crate::config::shown::ShownSetting as Setting;
use crate::http::state::HttpState;

#[derive(Template)]
#[template(path = "ui/configuration.html")]
struct Configuration<'a> {
    frame: Frame,
    settings: &'a [Setting],
}

/// The settings.
pub(super) async fn get(State(state): State<HttpState>, by: Operator) -> PageResult {
    ok(&Configuration {
        frame: Frame::inside("Configuration", Some(Place::Configuration), &by),
        settings: &state.settings,
    })
}
