//! Taking a dump in: every document guarded by its version and the erasure ledger, none of them moved or merged.
//!
//! Must never write before the whole dump was inspected, never import what `evaluation_audit` or the stamps hold, and
//! never let an older document hide a newer one. Every step may be repeated: a second run finds what the first
//! has stored. Where to look: `users` (what becomes of a user's document), `temp` (how one enters temp), `hr` (records),
//! `stored` (looking at what is there), `epochs` (erasures that the dump knows of).

mod candidate;
mod epochs;
mod hr;
mod plan;
mod stored;
mod temp;
mod users;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::db::Role;

use crate::erasure::service::{EraseError, ErasureService};
use crate::transfer::dump::frames::{Broken, Frames};
use crate::transfer::dump::inspect::{Dump, Part, Places, Use, inspect};
use crate::transfer::dump::{
    DumpError, DumpProgress, DumpService, FileProblem, away_now, blocking,
};
use users::Import;

/// The order in which databases are filled. The backup before its main: a copy in main that says it is backed up is.
/// Main before temp: what temp holds may be older than what has moved since, and only main tells.
const ORDER: [Role; 6] = [
    Role::ExternalUsers,
    Role::SrieMainUser,
    Role::RaseenMainUser,
    Role::RaseenTempUser,
    Role::SrieMainHr,
    Role::RaseenMainHr,
];

/// The most documents that are imported at once, and about the most bytes.
const PAGE_DOCUMENTS: usize = 500;
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// The most refusals that are quoted; all are counted.
const REFUSALS_QUOTED: usize = 1_000;
/// Why a document is refused whose user kept changing during the import.
const CONTESTED: &str = "this user is being changed by too many writers; repeat the import";

/// What became of a dump's documents. The six outcomes add up to `documents`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Imported {
    /// How many files the dump has.
    pub files: u64,
    /// How many documents.
    pub documents: u64,
    /// Stored now.
    pub imported: u64,
    /// Stored already, with the same content.
    pub unchanged: u64,
    /// Left out: a newer version is stored.
    pub newer_kept: u64,
    /// Left out: the user was erased since.
    pub erased: u64,
    /// Left out: of `evaluation_audit`, stamps, and documents that were being written during the export.
    pub skipped: u64,
    /// Not imported; an operator has to look.
    pub refused: u64,
    /// Which were refused and why; the first thousand.
    pub refusals: Vec<ImportRefusal>,
    /// Files and directories of the dump that were left alone, and why.
    pub passed_over: Vec<FileProblem>,
    /// Nothing was written: these are the numbers that an import would have.
    pub dry_run: bool,
}

/// What is to be imported.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImportOptions {
    /// Nothing is written.
    pub dry_run: bool,
    /// The databases to import, by the names of their directories in the dump; every one where this is empty. What else
    /// the dump holds is passed over then.
    pub databases: BTreeSet<String>,
}

/// A document that was not imported.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ImportRefusal {
    /// For which database.
    pub database: Role,
    /// For which collection.
    pub collection: String,
    /// Its user, or its `_id`.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// What became of one document.
#[derive(Clone, PartialEq, Eq, Debug)]
enum DumpOutcome {
    Imported,
    Unchanged,
    NewerKept,
    Erased,
    Skipped,
    Refused(String),
}

impl Imported {
    fn count(&mut self, part: &Part, id: String, outcome: DumpOutcome) {
        self.documents += 1;
        match outcome {
            DumpOutcome::Imported => self.imported += 1,
            DumpOutcome::Unchanged => self.unchanged += 1,
            DumpOutcome::NewerKept => self.newer_kept += 1,
            DumpOutcome::Erased => self.erased += 1,
            DumpOutcome::Skipped => self.skipped += 1,
            DumpOutcome::Refused(reason) => {
                self.refused += 1;
                if self.refusals.len() < REFUSALS_QUOTED {
                    self.refusals.push(ImportRefusal {
                        database: part.role,
                        collection: part.collection.clone(),
                        id,
                        reason,
                    });
                }
            }
        }
    }
}

