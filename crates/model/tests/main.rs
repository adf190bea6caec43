//! Small worlds in which the engine runs in every order of calls: each is explored completely, and reports how many
//! different moments were reached.

#![expect(clippy::print_stdout, reason = "how much was explored is worth a line")]

mod mutants;
mod scenarios;
mod world;
