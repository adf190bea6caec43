//! The main job as a user runs it: the built binary, on SQLite and on a MongoDB replica set.

mod alerts;
mod audit;
mod backup;
mod contents;
mod control;
mod crash;
mod cut_off;
mod databases;
mod doctor;
mod dump;
mod erase;
mod hr;
mod identity;
pub mod kill;
mod legacy;
mod looking;
mod main_job;
#[cfg(target_os = "linux")]
mod memory;
mod outage;
mod poison;
pub mod program;
mod quarantine;
mod refusals;
mod rotation;
mod servers;
mod service;
mod sharded;
mod time_zones;
mod topologies;
mod traces;
mod upgrade;
mod watching;
