//! Retries of a document whose move fails for its own reasons.

use std::time::Duration;

use bson::{Bson, DateTime, Document, doc};

use super::record::{Status, record_field};
use crate::clock;

/// How often a move is repeated before it counts as failed (mission: "up to 3 times").
pub const RETRIES: i32 = 3;

/// The longest wait between two attempts.
const LONGEST: Duration = Duration::from_hours(1);

/// What a failed attempt leads to.
#[derive(Clone, PartialEq, Debug)]
pub struct Attempt {
    /// The retries are used up.
    pub gave_up: bool,
    /// The fields that the record takes on.
    pub set: Document,
}

/// What the record becomes after an attempt failed that was preceded by `retry_count` failed ones.
///
/// The wait is drawn from the upper half of `backoff · 2^retry_count`, capped at an hour; `jitter` is in
/// `[0, 1)`.
pub fn next_attempt(
    retry_count: i32,
    backoff: Duration,
    jitter: f64,
    error: &str,
    now: DateTime,
) -> Attempt {
    let gave_up = retry_count >= RETRIES;
    let wait = wait(retry_count, backoff, jitter);
    let mut set = doc! {
        record_field::MIGRATION_DATE: now,
        record_field::ERROR: error,
    };
    if gave_up {
        set.insert(record_field::STATUS, Status::Failed.as_str());
        set.insert(record_field::FINISHED_AT, now);
        set.insert(record_field::NEXT_ATTEMPT_AT, Bson::Null);
    } else {
        set.insert(record_field::RETRY_COUNT, retry_count + 1);
        set.insert(record_field::NEXT_ATTEMPT_AT, clock::after(now, wait));
    }
    Attempt { gave_up, set }
}

/// What the record becomes after a database refused its document for a reason that is not known to be the document's,
/// when `refusals` such refusals came before: the retries stay, and the next attempt waits as after that many failed
/// ones.
pub fn held_attempt(
    refusals: i32,
    backoff: Duration,
    jitter: f64,
    error: &str,
    now: DateTime,
) -> Document {
    doc! {
        record_field::MIGRATION_DATE: now,
        record_field::ERROR: error,
        record_field::REFUSALS: refusals.saturating_add(1),
        record_field::NEXT_ATTEMPT_AT: clock::after(now, wait(refusals, backoff, jitter)),
    }
}

/// The wait before the next attempt, after `failed` failed ones before the last.
fn wait(failed: i32, backoff: Duration, jitter: f64) -> Duration {
    let doublings = u32::try_from(failed.clamp(0, 16)).unwrap_or(0);
    let whole = backoff
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(LONGEST);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_retries_then_failed() {
        let now = DateTime::from_millis(1_000_000);
        let backoff = Duration::from_secs(30);
        let mut waits = Vec::new();
        for retries in 0..RETRIES {
            let attempt = next_attempt(retries, backoff, 0.999, "code 121", now);
            assert!(!attempt.gave_up);
            assert_eq!(
                attempt.set.get_i32(record_field::RETRY_COUNT).unwrap(),
                retries + 1
            );
            let at = attempt
                .set
                .get_datetime(record_field::NEXT_ATTEMPT_AT)
                .unwrap();
            waits.push(at.saturating_duration_since(now).as_millis());
        }
        assert_eq!(waits, [29_985, 59_970, 119_940]);
        let last = next_attempt(RETRIES, backoff, 0.5, "code 121", now);
        assert!(last.gave_up);
        assert_eq!(last.set.get_str(record_field::STATUS).unwrap(), "failed");
    }

    #[test]
    fn refusals_for_unknown_reasons_wait_longer_each_time_and_cost_no_retry() {
        let now = DateTime::from_millis(1_000_000);
        let backoff = Duration::from_secs(30);
        let waits: Vec<u128> = (0..9)
            .map(|refusals| {
                let set = held_attempt(refusals, backoff, 0.0, "code 999999", now);
                assert_eq!(set.get_i32(record_field::REFUSALS).unwrap(), refusals + 1);
                assert!(!set.contains_key(record_field::RETRY_COUNT));
                assert!(!set.contains_key(record_field::STATUS));
                let at = set.get_datetime(record_field::NEXT_ATTEMPT_AT).unwrap();
                at.saturating_duration_since(now).as_secs().into()
            })
            .collect();
        assert_eq!(waits, [15, 30, 60, 120, 240, 480, 960, 1_800, 1_800]);
    }

    #[test]
    fn waits_are_capped_and_never_overflow() {
        let now = DateTime::from_millis(0);
        let attempt = next_attempt(2, Duration::MAX, 1.0, "", now);
        let at = attempt
            .set
            .get_datetime(record_field::NEXT_ATTEMPT_AT)
            .unwrap();
        assert_eq!(at.timestamp_millis(), 3_600_000);
        let none = next_attempt(0, Duration::ZERO, 1.0, "", now);
        assert_eq!(
            none.set
                .get_datetime(record_field::NEXT_ATTEMPT_AT)
                .unwrap(),
            &now
        );
    }
}
