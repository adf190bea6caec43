//! The first look at every document: what it is, whose it is, when it was written. Accounts are looked at first,
//! because users are joined on them.

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, Timestamp};
use tierkeep_core::bson;
use tierkeep_core::document::field;
use tierkeep_core::legacy::dates::{Dates, Times};
use tierkeep_core::legacy::entry::{fields, read};
use tierkeep_core::legacy::owner::{Account, account, joined};
use tierkeep_core::legacy::{Claim, Dated, Entry, Refusal, SourceKind, secrets};
use tierkeep_core::store::SIZE;
use tokio_util::sync::CancellationToken;

use crate::ahead::Ahead;
use crate::report::Tally;
use crate::scratch::{Filed, Place, Scratch};
use crate::{ImportError, Importer, Progress};

/// One collection of one source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collection {
    /// The number of its source.
    pub source: usize,
    /// Its name.
    pub name: String,
    /// How it is named in the report: with its database where there are several.
    pub shown: String,
    /// What it holds.
    pub kind: SourceKind,
}

/// What the first look found.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) scratch: Scratch,
    pub(crate) collections: Vec<Collection>,
    /// What is accounted for already.
    pub(crate) tally: Tally,
}

/// The fields of accounts; the names of their secrets are asked for beside them.
const ACCOUNT: [&str; 3] = [field::ID, "github_username", "email"];

const DERIVED: &str = "can be recomputed; imported only with --include";
const ACCOUNTS: &str = "an account: used to identify users, not imported";
const UNKNOWN: &str = "unknown collection";

impl Importer {
    /// Every collection of every source, but for the server's own.
    ///
    /// # Errors
    /// A source did not answer, or is no database of the predecessor.
    pub(crate) async fn collections(&self) -> Result<Vec<Collection>, ImportError> {
        let mut collections = Vec::new();
        for (number, source) in self.sources.iter().enumerate() {
            for name in source.collections().await? {
                if name == tierkeep_core::db::collection::IDENTITY {
                    return Err(ImportError::Stamped(source.name().to_owned()));
                }
                let kind = SourceKind::of(&name);
                if kind == SourceKind::System {
                    continue;
                }
                let shown = if self.sources.len() > 1 {
                    format!("{}.{name}", source.name())
                } else {
                    name.clone()
                };
                collections.push(Collection {
                    source: number,
                    kind,
                    name,
                    shown,
                });
            }
        }
        Ok(collections)
    }

    /// The rule by which collections of this kind are left out whole.
    pub(crate) fn skipped(&self, kind: SourceKind) -> Option<&'static str> {
        match kind {
            SourceKind::Derived(derived) if self.options.include.contains(&derived) => None,
            SourceKind::Derived(_) | SourceKind::DerivedHr => Some(DERIVED),
            SourceKind::Unknown => Some(UNKNOWN),
            SourceKind::Scans
            | SourceKind::Progress
            | SourceKind::Accounts
            | SourceKind::Hr
            | SourceKind::System => None,
        }
    }

    /// Looks at everything. What is not a user's document is accounted for here.
    pub(crate) async fn look(
        &self,
        not_before: &[Option<Timestamp>],
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<Index, ImportError> {
        let collections = self.collections().await?;
        let mut index = Index {
            scratch: Scratch::new()?,
            collections,
            tally: Tally::default(),
        };
        let mut all = 0;
        let mut counts = Vec::new();
        for collection in &index.collections {
            let source = &self.sources[collection.source];
            // What is looked at is counted on the way.
            let count = if self.skipped(collection.kind).is_some() {
                source.count(&collection.name).await?
            } else {
                source.estimate(&collection.name).await?
            };
            counts.push(count);
            all += count;
        }
        let mut order: Vec<usize> = (0..index.collections.len()).collect();
        order.sort_by_key(|number| index.collections[*number].kind != SourceKind::Accounts);
        let mut done = 0;
        for number in order {
            let collection = index.collections[number].clone();
            if let Some(rule) = self.skipped(collection.kind) {
                index.tally.skipped(&collection.shown, rule, counts[number]);
                done += counts[number];
                progress.looked_at(done, all);
                continue;
            }
            if collection.kind == SourceKind::Hr {
                done += counts[number];
                continue;
            }
            let pages = self.sources[collection.source]
                .scan(
                    &collection.name,
                    Some(&wanted(collection.kind)),
                    not_before.get(collection.source).copied().flatten(),
                )
                .await?;
            let dates = self.options.dates.clone();
            let mut sheets = Ahead::of(pages, move |page| {
                Sheet::of(page, number, &collection, &dates)
            });
            while let Some(sheet) = sheets.next().await? {
                if stop.is_cancelled() {
                    return Ok(index);
                }
                done += sheet.documents;
                index.file(number, sheet)?;
                progress.looked_at(done, all.max(done));
            }
        }
        index.scratch.order_by_user()?;
        self.look_at_records(&index, not_before).await?;
        Ok(index)
    }
}

