//! The seven databases: opening, comparing and stamping them, and every call that goes to one.
//!
//! Owns the layers between the engine and a store: admission, circuit breaker, retries, paging, schema. Knows no
//! user and no move.

pub(crate) mod absent;
pub(crate) mod admission;
pub(crate) mod breaker;
pub(crate) mod contents;
pub(crate) mod control;
pub(crate) mod counters;
pub(crate) mod doctor;
pub(crate) mod error;
pub(crate) mod identity;
pub(crate) mod lease;
pub(crate) mod look;
pub(crate) mod manager;
pub(crate) mod open;
pub(crate) mod optional_read;
pub(crate) mod pages;
pub(crate) mod random;
pub(crate) mod retry;
pub(crate) mod schema;
pub(crate) mod shards;
pub(crate) mod stamp;
pub(crate) mod unreached;
pub(crate) mod whole_scan;
