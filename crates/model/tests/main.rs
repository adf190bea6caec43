//! Small worlds in which the engine meets every order of calls: each is gone through whole, and says how many
//! different moments there were.

#![expect(clippy::print_stdout, reason = "how much was explored is worth a line")]

mod mutants;
mod scenarios;
mod world;
