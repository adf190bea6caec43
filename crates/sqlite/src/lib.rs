//! The store on SQLite: one file for each logical database.
//!
//! Owns the files and how documents lie in them. What queries, guards and changes mean is the core's;
//! this crate calls the core's functions inside a transaction and never decides anything of its own.
//!
//! Where to look: `connect` (opening a file and telling whether it is ours), `upgrade` (files of earlier formats), `presence`
//! (whether the open file is still the one under its name), `table` (how documents lie in tables), `checksum` (what tells a
//! changed row), `index` (which indexes they have), `query` (reading), `write` (changing), `damage` (looking for what is changed),
//! `store` (the trait), `copy` (copying a file in use), `error` (what SQLite's codes mean).
//!
//! Several processes use one file at once: writers wait for each other, readers do not wait. What was acknowledged
//! survives a crash and a power loss, as far as the disk stores what it confirms: the files are in write-ahead mode
//! with `synchronous=FULL`.

mod checkpoint;
mod checksum;
mod connect;
mod copy;
mod damage;
mod error;
mod index;
mod presence;
mod query;
mod store;
mod table;
mod upgrade;
mod write;

pub use copy::Snapshot;
pub use store::SqliteStore;
