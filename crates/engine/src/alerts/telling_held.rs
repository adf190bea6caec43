//! Telling people of alerts that are in memory, and storing them once `evaluation_audit` is back.

use std::collections::BTreeMap;

use tierkeep_core::content::rfc3339;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::alerts::channel::{About, Channel, ChannelKind, Notice};
use crate::alerts::delivery::{AlertDelivery, EVERY, FIRST_WAIT, SEND_TIMEOUT, SHOWN, notice_id};
use crate::alerts::{Alert, AlertKind, Alerts, STORED_WITHIN};
use crate::held_alerts::Held;

/// How many alerts of a kind have a message each: other processes tell the same under the same ids.
const SINGLE: usize = 8;

/// When which alerts were sent, through which channel.
#[derive(Debug, Default)]
pub(super) struct Told {
    last: BTreeMap<(ChannelKind, About), Instant>,
    /// When the next attempt is, and how many have failed.
    waits: BTreeMap<ChannelKind, (Instant, u32)>,
}

impl AlertDelivery {
    /// Stores what is in memory, or tells people of it while that cannot be done.
    pub(super) async fn look_at_held(&self, told: &mut Told) {
        if self.engine().held_alerts().all().is_empty() || self.store_held().await {
            return;
        }
        for channel in self.channels() {
            self.tell_held(channel.as_ref(), told).await;
        }
    }

    /// Whether all are stored.
    async fn store_held(&self) -> bool {
        let alerts = Alerts::new(self.engine().clone());
        for held in self.engine().held_alerts().all() {
            match timeout(STORED_WITHIN, alerts.store(&held)).await {
                Ok(Ok(())) => self.engine().held_alerts().stored(&held),
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        true
    }

    async fn tell_held(&self, channel: &dyn Channel, told: &mut Told) {
        let kind = channel.kind();
        let begun = Instant::now();
        if told
            .waits
            .get(&kind)
            .is_some_and(|(until, _)| *until > begun)
        {
            return;
        }
        let mut groups: BTreeMap<About, Vec<Held>> = BTreeMap::new();
        for held in self.engine().held_alerts().all() {
            let Some(about) = about(&held) else {
                continue;
            };
            let lately = told.last.get(&(kind, about));
            if !held.told.contains(&kind.field()) && lately.is_none_or(|at| *at + EVERY <= begun) {
                groups.entry(about).or_default().push(held);
            }
        }
        for (about, group) in groups {
            let at_once = if group.len() > SINGLE { group.len() } else { 1 };
            for held in group.chunks(at_once) {
                if !self.send_held(channel, about, held).await {
                    let failures = told.waits.get(&kind).map_or(1, |(_, before)| before + 1);
                    let wait = FIRST_WAIT.saturating_mul(1 << (failures - 1).min(8));
                    told.waits
                        .insert(kind, (Instant::now() + wait.min(EVERY), failures));
                    return;
                }
                told.last.insert((kind, about), begun);
            }
        }
        told.waits.remove(&kind);
    }

    /// Sends one message; whether it arrived.
    async fn send_held(&self, channel: &dyn Channel, about: About, held: &[Held]) -> bool {
        let Some(first) = held.first() else {
            return true;
        };
        let now = self.engine().clock().now();
        let deployment = self.engine().databases().deployment();
        let notice = Notice {
            id: notice_id(deployment, about, &first.subject, now),
            at: rfc3339(now),
            about: Some(about),
            total: u64::try_from(held.len()).unwrap_or(u64::MAX),
            alerts: held.iter().take(SHOWN).filter_map(shown).collect(),
        };
        match timeout(SEND_TIMEOUT, channel.send(&notice)).await {
            Ok(Ok(())) => {
                for held in held {
                    self.engine()
                        .held_alerts()
                        .told(held, channel.kind().field());
                }
                let channel = channel.kind().as_str();
                info!(channel, "an alert in memory was delivered");
                true
            }
            failed => {
                let reason = failed.map_or_else(
                    |_| "timeout".to_owned(),
                    |it| it.err().map_or_else(String::new, |it| it.to_string()),
                );
                warn!(
                    channel = channel.kind().as_str(),
                    error = reason,
                    "an alert in memory could not be delivered and will be retried",
                );
                false
            }
        }
    }
}

/// What a message about its present state says.
fn about(held: &Held) -> Option<About> {
    let kind = AlertKind::parse(held.kind)?;
    Some(if held.resolved_at.is_some() {
        About::Resolved(kind)
    } else {
        About::Raised(kind)
    })
}

pub(super) fn shown(held: &Held) -> Option<Alert> {
    Some(Alert {
        kind: AlertKind::parse(held.kind)?,
        subject: held.subject.clone(),
        first_at: rfc3339(held.first_at),
        last_at: rfc3339(held.last_at),
        count: held.count,
        resolved_at: held.resolved_at.map(rfc3339),
        message: held.message.clone(),
    })
}
