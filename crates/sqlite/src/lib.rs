//! The store on SQLite: one file for each logical database.
//!
//! Owns the files and how documents lie in them. What queries, guards and changes mean is the core's;
//! this crate calls the core's functions inside a transaction and never decides anything of its own.
//!
//! Where to look: `connect` (opening a file and telling whether it is ours), `table` (how documents
//! lie in tables), `index` (which indexes they have), `query` (reading), `write` (changing), `store` (the trait), `copy` (copying a
//! file in use), `error` (what SQLite's codes mean).
//!
//! Several processes use one file at once: writers wait for each other, readers wait for nobody. What
//! was acknowledged survives a crash and a power loss, as far as the disk keeps its promises: the files
//! are in write-ahead mode with `synchronous=FULL`.

mod checkpoint;
mod connect;
mod copy;
mod error;
mod index;
mod query;
mod store;
mod table;
mod write;

pub use copy::Snapshot;
pub use store::SqliteStore;
