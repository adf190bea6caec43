//! What anonymous callers cause, counted: owns which of their decisions become an entry of their own.
//!
//! A caller without credentials can ask as often as the limits allow, and an entry is kept until it is pruned. So the first
//! decision of each kind, address and minute is written, and those like it are counted: the next entry of that kind and address
//! carries the number, or an entry of its own does once the address is silent. Beyond [`MOST_ENTRIES`] in a minute all others
//! are one entry. Memory is bounded by the same numbers. What was counted and not written yet is lost in a crash.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bson::DateTime;
use tierkeep_core::bson;

/// The most entries about anonymous callers in a minute, besides one for all that are beyond.
const MOST_ENTRIES: u32 = 1_000;
/// How many kinds are distinguished of one address and minute; more are counted together.
const MOST_KINDS: u32 = 8;
/// How many public names of one address are written one by one in a minute, and of all addresses together.
const MOST_NAMES: u32 = 60;
const MOST_NAMES_OF_ALL: u32 = 120;
/// The most counts that are kept while [`Counted::take`] is not called.
const MOST_COUNTS: usize = 4 * MOST_ENTRIES as usize;
const MINUTE_MS: i64 = 60_000;
/// What is said of names beyond those.
pub(super) const MORE_NAMES: Kind = Kind {
    decision: "external",
    reason: "decisions about public users, too many to be recorded individually",
    actor: None,
};
/// What is said where no kinds are distinguished.
const ANY_KIND: Kind = Kind {
    decision: "refused",
    reason: "refused for several reasons",
    actor: None,
};

/// The decision, its reason, and the user that the JWT named.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Kind {
    pub(super) decision: &'static str,
    pub(super) reason: &'static str,
    pub(super) actor: Option<String>,
}

/// What becomes of a decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// It is written, with the number of those like it that were counted since the last one.
    Entry {
        /// Those that were counted.
        more: u64,
    },
    /// It was counted.
    Count,
}

/// A count that has to be written down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Due {
    /// The address; none where it stands for many.
    pub(super) from: Option<IpAddr>,
    pub(super) kind: Kind,
    pub(super) more: u64,
}

/// Which counts are due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    /// Those of addresses that were silent for a whole minute, and of all beyond the limit in a minute that has ended.
    Ended,
    /// All.
    All,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    minute: i64,
    /// Entries of this minute.
    written: u32,
    /// Kinds that each address has in this minute.
    kinds: HashMap<IpAddr, u32>,
    counts: HashMap<(IpAddr, Kind), Count>,
    /// What is beyond [`MOST_ENTRIES`], and since which minute.
    others: Count,
    names: HashMap<IpAddr, u32>,
    names_of_all: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// The last minute in which an entry was written, or one was counted.
    minute: i64,
    /// Whether that minute has its entry.
    has_entry: bool,
    more: u64,
}

impl Counted {
    /// Decides whether a decision becomes an entry or is counted.
    pub(super) fn place(&self, from: IpAddr, kind: &Kind, now: DateTime) -> Place {
        let mut table = self.at(now);
        let minute = table.minute;
        let key = (from, kind.clone());
        if let Some(count) = table.counts.get_mut(&key)
            && count.minute == minute
            && count.has_entry
        {
            count.more += 1;
            return Place::Count;
        }
        let told_apart = table.kinds.get(&from).copied().unwrap_or(0) < MOST_KINDS;
        if !told_apart {
            table.count((from, ANY_KIND));
            return Place::Count;
        }
        if table.written >= MOST_ENTRIES {
            table.others.minute = minute;
            table.others.more += 1;
            return Place::Count;
        }
        table.written += 1;
        *table.kinds.entry(from).or_default() += 1;
        let count = table.counts.entry(key).or_default();
        let more = mem::take(&mut count.more);
        count.minute = minute;
        count.has_entry = true;
        Place::Entry { more }
    }

