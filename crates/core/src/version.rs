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

    /// The number of the last erasure of an id. Its tombstones have the highest version of all, so the id stays closed.
    pub const LAST_ERASURE: i64 = 1 << (63 - Self::COUNTER_BITS);

    /// The version of the tombstones of this erasure of an id, counted from 1; `None` beyond the last. Everything of
    /// earlier lives is below it, everything of later ones above; nothing is above that of the last.
    pub fn of_erasure(epoch: i64) -> Option<Self> {
        if epoch == Self::LAST_ERASURE {
            return Some(Self(i64::MAX));
        }
        let number = epoch.checked_mul(1 << Self::COUNTER_BITS)?;
        Self::new(number)
    }

    /// How often the id had been erased when this version was made.
    pub fn epoch(self) -> i64 {
        if self.0 == i64::MAX {
            Self::LAST_ERASURE
        } else {
            self.0 >> Self::COUNTER_BITS
        }
    }

    /// The tombstone under the life that this version belongs to; `None` in the first one.
    pub fn life_began_above(self) -> Option<Self> {
        Self::of_erasure(self.epoch())
    }

    /// One above the highest of `seen`, else [`Version::FIRST`]; `None` when the numbers are used up.
    pub fn above(seen: impl IntoIterator<Item = Option<Self>>) -> Option<Self> {
        seen.into_iter()
            .flatten()
            .max()
            .map_or(Some(Self::FIRST), Self::next)
    }
}

/// The versions at which a write may find its document, both ends included.
///
/// No write is sent without one, because a call that the network or the server holds may arrive long after it was given
/// up. The window is never wider than the ring of operations: inside it the ring refuses a second application, and
/// outside it the version does. A new life lies in another epoch, so no window reaches into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    from: Version,
    to: Version,
}

impl Window {
    /// Exactly this version.
    pub fn exactly(version: Version) -> Self {
        Self {
            from: version,
            to: version,
        }
    }

    /// How many versions a window holds at most: as many as a document remembers operations.
    pub const WIDEST: usize = 8;

    /// `width` versions from `from`, at most [`Window::WIDEST`] and at least one.
    pub fn from(from: Version, width: usize) -> Self {
        let beyond = width.clamp(1, Self::WIDEST) - 1;
        let beyond = i64::try_from(beyond).unwrap_or(0);
        Self {
            from,
            to: Version(from.0.saturating_add(beyond)),
        }
    }

    /// From `from` to `to`, however wide: for tests that show what the width is good for.
    pub fn between(from: Version, to: Version) -> Self {
        Self { from, to }
    }

    /// The lowest version.
    pub fn lowest(self) -> Version {
        self.from
    }

    /// The highest version.
    pub fn highest(self) -> Version {
        self.to
    }

    /// Whether `version` lies in the window.
    pub fn contains(self, version: Version) -> bool {
        self.from <= version && version <= self.to
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_erasure_lies_between_two_lives() {
        let last = Version::new((1 << 40) - 1).unwrap();
        let tombstone = Version::of_erasure(1).unwrap();
        let first = Version::above([Some(tombstone)]).unwrap();
        assert!(last < tombstone && tombstone < first);
        assert_eq!([last, tombstone, first].map(Version::epoch), [0, 1, 1]);
        assert_eq!(last.life_began_above(), None);
        assert_eq!(first.life_began_above(), Some(tombstone));
    }

    #[test]
    fn erasures_end_with_the_numbers() {
        assert_eq!(Version::of_erasure(0), None);
        assert!(Version::of_erasure((1 << 23) - 1).is_some());
        let closed = Version::of_erasure(Version::LAST_ERASURE).unwrap();
        assert_eq!((closed.get(), closed.epoch()), (i64::MAX, 1 << 23));
        assert_eq!(Version::above([Some(closed)]), None);
        assert_eq!(Version::of_erasure(Version::LAST_ERASURE + 1), None);
        assert_eq!(Version::of_erasure(i64::MAX), None);
    }

    #[test]
    fn a_window_is_no_wider_than_the_ring_of_operations() {
        let version = |number| Version::new(number).unwrap();
        let window = Window::from(version(5), 100);
        assert_eq!(
            (window.lowest(), window.highest()),
            (version(5), version(12))
        );
        assert!(window.contains(version(12)) && !window.contains(version(13)));
        assert_eq!(Window::from(version(5), 0), Window::exactly(version(5)));
        let last = version(i64::MAX);
        assert_eq!(Window::from(last, 8), Window::exactly(last));
    }
}
