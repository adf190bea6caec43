//! Limits: owns how large a body may be, how long a request may take, how often a caller may ask and how many requests
//! use the databases at once.
//!
//! Where to look: `traffic` (rate limits), `bucket` (how they count), `address` (which address a request counts for), `concurrency` (the
//! semaphore for public requests), `questions` (how often GitHub is asked), `memory` (the memory of bodies), `budget` (how
//! it is shared).

pub(in crate::http) mod address;
pub(in crate::http) mod bucket;
pub(in crate::http) mod budget;
pub(in crate::http) mod concurrency;
pub(in crate::http) mod memory;
pub(in crate::http) mod questions;
pub(in crate::http) mod traffic;

use std::time::Duration;

use tierkeep_core::user::UserType;

/// The limits of size and time of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The largest body of an internal user, in bytes.
    pub max_body_internal_bytes: usize,
    /// The largest body of an external user, in bytes.
    pub max_body_external_bytes: usize,
    /// The deadline for a body to arrive.
    pub body_timeout: Duration,
    /// The memory of bodies that are received, parsed or shown, in bytes.
    pub body_memory_bytes: usize,
    /// The deadline of a request; longer than `body_timeout`.
    pub request_timeout: Duration,
}

impl Default for Limits {
    /// 8 MiB internal, 1 MiB external, 30 seconds for a body, 60 for a request, 128 MiB of memory.
    fn default() -> Self {
        Self {
            max_body_internal_bytes: 8 << 20,
            max_body_external_bytes: 1 << 20,
            body_timeout: Duration::from_secs(30),
            body_memory_bytes: 128 << 20,
            request_timeout: Duration::from_mins(1),
        }
    }
}

impl Limits {
    /// The largest body from this type of user, in bytes.
    pub fn max_body_bytes(&self, user_type: UserType) -> usize {
        match user_type {
            UserType::Internal => self.max_body_internal_bytes,
            UserType::External => self.max_body_external_bytes,
        }
    }
}
