//! `completions` and `man`: owns the completion scripts and the manual; both are generated from the command
//! definitions.

use std::io::{self, Write};

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Context, examples};
use crate::exit::Exit;

/// Arguments of `completions`.
#[derive(Args, Clone, Copy, Debug)]
pub struct CompletionsArgs {
    /// The shell: bash, elvish, fish, powershell or zsh
    #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
    pub shell: Shell,
}

/// Prints a completion script.
///
/// # Errors
/// The output cannot be written.
pub fn completions(args: CompletionsArgs, context: &Context) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tierkeep", &mut script);
    context.output().line(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Prints the manual: a page for the program and one for each of its commands, one after the other.
///
/// # Errors
/// The output cannot be written.
pub fn man(context: &Context) -> anyhow::Result<Exit> {
    let mut command = examples::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    page(&command, &mut pages)?;
    context.output().line(&String::from_utf8_lossy(&pages))?;
    Ok(Exit::Done)
}

fn page(command: &Command, pages: &mut dyn Write) -> io::Result<()> {
    Man::new(command.clone()).render(pages)?;
    for inner in command.get_subcommands() {
        page(inner, pages)?;
    }
    Ok(())
}
