//! Where values come from, before their contents are read. Owns the order of the layers.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where one value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// An option of the command line, with its dashes.
    Flag(&'static str),
    /// A variable of the process.
    Environment,
    /// A line of the file that `--env-file` named.
    EnvFile {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A key of the settings file.
    SettingsFile {
        /// The file.
        file: PathBuf,
        /// The key as it is written there.
        key: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// No value was given.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment => f.write_str("environment"),
            Self::EnvFile { file, line } => write!(f, "{} line {line}", file.display()),
            Self::SettingsFile { file, key, line } => {
                write!(f, "{} line {line}, key {key}", file.display())
            }
            Self::Default => f.write_str("default"),
        }
    }
}

/// A name with a value, as one layer has it.
#[derive(Clone)]
pub struct Given {
    /// The variable's name, with `_FILE` where the value is the name of a file.
    pub name: String,
    /// The value as it is written.
    pub value: Raw,
    /// Where it is written.
    pub source: Source,
}

/// A value as it is written.
#[derive(Clone, PartialEq, Eq)]
pub enum Raw {
    /// A text.
    Text(String),
    /// A number of the settings file.
    Number(String),
    /// A truth value of the settings file.
    Switch(bool),
    /// What no setting can be: bytes that are not UTF-8, a table, a date.
    Unfit(&'static str),
}

/// Everything that values can come from; the environment and the command line as they are, files by
/// name.
#[derive(Clone, Default)]
pub struct Inputs {
    /// Options of the command line that stand for settings.
    pub flags: Vec<Flag>,
    /// The variables of the process.
    pub environment: Vec<(String, Raw)>,
    /// `--env-file`.
    pub env_file: Option<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// The settings file that is read if it exists and `--config` names none.
    pub usual_config: Option<PathBuf>,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs").finish_non_exhaustive()
    }
}

/// An option of the command line that sets a setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flag {
    /// The option, with its dashes.
    pub option: &'static str,
    /// The setting.
    pub setting: &'static str,
    /// What was given.
    pub value: String,
}

/// The settings file that is read when `--config` names none.
pub const USUAL_CONFIG: &str = "tierkeep.toml";

impl Inputs {
    /// A process with this environment in which nothing else is given.
    pub fn of_environment<N: Into<String>, V: Into<String>>(
        environment: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let environment = environment
            .into_iter()
            .map(|(name, value)| (name.into(), Raw::Text(value.into())));
        Self {
            environment: environment.collect(),
            ..Self::default()
        }
    }

    /// The settings file to read, and whether it must exist.
    pub(super) fn settings_file(&self) -> Option<(&Path, bool)> {
        match (&self.config, &self.usual_config) {
            (Some(file), _) => Some((file, true)),
            (None, Some(file)) => Some((file, false)),
            (None, None) => None,
        }
    }
}
