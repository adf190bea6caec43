//! The main job as a user runs it: the built binary, on SQLite and on a MongoDB replica set.

mod audit;
mod control;
mod crash;
mod erase;
mod kill;
mod main_job;
mod poison;
pub mod program;
mod refusals;
mod time_zones;
