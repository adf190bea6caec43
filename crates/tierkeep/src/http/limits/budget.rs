//! A bounded number of bytes: owns who holds how many, and who waits for them.
//!
//! The public has three quarters; where more than three quarters are in use, one address has a quarter. The queue is bounded in
//! length and in time.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tierkeep_core::user::UserType;
use tokio::sync::oneshot;

use crate::http::response::problem::causes::NoMemory;

/// The most requests that wait for one budget: as many as there are connections.
const MAX_QUEUED: usize = 4096;
/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// On whose behalf memory is reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct Holder {
    /// Whether the public's part is used.
    pub(in crate::http) user_type: UserType,
    /// The address whose share it is; none for a trusted proxy, which represents many.
    pub(in crate::http) address: Option<IpAddr>,
}

/// Memory that is reserved; dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping a reservation gives it back"]
pub(in crate::http) struct Reservation {
    budget: Budget,
    holder: Holder,
    bytes: u64,
}

impl Reservation {
    /// Makes it as large as what is in memory.
    pub(super) fn resize(&mut self, bytes: u64) {
        let bytes = self.budget.at_most(self.holder, bytes);
        let mut state = self.budget.state();
        state.take_back(self.holder, self.bytes);
        state.take(self.holder, bytes);
        self.bytes = bytes;
        self.budget.grant(state);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.take_back(self.holder, self.bytes);
        self.budget.grant(state);
    }
}

/// A bounded number of bytes.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    public: u64,
    by_address: HashMap<IpAddr, u64>,
    queue: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    holder: Holder,
    bytes: u64,
    granted: oneshot::Sender<Reservation>,
}

/// Whether something can be reserved now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Room {
    Free,
    /// Others hold too much.
    Taken,
    /// The public or the address itself holds too much.
    OwnShareTaken,
}

