//! What waits for an operator: quarantined documents of temp, looked at, written to a file, and released.
//!
//! A document is found by its user or by its `_id`. Must never change a document but in `release`, and there only after
//! the copies are in a file. Where to look: `release` (ending a quarantine), `files` (the file with the copies).

mod files;
mod release;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tierkeep_core::bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::bson::{Bson, Document};
use tierkeep_core::content::{rfc3339, show};
use tierkeep_core::db::{RaseenTempUser, Role, UserDatabase};
use tierkeep_core::document;
use tierkeep_core::store::{Fault, Find, Query, StoreError};
use tierkeep_core::version::Version;

use crate::claims::{Consistency, claims};
use crate::context::Engine;
use crate::databases::pages::Pages;
use crate::mover::quarantine::{Mark, Marks, as_json};
use crate::transfer::dump::DumpError;

/// How many marks are read at once.
const MARKS_AT_ONCE: usize = 500;
/// The most documents that an error names.
const NAMED_MAX: usize = 5;

/// One quarantined document of temp.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Quarantined {
    /// Its `_id`, as relaxed Extended JSON.
    pub document_id: Value,
    /// The user that it says it is of.
    pub user_id: Option<String>,
    /// Whether copies contradict each other: an operator must say which one counts.
    pub conflict: bool,
    /// Why.
    pub reason: String,
    /// Since when, RFC 3339.
    pub marked_at: Option<String>,
}

/// One document as a database holds it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct QuarantinedCopy {
    /// The database.
    pub database: Role,
    /// Its version, where it has one.
    pub version: Option<i64>,
    /// The document, as relaxed Extended JSON; what is not UTF-8 is marked.
    pub document: Value,
}

/// One quarantined document with all that is stored of its user.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct QuarantineShown {
    /// The document and why.
    #[serde(flatten)]
    pub entry: Quarantined,
    /// It, and the copies of its user in temp, main and srie.
    pub copies: Vec<QuarantinedCopy>,
    /// Databases that did not answer and may hold another copy.
    pub unreachable: Vec<Role>,
}

/// What was written to a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct QuarantineExported {
    /// The file.
    pub file: PathBuf,
    /// How many quarantined documents.
    pub documents: u64,
    /// How many copies, of main and srie too.
    pub copies: u64,
    /// Databases that did not answer and may hold other copies.
    pub unreachable: Vec<Role>,
}

/// Which copy of a document counts from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// That of `raseen_temp_user`.
    Temp,
    /// That of `raseen_main_user`.
    Main,
    /// That of `srie_main_user`.
    Srie,
}

impl Keep {
    /// The database that holds it.
    pub fn role(self) -> Role {
        match self {
            Self::Temp => Role::RaseenTempUser,
            Self::Main => Role::RaseenMainUser,
            Self::Srie => Role::SrieMainUser,
        }
    }
}

/// What a release did.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct QuarantineReleased {
    /// The document, and why it was quarantined.
    #[serde(flatten)]
    pub entry: Quarantined,
    /// Whose copy counts from now on; none where there was nothing to choose.
    pub kept: Option<Role>,
    /// The version that it has now.
    pub version: Option<i64>,
    /// The file with all copies as they were.
    pub file: Option<PathBuf>,
}

