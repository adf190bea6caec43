//! The file with quarantined documents: one JSON value a line, with each document shown and, in base64, byte for byte.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::bson::spec::BinarySubtype;
use tierkeep_core::bson::{Binary, Bson};
use tierkeep_core::content::show;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::version::Version;

use crate::transfer::dump::files::{new_file, sync_directory};
use crate::transfer::dump::{DumpError, blocking};
use crate::transfer::quarantine::{Quarantined, lossy};

/// A new file that only its owner can read.
pub(super) struct CopiesFile {
    path: PathBuf,
    file: File,
}

impl CopiesFile {
    pub(super) async fn create(path: &Path) -> Result<Self, DumpError> {
        let path = path.to_owned();
        blocking(move || {
            let file = new_file(&path)?;
            Ok(Self { path, file })
        })
        .await
    }

    pub(super) async fn write(mut self, line: Value) -> Result<Self, DumpError> {
        blocking(move || {
            let mut text = line.to_string();
            text.push('\n');
            let written = self.file.write_all(text.as_bytes());
            written.map_err(DumpError::io(&self.path, "written"))?;
            Ok(self)
        })
        .await
    }

    /// On disk under its name.
    pub(super) async fn finish(self) -> Result<(), DumpError> {
        blocking(move || {
            let synced = self.file.sync_all();
            synced.map_err(DumpError::io(&self.path, "written"))?;
            let parent = self.path.parent().filter(|it| !it.as_os_str().is_empty());
            sync_directory(parent.unwrap_or(Path::new(".")))
        })
        .await
    }
}

/// One quarantined document and its copies; `kept` is the database whose copy counts from now on.
pub(super) fn line(
    entry: &Quarantined,
    copies: &[(Role, RawDocumentBuf)],
    kept: Option<Role>,
) -> Value {
    let copies = copies.iter().map(|(role, document)| {
        let bytes = Binary {
            subtype: BinarySubtype::Generic,
            bytes: document.as_bytes().to_vec(),
        };
        json!({
            "database": role,
            "version": document::version(document).map(Version::get),
            "document": show(lossy(document)),
            "bson": show(Bson::Binary(bytes)),
        })
    });
    json!({
        "document_id": entry.document_id,
        "user_id": entry.user_id,
        "reason": entry.reason,
        "marked_at": entry.marked_at,
        "kept": kept,
        "copies": copies.collect::<Vec<Value>>(),
    })
}
