//! Counts of what was played, so that a test can assert that its histories exercised something.

/// What was done and what there was no occasion for.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    pub done: u32,
    pub skipped: u32,
    pub stood_still: u32,
    pub acknowledged: u32,
    pub unknown: u32,
    pub moved: u64,
    pub erased: u32,
}

impl Tally {
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            done: self.done + other.done,
            skipped: self.skipped + other.skipped,
            stood_still: self.stood_still + other.stood_still,
            acknowledged: self.acknowledged + other.acknowledged,
            unknown: self.unknown + other.unknown,
            moved: self.moved + other.moved,
            erased: self.erased + other.erased,
        }
    }
}