impl Budget {
    pub(super) fn of(bytes: u64) -> Self {
        Self {
            bytes,
            state: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves bytes within the usual wait.
    pub(super) async fn reserve(
        &self,
        holder: Holder,
        bytes: u64,
    ) -> Result<Reservation, NoMemory> {
        self.reserve_within(MAX_WAIT, holder, bytes).await
    }

    /// Reserves bytes, in order of arrival. What is larger than the budget has it for itself. Cancel safe.
    pub(super) async fn reserve_within(
        &self,
        wait: Duration,
        holder: Holder,
        bytes: u64,
    ) -> Result<Reservation, NoMemory> {
        let bytes = self.at_most(holder, bytes);
        let granted = {
            let mut state = self.state();
            if state.queue.is_empty() && self.room(&state, holder, bytes) == Room::Free {
                return Ok(self.taken(&mut state, holder, bytes));
            }
            state.queue.retain(|waiting| !waiting.granted.is_closed());
            let of_type = |it: &&Waiting| it.holder.user_type == holder.user_type;
            if state.queue.iter().filter(of_type).count() >= MAX_QUEUED {
                return Err(NoMemory);
            }
            let (sender, granted) = oneshot::channel();
            state.queue.push_back(Waiting {
                holder,
                bytes,
                granted: sender,
            });
            self.grant(state);
            granted
        };
        match tokio::time::timeout(wait, granted).await {
            Ok(Ok(reservation)) => Ok(reservation),
            Ok(Err(_)) | Err(_) => Err(NoMemory),
        }
    }

    /// What the holder may have at all: what is larger counts as that.
    fn at_most(&self, holder: Holder, bytes: u64) -> u64 {
        match holder.user_type {
            UserType::External => bytes.min(self.bytes / 4 * 3),
            UserType::Internal => bytes.min(self.bytes),
        }
    }

    fn taken(&self, state: &mut State, holder: Holder, bytes: u64) -> Reservation {
        state.take(holder, bytes);
        Reservation {
            budget: self.clone(),
            holder,
            bytes,
        }
    }

    /// Gives those that wait what there is room for. The first that others keep waiting keeps back those behind it, one of the
    /// public only the public; one whose own share is taken keeps back none.
    fn grant(&self, mut state: MutexGuard<'_, State>) {
        let mut gone = Vec::new();
        let mut place = 0;
        let mut public_waits = false;
        while let Some(next) = state.queue.get(place) {
            if next.granted.is_closed() {
                state.queue.remove(place);
                continue;
            }
            let is_public = next.holder.user_type == UserType::External;
            match self.room(&state, next.holder, next.bytes) {
                Room::Taken if is_public => {
                    public_waits = true;
                    place += 1;
                }
                Room::Taken => break,
                Room::OwnShareTaken => place += 1,
                Room::Free if is_public && public_waits => place += 1,
                Room::Free => {
                    let Some(next) = state.queue.remove(place) else {
                        break;
                    };
                    let reservation = self.taken(&mut state, next.holder, next.bytes);
                    gone.extend(next.granted.send(reservation).err());
                }
            }
        }
        // Of requests that have ended: given back outside the lock.
        drop(state);
        drop(gone);
    }

    fn room(&self, state: &State, holder: Holder, bytes: u64) -> Room {
        let after = |used: u64| used.saturating_add(bytes);
        let most = self.bytes / 4 * 3;
        if state.used > 0 && after(state.used) > self.bytes {
            return Room::Taken;
        }
        let is_public = holder.user_type == UserType::External;
        if is_public && state.public > 0 && after(state.public) > most {
            return Room::OwnShareTaken;
        }
        let own = holder
            .address
            .and_then(|address| state.by_address.get(&address));
        let own = own.copied().unwrap_or(0);
        // The public's part is scarce before the whole is.
        let is_scarce =
            after(state.used) > most || (is_public && after(state.public) > most / 4 * 3);
        if own > 0 && is_scarce && after(own) > self.bytes / 4 {
            return Room::OwnShareTaken;
        }
        Room::Free
    }
}

impl State {
    fn take(&mut self, holder: Holder, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
        if holder.user_type == UserType::External {
            self.public = self.public.saturating_add(bytes);
        }
        if let Some(address) = holder.address {
            let own = self.by_address.entry(address).or_default();
            *own = own.saturating_add(bytes);
        }
    }

    fn take_back(&mut self, holder: Holder, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
        if holder.user_type == UserType::External {
            self.public = self.public.saturating_sub(bytes);
        }
        if let Some(address) = holder.address
            && let Some(own) = self.by_address.get_mut(&address)
        {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(user_type: UserType, last: u8) -> Holder {
        Holder {
            user_type,
            address: Some([192, 0, 2, last].into()),
        }
    }

    fn internal(last: u8) -> Holder {
        holder(UserType::Internal, last)
    }

    fn public(last: u8) -> Holder {
        holder(UserType::External, last)
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_waits_and_is_refused_in_the_end() {
        let budget = Budget::of(100);
        let first = budget.reserve(internal(1), 70).await.unwrap();
        assert_eq!(budget.reserve(internal(2), 40).await.unwrap_err(), NoMemory);
        let (second, ()) = tokio::join!(budget.reserve(internal(2), 40), async {
            tokio::time::sleep(MAX_WAIT / 2).await;
            drop(first);
        });
        drop(second.unwrap());
        assert_eq!(budget.state().used, 0);
        assert!(budget.state().by_address.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_larger_than_all_has_it_for_itself() {
        let budget = Budget::of(100);
        let small = budget.reserve(internal(1), 1).await.unwrap();
        assert!(budget.reserve(internal(2), 1_000).await.is_err());
        drop(small);
        let large = budget.reserve(internal(2), 1_000).await.unwrap();
        assert!(budget.reserve(internal(1), 1).await.is_err());
        drop(large);
        drop(budget.reserve(internal(1), 1).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn the_public_and_one_address_leave_the_others_their_part() {
        let budget = Budget::of(100);
        let mut held = Vec::new();
        for address in 0..7 {
            held.push(budget.reserve(public(address), 10).await.unwrap());
        }
        assert!(budget.reserve(public(9), 10).await.is_err());
        held.push(budget.reserve(internal(7), 10).await.unwrap());
        held.push(budget.reserve(internal(7), 10).await.unwrap());
        assert!(budget.reserve(internal(7), 10).await.is_err());
        drop(budget.reserve(internal(8), 10).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn one_public_address_leaves_the_public_its_part() {
        let budget = Budget::of(100);
        let mut held = Vec::new();
        for _ in 0..20 {
            let reserved = budget.reserve_within(Duration::ZERO, public(1), 5).await;
            held.extend(reserved.ok());
        }
        assert!(held.len() < 12, "{}", held.len());
        drop(budget.reserve(public(2), 5).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_public_body_leaves_internal_users_their_part_also_while_it_waits() {
        let budget = Budget::of(100);
        let large = budget.reserve(public(1), 1_000).await.unwrap();
        drop(budget.reserve(internal(2), 25).await.unwrap());
        let waiting = budget.clone();
        let waiting = tokio::spawn(async move { waiting.reserve(public(3), 1_000).await });
        tokio::task::yield_now().await;
        drop(budget.reserve(internal(2), 25).await.unwrap());
        drop(large);
        drop(waiting.await.unwrap().unwrap());
    }

    /// A request that ended while it waited must keep nothing.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_cut_off_gives_back_what_it_waited_for() {
        let budget = Budget::of(100);
        for _ in 0..3 {
            let first = budget.reserve(internal(1), 100).await.unwrap();
            let cut_off = tokio::time::timeout(MAX_WAIT / 5, budget.reserve(internal(2), 100));
            assert!(cut_off.await.is_err());
            let waiting = budget.clone();
            let waiting = tokio::spawn(async move { waiting.reserve(internal(3), 60).await });
            tokio::task::yield_now().await;
            drop(first);
            waiting.abort();
            waiting.await.ok();
        }
        assert_eq!(budget.state().used, 0);
        assert!(budget.state().queue.is_empty());
    }
}
