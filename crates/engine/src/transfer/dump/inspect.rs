//! Finding out, before anything is written, whether a dump is whole and everything in it has its place here.
//!
//! Reads every file to its end. All that is wrong is said at once. Must never write anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::hr::HrCollection;

use crate::databases::schema::layout;
use crate::transfer::dump::claims::{Claims, Contested, Seen};
use crate::transfer::dump::frames::{Broken, Frames, Whole};
use crate::transfer::dump::manifest::{FORMAT, FORMAT_VERSION, MANIFEST, Manifest, UNFINISHED};
use crate::transfer::dump::metadata::{self, TIERKEEP, WRITTEN_BY};
use crate::transfer::dump::{DumpError, FileProblem, passed_over};

/// What becomes of the documents of a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Use {
    /// Users' documents, to be imported.
    Users,
    /// HR records, to be imported.
    Hr,
    /// Never imported: stamps, and everything of `evaluation_audit`.
    Skipped,
}

/// One collection of a dump.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) role: Role,
    pub(crate) collection: String,
    pub(crate) path: PathBuf,
    pub(crate) gzip: bool,
    pub(crate) documents: u64,
    pub(crate) taken: Use,
    pub(crate) contested: Contested,
}

/// A dump of which every file is whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Dump {
    /// How many files were read.
    pub(crate) files: u64,
    pub(crate) parts: Vec<Part>,
    /// What is left alone, and why.
    pub(crate) passed_over: Vec<FileProblem>,
}

/// What of a dump has a place here.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The names of the databases here; those of the roles are known anyway.
    pub(crate) names: BTreeMap<String, Role>,
    /// Collections of HR records.
    pub(crate) hr: Vec<HrCollection>,
    /// The directories that are imported; every one where this is empty.
    pub(crate) chosen: BTreeSet<String>,
}

/// Reads the dump at `root`.
pub(crate) fn inspect(root: &Path, places: &Places) -> Result<Dump, DumpError> {
    let mut look = Look {
        root,
        places,
        manifest: None,
        marked: Vec::new(),
        seen: BTreeMap::new(),
        parts: Vec::new(),
        problems: Vec::new(),
        passed_over: Vec::new(),
    };
    look.root()?;
    look.against_manifest();
    for name in &places.chosen {
        if !root.join(name).is_dir() {
            look.problem(name, "the dump has no database with this name");
        }
    }
    if look.seen.is_empty() && look.problems.is_empty() {
        look.problem("", "it is not a dump");
    }
    if !look.problems.is_empty() {
        look.problems
            .sort_by(|one, other| one.path.cmp(&other.path));
        return Err(DumpError::Broken {
            root: root.to_owned(),
            problems: look.problems,
        });
    }
    Ok(Dump {
        files: u64::try_from(look.seen.len()).unwrap_or(u64::MAX),
        parts: look.parts,
        passed_over: look.passed_over,
    })
}

struct Look<'a> {
    root: &'a Path,
    places: &'a Places,
    manifest: Option<Manifest>,
    /// Metadata files that say that a manifest belongs to them.
    marked: Vec<String>,
    seen: BTreeMap<String, Whole>,
    parts: Vec<Part>,
    problems: Vec<FileProblem>,
    passed_over: Vec<FileProblem>,
}

