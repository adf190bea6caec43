//! The memory of bodies: owns how many bytes of bodies and documents are in memory at once, and whose they are.
//!
//! Three budgets, entered in this order and left as soon as possible, so that no two requests wait for each other: bodies that
//! are received, documents at work (parsed, written, read), answers that are sent. Each reservation is made whole or waits.
//! The public has three quarters of each; where more than three quarters are in use, one address has a quarter. The queue is
//! bounded in length and in time.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tierkeep_core::user::{UserId, UserType};
use tokio::sync::oneshot;

use crate::http::response::problem::causes::NoMemory;

/// The most requests that wait for one budget.
const MAX_QUEUED: usize = 512;
/// The longest wait, and that of a document that is in memory already and is about to be sent.
const MAX_WAIT: Duration = Duration::from_secs(5);
const SEND_WAIT: Duration = Duration::from_secs(1);
/// How many copies of a document are in memory while it is written: the request's, those of the command and of the thread that
/// runs it, what the store makes of it, and what its library holds.
const WRITTEN_COPIES: u64 = 6;
/// The same while it is read.
const READ_COPIES: u64 = 2;
/// What a read reserves of a document whose size is not known.
const USUAL_BYTES: u64 = 64 * 1024;
/// From which size on it is remembered how large a user's document is, and of how many users.
const LARGE_BYTES: u64 = 4 * USUAL_BYTES;
const REMEMBERED: usize = 4096;

/// On whose behalf memory is reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct Holder {
    /// Whether the public's part is used.
    pub(in crate::http) user_type: UserType,
    /// The address whose share it is; none for a trusted proxy, which stands for many.
    pub(in crate::http) address: Option<IpAddr>,
}

/// The memory for bodies. Clones share it.
#[derive(Clone, Debug)]
pub struct BodyMemory {
    receiving: Budget,
    working: Budget,
    sending: Budget,
    large: Arc<Mutex<HashMap<UserId, u64>>>,
}

impl BodyMemory {
    /// This many bytes: three eighths for bodies that are received, as many for documents at work, the rest for answers.
    pub fn new(bytes: usize) -> Self {
        let eighth = u64::try_from(bytes).unwrap_or(u64::MAX) / 8;
        Self {
            receiving: Budget::of(3 * eighth),
            working: Budget::of(3 * eighth),
            sending: Budget::of(2 * eighth),
            large: Arc::default(),
        }
    }

    /// Reserves a body of at most `bytes` before it is read.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub(in crate::http) async fn receive(
        &self,
        holder: Holder,
        bytes: usize,
    ) -> Result<Reservation, NoMemory> {
        self.receiving.reserve(holder, counted(bytes)).await
    }

    /// Reserves what it takes to parse this body and to write what it says into the document of `user`.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub(in crate::http) async fn write(
        &self,
        holder: Holder,
        user: Option<&UserId>,
        body: &[u8],
    ) -> Result<Reservation, NoMemory> {
        let known = user.and_then(|user| self.large().get(user).copied());
        let bytes = stored_at_most(body).saturating_add(known.unwrap_or(0));
        self.working
            .reserve(holder, WRITTEN_COPIES.saturating_mul(bytes))
            .await
    }

    /// Notes how large what was parsed is.
    pub(in crate::http) fn parsed(
        &self,
        reservation: &mut Reservation,
        user: Option<&UserId>,
        bytes: usize,
    ) {
        let bytes = counted(bytes);
        let mut whole = bytes;
        if let Some(user) = user {
            let mut large = self.large();
            if let Some(known) = large.get_mut(user) {
                whole = whole.saturating_add(*known);
                *known = bytes.max(*known);
            } else if bytes >= LARGE_BYTES {
                remember(&mut large, user, bytes);
            }
        }
        reservation.resize(WRITTEN_COPIES.saturating_mul(whole));
    }

    /// Reserves what it takes to read the document of `user`.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub(in crate::http) async fn read(
        &self,
        holder: Holder,
        user: Option<&UserId>,
    ) -> Result<Reservation, NoMemory> {
        let known = user.and_then(|user| self.large().get(user).copied());
        let bytes = known.unwrap_or(USUAL_BYTES);
        self.working
            .reserve(holder, READ_COPIES.saturating_mul(bytes))
            .await
    }

    /// Notes how large the document is that was read under `reservation`. It is in memory already, so nothing
    /// waits; the next read of the same user's reserves it beforehand.
    pub(in crate::http) fn found(
        &self,
        reservation: &mut Reservation,
        user: Option<&UserId>,
        bytes: usize,
    ) {
        let bytes = counted(bytes);
        reservation.resize(READ_COPIES.saturating_mul(bytes));
        let Some(user) = user else {
            return;
        };
        let mut large = self.large();
        if bytes < LARGE_BYTES {
            large.remove(user);
            return;
        }
        remember(&mut large, user, bytes);
    }

    /// Reserves an answer that is made of `bytes`, until it was sent.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub(in crate::http) async fn send(
        &self,
        holder: Holder,
        bytes: usize,
    ) -> Result<Reservation, NoMemory> {
        let bytes = counted(bytes);
        self.sending.reserve_within(SEND_WAIT, holder, bytes).await
    }

    fn large(&self) -> MutexGuard<'_, HashMap<UserId, u64>> {
        self.large.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember(large: &mut HashMap<UserId, u64>, user: &UserId, bytes: u64) {
    if large.len() >= REMEMBERED {
        large.clear();
    }
    large.insert(user.clone(), bytes);
}