/// Why a quarantine was not shown or not ended.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// Nothing is quarantined under this name.
    #[error("no quarantined documents under {0:?}; `tierkeep quarantine list` shows all of them")]
    Unknown(String),
    /// The name is that of several documents.
    #[error("{name:?} matches several quarantined documents; use the _id of one: {ids}")]
    Several {
        /// The name.
        name: String,
        /// Some of their `_id`s.
        ids: String,
    },
    /// No `--keep` says which copy counts.
    #[error(
        "copies of {0} are in conflict ({1}); choose the one to keep with --keep temp, --keep main or --keep srie"
    )]
    ChoiceNeeded(String, String),
    /// There is nothing to choose from.
    #[error("no copies of {0} are in conflict ({1}); omit --keep")]
    NoChoice(String, String),
    /// There is more content than was wanted.
    #[error("the copies of {0} take {1} bytes; use `tierkeep quarantine export`")]
    TooLarge(String, usize),
    /// The copy that was to be kept cannot be.
    #[error("the copy in {role} cannot be kept: {reason}")]
    NotKept {
        /// Which.
        role: Role,
        /// Why.
        reason: String,
    },
    /// The database refuses the kept copy.
    #[error("raseen_temp_user refuses the kept copy: {0}")]
    Refused(Fault),
    /// The document changes while it is looked at.
    #[error("the document of {0} is being changed by too many writers; try again")]
    Contended(String),
    /// A database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] DumpError),
}

/// Shows, exports and releases what is quarantined.
#[derive(Clone, Debug)]
pub struct QuarantineService {
    engine: Arc<Engine>,
}

/// Documents as databases hold them.
type Copies = Vec<(Role, RawDocumentBuf)>;

impl QuarantineService {
    /// Of these databases.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Everything that is quarantined, the newest first.
    ///
    /// # Errors
    /// [`StoreError`] when `evaluation_audit` did not answer.
    pub async fn list(&self) -> Result<Vec<Quarantined>, StoreError> {
        let mut marks = self.marks().await?;
        marks.sort_by_key(|mark| std::cmp::Reverse(mark.at));
        Ok(marks.iter().map(entry).collect())
    }

    /// The document that `name` names: a user id or what follows its prefix, in any letter case, or an `_id`.
    ///
    /// # Errors
    /// [`QuarantineError::Unknown`] and [`QuarantineError::Several`]; [`StoreError`] where temp or `evaluation_audit` did
    /// not answer.
    pub async fn show(&self, name: &str) -> Result<QuarantineShown, QuarantineError> {
        self.show_within(name, usize::MAX).await
    }

    /// As [`QuarantineService::show`], where the copies together have no more bytes of BSON than this.
    ///
    /// # Errors
    /// Those of [`QuarantineService::show`], and [`QuarantineError::TooLarge`].
    pub async fn show_within(
        &self,
        name: &str,
        most_bytes: usize,
    ) -> Result<QuarantineShown, QuarantineError> {
        let mark = self.named(name).await?;
        let (copies, unreachable) = self.copies(&mark).await?;
        let bytes: usize = copies.iter().map(|(_, copy)| copy.as_bytes().len()).sum();
        if bytes > most_bytes {
            return Err(QuarantineError::TooLarge(mark.name(), bytes));
        }
        let shown = copies.iter().map(|(role, document)| QuarantinedCopy {
            database: *role,
            version: document::version(document).map(Version::get),
            document: show(lossy(document)),
        });
        Ok(QuarantineShown {
            entry: entry(&mark),
            copies: shown.collect(),
            unreachable,
        })
    }

    /// Writes every quarantined document with the copies of its user to `file`, which must not exist, one JSON value a
    /// line.
    ///
    /// # Errors
    /// [`QuarantineError::File`] where it cannot be written; [`StoreError`] where temp or `evaluation_audit` did not answer.
    pub async fn export(&self, file: &Path) -> Result<QuarantineExported, QuarantineError> {
        let marks = self.marks().await?;
        let mut writer = files::CopiesFile::create(file).await?;
        let mut exported = QuarantineExported {
            file: file.to_owned(),
            documents: 0,
            copies: 0,
            unreachable: Vec::new(),
        };
        for mark in &marks {
            let (copies, unreachable) = self.copies(mark).await?;
            exported.documents += 1;
            exported.copies += u64::try_from(copies.len()).unwrap_or(u64::MAX);
            for role in unreachable {
                if !exported.unreachable.contains(&role) {
                    exported.unreachable.push(role);
                }
            }
            let line = files::line(&entry(mark), &copies, None);
            writer = writer.write(line).await?;
        }
        writer.finish().await?;
        Ok(exported)
    }

