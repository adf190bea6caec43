//! Time as a parameter. Owns the [`Clock`] trait; the only implementation that reads the wall clock
//! is the binary's.

use std::fmt::Debug;

use bson::DateTime;

/// Tells the time in UTC, to the millisecond.
///
/// A clock decides when work is looked at, never whether a step is safe: guards are versions.
pub trait Clock: Send + Sync + Debug {
    /// The current time.
    fn now(&self) -> DateTime;
}

/// `at` moved by `by` milliseconds, held within what a date can express.
pub fn shifted(at: DateTime, by_ms: i64) -> DateTime {
    DateTime::from_millis(at.timestamp_millis().saturating_add(by_ms))
}

/// `at` minus `by`, held within what a date can express.
pub fn before(at: DateTime, by: std::time::Duration) -> DateTime {
    shifted(at, -millis(by))
}

/// `at` plus `by`, held within what a date can express.
pub fn after(at: DateTime, by: std::time::Duration) -> DateTime {
    shifted(at, millis(by))
}

fn millis(by: std::time::Duration) -> i64 {
    i64::try_from(by.as_millis()).unwrap_or(i64::MAX)
}
