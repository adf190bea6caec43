//! What becomes of users' documents, a page at a time: read, compared with what is stored, written under guard, and
//! looked up in the erasure ledger once more.
//!
//! Decides from what it has read; every write is guarded nevertheless. Documents for temp go through `temp`.

use std::collections::BTreeSet;

use tierkeep_core::bson::raw::RawDocumentBuf;
use tierkeep_core::db::{Role, UserDatabase};
use tierkeep_core::document::{self, State};
use tierkeep_core::store::Handle;
use tierkeep_core::store::{Change, Guard, StoreError};
use tierkeep_core::version::Version;

use crate::claims::{Consistency, by_user, claims, native};
use crate::context::Engine;
use crate::copies::put::{self, InsertOutcome};
use crate::databases::retry::repeating;
use crate::erasure::tombstones::{self, Written as JustWritten};
use crate::transfer::dump::claims::Contested;
use crate::transfer::dump::import::candidate::{Candidate, Read, read, shown};
use crate::transfer::dump::import::epochs::carry_over;
use crate::transfer::dump::import::plan::{Plan, hidden};
use crate::transfer::dump::import::stored::heads;
use crate::transfer::dump::import::{CONTESTED, DumpOutcome};

/// How often a page is looked at whose documents move or change meanwhile.
const LOOKS: u32 = 8;

/// Takes documents into one database.
pub(crate) struct Import<'a, D: UserDatabase> {
    pub(crate) engine: &'a Engine,
    pub(crate) database: &'a Handle<D>,
    dry_run: bool,
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
    ) -> Result<Vec<(String, DumpOutcome)>, StoreError> {
        let mut outcomes: Vec<(String, DumpOutcome)> = Vec::with_capacity(documents.len());
        let mut candidates = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, document) in documents.into_iter().enumerate() {
            let shown = shown(&document);
            outcomes.push(match read(&document, D::ROLE.user_type()) {
                Read::Entry => (shown, DumpOutcome::Skipped),
                Read::Refused(reason) => (shown, DumpOutcome::Refused(reason)),
                Read::User(user, _) if let Some(reason) = contested.users.get(user.as_str()) => {
                    (shown, DumpOutcome::Refused(reason.clone()))
                }
                // An adoption was at work: what it made of the document is in the dump too.
                Read::User(_, None)
                    if contested
                        .adopted
                        .contains(&tierkeep_core::digest::fingerprint(&document)) =>
                {
                    (shown, DumpOutcome::Skipped)
                }
                // Left out until the page before it is stored: see below.
                Read::User(user, _) if !seen.insert(user.clone()) => {
                    let reason = "the dump holds several documents of this user".to_owned();
                    (shown, DumpOutcome::Refused(reason))
                }
                Read::User(user, version) => {
                    candidates.push(Candidate {
                        index,
                        user,
                        version,
                        is_tombstone: document::state(&document) == Some(State::Erased),
                        document,
                    });
                    (shown, DumpOutcome::Imported)
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
    ) -> Result<Vec<(usize, DumpOutcome)>, StoreError> {
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
                        outcomes.push((candidate.index, DumpOutcome::Imported));
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
            outcomes.push((candidate.index, DumpOutcome::Refused(CONTESTED.to_owned())));
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

    async fn write(&self, writes: &[Candidate]) -> Result<Vec<(usize, DumpOutcome)>, StoreError> {
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
    async fn put(&self, writes: &[Candidate]) -> Result<Vec<(usize, DumpOutcome)>, StoreError> {
        let store = self.database.store().as_ref();
        let documents: Vec<RawDocumentBuf> = writes.iter().map(|it| it.document.clone()).collect();
        let mut stored = put::insert(store, D::USERS, &documents).await?;
        let mut taken = BTreeSet::new();
        for (write, stored) in writes.iter().zip(&mut stored) {
            if *stored != InsertOutcome::Exists || write.version.is_some() {
                continue;
            }
            // An insert whose answer was lost, or another document.
            let found = claims(self.database, &write.user, Consistency::Majority).await?;
            *stored = InsertOutcome::Settled;
            if !found.contains(&write.document) {
                taken.insert(write.index);
            }
        }
        put::put_newer(store, D::USERS, &documents, &mut stored).await?;
        let mut outcomes = Vec::with_capacity(writes.len());
        for (write, stored) in writes.iter().zip(stored) {
            let outcome = match stored {
                _ if taken.contains(&write.index) => {
                    DumpOutcome::Refused("another document has the same _id".to_owned())
                }
                InsertOutcome::Settled | InsertOutcome::Exists => DumpOutcome::Imported,
                InsertOutcome::Rejected(fault) => {
                    DumpOutcome::Refused(format!("{} refuses it: {fault}", D::ROLE))
                }
                InsertOutcome::Unsettled(error) => return Err(error),
            };
            outcomes.push((write.index, outcome));
        }
        Ok(outcomes)
    }

    /// Erases again the users who were erased while their documents were written: the ledger is read after writing.
    async fn mark_erased(
        &self,
        writes: &[Candidate],
        written: &mut [(usize, DumpOutcome)],
    ) -> Result<(), StoreError> {
        let just_written: Vec<JustWritten<'_>> = writes
            .iter()
            .map(|write| {
                if write.is_tombstone {
                    JustWritten::tombstone(&write.user, write.version)
                } else {
                    JustWritten::live(&write.user, write.version)
                }
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
            set(written, write.index, DumpOutcome::Erased);
        }
        Ok(())
    }

    /// Reports each copy in main that an older one in temp hides because another writer wrote there meanwhile.
    async fn look_for_hidden(
        &self,
        writes: &[Candidate],
        written: &mut [(usize, DumpOutcome)],
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
                    DumpOutcome::Refused(hidden(found, version)),
                );
            }
        }
        Ok(())
    }
}

fn set(written: &mut [(usize, DumpOutcome)], index: usize, outcome: DumpOutcome) {
    if let Some(place) = written.iter_mut().find(|(it, _)| *it == index) {
        place.1 = outcome;
    }
}
