//! The model check: small worlds in which the real engine runs in every order of calls, crashes, lost answers
//! and outages, and the protocol's invariants are checked after every step.
//!
//! An actor is an async function of the engine. The model keeps the answers that each has received; to find the
//! next call, the function is run again from its start with those answers ([`actor`], [`script`]). The
//! call is performed at once on the contents of the databases ([`databases`], [`call`]), which is one
//! step of the model ([`check`]). Clock, ids and jitter are parameters of the engine, so a replay is exact.
//!
//! **Architecture invariant:** the protocol is not implemented here a second time: this crate only calls the engine,
//! injects faults, and checks what must be true ([`invariants`]).

pub mod actor;
pub mod call;
pub mod check;
pub mod databases;
pub mod invariants;
pub mod moment;
pub mod report;
pub mod scenario;
pub mod script;

pub use actor::{Ack, Program, foreign, keyed, user};
pub use check::START;
pub use report::{Report, explore};
pub use scenario::{Scenario, Trouble};
