//! How callers are identified. Owns the choice of the JWT keys and what must hold before GitHub may be left
//! out; must never quote a key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;
use tierkeep_engine::OnChange;
use tierkeep_identity::{
    GithubSettings, GithubVerification, GithubVerifier, JwtKeys, JwtSettings, JwtVerifier,
};

use super::databases::{CLUSTER_URL, DATA_DIR, Missing};
use super::loaded::{Effective, Loaded};
use super::problem::{Problem, Problems};
use super::secret_key::{self, SecretKeyError};
use super::settings::finish;
use super::small_file;
use crate::clock::SystemClock;

pub(super) const SECRET_KEY: &str = "SECRET_KEY";
pub(super) const SECRET_KEY_PREVIOUS: &str = "SECRET_KEY_PREVIOUS";
pub(super) const PUBLIC_KEY_FILE: &str = "TIERKEEP_JWT_PUBLIC_KEY_FILE";
pub(super) const JWKS_FILE: &str = "TIERKEEP_JWKS_FILE";
pub(super) const JWKS_URL: &str = "TIERKEEP_JWKS_URL";
const GITHUB_VERIFY: &str = "TIERKEEP_GITHUB_VERIFY";
const GITHUB_API_URL: &str = "GITHUB_API_URL";

/// How callers are identified.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// Where the keys are that check JWTs.
    pub keys: KeySource,
    /// The `iss` that JWTs must have.
    pub issuer: Option<String>,
    /// The `aud` that JWTs must have.
    pub audience: Option<String>,
    /// How GitHub is asked.
    pub github: GithubSettings,
    /// What becomes of an internal user who arrives with another GitHub account than before.
    pub on_change: OnChange,
    /// Whether a request that names a public user and brings credentials is refused.
    pub strict: bool,
}

/// Where the keys are that check JWTs.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// In the settings; known to be fit.
    Given(JwtKeys),
    /// In `secret.key` of the data directory, made at first use.
    DataDir {
        /// The directory.
        data_dir: PathBuf,
        /// The secret before that.
        previous: Option<SecretString>,
    },
}

impl IdentitySettings {
    /// The settings of the JWT check. Makes the secret of the data directory where there is none yet.
    ///
    /// # Errors
    /// When that secret can be neither read nor made.
    pub fn jwt(&self) -> Result<JwtSettings, SecretKeyError> {
        let mut settings = JwtSettings::new(self.keys.keys()?);
        settings.issuer.clone_from(&self.issuer);
        settings.audience.clone_from(&self.audience);
        Ok(settings)
    }
}

impl KeySource {
    /// Where the keys are by these settings, whatever is wrong with others.
    ///
    /// # Errors
    /// Everything that is wrong with the settings of keys, at once.
    pub fn of(loaded: &Loaded) -> Result<Self, Problems> {
        let names = [
            SECRET_KEY,
            SECRET_KEY_PREVIOUS,
            PUBLIC_KEY_FILE,
            JWKS_FILE,
            JWKS_URL,
        ];
        let mut problems = loaded.problems_about(&names);
        let mut missing = Vec::new();
        let source = keys(loaded, &mut missing, &mut problems);
        finish(source, loaded, &missing, problems)
    }

    /// The keys; makes no secret where the data directory has lost its own.
    ///
    /// # Errors
    /// When the secret of the data directory cannot be read.
    pub fn read_again(&self) -> Result<JwtKeys, SecretKeyError> {
        match self {
            Self::Given(keys) => Ok(keys.clone()),
            Self::DataDir { data_dir, previous } => Ok(JwtKeys::Secret {
                current: secret_key::read_again(data_dir)?,
                previous: previous.clone(),
            }),
        }
    }

    fn keys(&self) -> Result<JwtKeys, SecretKeyError> {
        match self {
            Self::Given(keys) => Ok(keys.clone()),
            Self::DataDir { data_dir, previous } => Ok(JwtKeys::Secret {
                current: secret_key::read_or_make(data_dir)?,
                previous: previous.clone(),
            }),
        }
    }

    /// The secret that signs development tokens. `None` where public keys check tokens.
    ///
    /// # Errors
    /// When the secret of the data directory can be neither read nor made.
    pub fn signing_secret(&self) -> Result<Option<SecretString>, SecretKeyError> {
        match self.keys()? {
            JwtKeys::Secret { current, .. } => Ok(Some(current)),
            JwtKeys::PublicKeyPem(_) | JwtKeys::Jwks(_) | JwtKeys::JwksUrl(_) => Ok(None),
        }
    }
}

/// The identity settings. `None` after at least one problem or missing variable.
pub(super) fn identity(
    loaded: &Loaded,
    missing: &mut Vec<Missing>,
    problems: &mut Vec<Problem>,
) -> Option<IdentitySettings> {
    let github = github(loaded, problems);
    Some(IdentitySettings {
        keys: keys(loaded, missing, problems)?,
        issuer: loaded.text("TIERKEEP_JWT_ISSUER").map(str::to_owned),
        audience: loaded.text("TIERKEEP_JWT_AUDIENCE").map(str::to_owned),
        github,
        on_change: if loaded.is_on("TIERKEEP_GITHUB_BIND") {
            OnChange::Refuse
        } else {
            OnChange::Follow
        },
        strict: loaded.is_on("TIERKEEP_STRICT_IDENTITY"),
    })
}

