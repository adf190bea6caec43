//! Versions: the fencing token of every write and every step of a move.

use std::fmt;

use serde::Serialize;

/// A document's `metadata.version`: `(epoch << 40) | counter`, at least 1, plus one on every content
/// change, never reused.
///
/// The epoch counts the erasures of the id, so one integer comparison fences everything older.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct Version(i64);

impl Version {
    /// The version of a user who was never stored before.
    pub const FIRST: Self = Self(1);
    /// The bits of the counter below the epoch.
    pub const COUNTER_BITS: u32 = 40;

    /// The version with this number; `None` below 1.
    pub fn new(number: i64) -> Option<Self> {
        (number >= 1).then_some(Self(number))
    }

    /// The number as it is stored.
    pub fn get(self) -> i64 {
        self.0
    }

    /// The version of the next content change; `None` when the numbers are used up.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// One above the highest of `seen`, else [`Version::FIRST`]; `None` when the numbers are used up.
    pub fn above(seen: impl IntoIterator<Item = Option<Self>>) -> Option<Self> {
        seen.into_iter()
            .flatten()
            .max()
            .map_or(Some(Self::FIRST), Self::next)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
