//! The `tierkeep` binary as a library, so that its parts can be tested and its `main` stays small.
//!
//! Where to look: [`cli`] (verbs), [`config`] (settings), [`telemetry`] (logs), [`http`] (the service's routes),
//! [`alerts`] (delivery), [`reload`] (keys that change on disk), [`lookup`] (which user a text names), [`exit`] (exit
//! codes), [`output`] (results), `terminal` (what may reach one), [`heap`] (memory).

pub mod alerts;
pub mod cli;
pub mod clock;
pub mod config;
#[cfg(feature = "crash-points")]
mod crash_points;
mod descriptors;
pub mod exit;
pub mod heap;
pub mod http;
pub mod lifecycle;
pub mod lookup;
pub mod metrics;
pub mod open;
pub mod output;
pub mod reload;
pub mod spool;
pub mod telemetry;
pub(crate) mod terminal;
