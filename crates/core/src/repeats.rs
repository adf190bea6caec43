//! Log lines about a state that repeats: owns which of them are written.
//!
//! Must never grow with what callers send: the states are those of the program, not texts of callers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bson::DateTime;

/// For how long a line speaks for those like it.
const MILLIS: i64 = 60_000;

/// Which lines about a state are written: the first one, and then one a minute with the number of those in between.
#[derive(Debug)]
pub struct Repeats<K>(Mutex<BTreeMap<K, Said>>);

#[derive(Clone, Copy, Debug)]
struct Said {
    at: DateTime,
    kept_back: u64,
}

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord> Repeats<K> {
    /// Whether a line about this state is to be written now; then how many like it were not, since the last one that was.
    pub fn due(&self, state: K, now: DateTime) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = said.get_mut(&state) else {
            said.insert(
                state,
                Said {
                    at: now,
                    kept_back: 0,
                },
            );
            return Some(0);
        };
        let elapsed = now
            .timestamp_millis()
            .saturating_sub(before.at.timestamp_millis());
        // A clock that went back must not silence a line for longer.
        if (0..MILLIS).contains(&elapsed) {
            before.kept_back += 1;
            return None;
        }
        let kept_back = before.kept_back;
        *before = Said {
            at: now,
            kept_back: 0,
        };
        Some(kept_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_told_at_once_and_then_once_a_minute_with_its_count() {
        let repeats = Repeats::default();
        let at = DateTime::from_millis;
        assert_eq!(repeats.due("away", at(0)), Some(0));
        for n in 1..1_000 {
            assert_eq!(repeats.due("away", at(n)), None);
        }
        assert_eq!(repeats.due("full", at(1_000)), Some(0));
        assert_eq!(repeats.due("away", at(59_999)), None);
        assert_eq!(repeats.due("away", at(60_000)), Some(1_000));
        assert_eq!(repeats.due("away", at(60_001)), None);
        assert_eq!(repeats.due("away", at(0)), Some(1));
    }
}
