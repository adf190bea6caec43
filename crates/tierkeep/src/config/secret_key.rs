//! `secret.key`, `audit.key` and `webhook.key` in the data directory: owns the secrets of the embedded default. Must never
//! replace a secret that is there, show one, or leave half of one behind.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

use super::small_file;

/// A secret that the data directory keeps.
#[derive(Clone, Copy)]
struct Kept {
    file_name: &'static str,
    /// What becomes of a directory whose secret is another one.
    loss: &'static str,
    /// How it is written.
    text: fn(&[u8; SECRET_BYTES]) -> String,
    /// What is said when it was made.
    made: &'static str,
}

const SIGNING: Kept = Kept {
    file_name: "secret.key",
    loss: "JWTs that were signed with the old secret are then refused",
    text: hex,
    made: "generated a signing secret, because SECRET_KEY is not set",
};
const AUDIT: Kept = Kept {
    file_name: "audit.key",
    loss: "audit entries that were written with the old key are then reported as changed",
    text: hex,
    made: "generated a key for the audit trail, because TIERKEEP_AUDIT_KEY is not set",
};
const WEBHOOK: Kept = Kept {
    file_name: "webhook.key",
    loss: "receivers that use the old secret then refuse alerts",
    text: |secret| format!("whsec_{}", STANDARD.encode(secret)),
    made: "generated a secret that signs alerts, because TIERKEEP_ALERT_WEBHOOK_SECRET is not set; give it to the \
           receiver",
};
/// How many random bytes a secret has.
pub(super) const SECRET_BYTES: usize = 32;
/// How many looks, 10 ms apart, another process has for writing a secret whose file it has made.
const WRITTEN_WITHIN: u32 = 20;

/// Why the data directory gives no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretKeyError {
    /// It can be neither read nor made.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// The file was emptied, or other content was put into it.
    #[error(
        "{path} holds {length_bytes} bytes; at least {SECRET_BYTES} are required; remove the file to have a new secret \
         generated ({loss})",
        path = path.display()
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// How long the secret in it is.
        length_bytes: usize,
        /// What becomes of a directory whose secret is another one.
        loss: &'static str,
    },
}

/// The secret of `data_dir`. Makes it, and the directory, where there is none.
///
/// Any number of processes may do this at once: one secret appears, whole, and all of them return it.
///
/// # Errors
/// [`SecretKeyError`] says which file or directory is in the way.
pub fn read_or_make(data_dir: &Path) -> Result<SecretString, SecretKeyError> {
    read_or_make_kept(data_dir, SIGNING)
}

/// The key of the audit trail of `data_dir`; otherwise as [`read_or_make`].
///
/// # Errors
/// As [`read_or_make`].
pub fn audit_key(data_dir: &Path) -> Result<SecretString, SecretKeyError> {
    read_or_make_kept(data_dir, AUDIT)
}

/// The secret that signs the alerts of `data_dir`, in the form that receivers take; otherwise as [`read_or_make`].
///
/// # Errors
/// As [`read_or_make`].
pub fn webhook_secret(data_dir: &Path) -> Result<SecretString, SecretKeyError> {
    read_or_make_kept(data_dir, WEBHOOK)
}

/// The secret of `data_dir` as it is now; makes none.
///
/// # Errors
/// [`SecretKeyError`] where there is none, or none that can be used.
pub fn read_again(data_dir: &Path) -> Result<SecretString, SecretKeyError> {
    read_kept(&data_dir.join(SIGNING.file_name), SIGNING)
}

/// The secret that signs the alerts of `data_dir` as it is now; otherwise as [`read_again`].
///
/// # Errors
/// As [`read_again`].
pub fn webhook_secret_again(data_dir: &Path) -> Result<SecretString, SecretKeyError> {
    read_kept(&data_dir.join(WEBHOOK.file_name), WEBHOOK)
}

/// The settings whose values a data directory keeps where they are not given, each with the name of its file.
pub(super) fn files() -> [(&'static str, &'static str); 3] {
    [
        ("SECRET_KEY", SIGNING.file_name),
        ("TIERKEEP_AUDIT_KEY", AUDIT.file_name),
        ("TIERKEEP_ALERT_WEBHOOK_SECRET", WEBHOOK.file_name),
    ]
}

/// Whether `data_dir` has a key of the audit trail.
pub fn has_audit_key(data_dir: &Path) -> bool {
    data_dir.join(AUDIT.file_name).exists()
}

