//! The time of the operating system. The engine reads no clock by itself, so that tests can move theirs.

use tierkeep_engine::core::bson::DateTime;
use tierkeep_engine::core::clock::Clock;

#[derive(Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "all other code gets the time from here"
    )]
    fn now(&self) -> DateTime {
        DateTime::now()
    }
}
