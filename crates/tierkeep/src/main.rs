//! The `tierkeep` command. Everything is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tierkeep::heap::limit();
    tierkeep::cli::start::run(std::env::args_os()).into()
}
