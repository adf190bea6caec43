//! How large batches are and how soon the next one begins: never more than the rate and the memory allow, and
//! smaller, with pauses in between, while a database is slow.
//!
//! Owns these numbers and nothing else: it decides when and how much, never what moves or whether a step is safe.
//! All functions take the time as a parameter.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::mover::MoverSettings;

/// A batch that takes longer is too large for the databases as they are, or they are behind: beside three others on
/// two busy cores a full one takes a second, and a tenth of that speed is no reason to rest yet.
const SLOW: Duration = Duration::from_secs(15);
/// A batch that takes no longer shows that a larger one would not be slow either.
const QUICK: Duration = Duration::from_secs(5);
/// The longest rest after one batch.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// The most documents of a batch, whatever the settings allow: its intent is one document that names them all.
const MOST_DOCUMENTS: usize = 16_000;
/// How often the size is halved at most.
const HALVINGS: u32 = 10;

/// The throttle of one service: what an earlier run learned holds for the next one.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Batches are one 2^halvings-th of what the settings allow.
    halvings: u32,
    /// No batch begins earlier, for the sake of the rate or of a database that is behind.
    opens_at: Option<Instant>,
}

/// The most that the next batch may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size {
    pub(crate) documents: usize,
    pub(crate) bytes: usize,
}

/// A batch that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    at: Instant,
    halvings: u32,
}

impl Throttle {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next batch may hold: what the settings allow, or a part of it after slow ones; at a rate of n a
    /// second never more than n documents, so that the rate holds from the first second on.
    pub(crate) fn size(&self, settings: &MoverSettings) -> Size {
        let halvings = self.state().halvings;
        let most = settings.max_rate.map_or(usize::MAX, |rate| {
            usize::try_from(rate.get()).unwrap_or(usize::MAX)
        });
        Size {
            documents: (settings.batch_documents >> halvings)
                .min(most)
                .clamp(1, MOST_DOCUMENTS),
            bytes: (settings.batch_bytes >> halvings).max(1),
        }
    }

    /// Whether one more batch fits beside those at work: by their number, and by the bytes that as many full
    /// batches would have. One always fits alone, whatever its size.
    pub(crate) fn has_room(
        settings: &MoverSettings,
        size: Size,
        batches: usize,
        bytes: usize,
    ) -> bool {
        let most = settings.batches_in_flight.max(1);
        let most_bytes = most.saturating_mul(settings.batch_bytes);
        batches == 0 || (batches < most && bytes.saturating_add(size.bytes) <= most_bytes)
    }

    /// When the next batch may begin; `None` for at once.
    pub(crate) fn opens_at(&self, now: Instant) -> Option<Instant> {
        self.state().opens_at.filter(|at| *at > now)
    }

    /// Notes that a batch of this many documents begins: at a rate of n a second the next one may follow once these
    /// have had their time.
    pub(crate) fn begin(&self, settings: &MoverSettings, documents: usize, now: Instant) -> Begun {
        let mut state = self.state();
        if let Some(rate) = settings.max_rate {
            let documents = u32::try_from(documents).unwrap_or(u32::MAX);
            let from = state.opens_at.map_or(now, |at| at.max(now));
            let until = from.checked_add(Duration::from_secs(1) * documents / rate.get());
            state.opens_at = until.or(state.opens_at);
        }
        Begun {
            at: now,
            halvings: state.halvings,
        }
    }

    /// A batch was done. After a slow one batches are half as large, and none begins for as long as it took too
    /// long; after a quick one they are twice as large again, up to what the settings allow. After any of them it
    /// pauses as the settings say.
    pub(crate) fn done(&self, settings: &MoverSettings, begun: Begun, now: Instant) {
        let took = now.saturating_duration_since(begun.at);
        let rest = took.saturating_mul(settings.pause_factor);
        let rest = rest.max(took.saturating_sub(SLOW)).min(LONGEST_REST);
        let mut state = self.state();
        state.opens_at = state.opens_at.max(now.checked_add(rest));
        drop(state);
        if took > SLOW {
            self.stopped(begun);
        } else if took <= QUICK {
            let mut state = self.state();
            // Several were begun at once: together they say it once.
            if state.halvings == begun.halvings {
                state.halvings = state.halvings.saturating_sub(1);
            }
        }
    }

