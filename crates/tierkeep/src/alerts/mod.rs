//! Telling people of alerts: owns the ways out of the process, the signed webhook and the mail.
//!
//! What is sent, when and how often is decided by the engine. Must never follow a redirect, say more than an alert
//! holds, or let an address or a secret into an error.

mod email;
mod webhook;

use std::sync::Arc;

use futures_util::future::join_all;
use serde::Serialize;
use tierkeep_core::bson::DateTime;
use tierkeep_core::clock::Clock;
use tierkeep_core::content::rfc3339;
use tierkeep_engine::{AlertKind, Channel, Notice};

use crate::config::AlertConfig;

pub use email::Email;
pub use webhook::{Webhook, WebhookKey};

/// The ways out of the process.
#[derive(Debug, Default)]
pub struct Channels {
    /// Each channel.
    pub all: Vec<Arc<dyn Channel>>,
    /// What signs the webhook's messages, where there is one.
    pub webhook_key: Option<WebhookKey>,
}

/// The channels that the settings name.
///
/// # Errors
/// A secret that can be neither read nor made, or a client that cannot be.
pub fn channels(config: &AlertConfig, clock: &Arc<dyn Clock>) -> anyhow::Result<Channels> {
    let mut channels = Channels::default();
    if let Some(webhook) = &config.webhook {
        let webhook = Webhook::new(webhook, Arc::clone(clock))?;
        channels.webhook_key = Some(webhook.key());
        channels.all.push(Arc::new(webhook));
    }
    if let Some(email) = &config.email {
        channels.all.push(Arc::new(Email::new(email)?));
    }
    Ok(channels)
}

/// Where the page is that tells an operator what to do about alerts of this kind.
pub fn runbook(kind: AlertKind) -> String {
    let repository = env!("CARGO_PKG_REPOSITORY");
    format!("{repository}/blob/main/docs/alerts/{}.md", kind.as_str())
}

/// What came of a test message through one channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ChannelTest {
    /// The channel.
    pub channel: &'static str,
    /// Whether the receiver acknowledged the message.
    pub delivered: bool,
    /// Why it did not, without a secret or an address.
    pub error: Option<String>,
}

/// Sends one message without alerts through each channel, all at once.
pub async fn test(channels: &[Arc<dyn Channel>], now: DateTime) -> Vec<ChannelTest> {
    let tests = channels.iter().map(|channel| async move {
        let notice = Notice {
            id: format!("msg_test_{:016x}", rand::random::<u64>()),
            at: rfc3339(now),
            about: None,
            total: 0,
            alerts: Vec::new(),
        };
        let error = channel.send(&notice).await.err();
        ChannelTest {
            channel: channel.kind().as_str(),
            delivered: error.is_none(),
            error: error.map(|error| error.to_string()),
        }
    });
    join_all(tests).await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_kind_of_alert_has_a_runbook() {
        for kind in AlertKind::ALL {
            let url = runbook(kind);
            let (repository, page) = url.split_once("/blob/main/").unwrap();
            assert!(repository.starts_with("https://"), "{url}");
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            assert!(root.join(page).is_file(), "{url}");
        }
    }
}