impl DumpService {
    /// Imports the dump at `directory`: one that tierkeep wrote, or mongodump.
    ///
    /// What is stored at the same or a higher version stays, and what was erased stays erased. A second run after one
    /// that was cut off ends the same.
    ///
    /// # Errors
    /// [`DumpError::Broken`], before anything is written, when a file is torn or has no place here. A database
    /// that does not answer ends the import; what was imported until then stays.
    pub async fn import(
        &self,
        directory: &Path,
        options: &ImportOptions,
        progress: &dyn DumpProgress,
    ) -> Result<Imported, DumpError> {
        let dry_run = options.dry_run;
        let databases = &self.engine.databases;
        if let Some(away) = databases.away().first() {
            return Err(away_now(*away).into());
        }
        let places = Places {
            names: databases.database_names(),
            hr: databases.hr_collections().to_vec(),
            chosen: options.databases.clone(),
        };
        let dump = self.inspect(directory, places).await?;
        let mut imported = Imported {
            files: dump.files,
            passed_over: dump.passed_over,
            dry_run,
            ..Imported::default()
        };
        progress.expect(dump.parts.iter().map(|part| part.documents).sum());
        let mut carried = false;
        for part in dump.parts.iter().filter(|it| it.taken == Use::Skipped) {
            imported.documents += part.documents;
            imported.skipped += part.documents;
        }
        for role in ORDER {
            let of_role = |it: &&Part| it.role == role && it.taken != Use::Skipped;
            for part in dump.parts.iter().filter(of_role) {
                let mut batches = Batches::open(directory, part).await?;
                while let Some(page) = batches.next().await? {
                    let outcomes = match part.taken {
                        Use::Hr => self.take_hr(part, page, dry_run).await?,
                        Use::Users | Use::Skipped => {
                            self.take(part, page, dry_run, &mut carried).await?
                        }
                    };
                    for (id, outcome) in outcomes {
                        imported.count(part, id, outcome);
                    }
                    progress.report(imported.documents);
                }
            }
        }
        if carried {
            // The other databases learn of erasures that this deployment did not know of; what is cut off here a
            // service finishes.
            let erasures = ErasureService::new(Arc::clone(&self.engine));
            erasures.finish_pending().await?;
        }
        Ok(imported)
    }

    async fn inspect(&self, directory: &Path, places: Places) -> Result<Dump, DumpError> {
        let root = directory.to_owned();
        blocking(move || {
            if !root.is_dir() {
                return Err(DumpError::NoDirectory(root));
            }
            inspect(&root, &places)
        })
        .await
    }

    /// Takes a page of HR records in.
    async fn take_hr(
        &self,
        part: &Part,
        page: Vec<RawDocumentBuf>,
        dry_run: bool,
    ) -> Result<Vec<(String, DumpOutcome)>, DumpError> {
        let Some(store) = self.engine.databases.store(part.role) else {
            return Err(away_now(part.role).into());
        };
        Ok(hr::page(store.as_ref(), &part.collection, page, dry_run).await?)
    }

    /// Takes a page of users' documents in.
    async fn take(
        &self,
        part: &Part,
        page: Vec<RawDocumentBuf>,
        dry_run: bool,
        carried: &mut bool,
    ) -> Result<Vec<(String, DumpOutcome)>, DumpError> {
        let engine = self.engine.as_ref();
        let contested = &part.contested;
        let taken = match part.role {
            Role::ExternalUsers => {
                let intake = Import::new(engine, engine.databases.external_db(), dry_run);
                intake.page(page, contested, carried).await
            }
            Role::RaseenTempUser => {
                let intake = Import::new(engine, engine.databases.raseen_temp_db(), dry_run);
                intake.page(page, contested, carried).await
            }
            Role::RaseenMainUser => {
                let intake = Import::new(engine, engine.databases.raseen_main_db(), dry_run);
                intake.page(page, contested, carried).await
            }
            Role::SrieMainUser => {
                let intake = Import::new(engine, engine.databases.srie_main_db(), dry_run);
                intake.page(page, contested, carried).await
            }
            Role::RaseenMainHr | Role::SrieMainHr | Role::EvaluationAudit => Ok(Vec::new()),
        };
        Ok(taken?)
    }
}

impl From<EraseError> for DumpError {
    fn from(error: EraseError) -> Self {
        Self::Erase(error)
    }
}

/// The documents of a part, some at a time.
struct Batches {
    frames: Option<Frames>,
    shown: String,
    root: std::path::PathBuf,
}

impl Batches {
    async fn open(root: &Path, part: &Part) -> Result<Self, DumpError> {
        let (path, gzip) = (part.path.clone(), part.gzip);
        let shown = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string();
        let frames =
            blocking(move || Frames::open(&path, gzip).map_err(DumpError::io(&path, "read")))
                .await?;
        Ok(Self {
            frames: Some(frames),
            shown,
            root: root.to_owned(),
        })
    }

    async fn next(&mut self) -> Result<Option<Vec<RawDocumentBuf>>, DumpError> {
        let Some(mut frames) = self.frames.take() else {
            return Ok(None);
        };
        let (shown, root) = (self.shown.clone(), self.root.clone());
        let (frames, page) = blocking(move || {
            let (mut page, mut bytes) = (Vec::new(), 0);
            while page.len() < PAGE_DOCUMENTS && bytes < PAGE_BYTES {
                match frames.next() {
                    Ok(Some(document)) => {
                        bytes += document.as_bytes().len();
                        page.push(document);
                    }
                    Ok(None) => break,
                    Err(Broken::Io(error)) => {
                        return Err(DumpError::io(&root.join(&shown), "read")(error));
                    }
                    // It was whole a moment ago.
                    Err(Broken::Content(reason)) => {
                        let path = shown;
                        return Err(DumpError::Broken {
                            root,
                            problems: vec![FileProblem { path, reason }],
                        });
                    }
                }
            }
            Ok((frames, page))
        })
        .await?;
        self.frames = Some(frames);
        Ok(Some(page).filter(|page| !page.is_empty()))
    }
}
