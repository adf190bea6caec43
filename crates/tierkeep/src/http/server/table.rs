//! The table of connections: owns which ones are open, which of them must give way, and how many an address may have.
//!
//! Where more than three quarters of the places are taken, one address has a quarter. When all are taken, the connection that
//! was silent for longest gives way, before all others one without a request at work: a request runs to its end without
//! its connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The open connections of a listener. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Table(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: usize,
    began: Instant,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    connections: HashMap<u64, Entry>,
    by_address: HashMap<IpAddr, usize>,
}

#[derive(Clone, Debug)]
struct Entry {
    address: Option<IpAddr>,
    activity: Activity,
    end: CancellationToken,
}

/// What a connection does. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Signs>);

#[derive(Debug)]
struct Signs {
    began: Instant,
    /// When bytes came or went, in milliseconds after `began`.
    heard: AtomicU64,
    at_work: AtomicUsize,
}

impl Activity {
    fn since(began: Instant) -> Self {
        let activity = Self(Arc::new(Signs {
            began,
            heard: AtomicU64::new(0),
            at_work: AtomicUsize::new(0),
        }));
        activity.heard();
        activity
    }

    /// Notes that bytes came or went.
    pub(super) fn heard(&self) {
        let now = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.heard.store(now, Ordering::Relaxed);
    }

    /// Notes that a request is at work, until what this answers is dropped.
    pub(super) fn works(&self) -> AtWork {
        self.0.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(self.clone())
    }

    /// When it was heard last; `None` while a request is at work.
    fn silent_since(&self) -> Option<u64> {
        let rests = self.0.at_work.load(Ordering::Relaxed) == 0;
        rests.then(|| self.0.heard.load(Ordering::Relaxed))
    }
}

/// A request at work.
#[derive(Debug)]
pub(super) struct AtWork(Activity);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.0.at_work.fetch_sub(1, Ordering::Relaxed);
        self.0.heard();
    }
}

/// A connection's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    table: Table,
    number: u64,
    pub(super) activity: Activity,
    /// Cancelled when the connection has to give way.
    pub(super) end: CancellationToken,
}

impl Table {
    pub(super) fn of(places: usize) -> Self {
        Self(Arc::new(Inner {
            places: places.max(1),
            began: Instant::now(),
            open: Mutex::default(),
        }))
    }

    /// A place for a connection from this address, which is none where it stands for many. `None` where the address itself has
    /// too many at work.
    pub(super) fn enter(&self, address: Option<IpAddr>) -> Option<Place> {
        let mut open = self.open();
        let places = self.0.places;
        let own = address.and_then(|address| open.by_address.get(&address));
        let own = own.copied().unwrap_or(0);
        if open.connections.len() >= places / 4 * 3 && own >= (places / 4).max(1) {
            open.end_silent(|entry| entry.address == address)?;
        } else if open.connections.len() >= places {
            open.end_silent(|_| true).or_else(|| open.end_unheard())?;
        }
        open.last += 1;
        let number = open.last;
        let activity = Activity::since(self.0.began);
        let end = CancellationToken::new();
        open.insert(
            number,
            Entry {
                address,
                activity: activity.clone(),
                end: end.clone(),
            },
        );
        Some(Place {
            table: self.clone(),
            number,
            activity,
            end,
        })
    }

    /// Ends the connection that was silent for longest, for what it holds.
    pub(super) fn end_one(&self) {
        self.open().end_silent(|_| true);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn insert(&mut self, number: u64, entry: Entry) {
        if let Some(address) = entry.address {
            *self.by_address.entry(address).or_default() += 1;
        }
        self.connections.insert(number, entry);
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.connections.remove(&number)?;
        if let Some(address) = entry.address
            && let Some(count) = self.by_address.get_mut(&address)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(entry)
    }

    /// Ends the connection among these that was silent for longest.
    fn end_silent(&mut self, among: impl Fn(&Entry) -> bool) -> Option<()> {
        let silent = self.connections.iter().filter_map(|(number, entry)| {
            let since = entry.activity.silent_since()?;
            among(entry).then_some((since, *number))
        });
        let (_, number) = silent.min()?;
        self.remove(number)?.end.cancel();
        Some(())
    }
}

impl Open {
    /// Where every request is at work: ends the connection whose caller was silent for longest.
    fn end_unheard(&mut self) -> Option<()> {
        let heard = self.connections.iter().map(|(number, entry)| {
            let heard = entry.activity.0.heard.load(Ordering::Relaxed);
            (heard, *number)
        });
        let (_, number) = heard.min()?;
        self.remove(number)?.end.cancel();
        Some(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It is gone already where it had to give way.
        self.table.open().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    async fn moment() {
        tokio::time::advance(Duration::from_millis(10)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_was_silent_for_longest_gives_way() {
        let table = Table::of(4);
        let mut places = Vec::new();
        for last in 0..4 {
            places.push(table.enter(Some(address(last))).unwrap());
            moment().await;
        }
        let at_work = places[0].activity.works();
        places[1].activity.heard();
        moment().await;
        let fifth = table.enter(Some(address(9))).unwrap();
        let ended = |places: &[Place]| -> Vec<bool> {
            places
                .iter()
                .map(|place| place.end.is_cancelled())
                .collect()
        };
        assert_eq!(ended(&places), [false, false, true, false]);
        drop(at_work);
        drop(fifth);
        assert_eq!(table.open().connections.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_at_work_the_caller_that_was_silent_for_longest_gives_way() {
        let table = Table::of(2);
        let silent = table.enter(Some(address(1))).unwrap();
        let _silent_works = silent.activity.works();
        moment().await;
        let heard = table.enter(Some(address(2))).unwrap();
        let _heard_works = heard.activity.works();
        moment().await;
        let third = table.enter(Some(address(3)));
        assert!(third.is_some());
        assert!(silent.end.is_cancelled() && !heard.end.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_three_quarters_an_address_makes_room_among_its_own() {
        let table = Table::of(16);
        let other = table.enter(Some(address(2))).unwrap();
        let mut own = Vec::new();
        for _ in 0..100 {
            own.push(table.enter(Some(address(1))).unwrap());
            moment().await;
        }
        assert!(!other.end.is_cancelled());
        assert_eq!(table.open().connections.len(), 12);
        // A proxy represents many callers.
        let proxied: Vec<_> = (0..4).map(|_| table.enter(None).unwrap()).collect();
        assert_eq!(table.open().connections.len(), 16);
        drop((own, proxied, other));
        assert!(table.open().connections.is_empty());
        assert!(table.open().by_address.is_empty());
    }
}
