//! Carrying documents from one side of a pair to the other: what a restore does from srie to main, and a backup
//! from main to srie.
//!
//! Looks at heads first, so that what is there already costs little and a run that was cut off is taken up by
//! the next. Must never write over anything newer, or restore an erased user.

use std::collections::{HashMap, HashSet};

use bson::raw::{RawDocument, RawDocumentBuf};
use serde::Serialize;
use tierkeep_core::bson;
use tierkeep_core::compare::{Claim, CopyKind, Held, Side};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, State};
use tierkeep_core::erasure::Erasure;
use tierkeep_core::hr::BackupStatus;
use tierkeep_core::store::{Change, Find, Guard, Query, StoreError};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tokio_util::sync::CancellationToken;

use crate::copies::adopt::{Adoption, adopt_copies};
use crate::copies::pair::Pair;
use crate::copies::put::{self, PutOutcome};
use crate::databases::retry::repeating;
use crate::databases::whole_scan::WholeScan;

/// The most documents that are looked at at once, and about the most bytes that are held.
const DOCUMENTS: usize = 250;
const BYTES: usize = 4 * 1024 * 1024;
/// How often a document of another program is adopted while it changes.
const ROUNDS: u32 = 4;
/// The most problems that are listed; all of them are counted.
const LISTED: usize = 1_000;

/// The outcomes of the documents that were to be copied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct SyncCounts {
    /// Documents of the source that were looked at.
    pub(crate) checked: u64,
    /// Brought, or to be brought.
    pub(crate) carried: u64,
    /// The target has them.
    pub(crate) unchanged: u64,
    /// The target has newer ones.
    pub(crate) newer: u64,
    /// Temp holds them too, and what temp holds counts.
    pub(crate) shadowed: u64,
    /// Their users were erased.
    pub(crate) erased: u64,
    /// The source's copy is not what its own digest says.
    pub(crate) corrupt: u64,
    /// The target has other content of the same version.
    pub(crate) conflicts: u64,
    /// The target refuses them, or they cannot be interpreted.
    pub(crate) refused: u64,
    /// The source does not have them.
    pub(crate) missing: u64,
    /// Of the last four, the first.
    pub(crate) problems: Vec<Trouble>,
}

/// A document that was not copied, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Trouble {
    /// The collection.
    pub collection: String,
    /// The user or the record.
    pub id: String,
    /// Why, without any content.
    pub reason: String,
}

/// Copies documents of one pair.
pub(crate) struct PairSync<'a> {
    pub(crate) pair: &'a Pair,
    pub(crate) from: Side,
    /// Nothing is written.
    pub(crate) dry_run: bool,
    pub(crate) counts: &'a mut SyncCounts,
}

/// What is to be done with one document.
enum Plan {
    /// Nothing; the tally has it.
    Nothing,
    /// Another program wrote it or what is in its place.
    Adopt,
    /// It is older on the other side, or not there.
    Copy,
    /// The other side has it; the source does not know yet.
    Note,
}

