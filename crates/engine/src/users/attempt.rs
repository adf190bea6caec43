//! One write of a section and its attempts: which versions the next one names, and what may have become of lost ones.

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::user::{Section, UserId};
use tierkeep_core::version::{Version, Window};

use crate::users::{Condition, Receipt, UsersError};

/// How many lost answers a write bears.
const LOST_ANSWERS: u32 = 3;

/// One write of one section.
#[derive(Debug)]
pub(super) struct Write<'a> {
    pub(super) user: &'a UserId,
    pub(super) section: &'a Section,
    /// `None` removes the section.
    pub(super) value: Option<RawDocumentBuf>,
    pub(super) condition: Condition,
    /// The operation's id: however often it is sent, it is applied once.
    pub(super) op: String,
    /// The version at which the document was last seen where writes go.
    pub(super) seen: Option<Version>,
    /// How many attempts found a version other than the one they named.
    pub(super) races: u32,
    /// How many answers were lost.
    lost: u32,
    /// The lowest version that an attempt may have made whose answer was lost.
    perhaps_made: Option<Version>,
}

impl<'a> Write<'a> {
    pub(super) fn new(
        user: &'a UserId,
        section: &'a Section,
        value: Option<RawDocumentBuf>,
        condition: Condition,
        op: String,
    ) -> Self {
        Self {
            user,
            section,
            value,
            condition,
            op,
            seen: None,
            races: 0,
            lost: 0,
            perhaps_made: None,
        }
    }

    /// The versions at which the next attempt may find the document; `None` where none was seen yet.
    ///
    /// The first attempt names only the version last seen, so that one that was given up never takes effect over what
    /// another caller wrote later. Each lost race doubles the window, up to the ring of operations, so that many
    /// callers that write the same document at once all get through.
    pub(super) fn window(&self) -> Option<Window> {
        match self.condition {
            Condition::Version(version) => Some(Window::exactly(version)),
            Condition::None | Condition::Exists => {
                let width = 1 << self.races.min(usize::BITS - 1);
                self.seen.map(|seen| Window::from(seen, width))
            }
            Condition::Absent => None,
        }
    }

    /// Notes that the answer to an attempt was lost: it may have made any version of `window` yet. Answers whether too many
    /// were lost.
    pub(super) fn lose(&mut self, window: Window) -> bool {
        let made = window.lowest().next();
        self.perhaps_made = self.perhaps_made.map_or(made, |it| made.min(Some(it)));
        self.lost += 1;
        self.lost > LOST_ANSWERS
    }

    /// Refuses to continue where the operation may have been applied and `document` no longer remembers.
    pub(super) fn known_not_applied(
        &self,
        document: &RawDocument,
        database: Role,
    ) -> Result<(), UsersError> {
        match self.perhaps_made {
            Some(made) if !document::ops_reach(document, made) => {
                Err(UsersError::OutcomeUnknown(database))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What one round of a write came to.
pub(super) enum Round {
    Done(Receipt),
    /// A race was lost, or another writer is entering: look again.
    Again,
}
