//! Questions to the person at the terminal. Owns when one is asked: never where there is no terminal to ask at.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

/// Asks whether to continue; only `y` and `yes` mean that. `true` without a question where input or the error output is
/// no terminal.
///
/// # Errors
/// The terminal went away.
pub(super) fn confirmed(question: &str) -> io::Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(means_yes(&answer))
}

fn means_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_means_yes() {
        assert!(["y\n", "Yes\n", " YES"].iter().all(|it| means_yes(it)));
        assert!(!["", "\n", "n\n", "yess\n"].iter().any(|it| means_yes(it)));
    }
}
