//! Reading a file of documents one after the other: owns what a whole file is. Holds one document at a time.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::content;

/// The least bytes of a document: its length and its end.
const LEAST_BYTES: usize = 5;
/// The most bytes of a document that any server hands out.
const MOST_BYTES: usize = 16 * 1024 * 1024 + 16 * 1024;
/// How deep a document may be nested; servers stop earlier.
const MOST_LEVELS: usize = 250;
const BUFFER_BYTES: usize = 256 * 1024;

/// Why a file cannot be read to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The operating system says so.
    Io(io::Error),
    /// It is not what it should be.
    Content(String),
}

/// What the decompression says of its input.
const NO_GZIP: [io::ErrorKind; 3] = [
    io::ErrorKind::InvalidInput,
    io::ErrorKind::InvalidData,
    io::ErrorKind::UnexpectedEof,
];

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        if NO_GZIP.contains(&error.kind()) {
            Self::Content(format!("it is not a complete gzip file: {error}"))
        } else {
            Self::Io(error)
        }
    }
}

/// What was read so far, as it is on disk.
struct Hashed {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Read for Hashed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.hasher.update(into.get(..read).unwrap_or_default());
        self.bytes += u64::try_from(read).unwrap_or(u64::MAX);
        Ok(read)
    }
}

enum Form {
    Plain(Box<BufReader<Hashed>>),
    Gzip(Box<BufReader<MultiGzDecoder<BufReader<Hashed>>>>),
}

/// A file that is being read.
pub(crate) struct Frames {
    form: Form,
    /// How many documents were read.
    pub(crate) documents: u64,
    /// How many bytes of documents were read.
    offset: u64,
}

/// What a file that was read to its end is on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Whole {
    pub(crate) documents: u64,
    pub(crate) bytes: u64,
    pub(crate) blake3: String,
}

impl Frames {
    pub(crate) fn open(path: &Path, gzip: bool) -> io::Result<Self> {
        let hashed = BufReader::with_capacity(
            BUFFER_BYTES,
            Hashed {
                file: File::open(path)?,
                hasher: blake3::Hasher::new(),
                bytes: 0,
            },
        );
        Ok(Self {
            form: if gzip {
                let decoder = MultiGzDecoder::new(hashed);
                Form::Gzip(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)))
            } else {
                Form::Plain(Box::new(hashed))
            },
            documents: 0,
            offset: 0,
        })
    }

    /// The next document; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<RawDocumentBuf>, Broken> {
        let at = |what: &str, this: &Self| {
            Broken::Content(format!(
                "document {}, at byte {}, {what}",
                this.documents + 1,
                this.offset
            ))
        };
        let mut length = [0; 4];
        match self.fill(&mut length)? {
            0 => return Ok(None),
            4 => {}
            _ => return Err(at("is cut off", self)),
        }
        let claimed = i32::from_le_bytes(length);
        let size = usize::try_from(claimed).unwrap_or_default();
        if !(LEAST_BYTES..=MOST_BYTES).contains(&size) {
            return Err(at(&format!("claims a length of {claimed} bytes"), self));
        }
        let mut bytes = vec![0; size];
        let (head, rest) = bytes.split_at_mut(length.len());
        head.copy_from_slice(&length);
        if self.fill(rest)? < rest.len() {
            return Err(at("is cut off", self));
        }
        let document = RawDocumentBuf::from_bytes(bytes)
            .ok()
            .filter(|document| content::is_bson(document, MOST_LEVELS))
            .ok_or_else(|| at("is not valid BSON", self))?;
        self.documents += 1;
        self.offset += u64::try_from(size).unwrap_or(u64::MAX);
        Ok(Some(document))
    }

    /// Reads everything, as text.
    pub(crate) fn text(&mut self) -> Result<Vec<u8>, Broken> {
        let mut text = Vec::new();
        let limit = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
        match &mut self.form {
            Form::Plain(plain) => plain.take(limit).read_to_end(&mut text)?,
            Form::Gzip(gzip) => gzip.take(limit).read_to_end(&mut text)?,
        };
        Ok(text)
    }

    /// What the file is on disk; to be asked once it was read to its end.
    pub(crate) fn whole(mut self) -> Result<Whole, Broken> {
        // Nothing is left, but for a text that is longer than any.
        let mut rest = [0; 1];
        if self.fill(&mut rest)? > 0 {
            return Err(Broken::Content("it is longer than it can be".to_owned()));
        }
        let hashed = match self.form {
            Form::Plain(plain) => plain.into_inner(),
            Form::Gzip(gzip) => gzip.into_inner().into_inner().into_inner(),
        };
        Ok(Whole {
            documents: self.documents,
            bytes: hashed.bytes,
            blake3: hashed.hasher.finalize().to_hex().to_string(),
        })
    }

    /// Reads until `into` is full or the file has ended; answers how many bytes came.
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, Broken> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = match &mut self.form {
                Form::Plain(plain) => plain.read(rest),
                Form::Gzip(gzip) => gzip.read(rest),
            };
            match read {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }
}
