//! What becomes of users' documents, a page at a time: read, compared with what is stored, written under guard, and
//! looked up in the erasure ledger once more.
//!
//! Decides from what it has read; every write is guarded all the same. Documents for temp go through `temp`.

use std::collections::{BTreeSet, HashMap};

use tierkeep_core::adopt::{self, Quarantine};
use tierkeep_core::bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::db::{Handle, Role, UserDatabase};
use tierkeep_core::digest::{self, Digest};
use tierkeep_core::document::{self, State};
use tierkeep_core::store::{Change, Guard, Inserted, Put, StoreError};
use tierkeep_core::user::{UserId, UserType};
use tierkeep_core::version::Version;

use crate::claims::{Consistency, by_user, claims, native};
use crate::context::Engine;
use crate::databases::retry::repeating;
use crate::erasure::tombstones::{self, Written as JustWritten};
use crate::transfer::dump::claims::Contested;
use crate::transfer::dump::import::epochs::carry_over;
use crate::transfer::dump::import::stored::{Content, compared, heads};
use crate::transfer::dump::import::{CONTESTED, Outcome};

/// How often a page is looked at whose documents move or change meanwhile.
const LOOKS: u32 = 8;

/// Takes documents into one database.
pub(crate) struct Import<'a, D: UserDatabase> {
    pub(crate) engine: &'a Engine,
    pub(crate) database: &'a Handle<D>,
    dry_run: bool,
}

/// A document of the dump that belongs to a user.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Its place in the page.
    pub(crate) index: usize,
    pub(crate) user: UserId,
    /// `None`: another program wrote it.
    pub(crate) version: Option<Version>,
    pub(crate) is_tombstone: bool,
    pub(crate) document: RawDocumentBuf,
}

/// What is stored of the users of a page, heads alone.
struct Stored {
    /// In the database that is filled.
    here: HashMap<String, Vec<RawDocumentBuf>>,
    /// In those whose copy would count before it, or that it would hide.
    beside: Vec<(Role, HashMap<String, Vec<RawDocumentBuf>>)>,
    /// How the documents here compare that have the version of the dump's; those that are gone again are left out.
    contents: HashMap<String, Content>,
}

/// What is to be done with a document.
enum Plan {
    Done(Outcome),
    Write,
    /// What is stored has moved or changed while it was looked at: to be looked at again.
    Changed,
}

impl<'a, D: UserDatabase> Import<'a, D> {
    pub(crate) fn new(engine: &'a Engine, database: &'a Handle<D>, dry_run: bool) -> Self {
        Self {
            engine,
            database,
            dry_run,
        }
    }

