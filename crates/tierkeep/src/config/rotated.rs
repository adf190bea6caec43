//! Keys and secrets that may be replaced on disk while a service runs: owns which settings they are, which files are behind
//! them, and how they are read again. Must never make a secret: one that is gone is a mistake by now.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tierkeep_identity::JwtKeys;

use super::alerts::{AlertConfig, WEBHOOK_SECRET};
use super::databases::DATA_DIR;
use super::identity::{
    JWKS_FILE, JWKS_URL, KeySource, PUBLIC_KEY_FILE, SECRET_KEY, SECRET_KEY_PREVIOUS,
};
use super::kind::Value;
use super::loaded::{Effective, Loaded};
use super::problem::Problems;
use super::secret_key::{self, SecretKeyError};
use super::source::Source;

/// The settings that say where the keys and secrets are.
pub(super) const ROTATED: [&str; 6] = [
    SECRET_KEY,
    SECRET_KEY_PREVIOUS,
    PUBLIC_KEY_FILE,
    JWKS_FILE,
    JWKS_URL,
    WEBHOOK_SECRET,
];

/// Why a key or secret cannot be used as it is on disk now.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The settings that lead to it are wrong.
    #[error(transparent)]
    Settings(#[from] Problems),
    /// The file in the data directory cannot be used.
    #[error(transparent)]
    Kept(#[from] SecretKeyError),
}

/// The files that the keys and secrets came from: their own, and those of settings that hold one.
pub fn files(loaded: &Loaded) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for effective in ROTATED.iter().filter_map(|name| loaded.get(name)) {
        files.extend(effective.file.clone());
        if let Some(Value::Path(path)) = &effective.value {
            files.insert(path.clone());
        }
        match &effective.source {
            Source::EnvFile { file, .. } | Source::SettingsFile { file, .. } => {
                files.insert(file.clone());
            }
            Source::Flag(_) | Source::Environment | Source::Default => {}
        }
    }
    if let Some(data_dir) = loaded.path(DATA_DIR) {
        let kept = secret_key::files().into_iter();
        let kept = kept.filter(|(name, _)| ROTATED.contains(name));
        let kept = kept.filter(|(name, _)| loaded.get(name).is_some_and(Effective::is_absent));
        files.extend(kept.map(|(_, file)| data_dir.join(file)));
    }
    files
}

/// The keys that verify JWTs, as they are now.
///
/// # Errors
/// What is wrong with them or with the settings that lead to them.
pub fn jwt_keys(loaded: &Loaded) -> Result<JwtKeys, Unusable> {
    Ok(KeySource::of(loaded)?.read_again()?)
}

/// The bytes that sign alerts, as they are now; none where nothing is posted.
///
/// # Errors
/// What is wrong with them or with the settings that lead to them.
pub fn webhook_key(loaded: &Loaded) -> Result<Option<Vec<u8>>, Unusable> {
    let webhook = AlertConfig::webhook_of(loaded)?;
    Ok(webhook.map(|webhook| webhook.key_again()).transpose()?)
}