fn counted(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// How many bytes of BSON this JSON becomes at most. Each value takes its text and at most sixteen bytes: its type, its index
/// as a key, a length or a number, the end. As many values begin as there are commas and opening brackets.
fn stored_at_most(body: &[u8]) -> u64 {
    const VALUE_BYTES: u64 = 16;
    let begins = |byte: &&u8| matches!(**byte, b',' | b'[' | b'{');
    let values = counted(body.iter().filter(begins).count());
    let bytes = VALUE_BYTES.saturating_mul(values) + counted(body.len());
    bytes.min(counted(tierkeep_core::document::MAX_DOCUMENT_BYTES))
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
    fn resize(&mut self, bytes: u64) {
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
struct Budget {
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
    fn of(bytes: u64) -> Self {
        Self {
            bytes,
            state: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reserve(&self, holder: Holder, bytes: u64) -> Result<Reservation, NoMemory> {
        self.reserve_within(MAX_WAIT, holder, bytes).await
    }

    /// Reserves bytes, in order of arrival. What is larger than the budget has it for itself. Cancel safe.
    async fn reserve_within(
        &self,
        wait: Duration,
        holder: Holder,
        bytes: u64,
    ) -> Result<Reservation, NoMemory> {
        let granted = {
            let mut state = self.state();
            if state.queue.is_empty() && self.room(&state, holder, bytes) == Room::Free {
                return Ok(self.taken(&mut state, holder, bytes));
            }
            state.queue.retain(|waiting| !waiting.granted.is_closed());
            if state.queue.len() >= MAX_QUEUED {
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

    fn taken(&self, state: &mut State, holder: Holder, bytes: u64) -> Reservation {
        state.take(holder, bytes);
        Reservation {
            budget: self.clone(),
            holder,
            bytes,
        }
    }

    /// Gives those that wait what there is room for. The first that others keep waiting keeps back those behind it; one
    /// whose own share is taken does not.
    fn grant(&self, mut state: MutexGuard<'_, State>) {
        let mut gone = Vec::new();
        let mut place = 0;
        while let Some(next) = state.queue.get(place) {
            if next.granted.is_closed() {
                state.queue.remove(place);
                continue;
            }
            match self.room(&state, next.holder, next.bytes) {
                Room::Taken => break,
                Room::OwnShareTaken => place += 1,
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
        let own = holder.address.and_then(|address| state.by_address.get(&address));
        let own = own.copied().unwrap_or(0);
        if own > 0 && after(state.used) > most && after(own) > self.bytes / 4 {
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

    #[test]
    fn the_size_of_a_body_in_store_is_never_guessed_too_small() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(90), "]".repeat(90));
        let many = format!("{{\"a\":[{}1]}}", "1,".repeat(100_000));
        let arrays = format!("{{\"a\":[{}[]]}}", "[],".repeat(100_000));
        let objects = format!("{{\"a\":[{}{{}}]}}", "{\"\":{}},".repeat(50_000));
        let longs = format!("{{\"a\":[{}1]}}", "99999999999,".repeat(50_000));
        for body in [deep, many, arrays, objects, longs, "{}".to_owned()] {
            let stored = tierkeep_core::content::parse(body.as_bytes()).unwrap();
            let bytes = counted(stored.as_bytes().len());
            assert!(bytes <= stored_at_most(body.as_bytes()), "{bytes}");
        }
    }
}
