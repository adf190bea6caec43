//! Telling people of alerts: owns the ways out of the process, the signed webhook and the mail.
//!
//! What is told, when and how often is the engine's. Must never follow a redirect, say more than an alert holds, or
//! let an address or a secret into an error.

mod email;
mod webhook;

use std::sync::Arc;

use tierkeep_core::clock::Clock;
use tierkeep_engine::Channel;

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
