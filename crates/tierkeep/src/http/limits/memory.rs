//! The memory of bodies: owns how many bytes of bodies and documents are in memory at once, and whose they are.
//!
//! Three budgets, entered in this order and left as soon as possible, so that no two requests wait for each other: bodies that
//! are received, documents at work (parsed, written, read), answers that are sent. Each reservation is made whole or waits.

use std::time::Duration;

use moka::sync::Cache;
use tierkeep_core::user::UserId;

use super::budget::{Budget, Holder, Reservation};
use crate::http::response::problem::causes::NoMemory;

/// The longest wait of a document that is in memory already and is about to be sent.
const SEND_WAIT: Duration = Duration::from_secs(1);
/// How many copies of a document are in memory while it is written: the request's, those of the command and of the thread that
/// runs it, what the store makes of it, and what its library holds.
const WRITTEN_COPIES: u64 = 6;
/// The same while it is read.
const READ_COPIES: u64 = 2;
/// What a read reserves of a document whose size is not known.
const USUAL_BYTES: u64 = 16 * 1024;
/// From which size on it is remembered how large a user's document is, and of how many users.
const LARGE_BYTES: u64 = 4 * USUAL_BYTES;
const REMEMBERED: u64 = 4096;

/// The memory for bodies. Clones share it.
#[derive(Clone, Debug)]
pub struct BodyMemory {
    receiving: Budget,
    working: Budget,
    sending: Budget,
    large: Cache<UserId, u64>,
}

impl BodyMemory {
    /// This many bytes: three eighths for bodies that are received, as many for documents at work, the rest for answers.
    pub fn new(bytes: usize) -> Self {
        let eighth = u64::try_from(bytes).unwrap_or(u64::MAX) / 8;
        Self {
            receiving: Budget::of(3 * eighth),
            working: Budget::of(3 * eighth),
            sending: Budget::of(2 * eighth),
            large: Cache::new(REMEMBERED),
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
        let known = user.and_then(|user| self.large.get(user));
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
            let known = self.large.get(user);
            whole = whole.saturating_add(known.unwrap_or(0));
            if known.is_some_and(|known| known < bytes) || known.is_none() && bytes >= LARGE_BYTES {
                self.large.insert(user.clone(), bytes);
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
        let known = user.and_then(|user| self.large.get(user));
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
        if bytes >= LARGE_BYTES {
            self.large.insert(user.clone(), bytes);
        } else if self.large.contains_key(user) {
            self.large.invalidate(user);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
