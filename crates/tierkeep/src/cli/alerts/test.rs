//! `alerts test`: owns how the outcome is told.

use std::sync::Arc;

use serde::Serialize;
use tierkeep_core::clock::Clock;
use tierkeep_core::content::rfc3339;
use tierkeep_engine::Notice;

use super::super::Context;
use crate::alerts::channels;
use crate::config::AlertConfig;
use crate::exit::{Exit, UsageError};

#[derive(Serialize)]
struct Tested {
    channels: Vec<ChannelTest>,
}

#[derive(Serialize)]
struct ChannelTest {
    channel: &'static str,
    delivered: bool,
    error: Option<String>,
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
            message: "no channel for alerts is configured".into(),
            remedy: Some("set TIERKEEP_ALERT_WEBHOOK_URL or TIERKEEP_ALERT_EMAIL".into()),
        }
        .into());
    }
    let mut tested = Tested {
        channels: Vec::new(),
    };
    for channel in channels {
        let notice = Notice {
            id: format!("msg_test_{:016x}", rand::random::<u64>()),
            at: rfc3339(clock.now()),
            about: None,
            total: 0,
            alerts: Vec::new(),
        };
        let error = channel.send(&notice).await.err();
        tested.channels.push(ChannelTest {
            channel: channel.kind().as_str(),
            delivered: error.is_none(),
            error: error.map(|error| error.to_string()),
        });
    }
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
