//! The MongoDB store on a real replica set: the laws of the conformance suite, and behaviour that only a
//! server shows.
//!
//! Needs `TIERKEEP_TEST_MONGODB_URL`, a running replica set started with `enableTestCommands=1`;
//! `cargo xtask test` starts one. Without it every test fails: a suite that quietly skipped the real
//! database would prove nothing.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests fail like tests do"
)]

mod bench;
mod claims;
mod errors;
mod exactness;
mod plans;
mod server;
mod sharded;

tierkeep_testkit::conformance_suite!(bench::subject);
