//! Unique ids: of operations, entries and runs. The only randomness of the engine besides
//! the jitter of [`repeating`](crate::databases::retry::repeating).

use std::fmt::Debug;

use tierkeep_core::bson::oid::ObjectId;

/// Where ids and jitter come from: a parameter, as the clock is, so that a run can be repeated exactly.
pub trait Randomness: Send + Sync + Debug {
    /// Twelve bytes that are never drawn twice.
    fn unique(&self) -> [u8; 12];

    /// A number in `[0, 1)`, for jitter.
    fn fraction(&self) -> f64;

    /// A number below `end`, for a draw; 0 where nothing is below it.
    fn below(&self, end: usize) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a draw from millions needs no more than 52 bits"
        )]
        let drawn = (self.fraction() * end as f64) as usize;
        drawn.min(end.saturating_sub(1))
    }

    /// A fresh id of 24 hex digits.
    fn id(&self) -> String {
        ObjectId::from_bytes(self.unique()).to_hex()
    }
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System;

impl Randomness for System {
    fn unique(&self) -> [u8; 12] {
        rand::random()
    }

    fn fraction(&self) -> f64 {
        rand::random()
    }
}
