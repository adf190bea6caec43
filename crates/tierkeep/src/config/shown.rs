//! A setting as it is shown: its value and where that came from. Owns that secrets stay hidden.

use std::fmt::Write as _;

use serde::Serialize;

use super::loaded::Effective;

/// What stands for a secret.
const HIDDEN: &str = "***";

/// One setting.
#[derive(Clone, Debug, Serialize)]
pub struct ShownSetting {
    /// The variable.
    pub name: &'static str,
    /// Its value, `***` for a secret; none where there is none.
    pub value: Option<String>,
    /// Where the value came from.
    pub source: String,
    /// The value is never shown.
    pub secret: bool,
}

impl From<&Effective> for ShownSetting {
    fn from(effective: &Effective) -> Self {
        let secret = effective.setting.kind.is_secret();
        let value = if secret && effective.value.is_some() {
            Some(HIDDEN.to_owned())
        } else {
            effective.text.clone()
        };
        let mut source = effective.source.to_string();
        if let Some(file) = &effective.file {
            let _ = write!(source, ", file {}", file.display());
        }
        Self {
            name: effective.setting.name,
            value,
            source,
            secret,
        }
    }
}

impl ShownSetting {
    /// The value for people.
    pub fn shown(&self) -> &str {
        match &self.value {
            Some(_) if self.secret => "*** (set)",
            Some(value) => value,
            None => "-",
        }
    }
}
