//! Keys that may be replaced while tokens are checked: owns which ones are in use, and for which tokens newer ones are
//! looked for.
//!
//! Must never give up keys because new ones are unfit, or check a token against halves of two sets.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use super::JwtRefused;
use super::keys::{JwtKeyError, JwtKeys, Keyring};

/// The keys in use. Clones share them, so that the code that reads newer ones from a file can replace them.
#[derive(Clone, Debug)]
pub struct SharedKeys(Arc<RwLock<Arc<Keyring>>>);

impl SharedKeys {
    pub(super) fn new(keys: JwtKeys) -> Result<Self, JwtKeyError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(Keyring::new(keys)?)))))
    }

    /// Checks every later token against `keys`, which come from the settings and not from a URL.
    ///
    /// # Errors
    /// [`JwtKeyError`] where they are unfit; the previous keys stay in use.
    pub fn replace(&self, keys: JwtKeys) -> Result<(), JwtKeyError> {
        let keys = Arc::new(Keyring::new(keys)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<Keyring> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A look for newer keys than those in use.
pub type Look<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Where newer keys may be, such as a file.
pub trait NewerKeys: Debug + Send + Sync {
    /// Looks for newer keys, and gives them to [`SharedKeys::replace`] where there are some. Called for each token that the
    /// keys in use do not believe, so it is as cheap as asking a file for its time of change. Cancel safe.
    fn look(&self) -> Look<'_>;
}

/// Whether another set of keys might believe a token that was refused for this.
pub(super) fn may_be_of_newer_keys(refused: JwtRefused) -> bool {
    match refused {
        JwtRefused::Algorithm | JwtRefused::UnknownKey | JwtRefused::Signature => true,
        JwtRefused::TooLong
        | JwtRefused::Malformed
        | JwtRefused::Header
        | JwtRefused::Critical
        | JwtRefused::NoKeysYet
        | JwtRefused::Claims
        | JwtRefused::ExpiryMissing
        | JwtRefused::TimeMalformed
        | JwtRefused::Expired
        | JwtRefused::NotYetValid
        | JwtRefused::IssuedInFuture
        | JwtRefused::Type
        | JwtRefused::Issuer
        | JwtRefused::Audience
        | JwtRefused::Subject
        | JwtRefused::GithubLogin
        | JwtRefused::GithubId => false,
    }
}
