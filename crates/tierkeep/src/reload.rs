//! Keys and secrets on disk, read again while the service runs: owns when that happens, and that an unusable one changes
//! nothing.
//!
//! It happens at SIGHUP, within seconds after a file has changed, and before a token is refused that newer keys might
//! believe. What is read is the settings' own keys and secrets, from wherever they came; every other setting stays as it was
//! at the start.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tierkeep_identity::{JwtKeys, Look, NewerKeys, SharedKeys};
use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::alerts::WebhookKey;
use crate::config::rotated::{self, Unusable};
use crate::config::{Inputs, Loaded};
use crate::lifecycle::Hangups;

/// How often the files are looked at. One that changed is read when it has stayed the same from one look to the next: an
/// editor or a copy may still be writing.
const EVERY: Duration = Duration::from_secs(1);

/// The keys and secrets of a service, and where they are.
pub struct SecretFiles {
    inputs: Inputs,
    /// The keys that verify JWTs; none where they are fetched from a URL.
    keys: Option<SharedKeys>,
    /// What signs alerts; none where nothing is posted.
    webhook: Option<WebhookKey>,
    seen: Mutex<Seen>,
}

/// The files, and how they were when they were read.
#[derive(Default)]
struct Seen {
    files: BTreeSet<PathBuf>,
    stamps: Stamps,
}

/// What of each file changes when it is written or replaced; none where there is no such file.
type Stamps = Vec<Option<Stamp>>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    changed_at: Option<SystemTime>,
    length_bytes: u64,
    /// The file behind the name, and when it was last touched in any way.
    place: (u64, u64, i64, i64),
}

/// What was read.
struct Read {
    files: BTreeSet<PathBuf>,
    keys: Result<JwtKeys, Unusable>,
    webhook: Result<Option<Vec<u8>>, Unusable>,
}

impl fmt::Debug for SecretFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFiles").finish_non_exhaustive()
    }
}

impl SecretFiles {
    /// The files behind `loaded`, which was gathered from `inputs`; what is read from them goes to these keys.
    pub fn new(
        inputs: Inputs,
        loaded: &Loaded,
        keys: Option<SharedKeys>,
        webhook: Option<WebhookKey>,
    ) -> Self {
        let files = rotated::files(loaded);
        let stamps = stamps(&files);
        Self {
            inputs,
            keys,
            webhook,
            seen: Mutex::new(Seen { files, stamps }),
        }
    }

    /// Reads the files again at each SIGHUP and when they change, until `stop` is cancelled.
    pub async fn watch(self: Arc<Self>, mut hangups: Hangups, stop: CancellationToken) {
        let mut before = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = hangups.next() => {
                    info!("SIGHUP: keys and secrets are read again");
                    let mut seen = self.seen.lock().await;
                    let now = stamps_of(&seen.files).await;
                    self.read(&mut seen, now).await;
                }
                () = sleep(EVERY) => {
                    let mut seen = self.seen.lock().await;
                    let now = stamps_of(&seen.files).await;
                    if now != seen.stamps && before.as_ref() == Some(&now) {
                        self.read(&mut seen, now.clone()).await;
                    }
                    before = Some(now);
                }
            }
        }
    }

    /// Reads everything, of which `stamps` is what the files were like just before, and puts it to use as far as it is fit.
    async fn read(&self, seen: &mut Seen, stamps: Stamps) {
        let inputs = self.inputs.clone();
        let read = tokio::task::spawn_blocking(move || {
            let loaded = Loaded::gather(&inputs);
            Read {
                files: rotated::files(&loaded),
                keys: rotated::jwt_keys(&loaded),
                webhook: rotated::webhook_key(&loaded),
            }
        });
        let Ok(read) = read.await else { return };
        seen.stamps = stamps;
        if read.files != seen.files {
            // They are compared with what they are like from now on.
            seen.stamps = stamps_of(&read.files).await;
            seen.files = read.files;
        }
        if let Some(keys) = &self.keys {
            let replaced = read.keys.map_err(|error| error.to_string());
            let replaced = replaced.and_then(|new| {
                let replaced = keys.replace(new);
                replaced.map_err(|error| error.to_string())
            });
            match replaced {
                Ok(()) => info!("the keys that verify JWTs were read again"),
                Err(error) => warn!(
                    %error,
                    "the keys that verify JWTs cannot be used; the previous ones stay in use"
                ),
            }
        }
        if let Some(webhook) = &self.webhook {
            match read.webhook {
                Ok(Some(key)) => webhook.replace(key),
                Ok(None) => {}
                Err(error) => warn!(
                    %error,
                    "the secret that signs alerts cannot be used; the previous one stays in use"
                ),
            }
        }
    }
}

impl NewerKeys for SecretFiles {
    fn look(&self) -> Look<'_> {
        Box::pin(async {
            let mut seen = self.seen.lock().await;
            let now = stamps_of(&seen.files).await;
            if now != seen.stamps {
                self.read(&mut seen, now).await;
            }
        })
    }
}

/// What the files are like, asked for beside the requests: a file may be on a slow disk.
async fn stamps_of(files: &BTreeSet<PathBuf>) -> Stamps {
    let files = files.clone();
    let stamps = tokio::task::spawn_blocking(move || stamps(&files));
    stamps.await.unwrap_or_default()
}

fn stamps(files: &BTreeSet<PathBuf>) -> Stamps {
    let stamp = |file: &PathBuf| {
        let found = fs::metadata(file).ok()?;
        Some(Stamp {
            changed_at: found.modified().ok(),
            length_bytes: found.len(),
            place: place(&found),
        })
    };
    files.iter().map(stamp).collect()
}

#[cfg(unix)]
fn place(found: &fs::Metadata) -> (u64, u64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (found.dev(), found.ino(), found.ctime(), found.ctime_nsec())
}

#[cfg(not(unix))]
fn place(_found: &fs::Metadata) -> (u64, u64, i64, i64) {
    (0, 0, 0, 0)
}