    /// Whether one more name of this address may be written by itself; counts it where not.
    pub(super) fn has_room_for_name(&self, from: IpAddr, now: DateTime) -> bool {
        let mut table = self.at(now);
        let of_address = table.names.get(&from).copied().unwrap_or(0);
        let fits = of_address < MOST_NAMES && table.names_of_all < MOST_NAMES_OF_ALL;
        if !fits {
            table.count((from, MORE_NAMES));
        }
        fits
    }

    /// A name of this address is written by itself.
    pub(super) fn wrote_name(&self, from: IpAddr, now: DateTime) {
        let mut table = self.at(now);
        table.names_of_all += 1;
        *table.names.entry(from).or_default() += 1;
    }

    /// Counts again what could not be written.
    pub(super) fn put_back(&self, from: Option<IpAddr>, kind: Kind, more: u64, now: DateTime) {
        let mut table = self.at(now);
        match from {
            Some(from) => table.counts.entry((from, kind)).or_default().more += more,
            None => table.others.more += more,
        }
    }

    /// Takes the counts that are due.
    pub(super) fn take(&self, which: Which, now: DateTime) -> Vec<Due> {
        let mut table = self.at(now);
        let minute = table.minute;
        let is_due = |count: &Count, silent: i64| match which {
            Which::Ended => count.minute + silent < minute,
            Which::All => true,
        };
        let ended: Vec<((IpAddr, Kind), u64)> = table
            .counts
            .extract_if(|_, count| is_due(count, 1))
            .map(|(key, count)| (key, count.more))
            .filter(|(_, more)| *more > 0)
            .collect();
        let mut due = Vec::new();
        for ((from, kind), more) in ended {
            if table.written < MOST_ENTRIES {
                table.written += 1;
                let from = Some(from);
                due.push(Due { from, kind, more });
            } else {
                table.others.minute = minute;
                table.others.more += more;
            }
        }
        if table.others.more > 0 && is_due(&table.others, 0) {
            due.push(Due {
                from: None,
                kind: ANY_KIND,
                more: mem::take(&mut table.others.more),
            });
        }
        due
    }

    /// The table in the minute of `now`.
    fn at(&self, now: DateTime) -> MutexGuard<'_, Table> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.timestamp_millis().div_euclid(MINUTE_MS);
        if table.minute != minute {
            table.begin(minute);
        }
        table
    }
}

impl Table {
    fn begin(&mut self, minute: i64) {
        self.minute = minute;
        self.written = 0;
        self.kinds.clear();
        self.names.clear();
        self.names_of_all = 0;
        self.counts
            .retain(|_, count| count.more > 0 || count.minute + 1 >= minute);
        if self.counts.len() > MOST_COUNTS {
            self.others.more += self.counts.values().map(|count| count.more).sum::<u64>();
            self.counts.clear();
        }
    }

