//! Writing a dump of every database. Reads only; memory does not grow with the databases.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tierkeep_core::content::rfc3339;
use tierkeep_core::db::Role;
use tierkeep_core::store::{CollectionLayout, Find, Query};

use crate::databases::schema::layout;
use crate::databases::whole_scan::WholeScan;
use crate::transfer::dump::files::{
    DumpFile, make_directory, new_directory, new_file, sync_directory,
};
use crate::transfer::dump::manifest::{FileEntry, MANIFEST, Manifest, UNFINISHED};
use crate::transfer::dump::{
    DumpError, DumpProgress, DumpService, away_now, blocking, files, metadata,
};

/// The order in which databases are read. A document that moves meanwhile is written to srie and main before it leaves
/// temp, so reading temp, main, srie in this order finds it at least once; HR records are written to their main
/// database first. The ledger comes last: it has an entry for every erasure whose tombstone was read before it.
const ORDER: [Role; 7] = [
    Role::ExternalUsers,
    Role::RaseenTempUser,
    Role::RaseenMainUser,
    Role::SrieMainUser,
    Role::RaseenMainHr,
    Role::SrieMainHr,
    Role::EvaluationAudit,
];

/// The most bytes of documents that are held at once, but for one document that is larger.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// What an export wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Exported {
    /// Where.
    pub directory: PathBuf,
    /// The deployment.
    pub deployment: Option<String>,
    /// Whether the files are compressed.
    pub gzip: bool,
    /// How many files, without the manifest.
    pub files: u64,
    /// How many documents.
    pub documents: u64,
    /// How many bytes on disk.
    pub bytes: u64,
    /// How many documents of each database.
    pub databases: Vec<ExportedDatabase>,
}

/// What was written of one database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ExportedDatabase {
    /// Which.
    pub name: Role,
    /// How many documents.
    pub documents: u64,
}

impl DumpService {
    /// Writes every database to `directory`, which must be empty or not there. The manifest comes last: a
    /// directory without one, whatever ended the export, is torn.
    ///
    /// # Errors
    /// [`DumpError`]: before anything is made when the directory is not empty or a database is away.
    pub async fn export(
        &self,
        directory: &Path,
        gzip: bool,
        progress: &dyn DumpProgress,
    ) -> Result<Exported, DumpError> {
        if let Some(away) = self.engine.databases.away().first() {
            return Err(away_now(*away).into());
        }
        let created_at = rfc3339(self.engine.clock().now());
        let root = directory.to_owned();
        blocking({
            let root = root.clone();
            move || {
                new_directory(&root)?;
                // This file without a manifest shows that the export was cut off.
                new_file(&root.join(UNFINISHED))?;
                sync_directory(&root)
            }
        })
        .await?;
        let mut files = Vec::new();
        let mut databases = Vec::new();
        let mut documents = 0;
        for role in ORDER {
            let before = documents;
            let folder = root.join(role.name());
            blocking({
                let folder = folder.clone();
                move || make_directory(&folder)
            })
            .await?;
            for collection in layout(role, self.engine.databases.hr_collections()).collections {
                let mut written = self
                    .collection(role, collection, &root, gzip, &mut |page| {
                        documents += page;
                        progress.report(documents);
                    })
                    .await?;
                files.append(&mut written);
            }
            blocking(move || sync_directory(&folder)).await?;
            databases.push(ExportedDatabase {
                name: role,
                documents: documents - before,
            });
        }
        let deployment = self.engine.databases.deployment().map(ToOwned::to_owned);
        let exported = Exported {
            directory: root.clone(),
            deployment: deployment.clone(),
            gzip,
            files: u64::try_from(files.len()).unwrap_or(u64::MAX),
            documents,
            bytes: files.iter().map(|file| file.bytes).sum(),
            databases,
        };
        let manifest = Manifest::new(deployment, created_at, gzip, files);
        blocking(move || finish(&root, &manifest)).await?;
        Ok(exported)
    }

    /// Writes one collection and what is to be known about it.
    async fn collection(
        &self,
        role: Role,
        collection: CollectionLayout,
        root: &Path,
        gzip: bool,
        report: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Vec<FileEntry>, DumpError> {
        let store = self
            .engine
            .databases
            .store(role)
            .ok_or_else(|| away_now(role))?;
        let base = format!("{role}/{}", metadata::file_name(&collection.name));
        let (root, name) = (root.to_owned(), collection.name.clone());
        let (described, mut file) = blocking(move || {
            let mut described = DumpFile::create(&root, &format!("{base}.metadata.json"), gzip)?;
            described.write(metadata::render(&collection).as_bytes())?;
            let documents = DumpFile::create(&root, &format!("{base}.bson"), gzip)?;
            Ok((described.finish(None)?, documents))
        })
        .await?;
        let mut documents = 0;
        let all = Find::new(Query::All).max_bytes(PAGE_BYTES);
        let mut pages = WholeScan::new(store.as_ref(), &name, all);
        while let Some(page) = pages.next().await? {
            let size = u64::try_from(page.len()).unwrap_or(u64::MAX);
            file = blocking(move || {
                for document in &page {
                    file.write(document.as_bytes())?;
                }
                Ok(file)
            })
            .await?;
            documents += size;
            report(size);
        }
        let written = blocking(move || file.finish(Some(documents))).await?;
        Ok(vec![described, written])
    }
}

fn finish(root: &Path, manifest: &Manifest) -> Result<(), DumpError> {
    sync_directory(root)?;
    let part = root.join(UNFINISHED);
    let path = root.join(MANIFEST);
    let mut text = serde_json::to_vec_pretty(manifest)
        .map_err(|error| DumpError::io(&path, "written")(error.into()))?;
    text.push(b'\n');
    // Until the rename the export is torn, after it whole.
    files::write_atomically(&path, &part, &text)
}
