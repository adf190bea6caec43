//! Telling people of alerts: the first of a kind at once, then at most every five minutes, one message for each kind,
//! through each channel.
//!
//! Each alert says for each channel whether its present state was sent: not at all, in the message of this id, or yes.
//! The channel's control document names the messages that are under way, who is at it and when it is time again. Both
//! are written before anything is sent, so a process that ends in between leaves to the next one what to send, under
//! the id it had: a receiver that knows the id has it already. Several processes take turns.
//!
//! Must never lose a state because a receiver was away, or say more of an alert than is stored.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, Document, doc};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::collection;
use tierkeep_core::document;
use tierkeep_core::repeats::Repeats;
use tierkeep_core::store::{Find, Query, StoreError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::alerts::channel::{About, Channel, Notice, Undelivered};
use crate::alerts::channel_state::{ChannelState, KIND, Message, look};
use crate::alerts::telling_held::Told;
use crate::alerts::{AlertKind, TOLD_AT, read};
use crate::context::Engine;
use crate::databases::lease::{Lease, stands};
use crate::databases::pages::Pages;
use crate::databases::retry::repeating;

/// An alert whose current state has not been delivered.
pub(super) const UNTOLD: &str = "untold";
/// How often messages about one kind are sent.
pub(super) const EVERY: Duration = Duration::from_mins(5);
/// How often is looked whether it is time.
const LOOKED_EVERY: Duration = Duration::from_secs(5);
/// The wait after a first failure; doubles, up to [`EVERY`].
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(10);
/// The field that counts the claims of a channel.
const CLAIMS: &str = "turn";
/// How long a turn is valid without a renewal by its holder; longer than a message may take.
const CLAIM_LASTS: Duration = Duration::from_secs(40);
/// How long sending one message may take.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// How many alerts a message shows; it says how many there are.
pub const SHOWN: usize = 50;
/// Alerts resolved longer ago than this are no longer delivered: a new channel does not begin with history.
const STALE: Duration = Duration::from_hours(24 * 7);

/// What came of a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Round {
    /// It is not time yet, or another process holds the channel's lease.
    Waits,
    /// This many messages were delivered, and none is left to deliver.
    Told(usize),
    /// A message could not be delivered; it is tried again.
    Failed,
}

/// When a look is allowed to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// When it is time.
    Due,
    /// Now, unless another process holds the channel's lease.
    Now,
}

/// Tells people of alerts.
#[derive(Clone, Debug)]
pub struct AlertDelivery {
    engine: Arc<Engine>,
    channels: Vec<Arc<dyn Channel>>,
}

/// A turn at a channel's state.
struct ClaimedChannel<'a> {
    engine: &'a Engine,
    channel: &'a dyn Channel,
    number: i64,
    messages: Vec<Message>,
    when: When,
    /// When messages about what were sent last.
    told: BTreeMap<About, DateTime>,
}

impl AlertDelivery {
    /// Delivery through these channels.
    pub fn new(engine: Arc<Engine>, channels: Vec<Arc<dyn Channel>>) -> Self {
        Self { engine, channels }
    }

