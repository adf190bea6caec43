//! The audit trail: what an entry is, how entries are chained, and what proves that none was altered, taken
//! away, moved or added.
//!
//! Each entry carries the hash of the one before it and its own, an HMAC over everything in it, so who lacks
//! the key can change none without its being found. A tail that was cut off is found against a [`Head`] that
//! was noted elsewhere. Performs nothing; holds no content of documents and no tokens.

mod chain;
mod entry;

pub use chain::{Found, Head, Verdict, Verifier, Violation};
pub use entry::{AuditKey, AuditKind, Draft, Entry, Mac, audit_field};