    /// What became of each document, by its user or `_id`.
    pub(crate) async fn page(
        &self,
        documents: Vec<RawDocumentBuf>,
        contested: &Contested,
        carried: &mut bool,
    ) -> Result<Vec<(String, Outcome)>, StoreError> {
        let mut outcomes: Vec<(String, Outcome)> = Vec::with_capacity(documents.len());
        let mut candidates = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, document) in documents.into_iter().enumerate() {
            let shown = shown(&document);
            outcomes.push(match read(&document, D::ROLE.user_type()) {
                Read::Entry => (shown, Outcome::Skipped),
                Read::Refused(reason) => (shown, Outcome::Refused(reason)),
                Read::User(user, _) if let Some(reason) = contested.users.get(user.as_str()) => {
                    (shown, Outcome::Refused(reason.clone()))
                }
                // An adoption was at work: what it made of the document is in the dump too.
                Read::User(_, None)
                    if contested.adopted.contains(&digest::fingerprint(&document)) =>
                {
                    (shown, Outcome::Skipped)
                }
                // Left out until the page before it is stored: see below.
                Read::User(user, _) if !seen.insert(user.clone()) => {
                    let reason = "the dump holds several documents of this user".to_owned();
                    (shown, Outcome::Refused(reason))
                }
                Read::User(user, version) => {
                    candidates.push(Candidate {
                        index,
                        user,
                        version,
                        is_tombstone: document::state(&document) == Some(State::Erased),
                        document,
                    });
                    (shown, Outcome::Imported)
                }
            });
        }
        let decided = self.take(candidates, carried).await?;
        for (index, outcome) in decided {
            if let Some(place) = outcomes.get_mut(index) {
                place.1 = outcome;
            }
        }
        Ok(outcomes)
    }

    async fn take(
        &self,
        candidates: Vec<Candidate>,
        carried: &mut bool,
    ) -> Result<Vec<(usize, Outcome)>, StoreError> {
        let mut fences = self.fences(&candidates).await?;
        if !self.dry_run {
            for (candidate, fence) in candidates.iter().zip(&mut fences) {
                let Some(version) = candidate.version else {
                    continue;
                };
                let known = fence.map_or(0, Version::epoch);
                let epoch = version.epoch();
                if epoch > known || candidate.is_tombstone && epoch == known {
                    // Before anything of that epoch is stored: a crash leaves an entry, and never content that an
                    // erasure would pass over.
                    let (user, tombstone) = (&candidate.user, candidate.is_tombstone);
                    *carried |= carry_over(self.engine, user, epoch, tombstone).await?;
                    *fence = version.life_began_above();
                }
            }
        }
        let mut outcomes = Vec::with_capacity(candidates.len());
        let mut writes = Vec::new();
        let mut left = (candidates, fences);
        for _ in 0..LOOKS {
            let (candidates, fences) = std::mem::take(&mut left);
            if candidates.is_empty() {
                break;
            }
            let stored = self.stored(&candidates).await?;
            for (candidate, fence) in candidates.into_iter().zip(fences) {
                match self.plan(&candidate, fence, &stored).await? {
                    Plan::Done(outcome) => outcomes.push((candidate.index, outcome)),
                    Plan::Write if self.dry_run => {
                        outcomes.push((candidate.index, Outcome::Imported));
                    }
                    Plan::Write => writes.push(candidate),
                    Plan::Changed => {
                        left.0.push(candidate);
                        left.1.push(fence);
                    }
                }
            }
        }
        for candidate in left.0 {
            outcomes.push((candidate.index, Outcome::Refused(CONTESTED.to_owned())));
        }
        if writes.is_empty() {
            return Ok(outcomes);
        }
        let tombstones: Vec<RawDocumentBuf> = writes
            .iter()
            .filter(|it| it.is_tombstone)
            .map(|it| it.document.clone())
            .collect();
        // Where their erasure was closed already they stand for another grace.
        self.engine.ledger().reopen(&tombstones).await?;
        let mut written = self.write(&writes).await?;
        self.mark_erased(&writes, &mut written).await?;
        self.look_for_hidden(&writes, &mut written).await?;
        outcomes.extend(written);
        Ok(outcomes)
    }

    async fn fences(&self, candidates: &[Candidate]) -> Result<Vec<Option<Version>>, StoreError> {
        let users: Vec<&str> = candidates.iter().map(|it| it.user.as_str()).collect();
        self.engine.ledger().fences(&users).await
    }

    async fn stored(&self, candidates: &[Candidate]) -> Result<Stored, StoreError> {
        let users: Vec<String> = candidates.iter().map(|it| it.user.to_string()).collect();
        let here = by_user(self.database, &users, heads()).await?;
        let (temp, main) = (
            self.engine.databases.raseen_temp_db(),
            self.engine.databases.raseen_main_db(),
        );
        let mut beside = Vec::new();
        if [Role::RaseenMainUser, Role::SrieMainUser].contains(&D::ROLE) {
            beside.push((Role::RaseenTempUser, by_user(temp, &users, heads()).await?));
        }
        if [Role::RaseenTempUser, Role::SrieMainUser].contains(&D::ROLE) {
            beside.push((Role::RaseenMainUser, by_user(main, &users, heads()).await?));
        }
        let contents = {
            // A claim that agrees is enough where copies claim their digest; what temp claims is stale.
            let claim = [Role::RaseenMainUser, Role::SrieMainUser].contains(&D::ROLE);
            let mut doubtful = Vec::new();
            let mut same = HashMap::new();
            for candidate in candidates.iter().filter(|it| it.version.is_some()) {
                let head = here
                    .get(candidate.user.as_str())
                    .and_then(|claims| native(claims, &candidate.user))
                    .filter(|head| document::version(head) == candidate.version);
                let Some(head) = head else { continue };
                let claimed = Digest::claimed_by(head);
                if claim
                    && claimed.is_some()
                    && claimed == Digest::claimed_by(&candidate.document)
                    && document::state(head) == document::state(&candidate.document)
                {
                    same.insert(candidate.user.to_string(), Content::Same);
                } else {
                    doubtful.push(&candidate.document);
                }
            }
            same.extend(compared(self.database, &doubtful).await?);
            same
        };
        Ok(Stored {
            here,
            beside,
            contents,
        })
    }

    async fn plan(
        &self,
        candidate: &Candidate,
        fence: Option<Version>,
        stored: &Stored,
    ) -> Result<Plan, StoreError> {
        let none = Vec::new();
        let user = candidate.user.as_str();
        let here = stored.here.get(user).unwrap_or(&none);
        let beside = stored
            .beside
            .iter()
            .map(|(role, claims)| (*role, claims.get(user).unwrap_or(&none)));
        let Some(version) = candidate.version else {
            if fence.is_some() {
                return Ok(Plan::Done(Outcome::Erased));
            }
            return self.plan_foreign(candidate, here, beside).await;
        };
        // A tombstone stands at its own fence.
        if fence.is_some_and(|fence| version < fence) {
            return Ok(Plan::Done(Outcome::Erased));
        }
        if !candidate.is_tombstone && here.iter().any(|it| !document::is_native(it)) {
            let reason = "another program's document of this user is stored, which has no version to compare with";
            return Ok(refused(reason));
        }
        // An entry counts for nobody, and whoever put it there finds out when it is taken over.
        if let Some(head) = native(here, &candidate.user).filter(|head| !is_entry(head))
            && let Some(found) = document::version(head)
        {
            if found > version {
                return Ok(Plan::Done(Outcome::NewerKept));
            }
            if found == version {
                return Ok(match stored.contents.get(user) {
                    Some(Content::Same) => Plan::Done(Outcome::Unchanged),
                    Some(Content::Other) => {
                        refused(&format!("version {version} is stored with other content"))
                    }
                    None => Plan::Changed,
                });
            }
        }
        if candidate.is_tombstone {
            return Ok(Plan::Write);
        }
        for (role, claims) in beside {
            let found = native(claims, &candidate.user).filter(|it| !is_entry(it));
            let Some(found) = found.and_then(|found| document::version(found)) else {
                continue;
            };
            match (D::ROLE, role) {
                (Role::RaseenTempUser, Role::RaseenMainUser) if found > version => {
                    return Ok(Plan::Done(Outcome::NewerKept));
                }
                // It has moved.
                (Role::RaseenTempUser, Role::RaseenMainUser) if found == version => {
                    let main = self.engine.databases.raseen_main_db();
                    let contents = compared(main, &[&candidate.document]).await?;
                    return Ok(match contents.get(user) {
                        Some(Content::Same) => Plan::Done(Outcome::Unchanged),
                        Some(Content::Other) => refused(&format!(
                            "{role} holds version {version} with other content"
                        )),
                        None => Plan::Changed,
                    });
                }
                (Role::RaseenMainUser, Role::RaseenTempUser) if found < version => {
                    return Ok(refused(&hidden(found, version)));
                }
                _ => {}
            }
        }
        Ok(Plan::Write)
    }

    /// A document of another program is put where nothing of its user is stored that it would contradict: nothing
    /// tells which of two is newer.
    async fn plan_foreign(
        &self,
        candidate: &Candidate,
        here: &[RawDocumentBuf],
        beside: impl Iterator<Item = (Role, &Vec<RawDocumentBuf>)>,
    ) -> Result<Plan, StoreError> {
        let fingerprint = digest::fingerprint(&candidate.document);
        let is_from_it =
            |claim: &RawDocumentBuf| document::adopted_from(claim) == Some(fingerprint.as_str());
        if here.iter().any(is_from_it) {
            return Ok(Plan::Done(Outcome::Unchanged));
        }
        if !here.is_empty() {
            let whole = claims(self.database, &candidate.user, Consistency::Majority).await?;
            let is_it = |claim: &RawDocumentBuf| *claim == candidate.document || is_from_it(claim);
            return Ok(if whole.iter().any(is_it) {
                Plan::Done(Outcome::Unchanged)
            } else if whole.is_empty() {
                Plan::Changed
            } else {
                refused(
                    "the user is stored already, and this document has no version to compare with",
                )
            });
        }
        for (role, claims) in beside {
            if claims.iter().any(is_from_it) {
                return Ok(Plan::Done(Outcome::Unchanged));
            }
            if claims.iter().any(|claim| document::is_native(claim)) {
                return Ok(refused(&format!(
                    "{role} holds the user already, and this document has no version to compare with"
                )));
            }
        }
        Ok(Plan::Write)
    }

    async fn write(&self, writes: &[Candidate]) -> Result<Vec<(usize, Outcome)>, StoreError> {
        if D::ROLE != Role::RaseenTempUser {
            return self.put(writes).await;
        }
        let enters = |it: &&Candidate| it.version.is_some() && !it.is_tombstone;
        let (entering, others): (Vec<&Candidate>, Vec<&Candidate>) =
            writes.iter().partition(enters);
        let others: Vec<Candidate> = others.into_iter().cloned().collect();
        let mut outcomes = self.put(&others).await?;
        outcomes.extend(crate::transfer::dump::import::temp::enter(self.engine, &entering).await?);
        Ok(outcomes)
    }

    /// Inserts; what is there already gives way to a higher version.
    async fn put(&self, writes: &[Candidate]) -> Result<Vec<(usize, Outcome)>, StoreError> {
        let store = self.database.store();
        let documents: Vec<RawDocumentBuf> = writes.iter().map(|it| it.document.clone()).collect();
        let inserted = repeating(|| store.insert(D::USERS, &documents)).await?;
        let mut outcomes = Vec::with_capacity(writes.len());
        let mut there = Vec::new();
        for (write, outcome) in writes.iter().zip(inserted) {
            match outcome {
                Inserted::Stored => outcomes.push((write.index, Outcome::Imported)),
                Inserted::Exists => there.push(write),
                Inserted::Rejected(fault) => outcomes.push((
                    write.index,
                    Outcome::Refused(format!("{} refuses it: {fault}", D::ROLE)),
                )),
                Inserted::Unsettled(error) => return Err(error),
            }
        }
        let (versioned, foreign): (Vec<&Candidate>, Vec<&Candidate>) =
            there.into_iter().partition(|it| it.version.is_some());
        for write in foreign {
            // An insert whose answer was lost, or somebody else's document.
            let found = claims(self.database, &write.user, Consistency::Majority).await?;
            let outcome = if found.contains(&write.document) {
                Outcome::Imported
            } else {
                Outcome::Refused("another document has its _id".to_owned())
            };
            outcomes.push((write.index, outcome));
        }
        if versioned.is_empty() {
            return Ok(outcomes);
        }
        let newer: Vec<RawDocumentBuf> = versioned.iter().map(|it| it.document.clone()).collect();
        let put = repeating(|| store.put_newer(D::USERS, &newer)).await?;
        for (write, outcome) in versioned.into_iter().zip(put) {
            outcomes.push((
                write.index,
                match outcome {
                    Put::Settled => Outcome::Imported,
                    Put::Rejected(fault) => {
                        Outcome::Refused(format!("{} refuses it: {fault}", D::ROLE))
                    }
                    Put::Unsettled(error) => return Err(error),
                },
            ));
        }
        Ok(outcomes)
    }

    /// Whoever was erased while their document was written is erased again: the ledger is looked at after writing.
    async fn mark_erased(
        &self,
        writes: &[Candidate],
        written: &mut [(usize, Outcome)],
    ) -> Result<(), StoreError> {
        let just_written: Vec<JustWritten<'_>> = writes
            .iter()
            .map(|write| JustWritten {
                user: &write.user,
                version: write.version,
            })
            .collect();
        let erased = tombstones::check_after_writing(self.engine, &just_written).await?;
        for (write, _) in writes.iter().zip(erased).filter(|(_, erased)| *erased) {
            if write.version.is_none() {
                let (id, guard) = (
                    document::id(&write.document),
                    Guard::Whole(write.document.clone()),
                );
                let store = self.database.store();
                repeating(|| store.write(D::USERS, &id, &guard, &Change::Remove)).await?;
            }
            set(written, write.index, Outcome::Erased);
        }
        Ok(())
    }

    /// A copy in main that an older one in temp hides, because somebody wrote there meanwhile, is said.
    async fn look_for_hidden(
        &self,
        writes: &[Candidate],
        written: &mut [(usize, Outcome)],
    ) -> Result<(), StoreError> {
        if D::ROLE != Role::RaseenMainUser {
            return Ok(());
        }
        let users: Vec<String> = writes.iter().map(|it| it.user.to_string()).collect();
        let temp = by_user(self.engine.databases.raseen_temp_db(), &users, heads()).await?;
        for write in writes.iter().filter(|it| !it.is_tombstone) {
            let found = temp
                .get(write.user.as_str())
                .and_then(|claims| native(claims, &write.user))
                .filter(|found| document::state(found) == Some(State::Live))
                .and_then(|found| document::version(found));
            if let (Some(found), Some(version)) = (found, write.version)
                && found < version
            {
                set(
                    written,
                    write.index,
                    Outcome::Refused(hidden(found, version)),
                );
            }
        }
        Ok(())
    }
}

