//! Results: owns stdout. Must never panic because a reader has gone, and never write anything but results.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

/// The form of results.
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
    #[error("nobody reads the output")]
    Closed,
    /// Anything else.
    #[error("the output cannot be written: {0}")]
    Io(io::Error),
    /// The result cannot be put as JSON.
    #[error("the result cannot be put as JSON: {0}")]
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

    /// The form of results.
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

    /// Writes `text`, whatever the form, and ends the line where it does not.
    ///
    /// # Errors
    /// [`OutputError`] says why not.
    pub fn line(&mut self, text: &str) -> Result<(), OutputError> {
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

    #[test]
    fn a_reader_that_has_gone_is_told_apart() {
        let mut output = Output::to(Format::Text, Gone);
        assert!(matches!(output.line("x"), Err(OutputError::Closed)));
    }
}
