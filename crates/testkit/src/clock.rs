//! A clock that moves only when a test moves it. Never reads the machine's time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bson::DateTime;
use tierkeep_core::clock::{self, Clock};

/// A [`Clock`] that changes only when it is set or advanced.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: DateTime) -> Self {
        Self(AtomicI64::new(now.timestamp_millis()))
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, now: DateTime) {
        self.0.store(now.timestamp_millis(), Ordering::SeqCst);
    }

    /// Moves the clock forwards; answers the new time.
    pub fn advance(&self, by: Duration) -> DateTime {
        let now = clock::after(self.now(), by);
        self.set(now);
        now
    }
}

impl Default for ManualClock {
    /// Starts at 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::new(DateTime::from_millis(1_767_225_600_000))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime {
        DateTime::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_only_when_it_is_moved() {
        let clock = ManualClock::default();
        let start = clock.now();
        assert_eq!(
            start.try_to_rfc3339_string().unwrap(),
            "2026-01-01T00:00:00Z"
        );
        assert_eq!(clock.now(), start);
        let later = clock.advance(Duration::from_millis(1_500));
        assert_eq!(clock.now(), later);
        assert_eq!(later.timestamp_millis() - start.timestamp_millis(), 1_500);
        clock.set(start);
        assert_eq!(clock.now(), start);
    }
}