fn set(written: &mut [(usize, Outcome)], index: usize, outcome: Outcome) {
    if let Some(place) = written.iter_mut().find(|(it, _)| *it == index) {
        place.1 = outcome;
    }
}

fn hidden(found: Version, version: Version) -> String {
    format!(
        "raseen_temp_user holds version {found} of the user, which would hide version {version}"
    )
}

fn refused(reason: &str) -> Plan {
    Plan::Done(Outcome::Refused(reason.to_owned()))
}

fn is_entry(document: &RawDocument) -> bool {
    document::state(document) == Some(State::Entering)
}

/// What a document of a dump is.
enum Read {
    /// A user's, with its version where it has one.
    User(UserId, Option<Version>),
    /// It was being put into temp: nobody ever saw it.
    Entry,
    Refused(String),
}

fn read(document: &RawDocument, expected: UserType) -> Read {
    if !document::is_native(document) {
        return match adopt::foreign(document, expected) {
            Ok(foreign) => Read::User(foreign.user, None),
            Err(reason) => Read::Refused(reason.to_string()),
        };
    }
    if let Err(reason) = adopt::check_metadata(document) {
        return Read::Refused(reason.to_string());
    }
    let id = document::user_id(document).unwrap_or_default();
    let user = match UserId::parse(id) {
        Ok(user) if user.user_type() == expected && user.as_str() == id => user,
        Ok(_) | Err(_) => {
            let id = id.chars().take(64).collect();
            return Read::Refused(Quarantine::NotOfType(expected, id).to_string());
        }
    };
    let wrong_type = match document.get(document::field::USER_TYPE) {
        Ok(Some(user_type)) => user_type.as_str() != Some(expected.as_str()),
        Ok(None) | Err(_) => false,
    };
    if wrong_type {
        return Read::Refused(format!(
            "its user_type does not belong in a database of {expected} users"
        ));
    }
    if is_entry(document) {
        return Read::Entry;
    }
    let claims_other = Digest::claimed_by(document).is_some_and(|it| it != Digest::of(document));
    if claims_other
        && document
            .get_str(document::field::DATA_LOCATION)
            .is_ok_and(|it| it == "main")
    {
        return Read::Refused("its content is not what its own digest says".to_owned());
    }
    Read::User(user, document::version(document))
}

/// What a document is named by in a report.
fn shown(document: &RawDocument) -> String {
    if let Some(user) = document::user_id(document) {
        return user.to_owned();
    }
    let id = document::id(document);
    id.as_str()
        .map_or_else(|| id.to_string(), ToOwned::to_owned)
}