    async fn marks(&self) -> Result<Vec<Mark>, StoreError> {
        let mut marks = Marks::open(self.engine.databases.audit_db()).await?;
        let mut all = Vec::new();
        let mut after = None;
        while let Some(next) = marks.next(after, MARKS_AT_ONCE).await? {
            all.extend(marks.near().cloned());
            after = Some(next);
        }
        Ok(all)
    }

    async fn named(&self, name: &str) -> Result<Mark, QuarantineError> {
        let mut marks = self.marks().await?;
        marks.retain(|mark| is_named(mark, name));
        match marks.len() {
            0 => Err(QuarantineError::Unknown(name.to_owned())),
            1 => Ok(marks.remove(0)),
            _ => {
                let ids = marks.iter().take(NAMED_MAX);
                let ids: Vec<String> = ids.map(Mark::name).collect();
                Err(QuarantineError::Several {
                    name: name.to_owned(),
                    ids: ids.join(", "),
                })
            }
        }
    }

    /// The document, and every copy of its user; temp must answer.
    async fn copies(&self, mark: &Mark) -> Result<(Copies, Vec<Role>), StoreError> {
        let databases = &self.engine.databases;
        let temp = databases.raseen_temp_db();
        let find = Find::new(Query::Ids(vec![mark.document.clone()]));
        let mut copies = Vec::new();
        let mut pages = Pages::new(temp.store().as_ref(), RaseenTempUser::USERS, find);
        while let Some(page) = pages.next().await? {
            copies.extend(page.into_iter().map(|found| (Role::RaseenTempUser, found)));
        }
        let Some(user) = mark.user() else {
            return Ok((copies, Vec::new()));
        };
        for claim in claims(temp, &user, Consistency::Majority).await? {
            if !copies.iter().any(|(_, copy)| *copy == claim) {
                copies.push((Role::RaseenTempUser, claim));
            }
        }
        let mut unreachable = Vec::new();
        let main = claims(databases.raseen_main_db(), &user, Consistency::Majority).await;
        let srie = claims(databases.srie_main_db(), &user, Consistency::Majority).await;
        for (role, found) in [(Role::RaseenMainUser, main), (Role::SrieMainUser, srie)] {
            match found {
                Ok(found) => copies.extend(found.into_iter().map(|found| (role, found))),
                Err(_) => unreachable.push(role),
            }
        }
        Ok((copies, unreachable))
    }
}

fn entry(mark: &Mark) -> Quarantined {
    Quarantined {
        document_id: show(mark.document.clone()),
        user_id: mark.user_id.clone(),
        conflict: mark.conflict,
        reason: mark.reason.clone(),
        marked_at: mark.at.map(rfc3339),
    }
}

fn is_named(mark: &Mark, name: &str) -> bool {
    let lower = name.trim().to_lowercase();
    let is_user = mark.user_id.as_deref().is_some_and(|user| {
        let user = user.to_lowercase();
        user == lower || user.strip_prefix("internal_") == Some(lower.as_str())
    });
    is_user
        || mark.name() == name
        || as_json(&mark.document) == name
        || matches!(&mark.document, Bson::ObjectId(id) if id.to_hex() == lower)
}

/// The document with a mark in place of every text that is not UTF-8.
fn lossy(document: &RawDocument) -> Bson {
    let mut whole = Document::new();
    for element in document.iter_elements().map_while(Result::ok) {
        let exact = element
            .value()
            .ok()
            .and_then(|value| Bson::try_from(value).ok());
        let value = exact.or_else(|| Bson::try_from(element.value_utf8_lossy().ok()?).ok());
        let unreadable = || Bson::String("\u{fffd}".to_owned());
        whole.insert(element.key().as_str(), value.unwrap_or_else(unreadable));
    }
    Bson::Document(whole)
}
