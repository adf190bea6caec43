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
pub use webhook::Webhook;

/// The channels that the settings name.
///
/// # Errors
/// A secret that can be neither read nor made, or a client that cannot be.
pub fn channels(
    config: &AlertConfig,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Arc<dyn Channel>>> {
    let mut channels: Vec<Arc<dyn Channel>> = Vec::new();
    if let Some(webhook) = &config.webhook {
        channels.push(Arc::new(Webhook::new(webhook, Arc::clone(clock))?));
    }
    if let Some(email) = &config.email {
        channels.push(Arc::new(Email::new(email)?));
    }
    Ok(channels)
}
