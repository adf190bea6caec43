//! Comparing main with srie, and copying from one to the other.

pub(crate) mod restore;
pub(crate) mod service;
pub(crate) mod verify;
