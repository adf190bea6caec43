//! The engine against real stores: the same tests on the memory store, SQLite and a MongoDB replica set.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adoption;
mod alerts;
mod audit;
mod beside_requests;
mod cluster;
mod connection;
mod control;
mod crash;
mod erasure;
mod flow;
mod foreign_writers;
mod history;
mod janitor;
mod lease;
mod logs;
mod migration;
mod misrouting;
mod mutants;
mod property_3_data_migration_and_backup_consistency;
mod property_6_migration_retry_on_failure;
mod scale;
mod simulate;
mod standing;
mod users;
mod verify;
mod world;
