//! What is kept of a channel between its rounds: whose turn it is, and the messages under way.

use crate::alerts::AlertKind;
use crate::alerts::channel::About;
use crate::context::Engine;
use crate::databases::retry::repeating;
use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, doc};
use std::collections::BTreeMap;
use std::fmt::Debug;
use tierkeep_core::bson;
use tierkeep_core::db::collection;
use tierkeep_core::store::{Find, Query, StoreError};

pub(super) const KIND: &str = "alert_delivery";

/// A message under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) about: About,
    pub(super) at: DateTime,
    /// The receiver may have it: nothing may be added any more.
    pub(super) sealed: bool,
}

/// One channel's control document.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelState {
    pub(super) turn: i64,
    pub(super) busy_until: Option<DateTime>,
    pub(super) next_at: Option<DateTime>,
    pub(super) failures: u32,
    pub(super) messages: Vec<Message>,
    /// When messages about what were sent last.
    pub(super) told: BTreeMap<About, DateTime>,
}

impl Message {
    pub(super) fn write(&self) -> Bson {
        let (resolved, kind) = match self.about {
            About::Raised(kind) => (false, kind.as_str()),
            About::Resolved(kind) => (true, kind.as_str()),
        };
        Bson::Document(doc! {
            "id": &self.id,
            "kind": kind,
            "resolved": resolved,
            "at": self.at,
            "sealed": self.sealed,
        })
    }

    pub(super) fn read(message: &RawDocument) -> Option<Self> {
        let kind = AlertKind::parse(message.get_str("kind").ok()?)?;
        let about = if message.get_bool("resolved").ok()? {
            About::Resolved(kind)
        } else {
            About::Raised(kind)
        };
        Some(Self {
            id: message.get_str("id").ok()?.to_owned(),
            about,
            at: message.get_datetime("at").ok()?,
            sealed: message.get_bool("sealed").ok()?,
        })
    }
}

pub(super) async fn look(engine: &Engine, id: &str) -> Result<Option<ChannelState>, StoreError> {
    let audit = engine.databases.audit_db().store();
    let find = Find::new(Query::Ids(vec![Bson::String(id.to_owned())]));
    let found = repeating(|| audit.find(collection::CONTROL, &find)).await?;
    Ok(found.first().map(state))
}

pub(super) fn state(found: &RawDocumentBuf) -> ChannelState {
    let messages = found.get_array("messages").ok().map(|messages| {
        let each = messages.into_iter().filter_map(Result::ok);
        each.filter_map(|message| Message::read(message.as_document()?))
            .collect()
    });
    ChannelState {
        turn: found.get_i64("turn").unwrap_or_default(),
        busy_until: found.get_datetime("busy_until").ok(),
        next_at: found.get_datetime("next_at").ok(),
        failures: found
            .get_i32("failures")
            .ok()
            .and_then(|failures| u32::try_from(failures).ok())
            .unwrap_or_default(),
        messages: messages.unwrap_or_default(),
        told: told(found),
    }
}

fn told(found: &RawDocumentBuf) -> BTreeMap<About, DateTime> {
    let Ok(told) = found.get_document("told") else {
        return BTreeMap::new();
    };
    let each = told.iter().filter_map(Result::ok);
    each.filter_map(|(name, at)| Some((About::parse(name.as_str())?, at.as_datetime()?)))
        .collect()
}