fn keys(
    loaded: &Loaded,
    missing: &mut Vec<Missing>,
    problems: &mut Vec<Problem>,
) -> Option<KeySource> {
    let names = [SECRET_KEY, PUBLIC_KEY_FILE, JWKS_FILE, JWKS_URL];
    let given: Vec<&str> = names
        .into_iter()
        .filter(|name| !is_absent(loaded, name))
        .collect();
    let previous = loaded.secret(SECRET_KEY_PREVIOUS).cloned();
    match given.as_slice() {
        [] => {
            if let Some(data_dir) = loaded.path(DATA_DIR) {
                return in_data_dir(data_dir, previous, problems);
            }
            let purpose = "verifies the signatures of JWTs; or TIERKEEP_JWT_PUBLIC_KEY_FILE, \
                           TIERKEEP_JWKS_FILE or TIERKEEP_JWKS_URL";
            missing.push((SECRET_KEY, purpose.to_owned()));
            None
        }
        [only] => {
            if *only != SECRET_KEY && previous.is_some() {
                problems.push(contradiction(&[SECRET_KEY_PREVIOUS, only]));
            }
            let keys = given_keys(loaded, only, previous, problems)?;
            are_fit(only, &keys, problems).then_some(KeySource::Given(keys))
        }
        several => {
            problems.push(contradiction(several));
            None
        }
    }
}

/// The secret of the directory is there later, so that only the one before it can be checked now.
fn in_data_dir(
    data_dir: &Path,
    previous: Option<SecretString>,
    problems: &mut Vec<Problem>,
) -> Option<KeySource> {
    let stand_in = SecretString::from("0".repeat(2 * secret_key::SECRET_BYTES));
    let keys = JwtKeys::Secret {
        current: stand_in,
        previous: previous.clone(),
    };
    let data_dir = data_dir.to_owned();
    are_fit(SECRET_KEY_PREVIOUS, &keys, problems)
        .then_some(KeySource::DataDir { data_dir, previous })
}

fn is_absent(loaded: &Loaded, name: &str) -> bool {
    loaded.get(name).is_none_or(Effective::is_absent)
}

fn contradiction(names: &[&str]) -> Problem {
    let message = format!(
        "{} are all set, but only one kind of key can verify JWTs",
        names.join(" and ")
    );
    Problem::among(names.iter().copied(), message).remedy("set only one of them")
}

fn given_keys(
    loaded: &Loaded,
    name: &str,
    previous: Option<SecretString>,
    problems: &mut Vec<Problem>,
) -> Option<JwtKeys> {
    if name == SECRET_KEY {
        let current = loaded.secret(SECRET_KEY)?.clone();
        return Some(JwtKeys::Secret { current, previous });
    }
    if name == JWKS_URL {
        return loaded
            .text(name)
            .map(|url| JwtKeys::JwksUrl(url.to_owned()));
    }
    let path = loaded.path(name)?;
    let text = read(loaded, name, path, problems)?;
    Some(if name == JWKS_FILE {
        JwtKeys::Jwks(text)
    } else {
        JwtKeys::PublicKeyPem(text)
    })
}

fn read(loaded: &Loaded, name: &str, path: &Path, problems: &mut Vec<Problem>) -> Option<String> {
    match small_file::read(path) {
        Ok(text) => Some(text),
        Err(error) => {
            let source = loaded.source(name);
            let message = format!(
                "the file {} of {name} ({source}) cannot be read: {error}",
                path.display()
            );
            problems.push(Problem::new(name, message));
            None
        }
    }
}

/// Whether tokens can be checked with `keys`, which the setting `name` gave.
fn are_fit(name: &str, keys: &JwtKeys, problems: &mut Vec<Problem>) -> bool {
    match JwtVerifier::new(JwtSettings::new(keys.clone()), Arc::new(SystemClock)) {
        Ok(_) => true,
        Err(error) => {
            let problem = Problem::new(name, error.to_string());
            problems.push(match keys {
                JwtKeys::Secret { .. } => {
                    problem.remedy("openssl rand -hex 32 generates one that is long enough")
                }
                JwtKeys::PublicKeyPem(_) | JwtKeys::Jwks(_) | JwtKeys::JwksUrl(_) => problem,
            });
            false
        }
    }
}

fn github(loaded: &Loaded, problems: &mut Vec<Problem>) -> GithubSettings {
    let verification = if loaded.is_on(GITHUB_VERIFY) {
        GithubVerification::On
    } else {
        problems.extend(unverified(loaded));
        GithubVerification::Off
    };
    let mut settings = GithubSettings {
        verification,
        cache_ttl: loaded.duration("TIERKEEP_GITHUB_CACHE_TTL"),
        ..GithubSettings::default()
    };
    if let Some(url) = loaded.text(GITHUB_API_URL) {
        url.clone_into(&mut settings.api_url);
    }
    if settings.api_url != GithubSettings::default().api_url
        && let Err(error) = GithubVerifier::new(&settings)
    {
        let source = loaded.source(GITHUB_API_URL);
        problems.push(Problem::new(GITHUB_API_URL, format!("{error} ({source})")));
    }
    settings
}

/// Taking any GitHub token for valid is for one machine, never for a service that others reach.
fn unverified(loaded: &Loaded) -> Option<Problem> {
    let found = loaded.get(GITHUB_VERIFY)?;
    found.value.as_ref()?;
    let embedded = loaded.path(DATA_DIR).is_some() && loaded.secret(CLUSTER_URL).is_none();
    let listen = loaded.address("TIERKEEP_LISTEN");
    let loopback = listen.is_some_and(|listen| listen.ip().is_loopback());
    if embedded && loopback {
        return None;
    }
    let message = format!(
        "{GITHUB_VERIFY} is off ({}), which is allowed only with a data directory and a loopback listener",
        found.source
    );
    Some(
        Problem::among([GITHUB_VERIFY, DATA_DIR, "TIERKEEP_LISTEN"], message)
            .remedy("keep it on, or use --data-dir DIR and listen on 127.0.0.1"),
    )
}
