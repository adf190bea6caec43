//! Erasing users: the service, and the only writer of tombstones.

pub(crate) mod service;
mod survey;
pub(crate) mod tombstones;
