//! How the audit trail is kept. Owns where its key comes from and where decisions wait; must never quote a key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tierkeep_core::audit::AuditKey;
use tierkeep_engine::{AuditDecisions, AuditSettings, MemorySpool, Purpose, Spool};

use super::databases::DATA_DIR;
use super::loaded::Loaded;
use super::problem::Problem;
use super::secret_key::{self, SecretKeyError};
use crate::spool::FileSpool;

const KEY: &str = "TIERKEEP_AUDIT_KEY";
/// The shortest key that is too long to guess.
const KEY_BYTES: usize = 16;
/// The spool's directory in the data directory.
const SPOOL: &str = "spool";

/// How the audit trail is kept.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    key: Option<SecretString>,
    data_dir: Option<PathBuf>,
    spool_dir: Option<PathBuf>,
    decisions: AuditDecisions,
}

impl AuditConfig {
    /// The settings of the trail. Who works in a data directory makes its key where there is none.
    ///
    /// # Errors
    /// When the key of the data directory can be neither read nor made.
    pub fn settings(&self, purpose: Purpose) -> Result<AuditSettings, SecretKeyError> {
        let kept = |data_dir: &Path| match purpose {
            Purpose::Work | Purpose::Serve | Purpose::WorkWithNewAudit => true,
            Purpose::Look => secret_key::has_audit_key(data_dir),
        };
        let key = match (&self.key, &self.data_dir) {
            (Some(key), _) => Some(key.clone()),
            (None, Some(data_dir)) if kept(data_dir) => Some(secret_key::audit_key(data_dir)?),
            (None, _) => None,
        };
        let spool: Arc<dyn Spool> = match &self.spool_dir {
            Some(spool_dir) => Arc::new(FileSpool::new(spool_dir)),
            None => Arc::new(MemorySpool::default()),
        };
        Ok(AuditSettings {
            key: key.map(|key| AuditKey::new(key.expose_secret().as_bytes())),
            decisions: self.decisions,
            spool,
        })
    }

    /// Whether the trail has a key elsewhere than in the database, or gets one at its first use.
    pub fn keeps_key(&self) -> bool {
        self.key.is_some() || self.data_dir.is_some()
    }

    /// The directory in which decisions wait for the database, if they do so in one.
    pub fn spool_dir(&self) -> Option<&Path> {
        self.spool_dir.as_deref()
    }

    /// The directory that is the service's own: the data directory, or the one of the spool.
    pub fn own_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref().or(self.spool_dir())
    }

    /// Whether decisions that wait for the database survive the process.
    pub fn has_spool(&self) -> bool {
        self.spool_dir.is_some()
    }
}

/// The settings of the trail.
pub(super) fn audit(loaded: &Loaded, problems: &mut Vec<Problem>) -> AuditConfig {
    let key = loaded.secret(KEY).cloned();
    let length_bytes = key.as_ref().map(|key| key.expose_secret().len());
    if let Some(length_bytes) = length_bytes.filter(|length| *length < KEY_BYTES) {
        let source = loaded.source(KEY);
        let message = format!(
            "{KEY} ({source}) is {length_bytes} bytes long; at least {KEY_BYTES} are required"
        );
        problems.push(Problem::new(KEY, message).remedy("openssl rand -hex 32 generates one"));
    }
    let data_dir = loaded.path(DATA_DIR).map(Path::to_owned);
    let given = loaded.path("TIERKEEP_SPOOL_DIR").map(Path::to_owned);
    AuditConfig {
        key,
        spool_dir: given.or_else(|| data_dir.as_ref().map(|dir| dir.join(SPOOL))),
        data_dir,
        decisions: match loaded.text("TIERKEEP_AUDIT_DECISIONS") {
            Some("all") => AuditDecisions::All,
            _ => AuditDecisions::Notable,
        },
    }
}
