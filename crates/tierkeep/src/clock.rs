//! The wall clock. Owns the one place that reads it.

use tierkeep_core::bson::DateTime;
use tierkeep_core::clock::Clock;

/// The time of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "all other code gets the time from here"
    )]
    fn now(&self) -> DateTime {
        let now = DateTime::now();
        #[cfg(feature = "crash-points")]
        let now = tierkeep_core::clock::shifted(now, crate::crash_points::clock_ahead_ms());
        now
    }
}
