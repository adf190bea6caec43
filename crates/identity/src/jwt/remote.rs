//! Keys that an identity provider publishes at a URL: owns when they are fetched, and which are in use until then.
//!
//! Must never give up keys because new ones cannot be had, follow a redirect, fetch more often than [`PAUSE`] allows whatever
//! tokens say, or take the URL from a token.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use tokio::sync::Mutex;

use super::keys::{JwtKeyError, Keyring};
use crate::github::is_loopback;

/// The shortest time between two fetches that tokens cause.
const PAUSE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Far more than a set of keys with their certificates.
const MAX_BODY_BYTES: usize = 512 * 1024;

/// Why keys could not be fetched. Holds nothing of the URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeysUnavailable {
    /// No answer in time.
    #[error("the keys that verify JWTs could not be fetched from TIERKEEP_JWKS_URL: timeout")]
    Timeout,
    /// No connection, or a broken one.
    #[error(
        "the keys that verify JWTs could not be fetched from TIERKEEP_JWKS_URL: connection failed"
    )]
    Connection,
    /// Another status than 200.
    #[error("the keys that verify JWTs could not be fetched from TIERKEEP_JWKS_URL: status {0}")]
    Status(u16),
    /// No JWK set, or none with a key for RS256, ES256 or `EdDSA`.
    #[error(
        "TIERKEEP_JWKS_URL does not serve a JWK set that has a key with a kid for RS256, ES256 or EdDSA"
    )]
    NoKeys,
}

/// The keys behind a URL.
pub(super) struct RemoteKeys {
    url: Url,
    client: Client,
    current: RwLock<Option<Arc<Keyring>>>,
    /// When they were fetched last, successfully or not; held while they are.
    fetched_at: Mutex<Option<Instant>>,
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys").finish_non_exhaustive()
    }
}

impl RemoteKeys {
    /// No keys yet.
    pub(super) fn new(url: &str) -> Result<Self, JwtKeyError> {
        let no_url = JwtKeyError::Url("is not a URL of a server");
        let url = Url::parse(url).map_err(|_| no_url.clone())?;
        let loopback = is_loopback(&url).ok_or_else(|| no_url.clone())?;
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            "http" => {
                return Err(JwtKeyError::Url(
                    "must be https unless its host is a loopback address",
                ));
            }
            _ => return Err(no_url),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(JwtKeyError::Url("must not have a user or a password"));
        }
        let mut client = Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .https_only(!loopback)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT);
        if loopback {
            client = client.no_proxy();
        }
        let client = client.build();
        Ok(Self {
            url,
            client: client.map_err(|_| {
                JwtKeyError::Url("needs an HTTP client, which could not be created")
            })?,
            current: RwLock::default(),
            fetched_at: Mutex::default(),
        })
    }

    /// The last good set.
    pub(super) fn current(&self) -> Option<Arc<Keyring>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Fetches the keys where that was not done lately; whether a token may be tried once more. Those that ask meanwhile wait
    /// for the same fetch.
    pub(super) async fn look_for_new(&self) -> bool {
        let asked_at = Instant::now();
        let mut fetched_at = self.fetched_at.lock().await;
        if let Some(at) = *fetched_at {
            if at > asked_at {
                return true;
            }
            if at.elapsed() < PAUSE {
                return false;
            }
        }
        let fetched = self.fetch().await;
        *fetched_at = Some(Instant::now());
        if let Err(error) = fetched {
            tracing::warn!(%error, "the previous keys stay in use");
        }
        fetched.is_ok()
    }

    /// Fetches the keys.
    pub(super) async fn refresh(&self) -> Result<(), KeysUnavailable> {
        let mut fetched_at = self.fetched_at.lock().await;
        let fetched = self.fetch().await;
        *fetched_at = Some(Instant::now());
        fetched
    }

    async fn fetch(&self) -> Result<(), KeysUnavailable> {
        let request = self.client.get(self.url.clone());
        let mut response = request.send().await.map_err(|error| class(&error))?;
        if response.status() != StatusCode::OK {
            return Err(KeysUnavailable::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| class(&error))? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(KeysUnavailable::NoKeys);
            }
            body.extend_from_slice(&chunk);
        }
        let json = std::str::from_utf8(&body).map_err(|_| KeysUnavailable::NoKeys)?;
        let keys = Keyring::published(json).ok_or(KeysUnavailable::NoKeys)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(keys));
        Ok(())
    }
}

fn class(error: &reqwest::Error) -> KeysUnavailable {
    if error.is_timeout() {
        KeysUnavailable::Timeout
    } else {
        KeysUnavailable::Connection
    }
}
