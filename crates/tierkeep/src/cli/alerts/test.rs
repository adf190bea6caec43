//! `alerts test`: owns how the outcome is shown.

use std::sync::Arc;

use serde::Serialize;
use tierkeep_core::clock::Clock;

use super::super::Context;
use crate::alerts::{self, ChannelTest, channels};
use crate::config::AlertConfig;
use crate::exit::{Exit, UsageError};

#[derive(Serialize)]
struct Tested {
    channels: Vec<ChannelTest>,
}

/// Sends one message through each channel.
///
/// # Errors
/// Wrong configuration, or none for alerts.
pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let config = AlertConfig::of(&context.loaded)?;
    let clock: Arc<dyn Clock> = Arc::clone(&context.clock);
    let channels = channels(&config, &clock)?.all;
    if channels.is_empty() {
        return Err(UsageError {
            message: "no alert channel is configured".into(),
            remedy: Some("set TIERKEEP_ALERT_WEBHOOK_URL or TIERKEEP_ALERT_EMAIL".into()),
        }
        .into());
    }
    let tested = Tested {
        channels: alerts::test(&channels, clock.now()).await,
    };
    let exit = if tested.channels.iter().all(|outcome| outcome.delivered) {
        Exit::Done
    } else {
        Exit::Failed
    };
    context.output().result(&tested, text)?;
    Ok(exit)
}

fn text(tested: &Tested) -> String {
    let lines = tested.channels.iter().map(|outcome| match &outcome.error {
        None => format!("{}: delivered", outcome.channel),
        Some(error) => format!("{}: NOT delivered: {error}", outcome.channel),
    });
    lines.collect::<Vec<_>>().join("\n")
}
