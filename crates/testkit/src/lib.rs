//! Test support for all other crates.
//!
//! **Architecture invariant:** this crate links no database, no HTTP server and no driver, so the crates
//! that hold the decisions are tested in seconds. It is a dev-dependency and never part of the binary.
//!
//! Where to look: [`conformance`] (the laws of a store as one suite for all backends), [`memory`] and
//! [`fault`] (a store in memory, and one that fails or waits on plan, [`hold`]), [`clock`] (a manual clock),
//! [`documents`] (documents that break naive copies), [`legacy`] (a database of the predecessor), [`invariants`] (what must be true after any test).

pub mod clock;
pub mod conformance;
pub mod documents;
pub mod fault;
pub mod hold;
pub mod invariants;
pub mod late;
pub mod legacy;
pub mod memory;

pub use clock::ManualClock;
pub use fault::{FaultStore, Faults};
pub use hold::Hold;
pub use late::Late;
pub use memory::MemoryStore;
