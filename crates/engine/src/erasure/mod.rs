//! Erasing users: the service, and the only writer of tombstones.

pub(crate) mod service;
pub(crate) mod tombstones;