fn read_or_make_kept(data_dir: &Path, kept: Kept) -> Result<SecretString, SecretKeyError> {
    let path = data_dir.join(kept.file_name);
    let failed = |error| SecretKeyError::Io {
        path: path.clone(),
        error,
    };
    if !path.try_exists().map_err(failed)? {
        make(data_dir, &path, kept)?;
    }
    read_kept(&path, kept)
}

fn read_kept(path: &Path, kept: Kept) -> Result<SecretString, SecretKeyError> {
    let text = read(path).map_err(|error| SecretKeyError::Io {
        path: path.to_owned(),
        error,
    })?;
    let secret = text.trim();
    if secret.len() < SECRET_BYTES {
        let length_bytes = secret.len();
        return Err(SecretKeyError::Short {
            path: path.to_owned(),
            length_bytes,
            loss: kept.loss,
        });
    }
    Ok(SecretString::from(secret))
}

fn make(data_dir: &Path, path: &Path, kept: Kept) -> Result<(), SecretKeyError> {
    let failed_at = |path: &Path| {
        let path = path.to_owned();
        move |error| SecretKeyError::Io { path, error }
    };
    private_directory(data_dir).map_err(failed_at(data_dir))?;
    match place(data_dir, path, kept) {
        Ok(()) => {
            let _ = File::open(data_dir).and_then(|directory| directory.sync_all());
            made(path, kept);
            Ok(())
        }
        // Another process was faster; its secret counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed_at(path)(error)),
    }
}

/// Writes a draft beside `path` and gives it that name, unless something has it already. A crash in between leaves a
/// draft that is not read.
fn place(data_dir: &Path, path: &Path, kept: Kept) -> io::Result<()> {
    let mut draft = tempfile::Builder::new()
        .prefix(&format!("{}.", kept.file_name))
        .tempfile_in(data_dir)?;
    let secret: [u8; SECRET_BYTES] = rand::random();
    let text = (kept.text)(&secret);
    writeln!(draft, "{text}")?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(error.error),
        // File systems that neither link nor rename without replacing: the name itself is the lock.
        Err(_) => write(path, &text),
    }
}

/// Logs that a secret was made: as a warning, since its users need to know where it came from; the trail's has no users
/// to warn.
fn made(path: &Path, kept: Kept) {
    let (file, made) = (path.display(), kept.made);
    if kept.file_name == AUDIT.file_name {
        tracing::info!(%file, "{made}");
    } else {
        tracing::warn!(%file, "{made}");
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(format!("{text}\n").as_bytes())?;
    file.sync_all()
}

/// Reads the secret. One that another process is writing at this moment is waited for.
fn read(path: &Path) -> io::Result<String> {
    let mut text = small_file::read(path)?;
    for _ in 0..WRITTEN_WITHIN {
        if !text.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        text = small_file::read(path)?;
    }
    Ok(text)
}

fn hex(secret: &[u8; SECRET_BYTES]) -> String {
    secret.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Copies the keys that `data_dir` has to `to`, readable to their owner only.
///
/// # Errors
/// [`SecretKeyError::Io`] names the file.
pub fn copy_keys(data_dir: &Path, to: &Path) -> Result<(), SecretKeyError> {
    for kept in [SIGNING, AUDIT] {
        let (from, target) = (data_dir.join(kept.file_name), to.join(kept.file_name));
        let bytes = match fs::read(&from) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(SecretKeyError::Io { path: from, error }),
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(&target).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.map_err(|error| SecretKeyError::Io {
            path: target,
            error,
        })?;
    }
    Ok(())
}

/// Makes a directory that only this user may enter, where there is none.
///
/// # Errors
/// What the operating system says.
pub fn private_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn processes_that_start_at_once_agree_on_one_secret() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let secrets: Vec<String> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| read_or_make(&data_dir).unwrap().expose_secret().to_owned())
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
        assert_eq!(secrets[0].len(), 2 * SECRET_BYTES);
        let files: Vec<_> = fs::read_dir(&data_dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(files, [SIGNING.file_name]);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        read_or_make(directory.path()).unwrap();
        let file = directory.path().join(SIGNING.file_name);
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    /// The way of file systems that neither link nor rename without replacing.
    #[test]
    fn a_secret_is_never_written_over_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(SIGNING.file_name);
        write(&path, "first").unwrap();
        let second = write(&path, "second").unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\n");
    }

    #[test]
    fn an_emptied_file_is_no_secret_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(SIGNING.file_name), "\n").unwrap();
        let error = read_or_make(directory.path()).unwrap_err();
        assert!(
            error.to_string().contains("secret.key holds 0 bytes"),
            "{error}"
        );
    }
}
