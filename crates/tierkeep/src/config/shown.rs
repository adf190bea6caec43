//! A setting as it is shown: its value and where that came from. Owns that secrets stay hidden.

use std::fmt::Write as _;

use serde::Serialize;

use super::databases::DATA_DIR;
use super::identity::{JWKS_FILE, JWKS_URL, PUBLIC_KEY_FILE, SECRET_KEY};
use super::loaded::{Effective, Loaded};
use super::secret_key;

/// The text shown in place of a secret.
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

/// All settings in the order of the table, the secrets that the data directory keeps among them.
pub fn all(loaded: &Loaded) -> Vec<ShownSetting> {
    let mut all: Vec<ShownSetting> = loaded.all().map(ShownSetting::from).collect();
    let Some(data_dir) = loaded.path(DATA_DIR) else {
        return all;
    };
    let is_absent = |name: &str| loaded.get(name).is_some_and(Effective::is_absent);
    let by_public_key = [PUBLIC_KEY_FILE, JWKS_FILE, JWKS_URL]
        .iter()
        .any(|name| !is_absent(name));
    for (name, file_name) in secret_key::files() {
        let Some(row) = all.iter_mut().find(|row| row.name == name) else {
            continue;
        };
        if !is_absent(name) || (name == SECRET_KEY && by_public_key) {
            continue;
        }
        let file = data_dir.join(file_name);
        let shown = file.display();
        if file.is_file() {
            row.value = Some(HIDDEN.to_owned());
            row.source = format!("file {shown} of the data directory");
        }
    }
    all
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