    /// A batch was not done because a database did not do its part: the next ones ask less of it.
    pub(crate) fn stopped(&self, begun: Begun) {
        let mut state = self.state();
        if state.halvings == begun.halvings {
            state.halvings = (state.halvings + 1).min(HALVINGS);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings() -> MoverSettings {
        MoverSettings {
            batch_documents: 1_000,
            batch_bytes: 4_000,
            batches_in_flight: 4,
            ..MoverSettings::default()
        }
    }

    fn documents(throttle: &Throttle) -> usize {
        throttle.size(&settings()).documents
    }

    #[test]
    fn slow_batches_halve_the_size_once_and_quick_ones_bring_it_back() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let two = [(); 2].map(|()| throttle.begin(&settings(), 1_000, start));
        for one in two {
            throttle.done(&settings(), one, start + 17 * SECOND);
        }
        assert_eq!(documents(&throttle), 500);
        assert_eq!(throttle.size(&settings()).bytes, 2_000);
        for expected in [250, 125] {
            let slow = throttle.begin(&settings(), 500, start);
            throttle.done(&settings(), slow, start + 17 * SECOND);
            assert_eq!(documents(&throttle), expected);
        }
        for expected in [125, 250, 500, 1_000, 1_000] {
            let took = if expected == 125 {
                8 * SECOND
            } else {
                5 * SECOND
            };
            let one = throttle.begin(&settings(), 1, start);
            throttle.done(&settings(), one, start + took);
            assert_eq!(documents(&throttle), expected);
        }
    }

    #[test]
    fn the_intent_of_the_largest_batch_is_far_below_the_size_of_a_document() {
        let many = MoverSettings {
            batch_documents: usize::MAX,
            ..settings()
        };
        assert_eq!(Throttle::default().size(&many).documents, MOST_DOCUMENTS);
        // A name, a version, a size and an id, with the names of their fields.
        const { assert!(MOST_DOCUMENTS * 200 < tierkeep_core::document::MAX_DOCUMENT_BYTES / 4) };
    }

    #[test]
    fn batches_that_a_database_stops_shrink_to_one_document_and_no_further() {
        let throttle = Throttle::default();
        for _ in 0..30 {
            let one = throttle.begin(&settings(), 1, Instant::now());
            throttle.stopped(one);
        }
        let least = Size {
            documents: 1,
            bytes: 3,
        };
        assert_eq!(throttle.size(&settings()), least);
    }

    #[test]
    fn after_a_slow_batch_none_begins_for_as_long_as_it_took_too_long() {
        for (took, rest) in [(4, 0), (15, 0), (18, 3), (3_600, 10)] {
            let (throttle, start) = (Throttle::default(), Instant::now());
            let one = throttle.begin(&settings(), 1_000, start);
            let end = start + took * SECOND;
            throttle.done(&settings(), one, end);
            let opens = throttle.opens_at(end).map(|at| at - end);
            assert_eq!(opens.unwrap_or_default(), rest * SECOND, "{took}");
            assert_eq!(throttle.opens_at(end + rest * SECOND), None);
        }
    }

    #[test]
    fn at_a_rate_each_batch_waits_until_those_before_have_had_their_time() {
        let limited = MoverSettings {
            max_rate: NonZeroU32::new(100),
            ..settings()
        };
        let (throttle, start) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.size(&limited).documents, 100);
        assert_eq!(throttle.opens_at(start), None);
        throttle.begin(&limited, 100, start);
        assert_eq!(throttle.opens_at(start), Some(start + SECOND));
        throttle.begin(&limited, 50, start + SECOND);
        let half = SECOND / 2;
        assert_eq!(
            throttle.opens_at(start + SECOND),
            Some(start + SECOND + half)
        );
        // What was not used in a quiet minute is not made up for.
        let later = start + 60 * SECOND;
        throttle.begin(&limited, 100, later);
        assert_eq!(throttle.opens_at(later), Some(later + SECOND));
    }

    #[test]
    fn beside_others_it_rests_for_as_long_as_they_were_kept_waiting_and_longer() {
        let gentle = MoverSettings {
            pause_factor: 2,
            ..settings()
        };
        for (took_ms, rest_ms) in [(0, 0), (40, 80), (3_000, 6_000), (16_000, 10_000)] {
            let (throttle, start) = (Throttle::default(), Instant::now());
            let one = throttle.begin(&gentle, 100, start);
            let end = start + Duration::from_millis(took_ms);
            throttle.done(&gentle, one, end);
            let rest = throttle.opens_at(end).map(|at| at - end);
            let expected = Duration::from_millis(rest_ms);
            assert_eq!(rest.unwrap_or_default(), expected, "{took_ms}");
        }
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        throttle.begin(&settings(), 1_000_000, now);
        assert_eq!(throttle.opens_at(now), None);
    }

    #[test]
    fn batches_at_work_hold_no_more_bytes_than_as_many_full_ones() {
        let settings = settings();
        let size = Throttle::default().size(&settings);
        let room = |batches, bytes| Throttle::has_room(&settings, size, batches, bytes);
        assert!(room(0, 0));
        assert!(room(3, 12_000));
        assert!(!room(3, 12_001));
        assert!(!room(4, 4));
        // A document larger than all of them together moves alone.
        assert!(!room(1, 16_000_000));
        assert!(room(0, usize::MAX));
    }
}
