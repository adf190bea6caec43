//! What a batch asks for next, and what it is answered.

use super::item::Item;
use crate::adopt::Quarantine;
use crate::digest::Digest;
use crate::version::Version;
use bson::raw::RawDocumentBuf;
use std::borrow::Cow;

/// Which copy is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// `srie_main_user`, first.
    Backup,
    /// `raseen_main_user`, only what the backup has taken.
    Main,
}

/// Documents of a batch beside their copies, in one order.
#[derive(Clone, PartialEq, Debug)]
pub struct Copies<'a> {
    /// Which documents.
    pub items: Vec<&'a Item>,
    /// The copy of each; the batch's own where all of it is meant.
    pub documents: Cow<'a, [RawDocumentBuf]>,
}

/// What to do next. Each action may be repeated or abandoned at any point.
#[derive(Clone, PartialEq, Debug)]
pub enum Action<'a> {
    /// Look whether temp holds another document of the same user, whatever its `_id`.
    Claims(Vec<&'a Item>),
    /// Make sure that each has a pending record, or is named by the intent of the batch.
    Record(Vec<&'a Item>),
    /// Put each copy into the target, unless the same or a newer version is there.
    Copy(Target, Copies<'a>),
    /// Read the copies in srie and main back, as far as [`Verify`](super::Verify) asks.
    /// Beside each what was copied: equal bytes need no digest.
    ReadBack(Copies<'a>),
    /// Read what temp holds now.
    ReadTemp(Vec<&'a Item>),
    /// Look each up in the erasure ledger; where it was erased above its version, put the tombstones again.
    Erasures(Vec<&'a Item>),
    /// Delete each from temp at exactly its version.
    Delete(Vec<&'a Item>),
    /// Make sure that each has a completed record.
    Complete(Vec<&'a Item>),
    /// Nothing is left to do.
    Done,
}

/// What became of one copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Copied {
    /// The target holds this version or a newer one.
    Settled,
    /// The target refuses the document.
    Rejected(String),
    /// The target holds something that cannot be compared with the document.
    Contradicted(Quarantine),
    /// The target refuses the document with a code that says nothing about the document.
    Refused(String),
    /// The target could not say; the document waits for a later run.
    Unsettled,
}

/// What became of the announcement of one move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// It has a record, or the intent of the batch names it.
    Announced,
    /// It goes no further now, for this reason.
    Stays(Copied),
    /// Another run is moving it, and this batch leaves it alone.
    Elsewhere,
}

/// What a copy was found to be.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    /// Its version.
    pub version: Version,
    /// The digest of its content: computed, or claimed by the copy itself where
    /// [`Verify::Version`](super::Verify::Version) asks for no more.
    pub digest: Digest,
    /// Whether it claims this digest itself.
    pub is_as_claimed: bool,
}

/// What temp was found to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeenInTemp {
    /// Nothing, a tombstone, or an entry: the version is gone.
    Gone,
    /// What moves.
    Same,
    /// Another live document of the user.
    Other,
}

/// The answer to an action, item by item in the action's order.
#[derive(Clone, PartialEq, Debug)]
pub enum Observation {
    /// To [`Action::Claims`]: whether it is its user's only document.
    Claims(Vec<bool>),
    /// To [`Action::Record`].
    Recorded(Vec<Recorded>),
    /// To [`Action::Copy`].
    Copied(Vec<Copied>),
    /// To [`Action::ReadBack`]: (srie, main).
    ReadBack(Vec<(Option<Seen>, Option<Seen>)>),
    /// To [`Action::ReadTemp`].
    Temp(Vec<SeenInTemp>),
    /// To [`Action::Erasures`]: whether it was erased.
    Erasures(Vec<bool>),
    /// To [`Action::Delete`]: it was done, and what became of each is not known.
    Deleted,
    /// To [`Action::Delete`]: as many went as there were, so each did.
    DeletedAll,
    /// To [`Action::Complete`].
    Completed,
}

impl<'a> Copies<'a> {
    /// Each document beside its copy.
    pub fn iter(&self) -> impl Iterator<Item = (&'a Item, &RawDocumentBuf)> {
        self.items.iter().copied().zip(self.documents.iter())
    }
}
