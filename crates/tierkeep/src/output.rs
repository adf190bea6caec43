//! Results: owns stdout. Must never panic because a reader has gone, never write anything but results, and never let a stored
//! text steer a terminal.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use crate::terminal::harmless;

/// Empties a terminal from its top.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// Output format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON value.
    Json,
}

/// Why a result was not written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader has gone (a broken pipe); no reason to complain.
    #[error("the reader of the output has closed it")]
    Closed,
    /// Anything else.
    #[error("the output cannot be written: {0}")]
    Io(io::Error),
    /// The result cannot be put as JSON.
    #[error("the result cannot be formatted as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Io(error)
        }
    }
}

/// Where results go, and in which form.
pub struct Output {
    format: Format,
    writer: Box<dyn Write + Send>,
}

impl Output {
    /// Results to stdout.
    pub fn stdout(format: Format) -> Self {
        Self {
            format,
            writer: Box::new(io::stdout()),
        }
    }

    /// Results to `writer`.
    pub fn to(format: Format, writer: impl Write + Send + 'static) -> Self {
        Self {
            format,
            writer: Box::new(writer),
        }
    }

    /// Output format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Writes one result: as JSON, or as the text that `text` makes of it.
    ///
    /// # Errors
    /// [`OutputError`] says why not.
    pub fn result<T: Serialize>(
        &mut self,
        result: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), OutputError> {
        match self.format {
            Format::Json => self.line(&serde_json::to_string(result)?),
            Format::Text => self.line(&text(result)),
        }
    }

    /// Makes the terminal empty, for a result that replaces the one before.
    ///
    /// # Errors
    /// [`OutputError`] says why not.
    pub fn clear(&mut self) -> Result<(), OutputError> {
        Ok(self.writer.write_all(CLEAR)?)
    }

    /// Writes `text`, whatever the form, and ends the line where it does not. What would steer a terminal is escaped.
    ///
    /// # Errors
    /// [`OutputError`] says why not.
    pub fn line(&mut self, text: &str) -> Result<(), OutputError> {
        let text = harmless(text);
        self.writer.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            self.writer.write_all(b"\n")?;
        }
        Ok(self.writer.flush()?)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Clone, Default)]
    struct Kept(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_result_steers_a_terminal_whatever_its_form() {
        let hostile = "\u{1b}[2J\u{9b}31m\u{202e}";
        for format in [Format::Text, Format::Json] {
            let kept = Kept::default();
            let mut output = Output::to(format, kept.clone());
            output.result(&hostile, |it| (*it).to_owned()).unwrap();
            let written = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            let line = written.strip_suffix('\n').unwrap();
            assert!(!line.chars().any(crate::terminal::disturbs), "{written:?}");
            assert!(line.contains("\\u001b[2J\\u009b31m\\u202e"), "{line}");
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_told_apart() {
        let mut output = Output::to(Format::Text, Gone);
        assert!(matches!(output.line("x"), Err(OutputError::Closed)));
    }
}
