//! The store on MongoDB, through the official driver. Owns everything that is said to a MongoDB server.
//!
//! **Architecture invariant:** documents pass through as raw BSON and are never decoded on their way in
//! or out; every write asks for a majority and the journal; every command this crate can send is built in
//! `query` and snapshot-tested; every error is judged in `error`, by code, and carries no host, no user
//! and no text of the driver. Only `sight` knows hosts, for an operator who looks for what is away.
//!
//! Where to look: [`connect`] (connection strings, clients, [`Servers`]), [`store`] (the trait's methods), [`legacy`]
//! (reading the predecessor's database), `query` (what is sent), `error` (what failures mean), `sight` (which
//! servers were not reached, and why), [`product`] (whether a server is MongoDB), [`rights`] (what its user may do).

pub mod connect;
mod error;
pub mod legacy;
pub mod product;
mod query;
pub mod rights;
mod sight;
pub mod store;

pub use connect::{ConnectError, Servers, misunderstood, weaker_than_majority};
pub use legacy::{LegacyDatabase, LegacyError, database_in_path};
pub use product::TESTED;
pub use rights::{MissingRight, Need};
pub use store::{Deviation, MongoStore, ServerFacts, Topology};
