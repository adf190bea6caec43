//! `/ui/alerts`: what is wrong and not resolved.

use std::borrow::Borrow;

use askama::Template;
use axum::extract::State;
use tierkeep_engine::{Alert, AlertKind};

use super::operator::Operator;
use super::page::{Frame, PageResult, Place, ok};
use super::words::{Words, number};
use crate::http::state::HttpState;

#[derive(Template)]
#[template(path = "ui/alerts.html")]
struct AlertsPage {
    frame: Frame,
    words: Words,
    alerts: Vec<Alert>,
}

/// The open alerts.
pub(super) async fn get(State(state): State<HttpState>, by: Operator) -> PageResult {
    let alerts = state.mover.service.open_alerts().await?;
    ok(&AlertsPage {
        frame: Frame::inside("Alerts", Some(Place::Alerts), &by),
        words: by.words,
        alerts,
    })
}

/// What an alert of this kind says, in words.
pub(super) fn title(kind: impl Borrow<AlertKind>) -> String {
    let mut words = kind.borrow().as_str().replace('_', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

/// The count of an alert; never below zero.
fn count(alert: &Alert) -> String {
    number(u64::try_from(alert.count).unwrap_or_default())
}
