//! What a way to tell people is, and what it is given to send.

use crate::alerts::channel_state::KIND;
use crate::alerts::{Alert, AlertKind};
use async_trait::async_trait;
use bson::doc;
use std::fmt::Debug;
use tierkeep_core::bson;

/// The channels through which alerts are delivered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChannelKind {
    /// A signed POST.
    Webhook,
    /// A mail.
    Email,
}

/// What a message is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum About {
    /// These alerts were raised.
    Raised(AlertKind),
    /// The cause of these alerts is gone.
    Resolved(AlertKind),
}

impl About {
    /// Its name in what is stored and hashed.
    pub(super) fn name(self) -> String {
        match self {
            Self::Raised(kind) => format!("raised/{}", kind.as_str()),
            Self::Resolved(kind) => format!("resolved/{}", kind.as_str()),
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let (state, kind) = name.split_once('/')?;
        let kind = AlertKind::parse(kind)?;
        match state {
            "raised" => Some(Self::Raised(kind)),
            "resolved" => Some(Self::Resolved(kind)),
            _ => None,
        }
    }
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Names the message; the same at every attempt to send it.
    pub id: String,
    /// When it was made, RFC 3339.
    pub at: String,
    /// What it is about; `None` in a message that only tests whether messages arrive.
    pub about: Option<About>,
    /// How many alerts there are.
    pub total: u64,
    /// The first [`SHOWN`] of them.
    pub alerts: Vec<Alert>,
}

/// Why a message was not delivered, as far as is known.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Undelivered {
    /// What went wrong, without a secret or an address.
    pub reason: String,
    /// Whether the receiver may have it nevertheless.
    pub may_have_arrived: bool,
}

impl ChannelKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Webhook, Self::Email];

    /// Its name, for people and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Email => "email",
        }
    }

    /// The field of an alert that says whether it was sent through this channel.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Webhook => "webhook_notice",
            Self::Email => "email_notice",
        }
    }

    pub(super) fn control(self) -> String {
        format!("{KIND}/{}", self.as_str())
    }
}

/// A channel through which alerts are delivered.
#[async_trait]
pub trait Channel: Send + Sync + Debug {
    /// Which one.
    fn kind(&self) -> ChannelKind;

    /// Sends the message once.
    ///
    /// Dropping the future may leave the message delivered, as does an error that says so.
    async fn send(&self, notice: &Notice) -> Result<(), Undelivered>;
}