impl Look<'_> {
    fn problem(&mut self, path: &str, reason: impl Into<String>) {
        self.problems.push(FileProblem {
            path: path.to_owned(),
            reason: reason.into(),
        });
    }

    fn pass_over(&mut self, path: &str, reason: &str) {
        self.passed_over.push(FileProblem {
            path: path.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Whether databases were chosen, and this is none of them.
    fn is_left_out(&self, folder: &str) -> bool {
        let chosen = &self.places.chosen;
        !chosen.is_empty() && !chosen.contains(folder)
    }

    /// The role of a directory that is imported; `None` where it is passed over or a problem.
    fn role_of(&mut self, name: &str) -> Option<Role> {
        if self.is_left_out(name) {
            self.pass_over(name, "it was not chosen");
            return None;
        }
        let role = Role::by_name(name).or_else(|| self.places.names.get(name).copied());
        if role.is_some() {
            return role;
        }
        match passed_over::database(name) {
            Some(reason) if self.places.chosen.is_empty() => self.pass_over(name, reason),
            Some(_) | None => {
                let reason = "it is not one of the seven databases; skip it with --database, naming those to import";
                self.problem(name, reason);
            }
        }
        None
    }

    fn root(&mut self) -> Result<(), DumpError> {
        let mut roles: BTreeMap<Role, String> = BTreeMap::new();
        for (name, path) in entries(self.root)? {
            if path.is_dir() {
                let Some(role) = self.role_of(&name) else {
                    continue;
                };
                if let Some(other) = roles.insert(role, name.clone()) {
                    self.problem(&name, format!("it is {role}, and so is {other}"));
                    continue;
                }
                self.database(role, &name, &path)?;
            } else if name == MANIFEST {
                self.read_manifest(&path)?;
            } else if name == UNFINISHED {
                self.problem(&name, "the export was interrupted and is incomplete");
            } else if let Some(reason) = passed_over::beside_databases(&name) {
                self.pass_over(&name, reason);
            } else if !passed_over::is_prelude(&name) {
                self.problem(&name, "it is not a file of a dump");
            }
        }
        Ok(())
    }

    fn read_manifest(&mut self, path: &Path) -> Result<(), DumpError> {
        let text = fs::read(path).map_err(DumpError::io(path, "read"))?;
        match serde_json::from_slice::<Manifest>(&text) {
            Ok(manifest) if manifest.format != FORMAT => {
                self.problem(MANIFEST, format!("its format is not {FORMAT}"));
            }
            Ok(manifest) if manifest.format_version > FORMAT_VERSION => {
                let version = manifest.format_version;
                self.problem(
                    MANIFEST,
                    format!("its format_version {version} is newer than {FORMAT_VERSION}, the newest supported \
                             version"),
                );
            }
            Ok(manifest) => self.manifest = Some(manifest),
            Err(error) => self.problem(MANIFEST, format!("it is not a manifest: {error}")),
        }
        Ok(())
    }

    fn database(&mut self, role: Role, folder: &str, path: &Path) -> Result<(), DumpError> {
        let mut described = Vec::new();
        for (name, path) in entries(path)? {
            let shown = format!("{folder}/{name}");
            if passed_over::is_prelude(&name) && !path.is_dir() {
                continue;
            }
            let left = passed_over::anywhere(&name).or_else(|| passed_over::collection(&name));
            if let Some(reason) = left {
                self.pass_over(&shown, reason);
                continue;
            }
            let (base, gzip) = match name.strip_suffix(".gz") {
                Some(base) => (base, true),
                None => (name.as_str(), false),
            };
            let is_file = !path.is_dir();
            if let Some(base) = base.strip_suffix(".metadata.json").filter(|_| is_file) {
                if self.metadata(&shown, &path, gzip)? == Described::Collection {
                    described.push((shown.clone(), base.to_owned()));
                }
            } else if let Some(base) = base.strip_suffix(".bson").filter(|_| is_file) {
                self.documents(role, &shown, base, &path, gzip)?;
            } else {
                self.problem(&shown, "it is not a file of a dump");
            }
        }
        for (shown, base) in described {
            let collection = metadata::collection_of(&base);
            let is_there = self
                .parts
                .iter()
                .any(|part| part.role == role && Some(&part.collection) == collection.as_ref());
            let is_named =
                |problem: &FileProblem| problem.path.starts_with(&format!("{folder}/{base}.bson"));
            let is_known = is_there
                || self.problems.iter().any(is_named)
                || self.passed_over.iter().any(is_named);
            if !is_known {
                self.problem(&shown, format!("its documents, {base}.bson, are missing"));
            }
        }
        Ok(())
    }

    fn metadata(&mut self, shown: &str, path: &Path, gzip: bool) -> Result<Described, DumpError> {
        let failed = |error| DumpError::io(path, "read")(error);
        let mut frames = Frames::open(path, gzip).map_err(failed)?;
        let read = frames.text().and_then(|text| Ok((text, frames.whole()?)));
        match read {
            Err(Broken::Io(error)) => return Err(failed(error)),
            Err(Broken::Content(reason)) => self.problem(shown, reason),
            Ok((text, whole)) => match serde_json::from_slice::<Value>(&text) {
                Ok(value) if metadata::is_of_view(&value) => {
                    self.pass_over(shown, "it describes a view, which holds no documents");
                    return Ok(Described::View);
                }
                Ok(value) if value.is_object() => {
                    if value.get(WRITTEN_BY).and_then(Value::as_str) == Some(TIERKEEP) {
                        self.marked.push(shown.to_owned());
                    }
                    self.seen.insert(shown.to_owned(), whole);
                }
                Ok(_) | Err(_) => self.problem(shown, "it is not metadata of a collection"),
            },
        }
        Ok(Described::Collection)
    }

    fn documents(
        &mut self,
        role: Role,
        shown: &str,
        base: &str,
        path: &Path,
        gzip: bool,
    ) -> Result<(), DumpError> {
        let known = metadata::collection_of(base)
            .and_then(|name| Some((use_of(role, &name, &self.places.hr)?, name)));
        let Some((taken, collection)) = known else {
            let reason = format!("{role} has no such collection here");
            if self.places.chosen.is_empty() {
                let way_out = "; skip it with --database, naming those to import";
                self.problem(shown, format!("{reason}{way_out}"));
            } else {
                self.pass_over(shown, &reason);
            }
            return Ok(());
        };
        let twice = |part: &Part| part.role == role && part.collection == collection;
        if self.parts.iter().any(twice) {
            self.problem(shown, format!("{collection} occurs twice"));
            return Ok(());
        }
        let failed = |error| DumpError::io(path, "read")(error);
        let read = match taken {
            Use::Users => users_of(path, gzip),
            Use::Hr | Use::Skipped => {
                whole(path, gzip, |_| {}).map(|whole| (whole, Contested::default()))
            }
        };
        match read {
            Err(Broken::Io(error)) => return Err(failed(error)),
            Err(Broken::Content(reason)) => self.problem(shown, reason),
            Ok((whole, contested)) => {
                self.parts.push(Part {
                    role,
                    collection,
                    path: path.to_owned(),
                    gzip,
                    documents: whole.documents,
                    taken,
                    contested,
                });
                self.seen.insert(shown.to_owned(), whole);
            }
        }
        Ok(())
    }

    fn against_manifest(&mut self) {
        let Some(manifest) = self.manifest.take() else {
            if let Some(marked) = self.marked.first().cloned()
                && self.problems.is_empty()
            {
                let reason = format!(
                    "it was written by tierkeep, but {MANIFEST} is missing: the dump is incomplete"
                );
                self.problem(&marked, reason);
            }
            return;
        };
        let mut seen = std::mem::take(&mut self.seen);
        let mut checked = BTreeMap::new();
        for entry in manifest.files {
            let folder = entry.path.split('/').next().unwrap_or_default();
            if self.is_left_out(folder) {
                continue;
            }
            let Some(whole) = seen.remove(&entry.path) else {
                let is_named = |problem: &FileProblem| problem.path == entry.path;
                if !self.problems.iter().any(is_named) {
                    self.problem(&entry.path, "it is missing");
                }
                continue;
            };
            if whole.bytes != entry.bytes || whole.blake3 != entry.blake3 {
                self.problem(&entry.path, "its digest differs from the manifest");
            } else if entry
                .documents
                .is_some_and(|count| count != whole.documents)
            {
                self.problem(
                    &entry.path,
                    "its number of documents differs from the manifest",
                );
            }
            checked.insert(entry.path, whole);
        }
        for name in seen.keys() {
            self.problem(name, "it is not listed in the manifest");
        }
        self.seen = checked;
    }
}

/// What a metadata file describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Described {
    Collection,
    View,
}

/// Reads a file to its end.
fn whole(path: &Path, gzip: bool, mut each: impl FnMut(&RawDocumentBuf)) -> Result<Whole, Broken> {
    let mut frames = Frames::open(path, gzip).map_err(Broken::Io)?;
    while let Some(document) = frames.next()? {
        each(&document);
    }
    frames.whole()
}

/// Reads a file of users' documents, a second time if a user occurs twice in it.
fn users_of(path: &Path, gzip: bool) -> Result<(Whole, Contested), Broken> {
    let mut seen = Seen::default();
    let first = whole(path, gzip, |document| seen.note(document))?;
    if !seen.is_twice() {
        return Ok((first, Contested::default()));
    }
    let mut claims = Claims::of(seen);
    let second = whole(path, gzip, |document| claims.note(document))?;
    if first != second {
        let reason = "it changed during the import".to_owned();
        return Err(Broken::Content(reason));
    }
    Ok((second, claims.settled()))
}

/// What becomes of a collection of a dump; `None` for one that has no place here.
fn use_of(role: Role, name: &str, hr: &[HrCollection]) -> Option<Use> {
    if role.users() == Some(name) {
        return Some(Use::Users);
    }
    let holds_hr = [Role::RaseenMainHr, Role::SrieMainHr].contains(&role);
    if holds_hr && hr.iter().any(|it| it.as_str() == name) {
        return Some(Use::Hr);
    }
    let known = name == collection::IDENTITY
        || role == Role::EvaluationAudit
            && layout(role, hr)
                .collections
                .iter()
                .any(|it| it.name == name);
    known.then_some(Use::Skipped)
}

/// What a directory holds, by name.
fn entries(path: &Path) -> Result<BTreeMap<String, PathBuf>, DumpError> {
    let failed = |error| DumpError::io(path, "read")(error);
    let mut entries = BTreeMap::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.insert(name, entry.path());
    }
    Ok(entries)
}
