//! Ids that nobody else has: of operations, entries and runs. The only randomness of the engine besides
//! jitter.

use tierkeep_core::bson::oid::ObjectId;

/// A fresh id of 24 hex digits.
pub(crate) fn fresh() -> String {
    ObjectId::from_bytes(rand::random()).to_hex()
}

/// A fresh number in `[0, 1)`, for jitter.
pub(crate) fn jitter() -> f64 {
    rand::random()
}