    /// Delivers until `stop` is cancelled; what could not be delivered is left to a later process. The first look
    /// does not wait: a service is often started because something was fixed.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.deliver_stored(&stop), self.deliver_held(&stop));
    }

    async fn deliver_held(&self, stop: &CancellationToken) {
        let mut told = Told::default();
        while stop
            .run_until_cancelled(self.look_at_held(&mut told))
            .await
            .is_some()
        {
            tokio::select! {
                () = tokio::time::sleep(LOOKED_EVERY) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(super) fn channels(&self) -> &[Arc<dyn Channel>] {
        &self.channels
    }

    async fn deliver_stored(&self, stop: &CancellationToken) {
        let mut when = When::Now;
        let waits = Repeats::default();
        while !stop.is_cancelled() {
            for channel in &self.channels {
                let round = stop.run_until_cancelled(self.round(channel.as_ref(), when));
                let now = self.engine.clock().now();
                if let Some(Err(error)) = round.await
                    && let Some(more) = waits.due(error.database, now)
                {
                    warn!(
                        user_type = "internal",
                        database = %error.database,
                        error = error.class.as_str(),
                        more,
                        "stored alerts are not delivered while the database is unavailable",
                    );
                }
            }
            when = When::Due;
            tokio::select! {
                () = tokio::time::sleep(LOOKED_EVERY) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    /// Delivers through this channel what has not been delivered yet.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer; what was sent may be sent again, under the same id.
    pub async fn round(&self, channel: &dyn Channel, when: When) -> Result<Round, StoreError> {
        let Some((mut claimed, failures)) = self.run_with_lease(channel, when).await? else {
            return Ok(Round::Waits);
        };
        let mut told = 0;
        let outcome = claimed.tell(&mut told).await;
        let (round, wait, failures) = match &outcome {
            Ok(Ok(())) => (Round::Told(told), Duration::ZERO, 0),
            Ok(Err(undelivered)) => {
                let failures = failures.saturating_add(1);
                let wait = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(8));
                warn!(
                    channel = channel.kind().as_str(),
                    error = %undelivered,
                    failures,
                    "alerts could not be delivered and will be retried",
                );
                (Round::Failed, wait.min(EVERY), failures)
            }
            Err(_) => (Round::Failed, FIRST_WAIT, failures),
        };
        let now = claimed.now().await?;
        let set = doc! {
            "busy_until": Bson::Null,
            "next_at": clock::after(now, wait),
            "failures": i32::try_from(failures).unwrap_or(i32::MAX),
            "told": claimed.told.iter().map(|(about, at)| (about.name(), Bson::DateTime(*at))).collect::<Document>(),
        };
        claimed.note(set).await?;
        outcome?.ok();
        if told > 0 {
            info!(
                channel = channel.kind().as_str(),
                messages = told,
                "alerts were delivered"
            );
        }
        Ok(round)
    }

    async fn run_with_lease<'a>(
        &'a self,
        channel: &'a dyn Channel,
        when: When,
    ) -> Result<Option<(ClaimedChannel<'a>, u32)>, StoreError> {
        let audit = self.engine.databases.audit_db().store();
        let id = channel.kind().control();
        let lease = Lease::new(audit.as_ref(), &id, CLAIMS);
        let state = if let Some(state) = look(&self.engine, &id).await? {
            state
        } else {
            lease.begin(doc! { "kind": KIND, "turn": 0_i64 }).await?;
            ChannelState::default()
        };
        let now = repeating(|| audit.hello()).await?.now;
        let early = when == When::Due && stands(state.next_at, now, EVERY);
        if early || stands(state.busy_until, now, CLAIM_LASTS) {
            return Ok(None);
        }
        if when == When::Due && !self.has_something(channel, &state, now).await? {
            return Ok(None);
        }
        let claimed = state.turn.saturating_add(1);
        let set = doc! { CLAIMS: claimed, "busy_until": clock::after(now, CLAIM_LASTS) };
        let taken = lease.set(state.turn, &set).await?;
        let claimed = ClaimedChannel {
            engine: &self.engine,
            channel,
            number: claimed,
            messages: state.messages,
            when,
            told: state.told,
        };
        Ok(taken.then_some((claimed, state.failures)))
    }

    /// Whether a message is under way, or an alert is unsent of a kind of which nothing was sent recently.
    async fn has_something(
        &self,
        channel: &dyn Channel,
        state: &ChannelState,
        now: DateTime,
    ) -> Result<bool, StoreError> {
        if !state.messages.is_empty() {
            return Ok(true);
        }
        let audit = self.engine.databases.audit_db().store();
        let untold = Find::new(Query::Equal(doc! { channel.kind().field(): UNTOLD }));
        let mut pages = Pages::new(audit.as_ref(), collection::ALERTS, untold);
        let stale = clock::before(now, STALE);
        while let Some(page) = pages.next().await? {
            let mut groups = page.iter().map(|alert| group_of(alert, stale));
            if groups.any(|group| group.is_none_or(|about| is_time(&state.told, about, now))) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl ClaimedChannel<'_> {
    async fn now(&self) -> Result<DateTime, StoreError> {
        let audit = self.engine.databases.audit_db().store();
        Ok(repeating(|| audit.hello()).await?.now)
    }

    /// Sets these fields of the state, unless another process has claimed the channel since; answers whether they were
    /// set.
    async fn note(&self, set: Document) -> Result<bool, StoreError> {
        let audit = self.engine.databases.audit_db().store();
        let id = self.channel.kind().control();
        let lease = Lease::new(audit.as_ref(), &id, CLAIMS);
        lease.set(self.number, &set).await
    }

    async fn note_messages(&self) -> Result<bool, StoreError> {
        let messages: Vec<Bson> = self.messages.iter().map(Message::write).collect();
        let busy_until = clock::after(self.now().await?, CLAIM_LASTS);
        self.note(doc! { "messages": messages, "busy_until": busy_until })
            .await
    }

    /// Gathers what has not been delivered into messages, and sends all pending messages.
    async fn tell(&mut self, told: &mut usize) -> Result<Result<(), Undelivered>, StoreError> {
        self.gather().await?;
        while let Some(message) = self.messages.first().cloned() {
            let notice = self.notice(&message).await?;
            if notice.total > 0 {
                // A crash from here on leaves a message that is sent again as it is.
                self.seal(&message.id, true);
                if !self.note_messages().await? {
                    return Ok(Ok(()));
                }
                if let Err(undelivered) = self.send(&notice).await {
                    if !undelivered.may_have_arrived {
                        self.seal(&message.id, false);
                        self.note_messages().await?;
                    }
                    return Ok(Err(undelivered));
                }
                *told += 1;
                self.told.insert(message.about, self.now().await?);
                self.mark(&message.id).await?;
            }
            self.messages.remove(0);
            if !self.note_messages().await? {
                return Ok(Ok(()));
            }
        }
        Ok(Ok(()))
    }

    async fn send(&self, notice: &Notice) -> Result<(), Undelivered> {
        let sending = tokio::time::timeout(SEND_TIMEOUT, self.channel.send(notice));
        sending.await.unwrap_or_else(|_| {
            Err(Undelivered {
                reason: "timeout".into(),
                may_have_arrived: true,
            })
        })
    }

    fn seal(&mut self, id: &str, sealed: bool) {
        for message in self.messages.iter_mut().filter(|message| message.id == id) {
            message.sealed = sealed;
        }
    }

    /// Puts every undelivered alert into the message of its kind, and creates messages where there are
    /// none that can take it in. The state names a message before an alert does.
    async fn gather(&mut self) -> Result<(), StoreError> {
        let audit = self.engine.databases.audit_db().store();
        let field = self.channel.kind().field();
        let now = self.now().await?;
        let stale = clock::before(now, STALE);
        let untold = Find::new(Query::Equal(doc! { field: UNTOLD }));
        let mut pages = Pages::new(audit.as_ref(), collection::ALERTS, untold);
        while let Some(page) = pages.next().await? {
            let mut groups: BTreeMap<Option<About>, Vec<&RawDocumentBuf>> = BTreeMap::new();
            for alert in &page {
                groups
                    .entry(group_of(alert, stale))
                    .or_default()
                    .push(alert);
            }
            for (about, alerts) in groups {
                if self.when == When::Due
                    && about.is_some_and(|about| !is_time(&self.told, about, now))
                {
                    continue;
                }
                let ids: Vec<Bson> = alerts.iter().map(|alert| document::id(alert)).collect();
                let first = alerts
                    .first()
                    .and_then(|alert| alert.get_str("subject").ok());
                let told = match about {
                    Some(about) => match self
                        .message_of(about, first.unwrap_or_default(), now)
                        .await?
                    {
                        Some(id) => Bson::String(id),
                        None => return Ok(()),
                    },
                    None => Bson::Null,
                };
                let untold = doc! { field: UNTOLD };
                let set = doc! { field: told };
                repeating(|| audit.amend(collection::ALERTS, &ids, &untold, &set)).await?;
            }
        }
        Ok(())
    }

    /// The id of the message that takes such alerts in; `None` when the turn is over. One that the receiver may have
    /// takes nothing in.
    async fn message_of(
        &mut self,
        about: About,
        subject: &str,
        now: DateTime,
    ) -> Result<Option<String>, StoreError> {
        let mut same = self
            .messages
            .iter()
            .filter(|message| message.about == about);
        if let Some(message) = same.find(|message| !message.sealed) {
            return Ok(Some(message.id.clone()));
        }
        let deployment = self.engine.databases.deployment();
        let mut id = notice_id(deployment, about, subject, now);
        // Raised, resolved and raised again within one slot: a receiver that knows the id would drop the second.
        let is_under_way = self.messages.iter().any(|message| message.id == id);
        let told = self.told.get(&about).copied();
        if is_under_way || told.is_some_and(|told| slot(told) == slot(now)) {
            id = format!("{id}_{}", self.engine.randomness().id());
        }
        self.messages.push(Message {
            id: id.clone(),
            about,
            at: now,
            sealed: false,
        });
        Ok(self.note_messages().await?.then_some(id))
    }

    async fn notice(&self, message: &Message) -> Result<Notice, StoreError> {
        let audit = self.engine.databases.audit_db().store();
        let of_message = Query::Equal(doc! { self.channel.kind().field(): &message.id });
        let total = repeating(|| audit.count(collection::ALERTS, &of_message)).await?;
        let find = Find::new(of_message).limit(SHOWN);
        let alerts = repeating(|| audit.find(collection::ALERTS, &find)).await?;
        Ok(Notice {
            id: message.id.clone(),
            at: rfc3339(message.at),
            about: Some(message.about),
            total,
            alerts: alerts.iter().filter_map(|alert| read(alert)).collect(),
        })
    }

    /// Records in the alerts of a message that they were sent. Those that have changed since are sent again.
    async fn mark(&self, message: &str) -> Result<(), StoreError> {
        let audit = self.engine.databases.audit_db().store();
        let field = self.channel.kind().field();
        let of_message = doc! { field: message };
        let now = self.now().await?;
        loop {
            let find = Find::new(Query::Equal(of_message.clone())).keys();
            let page = repeating(|| audit.find(collection::ALERTS, &find)).await?;
            if page.is_empty() {
                return Ok(());
            }
            let ids: Vec<Bson> = page.iter().map(|alert| document::id(alert)).collect();
            let told = doc! { field: Bson::Null, TOLD_AT: now };
            repeating(|| audit.amend(collection::ALERTS, &ids, &of_message, &told)).await?;
        }
    }
}

/// Whether messages about this may be sent: none was lately.
fn is_time(told: &BTreeMap<About, DateTime>, about: About, now: DateTime) -> bool {
    told.get(&about)
        .is_none_or(|at| now.saturating_duration_since(*at) >= EVERY)
}

/// Which five minutes a moment is in.
fn slot(at: DateTime) -> i64 {
    at.timestamp_millis() / i64::try_from(EVERY.as_millis()).unwrap_or(i64::MAX)
}

/// The id of a message: the same for every process that tells the same within five minutes, so that a receiver knows it.
pub(super) fn notice_id(
    deployment: Option<&str>,
    about: About,
    subject: &str,
    now: DateTime,
) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [deployment.unwrap_or_default(), &about.name(), subject] {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    hasher.update(&slot(now).to_le_bytes());
    let id: String = hasher.finalize().to_hex().chars().take(32).collect();
    format!("msg_{id}")
}

/// The message that an alert belongs to; `None` where it need not be delivered.
fn group_of(alert: &RawDocument, stale: DateTime) -> Option<About> {
    let kind = AlertKind::parse(alert.get_str("kind").ok()?)?;
    match alert.get_datetime("resolved_at") {
        Ok(resolved) if resolved <= stale => None,
        Ok(_) => Some(About::Resolved(kind)),
        Err(_) => Some(About::Raised(kind)),
    }
}
