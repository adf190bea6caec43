//! `secret.key` in the data directory: owns the signing secret of the embedded default. Must never replace
//! a secret that is there, show one, or leave half of one behind.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use secrecy::SecretString;

/// The file's name.
const FILE_NAME: &str = "secret.key";
/// How many random bytes a secret has.
pub(super) const SECRET_BYTES: usize = 32;

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
    /// Somebody emptied it, or put something of their own into it.
    #[error(
        "{path} holds {length_bytes} bytes, and at least {SECRET_BYTES} are needed; remove the file, and \
         another secret is made (JWTs that were signed with the old one are refused then)",
        path = path.display()
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// How long the secret in it is.
        length_bytes: usize,
    },
}

/// The secret of `data_dir`. Makes it, and the directory, where there is none.
///
/// Any number of processes may do this at once: one secret appears, whole, and all of them return it.
///
/// # Errors
/// [`SecretKeyError`] says which file or directory is in the way.
pub fn read_or_make(data_dir: &Path) -> Result<SecretString, SecretKeyError> {
    let path = data_dir.join(FILE_NAME);
    let failed = |error| SecretKeyError::Io {
        path: path.clone(),
        error,
    };
    if !path.try_exists().map_err(failed)? {
        make(data_dir, &path)?;
    }
    let text = fs::read_to_string(&path).map_err(failed)?;
    let secret = text.trim();
    if secret.len() < SECRET_BYTES {
        let length_bytes = secret.len();
        return Err(SecretKeyError::Short { path, length_bytes });
    }
    Ok(SecretString::from(secret))
}

fn make(data_dir: &Path, path: &Path) -> Result<(), SecretKeyError> {
    let failed_at = |path: &Path| {
        let path = path.to_owned();
        move |error| SecretKeyError::Io { path, error }
    };
    private_directory(data_dir).map_err(failed_at(data_dir))?;
    let draft = data_dir.join(format!("{FILE_NAME}.{:016x}", rand::random::<u64>()));
    // A crash before the link leaves a draft behind that nobody reads.
    let linked = write(&draft).and_then(|()| fs::hard_link(&draft, path));
    // The draft has a second name by now, or is of no use.
    let _ = fs::remove_file(&draft);
    match linked {
        Ok(()) => {
            let _ = File::open(data_dir).and_then(|directory| directory.sync_all());
            tracing::warn!(file = %path.display(), "made a signing secret, because SECRET_KEY is not set");
            Ok(())
        }
        // Another process was faster; its secret counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed_at(path)(error)),
    }
}

fn write(draft: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(draft)?;
    let secret: [u8; SECRET_BYTES] = rand::random();
    for byte in secret {
        write!(file, "{byte:02x}")?;
    }
    file.write_all(b"\n")?;
    file.sync_all()
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
        assert_eq!(files, [FILE_NAME]);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        read_or_make(directory.path()).unwrap();
        let file = directory.path().join(FILE_NAME);
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn an_emptied_file_is_no_secret_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE_NAME), "\n").unwrap();
        let error = read_or_make(directory.path()).unwrap_err();
        assert!(
            error.to_string().contains("secret.key holds 0 bytes"),
            "{error}"
        );
    }
}