    /// Counts without an entry.
    fn count(&mut self, key: (IpAddr, Kind)) {
        let minute = self.minute;
        // A flood from ever new addresses costs one number.
        if self.counts.len() >= MOST_COUNTS && !self.counts.contains_key(&key) {
            self.others.minute = minute;
            self.others.more += 1;
            return;
        }
        let count = self.counts.entry(key).or_default();
        count.minute = minute;
        count.has_entry = false;
        count.more += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind {
        decision: "refused",
        reason: "the JWT is missing",
        actor: None,
    };

    fn minute(n: i64) -> DateTime {
        DateTime::from_millis(n * MINUTE_MS + 7)
    }

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    fn due(from: Option<u32>, kind: &Kind, more: u64) -> Due {
        Due {
            from: from.map(address),
            kind: kind.clone(),
            more,
        }
    }

    #[test]
    fn refusals_of_an_address_and_minute_are_one_entry_that_tells_of_those_before() {
        let counted = Counted::default();
        for (at, more) in [(0, 0), (1, 99), (2, 99)] {
            let first = counted.place(address(1), &KIND, minute(at));
            assert_eq!(first, Place::Entry { more });
            for _ in 1..100 {
                let place = counted.place(address(1), &KIND, minute(at));
                assert_eq!(place, Place::Count);
            }
            assert_eq!(counted.take(Which::Ended, minute(at)), []);
        }
        // Another address has its own.
        let other = counted.place(address(2), &KIND, minute(2));
        assert_eq!(other, Place::Entry { more: 0 });
        assert_eq!(counted.take(Which::Ended, minute(3)), []);
        let ended = counted.take(Which::Ended, minute(4));
        assert_eq!(ended, [due(Some(1), &KIND, 99)]);
        assert_eq!(counted.take(Which::All, minute(4)), []);
    }

    #[test]
    fn beyond_the_most_addresses_all_others_are_one_entry() {
        let counted = Counted::default();
        let places = (0..5_000).map(|n| counted.place(address(n), &KIND, minute(0)));
        let entries = places.filter(|place| *place != Place::Count).count();
        assert_eq!(entries, MOST_ENTRIES as usize);
        assert_eq!(counted.take(Which::Ended, minute(0)), []);
        let ended = counted.take(Which::Ended, minute(1));
        assert_eq!(ended, [due(None, &ANY_KIND, 4_000)]);
        assert_eq!(counted.take(Which::All, minute(3)), []);
        let table = counted.0.lock().unwrap();
        assert!(table.counts.is_empty(), "{}", table.counts.len());
    }

    #[test]
    fn counts_of_many_silent_addresses_are_few_entries() {
        let counted = Counted::default();
        for _ in 0..2 {
            for n in 0..1_000 {
                counted.place(address(n), &KIND, minute(0));
            }
        }
        for n in 1_000..1_600 {
            counted.place(address(n), &KIND, minute(2));
        }
        let ended = counted.take(Which::Ended, minute(2));
        assert_eq!(ended.len(), 400);
        let rest = counted.take(Which::Ended, minute(3));
        assert_eq!(rest, [due(None, &ANY_KIND, 600)]);
    }

    #[test]
    fn an_address_has_few_kinds_in_a_minute() {
        let counted = Counted::default();
        let kinds = (0..20).map(|n| Kind {
            actor: Some(n.to_string()),
            ..KIND
        });
        let places = kinds.map(|kind| counted.place(address(1), &kind, minute(0)));
        let entries = places.filter(|place| *place != Place::Count).count();
        assert_eq!(entries, MOST_KINDS as usize);
        let ended = counted.take(Which::All, minute(0));
        assert_eq!(ended, [due(Some(1), &ANY_KIND, 12)]);
    }

    #[test]
    fn names_are_written_one_by_one_while_they_are_few() {
        let counted = Counted::default();
        let mut written = 0;
        for n in 0..1_000 {
            let from = address(n % 4);
            if counted.has_room_for_name(from, minute(0)) {
                counted.wrote_name(from, minute(0));
                written += 1;
            }
        }
        assert_eq!(written, MOST_NAMES_OF_ALL);
        let more: u64 = counted
            .take(Which::All, minute(0))
            .iter()
            .map(|due| due.more)
            .sum();
        assert_eq!(more, 880);
        assert!(counted.has_room_for_name(address(9), minute(1)));
    }

    #[test]
    fn memory_is_bounded_while_no_counts_are_taken() {
        let counted = Counted::default();
        for at in 0..20 {
            for _ in 0..2 {
                for n in 0..1_000 {
                    let new = u32::try_from(at).unwrap() * 1_000 + n;
                    counted.place(address(new), &KIND, minute(at));
                }
            }
        }
        assert!(counted.0.lock().unwrap().counts.len() <= MOST_COUNTS + MOST_ENTRIES as usize);
        let all = counted.take(Which::All, minute(20));
        assert_eq!(all.iter().map(|due| due.more).sum::<u64>(), 20_000);
    }
}
