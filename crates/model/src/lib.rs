//! The model check: small worlds in which the real engine meets every order of calls, crashes, lost answers
//! and outages, and the protocol's invariants are looked at after every step.
//!
//! An actor is an async function of the engine. The model keeps what each was told so far; to find out what
//! it asks next, the function is run again from its start with those answers ([`actor`], [`script`]). Its
//! next call is carried out at once over what the databases hold ([`databases`], [`call`]), which is one
//! step of the model ([`check`]). Clock, ids and jitter are parameters of the engine, so a replay is exact.
//!
//! **Architecture invariant:** nothing of the protocol is written down here a second time: only what is asked
//! of the engine, what may go wrong, and what must be true ([`invariants`]).

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
