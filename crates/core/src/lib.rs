//! The part of tierkeep that thinks: which databases exist, what a user document looks like, who is
//! asking, where a request goes, and how a document moves.
//!
//! **Architecture invariant:** nothing here performs IO, reads a clock, or draws a random number.
//! Time, randomness and the databases' answers come in as arguments, so everything in this crate is
//! tested in seconds and driven step by step.
//!
//! Where to look: [`db`] (the seven databases as types), [`user`] and [`document`] (who and what),
//! [`content`] (JSON in and out), [`identity`] and [`route`] (who is asking, where it goes),
//! [`store`] (what a database must be able to do), [`mover`] (the 24-hour move), [`erasure`] (what is
//! gone for good), [`compare`] (main against its backup), [`audit`] (proof of what was decided), [`breaker`]
//! (which calls reach a database), [`repeats`] (which log lines are written), [`brief`]
//! (how long shown texts are), [`legacy`] (the predecessor's data).

pub mod adopt;
pub mod audit;
pub mod breaker;
pub mod brief;
pub mod clock;
pub mod compare;
pub mod content;
pub mod db;
pub mod digest;
pub mod document;
pub mod erasure;
pub mod hr;
pub mod identity;
pub mod legacy;
pub mod mover;
pub mod repeats;
pub mod route;
pub mod store;
pub mod user;
pub mod version;

pub use bson;
