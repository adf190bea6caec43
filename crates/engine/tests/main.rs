//! The engine against real stores: the same tests on the memory store, SQLite and a MongoDB replica set.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adoption;
mod alerts;
mod audit;
mod beside_requests;
mod binding;
mod cluster;
mod comparing;
mod connection;
mod control;
mod crash;
mod delivery;
mod dump;
mod dump_of_others;
mod erasing_while_moving;
mod erasure;
mod flow;
mod foreign_writers;
mod guard;
mod hanging;
mod history;
mod hr;
mod intake;
mod janitor;
mod lease;
mod logs;
mod migration;
mod misrouting;
mod mutants;
mod pending_erasures;
mod property_3_data_migration_and_backup_consistency;
mod property_4_hr_data_routing_and_backup;
mod property_6_migration_retry_on_failure;
mod property_8_connection_retry_with_exponential_backoff;
mod restoring;
mod scale;
mod sharded;
mod simulate;
mod sizes;
mod skew;
mod standing;
mod users;
mod verify;
mod watching;
mod world;
