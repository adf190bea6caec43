//! Ids that nobody else has: of operations, entries and runs. The only randomness of the engine besides
//! jitter.

/// A fresh id of 24 hex digits.
pub(crate) fn fresh() -> String {
    let bytes: [u8; 12] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A fresh number in `[0, 1)`, for jitter.
pub(crate) fn jitter() -> f64 {
    rand::random()
}
