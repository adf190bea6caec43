//! The tests of `tierkeep-identity`, one binary. Every key here is made on the spot or a public key
//! whose private half was never kept.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod claims;
mod detector;
mod github;
mod hostile_tokens;
mod issuing;
mod keys;
mod property_5_authentication_requirements;
mod remote_keys;
mod secrecy;
mod shared_keys;
mod support;
