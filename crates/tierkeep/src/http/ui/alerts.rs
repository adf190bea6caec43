//! `/ui/alerts`: what is wrong and not resolved.

use std::borrow::Borrow;

use askama::Template;
use axum::extract::State;
use tierkeep_engine::{Alert, AlertKind, ChannelKind, ChannelView};

use super::operator::Operator;
use super::page::{Frame, PageResult, Place, ok};
use super::words::{Words, number};
use crate::alerts::runbook;
use crate::http::state::HttpState;

#[derive(Template)]
#[template(path = "ui/alerts.html")]
struct AlertsPage {
    frame: Frame,
    words: Words,
    /// None while the audit database is away.
    stored: Option<Vec<Alert>>,
    in_memory: Vec<Alert>,
    channels: Vec<ChannelRow>,
}

/// A channel through which alerts are delivered.
struct ChannelRow {
    kind: ChannelKind,
    setting: &'static str,
    is_configured: bool,
    /// None where it is not known, or was never tried.
    view: Option<ChannelView>,
}

/// The open alerts, and the channels.
pub(super) async fn get(State(state): State<HttpState>, by: Operator) -> PageResult {
    let alerts = state.mover.service.alerts();
    let mut channels = Vec::new();
    for kind in ChannelKind::ALL {
        let setting = setting(kind);
        let given = state.settings.iter().find(|it| it.name == setting);
        channels.push(ChannelRow {
            kind,
            setting,
            is_configured: given.is_some_and(|it| it.value.is_some()),
            view: alerts.channel(kind).await.ok().flatten(),
        });
    }
    let mut stored = state.mover.service.open_alerts().await.ok();
    if let Some(stored) = &mut stored {
        stored.sort_by(|one, other| other.last_at.cmp(&one.last_at));
    }
    ok(&AlertsPage {
        frame: Frame::inside("Alerts", Some(Place::Alerts), &by),
        words: by.words,
        stored,
        in_memory: alerts.in_memory(),
        channels,
    })
}

/// The setting that configures a channel.
fn setting(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Webhook => "TIERKEEP_ALERT_WEBHOOK_URL",
        ChannelKind::Email => "TIERKEEP_ALERT_EMAIL",
    }
}

/// What an alert of this kind says, in words.
pub(super) fn title(kind: impl Borrow<AlertKind>) -> String {
    let mut words = kind.borrow().as_str().replace('_', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

/// Where the page is that tells what to do.
fn what_to_do(kind: impl Borrow<AlertKind>) -> String {
    runbook(*kind.borrow())
}

/// The count of an alert; never below zero.
fn count(alert: &Alert) -> String {
    number(u64::try_from(alert.count).unwrap_or_default())
}
