//! The manifest: what belongs to a dump and what each file must be, written last.

use serde::{Deserialize, Serialize};

/// The manifest's name, at the root of a dump.
pub(crate) const MANIFEST: &str = "tierkeep-manifest.json";
/// Takes its place while the dump is written.
pub(crate) const UNFINISHED: &str = "tierkeep-manifest.json.part";
/// What the manifest says it is.
pub(crate) const FORMAT: &str = "tierkeep-dump";
/// The form of dumps that this version writes and reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// What a reader should know who wonders whether anything is missing.
const COVERS: &str =
    "the collections of tierkeep; other collections in the same databases are not in this dump";

/// What a dump consists of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: String,
    pub(crate) format_version: u32,
    /// The version of tierkeep that wrote it.
    pub(crate) tierkeep: String,
    /// The deployment that it is of.
    pub(crate) deployment: Option<String>,
    /// When it was begun, RFC 3339.
    pub(crate) created_at: String,
    pub(crate) covers: String,
    pub(crate) gzip: bool,
    pub(crate) files: Vec<FileEntry>,
}

/// One file of a dump.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    /// Below the dump's directory, with `/`.
    pub(crate) path: String,
    /// Its size on disk.
    pub(crate) bytes: u64,
    /// How many documents it holds, where it holds any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) documents: Option<u64>,
    /// BLAKE3 of what is on disk, in hex, as `b3sum` prints it.
    pub(crate) blake3: String,
}

impl Manifest {
    pub(crate) fn new(
        deployment: Option<String>,
        created_at: String,
        gzip: bool,
        files: Vec<FileEntry>,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            tierkeep: env!("CARGO_PKG_VERSION").to_owned(),
            deployment,
            created_at,
            covers: COVERS.to_owned(),
            gzip,
            files,
        }
    }
}
