//! The files of a dump while they are written: private, hashed, and on disk before they count.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::transfer::dump::DumpError;
use crate::transfer::dump::manifest::FileEntry;

/// How much is gathered before it is hashed and written.
const BUFFER_BYTES: usize = 256 * 1024;

/// Whether the directory exists; it is empty then.
pub(crate) fn is_free(path: &Path) -> Result<bool, DumpError> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(true),
            Some(_) => Err(DumpError::NotEmpty(path.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DumpError::io(path, "read")(error)),
    }
}

/// Makes the directory of a new dump, or takes an empty one.
pub(crate) fn new_directory(path: &Path) -> Result<(), DumpError> {
    if is_free(path)? {
        return Ok(());
    }
    make_directory(path)
}

/// Makes a directory, and those above it, that only its owner can look into.
pub(crate) fn make_directory(path: &Path) -> Result<(), DumpError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(DumpError::io(path, "made"))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), DumpError> {
    if cfg!(unix) {
        let synced = File::open(path).and_then(|directory| directory.sync_all());
        synced.map_err(DumpError::io(path, "written"))?;
    }
    Ok(())
}

/// Makes a file that only its owner can read and that was not there before.
pub(crate) fn new_file(path: &Path) -> Result<File, DumpError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(DumpError::io(path, "made"))
}

/// Writes a small file whole: under its final name it is complete or not there.
pub(crate) fn write_atomically(path: &Path, part: &Path, text: &[u8]) -> Result<(), DumpError> {
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(part)
        .map_err(DumpError::io(part, "written"))?;
    file.write_all(text)
        .and_then(|()| file.sync_all())
        .map_err(DumpError::io(part, "written"))?;
    fs::rename(part, path).map_err(DumpError::io(path, "written"))?;
    match path.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// What goes to disk, hashed and counted.
struct Sink {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.bytes += u64::try_from(written).unwrap_or(u64::MAX);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

enum Form {
    Plain(BufWriter<Sink>),
    Gzip(GzEncoder<BufWriter<Sink>>),
}

/// One file of a dump while it is written.
pub(crate) struct DumpFile {
    form: Form,
    path: PathBuf,
    name: String,
}

impl DumpFile {
    /// A new file `name` below `root`; with gzip, `.gz` is put behind the name.
    pub(crate) fn create(root: &Path, name: &str, gzip: bool) -> Result<Self, DumpError> {
        let name = if gzip {
            format!("{name}.gz")
        } else {
            name.to_owned()
        };
        let path = root.join(&name);
        let sink = Sink {
            file: new_file(&path)?,
            hasher: blake3::Hasher::new(),
            bytes: 0,
        };
        let buffered = BufWriter::with_capacity(BUFFER_BYTES, sink);
        let form = if gzip {
            Form::Gzip(GzEncoder::new(buffered, Compression::default()))
        } else {
            Form::Plain(buffered)
        };
        Ok(Self { form, path, name })
    }

    /// Adds bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), DumpError> {
        match &mut self.form {
            Form::Plain(plain) => plain.write_all(bytes),
            Form::Gzip(gzip) => gzip.write_all(bytes),
        }
        .map_err(DumpError::io(&self.path, "written"))
    }

    /// Ends the file; it is on disk afterwards.
    pub(crate) fn finish(self, documents: Option<u64>) -> Result<FileEntry, DumpError> {
        let failed = |error| DumpError::io(&self.path, "written")(error);
        let buffered = match self.form {
            Form::Plain(plain) => plain,
            Form::Gzip(gzip) => gzip.finish().map_err(failed)?,
        };
        let sink = buffered
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        sink.file.sync_all().map_err(failed)?;
        Ok(FileEntry {
            path: self.name,
            bytes: sink.bytes,
            documents,
            blake3: sink.hasher.finalize().to_hex().to_string(),
        })
    }
}