/// What one page of a collection of users' documents or accounts says.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    /// How many documents the page has.
    documents: u64,
    secrets: u64,
    accounts: Vec<Account>,
    entries: Vec<(Filed, Result<Claim, Refusal>)>,
}

impl Sheet {
    /// Reads a page of `collection`, whose number is `number`.
    pub(crate) fn of(
        page: &[RawDocumentBuf],
        number: usize,
        collection: &Collection,
        dates: &Dates,
    ) -> Self {
        let mut sheet = Self {
            documents: u64::try_from(page.len()).unwrap_or_default(),
            ..Self::default()
        };
        if collection.kind == SourceKind::Accounts {
            sheet.accounts = page.iter().filter_map(|it| account(it)).collect();
            sheet.secrets = page.iter().map(|it| secrets::at_the_top(it)).sum();
            return sheet;
        }
        for document in page {
            let Some(entry) = read(&collection.name, collection.kind, document, dates) else {
                continue;
            };
            sheet.secrets += entry.secrets;
            let filed = filed_as(number, document, &entry);
            sheet.entries.push((filed, entry.claim));
        }
        sheet
    }
}

impl Index {
    /// Files what a page of collection `number` says.
    pub(crate) fn file(&mut self, number: usize, sheet: Sheet) -> Result<(), ImportError> {
        let collection = &self.collections[number];
        self.tally.secrets += sheet.secrets;
        if collection.kind == SourceKind::Accounts {
            self.scratch.accounts(&sheet.accounts)?;
            self.tally
                .skipped(&collection.shown, ACCOUNTS, sheet.documents);
            return Ok(());
        }
        let mut filed = Vec::with_capacity(sheet.entries.len());
        for (one, claim) in sheet.entries {
            filed.push((one, owner(&claim, &self.scratch)?));
        }
        Ok(self.scratch.file(&filed)?)
    }
}

/// The fields of a document of this kind that are looked at.
pub(crate) fn wanted(kind: SourceKind) -> Vec<&'static str> {
    if kind == SourceKind::Accounts {
        let mut wanted = ACCOUNT.to_vec();
        wanted.extend(secrets::FIELDS);
        wanted
    } else {
        fields()
    }
}

/// The user an entry belongs to, as the entry itself or the accounts say; or why it belongs to no user.
fn owner(
    claim: &Result<Claim, Refusal>,
    scratch: &Scratch,
) -> Result<Result<String, String>, ImportError> {
    let user = match claim {
        Ok(Claim::User(user)) => Ok(user.clone()),
        Ok(Claim::Join(join)) => joined(join, &scratch.matching(join)?),
        Err(refusal) => Err(refusal.clone()),
    };
    Ok(user
        .map(|user| user.to_string())
        .map_err(|refusal| refusal.to_string()))
}

/// What is filed of a document of collection `number`.
fn filed_as(number: usize, document: &RawDocument, entry: &Entry) -> Filed {
    let epoch = DateTime::from_millis(0);
    let times = entry.times.unwrap_or(Times {
        moment: epoch,
        earliest: epoch,
        latest: epoch,
    });
    Filed {
        dated: Dated {
            place: Place {
                collection: u32::try_from(number).unwrap_or(u32::MAX),
                id: place_of(document),
            },
            part: entry.part,
            scan: entry.scan.clone(),
            times,
        },
        size: size(document),
    }
}

/// The size that the source says the whole document has.
fn size(document: &RawDocument) -> u64 {
    let size = document.get(SIZE).ok().flatten();
    let size = size.and_then(|size| size.as_i64().or_else(|| size.as_i32().map(i64::from)));
    size.and_then(|size| u64::try_from(size).ok())
        .unwrap_or_else(|| u64::try_from(document.as_bytes().len()).unwrap_or(u64::MAX))
}

/// A document's `_id` as it is filed.
pub(crate) fn place_of(document: &RawDocument) -> Vec<u8> {
    let mut place = RawDocumentBuf::new();
    if let Ok(Some(id)) = document.get(field::ID) {
        place.append(bson::raw::cstr!(""), id);
    }
    place.into_bytes()
}

/// An `_id` as it is filed.
pub(crate) fn place_of_id(id: &Bson) -> Vec<u8> {
    place_of(&with_id(id))
}

/// A document of nothing but this `_id`.
pub(crate) fn with_id(id: &Bson) -> RawDocumentBuf {
    let mut document = bson::Document::new();
    document.insert(field::ID, id.clone());
    RawDocumentBuf::try_from(&document).unwrap_or_default()
}

/// The `_id` that was filed.
pub(crate) fn id_at(place: &[u8]) -> Bson {
    let document = RawDocument::from_bytes(place).ok();
    let id = document.and_then(|document| document.get("").ok().flatten());
    id.and_then(|id| Bson::try_from(id).ok())
        .unwrap_or(Bson::Null)
}

/// An `_id` as it is named in the report.
pub(crate) fn shown_id(place: &[u8]) -> String {
    let id = id_at(place);
    match (id.as_str(), id.as_object_id()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(oid)) => oid.to_hex(),
        (None, None) => id.into_relaxed_extjson().to_string(),
    }
}