impl PairSync<'_> {
    /// Copies everything; `progress` gets the tally from time to time. Ends early when `stop` is cancelled. Of each
    /// document whose `_id` is not its user's, 32 bytes are kept.
    pub(crate) async fn all(
        &mut self,
        progress: &(dyn Fn(&SyncCounts) + Sync),
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let pair = self.pair;
        let keys = Find::new(Query::All).limit(DOCUMENTS).keys();
        let mut pages = WholeScan::new(pair.store(self.from).as_ref(), &pair.collection, keys);
        let mut adoptable = HashSet::new();
        while !stop.is_cancelled() {
            let Some(page) = pages.next().await? else {
                break;
            };
            let mut names = Vec::with_capacity(page.len());
            for document in &page {
                let Some(name) = self.pair.kind.key(document) else {
                    self.refuse_unnamed(document);
                    continue;
                };
                // What an adoption gave another `_id` meanwhile comes once more.
                let is_first = if document::id(document).as_str() == Some(name) {
                    adoptable.is_empty() || !adoptable.contains(&blake3::hash(name.as_bytes()))
                } else {
                    adoptable.insert(blake3::hash(name.as_bytes()))
                };
                if is_first {
                    names.push(name.to_owned());
                }
            }
            self.named(&names, false).await?;
            progress(self.counts);
        }
        Ok(())
    }

    /// Copies those of these names, which must exist according to `missing`.
    pub(crate) async fn named(
        &mut self,
        names: &[String],
        must_exist: bool,
    ) -> Result<(), StoreError> {
        for chunk in names.chunks(DOCUMENTS) {
            let mut left = chunk.to_vec();
            left.sort_unstable();
            left.dedup();
            for round in 1..=ROUNDS {
                if left.is_empty() {
                    break;
                }
                left = self.round(&left, must_exist, round == ROUNDS).await?;
            }
        }
        Ok(())
    }

    /// One attempt; answers which are to be looked at again.
    async fn round(
        &mut self,
        names: &[String],
        must_exist: bool,
        last: bool,
    ) -> Result<Vec<String>, StoreError> {
        let sources = self.heads(self.from, names).await?;
        let targets = self.heads(self.from.other(), names).await?;
        let mut temp = HashMap::new();
        let mut fences = vec![None; names.len()];
        if self.pair.kind == CopyKind::Users {
            temp = self
                .pair
                .in_temp(names, Find::new(Query::All).head())
                .await?;
            let users: Vec<&str> = names.iter().map(String::as_str).collect();
            let entries = self.pair.engine().ledger().entries(&users).await?;
            let role = self.pair.store(self.from).role();
            // What an erasure could not read counts as erased, whatever its version.
            let of = |entry: Erasure| {
                if entry.predates_all_of(role) {
                    Version::of_erasure(Version::LAST_ERASURE)
                } else {
                    entry.fence()
                }
            };
            fences = entries
                .into_iter()
                .map(|entry| entry.and_then(of))
                .collect();
        }
        let mut again = Vec::new();
        let mut wanted = Vec::new();
        let mut noted = Vec::new();
        for (name, fence) in names.iter().zip(fences) {
            let source = sources.get(name).map_or(&[][..], Vec::as_slice);
            let target = targets.get(name).map_or(&[][..], Vec::as_slice);
            match self.plan(name, source, target, fence, must_exist) {
                Plan::Nothing => {}
                Plan::Adopt if self.dry_run && target.is_empty() => self.counts.carried += 1,
                Plan::Adopt if self.dry_run => self.counts.unchanged += 1,
                Plan::Adopt if last => {
                    self.trouble(name, "it is being changed by too many writers");
                }
                Plan::Adopt => match self.adopt(name).await? {
                    None => again.push(name.clone()),
                    Some(reason) => self.trouble(name, &reason),
                },
                Plan::Copy => wanted.push(name.clone()),
                Plan::Note => noted.push(name.clone()),
            }
            let shadows = self.from == Side::Srie && temp.contains_key(name);
            if shadows && !source.is_empty() && again.last() != Some(name) {
                self.counts.shadowed += 1;
            }
        }
        self.sync(&wanted, true).await?;
        self.sync(&noted, false).await?;
        // What comes back is counted when its turn comes.
        let again_count = u64::try_from(again.len()).unwrap_or(u64::MAX);
        self.counts.checked = self.counts.checked.saturating_sub(again_count);
        Ok(again)
    }

    fn plan(
        &mut self,
        name: &str,
        source: &[RawDocumentBuf],
        target: &[RawDocumentBuf],
        fence: Option<Version>,
        must_exist: bool,
    ) -> Plan {
        let kind = self.pair.kind;
        let native = |head: &RawDocument| match kind {
            CopyKind::Users => document::is_native(head),
            CopyKind::Hr => document::version(head).is_some(),
        };
        let [one] = source else {
            if source.is_empty() {
                if must_exist {
                    self.counts.missing += 1;
                    self.list(name, "it is missing in the backup");
                }
            } else {
                self.counts.checked += 1;
                // An adoption that was cut off leaves two.
                if self.pair.kind == CopyKind::Users && !source.iter().all(|head| native(head)) {
                    return Plan::Adopt;
                }
                self.trouble(name, "several documents claim it");
            }
            return Plan::Nothing;
        };
        self.counts.checked += 1;
        if self.pair.kind == CopyKind::Users && fence.is_some() && !native(one) {
            self.counts.erased += 1;
            return Plan::Nothing;
        }
        if !native(one) || !target.iter().all(|head| native(head)) {
            if self.pair.kind == CopyKind::Users {
                return Plan::Adopt;
            }
            self.trouble(name, "it has no version");
            return Plan::Nothing;
        }
        let version = document::version(one);
        if document::state(one) == Some(State::Erased) || version <= fence {
            self.counts.erased += 1;
            return Plan::Nothing;
        }
        let Some(other) = target.first() else {
            return Plan::Copy;
        };
        // What is pending in main was acknowledged last; its delivery raises it above what srie holds.
        let pending = kind == CopyKind::Hr
            && self.from == Side::Srie
            && BackupStatus::of(other) == Some(BackupStatus::Pending);
        if document::version(other) > version || pending {
            self.counts.newer += 1;
            return Plan::Nothing;
        }
        if document::version(other) < version {
            return Plan::Copy;
        }
        let claimed = Digest::claimed_by(one);
        if document::state(other) == Some(State::Live)
            && claimed.is_some()
            && Digest::claimed_by(other) == claimed
        {
            if self.from == Side::Main && document::backup_status(one) != Some("completed") {
                return Plan::Note;
            }
            self.counts.unchanged += 1;
            return Plan::Nothing;
        }
        self.counts.conflicts += 1;
        self.list(
            name,
            "the other copy has different content at the same version; tierkeep verify --repair resolves this",
        );
        Plan::Nothing
    }

    /// Gives copies of other programs their form; a reason where that cannot be done.
    async fn adopt(&self, name: &str) -> Result<Option<String>, StoreError> {
        let Some(user) = UserId::parse(name).ok().filter(|it| it.as_str() == name) else {
            return Ok(Some("its user_id is not a valid user id".to_owned()));
        };
        let engine = self.pair.engine();
        let ledger = engine.ledger();
        for outcome in [
            adopt_copies(ledger, engine.databases.srie_main_db(), &user).await?,
            adopt_copies(ledger, engine.databases.raseen_main_db(), &user).await?,
        ] {
            if let Adoption::Quarantined(reason) = outcome {
                return Ok(Some(reason.to_string()));
            }
        }
        Ok(None)
    }

    /// Reads these whole, as many at once as may be held, and puts them on the other side.
    async fn sync(&mut self, names: &[String], put: bool) -> Result<(), StoreError> {
        let pair = self.pair;
        let whole = Find::new(Query::All).max_bytes(BYTES);
        let mut pages = pair.by_names(self.from, names, whole);
        while let Some(page) = pages.next().await? {
            self.put(page, put).await?;
        }
        Ok(())
    }

    async fn put(&mut self, page: Vec<RawDocumentBuf>, put: bool) -> Result<(), StoreError> {
        let mut sound = Vec::with_capacity(page.len());
        for document in page {
            let name = self.pair.kind.key(&document).unwrap_or_default().to_owned();
            match Held::of(&document, self.pair.kind) {
                Ok(held) if held.claim == Claim::False => {
                    self.counts.corrupt += 1;
                    self.list(&name, "its content does not match its digest");
                }
                Ok(held) if !held.is_live() => self.counts.erased += 1,
                Ok(_) => sound.push(document),
                Err(odd) => self.trouble(&name, &odd.to_string()),
            }
        }
        if self.dry_run {
            self.counts.carried += u64::try_from(sound.len()).unwrap_or(u64::MAX);
            return Ok(());
        }
        let copies: Vec<RawDocumentBuf> = sound.iter().map(|it| self.form(it)).collect();
        let mut placed = vec![PutOutcome::Stored; copies.len()];
        if put && !copies.is_empty() {
            placed = put::put(self.pair, self.from.other(), &copies).await?;
        }
        for ((source, copy), placed) in sound.iter().zip(&copies).zip(placed) {
            match placed {
                PutOutcome::Stored => {
                    // A crash here leaves a source that does not know of its copy: the next backup notes it.
                    self.note(source, copy).await?;
                    self.counts.carried += 1;
                }
                PutOutcome::Erased => self.counts.erased += 1,
                PutOutcome::Refused(reason) => {
                    let name = self.pair.kind.key(source).unwrap_or_default();
                    self.trouble(name, &reason);
                }
            }
        }
        Ok(())
    }

    /// The form in which the other side holds a document.
    fn form(&self, document: &RawDocumentBuf) -> RawDocumentBuf {
        match (self.from, self.pair.kind) {
            (Side::Srie, CopyKind::Users | CopyKind::Hr) => document.clone(),
            (Side::Main, kind) => tierkeep_core::compare::backed_up(document, kind),
        }
    }

    /// Lets the source say what its copy says, where it is still the document that was copied.
    async fn note(&self, source: &RawDocumentBuf, copy: &RawDocumentBuf) -> Result<(), StoreError> {
        if self.from == Side::Srie || source.as_bytes() == copy.as_bytes() {
            return Ok(());
        }
        let id = document::id(source);
        let guard = Guard::Whole(source.clone());
        let change = Change::Replace(copy.clone());
        let store = self.pair.store(self.from);
        repeating(|| store.write(&self.pair.collection, &id, &guard, &change)).await?;
        Ok(())
    }

    /// The heads of a side by name; of a name there may be several.
    async fn heads(
        &self,
        side: Side,
        names: &[String],
    ) -> Result<HashMap<String, Vec<RawDocumentBuf>>, StoreError> {
        let mut heads: HashMap<String, Vec<RawDocumentBuf>> = HashMap::new();
        let as_found = Find::new(Query::All).max_bytes(BYTES).head();
        let mut pages = self.pair.by_names(side, names, as_found);
        while let Some(page) = pages.next().await? {
            for head in page {
                if let Some(name) = self.pair.kind.key(&head) {
                    let name = name.to_owned();
                    heads.entry(name).or_default().push(head);
                }
            }
        }
        Ok(heads)
    }

    fn refuse_unnamed(&mut self, document: &RawDocument) {
        self.counts.checked += 1;
        let shown: String = document::id(document)
            .to_string()
            .chars()
            .take(64)
            .collect();
        self.trouble(&shown, "it has no usable user id");
    }

    fn trouble(&mut self, id: &str, reason: &str) {
        self.counts.refused += 1;
        self.list(id, reason);
    }

    fn list(&mut self, id: &str, reason: &str) {
        if self.counts.problems.len() < LISTED {
            self.counts.problems.push(Trouble {
                collection: self.pair.collection.clone(),
                id: id.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }
}
