//! Ending a quarantine: the mark goes, and where copies contradict each other the one that counts is written above all.
//!
//! The order is the file, the kept copy, the look into the ledger, the mark: a crash at any place leaves what a repetition
//! finishes, and never a copy that is in no file. The kept copy goes to temp, guarded by the whole document that was
//! compared, under a version above every copy. So the next move puts it over the others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tierkeep_core::audit::AuditKind;
use tierkeep_core::bson::DateTime;
use tierkeep_core::bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::db::{RaseenTempUser, Role, UserDatabase};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Edit, Location, State, field};
use tierkeep_core::store::{Change, Find, Guard, Query, StoreError, Written};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use crate::alerts::{AlertKind, Alerts};
use crate::claims::{Consistency, copy_of};
use crate::databases::retry::repeating;
use crate::erasure::tombstones::{self, Written as JustWritten};
use crate::mover::quarantine::{Mark, Marks};
use crate::transfer::quarantine::{
    Keep, QuarantineError, QuarantineReleased, QuarantineService, entry, files,
};

/// How often a document that is written meanwhile is compared again.
const ROUNDS: u32 = 8;

/// The copies of one user that can be kept.
struct Three {
    temp: RawDocumentBuf,
    main: Option<RawDocumentBuf>,
    srie: Option<RawDocumentBuf>,
}

impl Three {
    fn all(&self) -> Vec<(Role, RawDocumentBuf)> {
        let copies = [
            (Role::RaseenTempUser, Some(&self.temp)),
            (Role::RaseenMainUser, self.main.as_ref()),
            (Role::SrieMainUser, self.srie.as_ref()),
        ];
        let stored = copies
            .into_iter()
            .filter_map(|(role, copy)| Some((role, copy?.clone())));
        stored.collect()
    }

    fn of(&self, keep: Keep) -> Option<&RawDocumentBuf> {
        match keep {
            Keep::Temp => Some(&self.temp),
            Keep::Main => self.main.as_ref(),
            Keep::Srie => self.srie.as_ref(),
        }
    }
}

impl QuarantineService {
    /// Ends the quarantine of the document that `name` names; `actor` is recorded in the audit trail. Where copies
    /// contradict each other, `keep` says which one counts, and all of them are first written to a new file in
    /// `directory`.
    ///
    /// A document that still cannot be moved is quarantined again by the next run.
    ///
    /// # Errors
    /// [`QuarantineError`]; repeating is safe.
    pub async fn release(
        &self,
        name: &str,
        keep: Option<Keep>,
        directory: &Path,
        actor: &str,
    ) -> Result<QuarantineReleased, QuarantineError> {
        let mark = self.named(name).await?;
        let whose = mark.user_id.clone().unwrap_or_else(|| mark.name());
        let (conflict, keep) = match (mark.user().filter(|_| mark.conflict), keep) {
            (Some(user), Some(keep)) => (Some(user), Some(keep)),
            (Some(_), None) => {
                return Err(QuarantineError::ChoiceNeeded(whose, mark.reason.clone()));
            }
            (None, Some(_)) => return Err(QuarantineError::NoChoice(whose, mark.reason.clone())),
            (None, None) => (None, None),
        };
        let trail = self.engine.audit_trail();
        let role = keep.map(Keep::role);
        let draft = trail
            .draft(AuditKind::AdminAction)
            .about(mark.user().as_ref())
            .by(Some(actor))
            .decided("quarantine release")
            .because(&mark.reason)
            .in_database(role.or(Some(Role::RaseenTempUser)));
        trail.record(draft).await?;
        let mut released = QuarantineReleased {
            entry: entry(&mark),
            kept: role,
            version: None,
            file: None,
        };
        if let (Some(user), Some(keep)) = (&conflict, keep)
            && let Some((version, file)) = self.keep(&mark, user, keep, directory).await?
        {
            released.version = Some(version.get());
            released.file = Some(file);
        }
        Marks::forget(self.engine.databases.audit_db(), &mark).await?;
        if let Some(user) = &conflict {
            let alerts = Alerts::new(Arc::clone(&self.engine));
            let kind = AlertKind::CopiesConflict;
            alerts.resolve(kind, user.as_str()).await?;
        }
        Ok(released)
    }

    /// Writes the kept copy above all others; `None` where temp holds no live document any more, so that nothing
    /// contradicts main.
    async fn keep(
        &self,
        mark: &Mark,
        user: &UserId,
        keep: Keep,
        directory: &Path,
    ) -> Result<Option<(Version, PathBuf)>, QuarantineError> {
        for _ in 0..ROUNDS {
            let Some(three) = self.three(user).await? else {
                return Ok(None);
            };
            let (document, version) = self.above_all(&three, user, keep).await?;
            // Each attempt has a file of its own: none is ever written over.
            let attempt = self.engine.randomness().id();
            let file = directory.join(format!("quarantine-{user}-v{version}-{attempt}.json"));
            let writer = files::CopiesFile::create(&file).await?;
            let line = files::line(&entry(mark), &three.all(), Some(keep.role()));
            writer.write(line).await?.finish().await?;
            // A crash here leaves a file too many.
            if self.replace(&three.temp, document, keep).await? {
                let version = Some(version);
                let written = JustWritten::live(user, version);
                // The user may have been erased meanwhile.
                tombstones::check_after_writing(&self.engine, &[written]).await?;
                return Ok(version.map(|version| (version, file)));
            }
        }
        Err(QuarantineError::Contended(user.to_string()))
    }

    /// The user's copies; `None` without a live one in temp.
    async fn three(&self, user: &UserId) -> Result<Option<Three>, StoreError> {
        let databases = &self.engine.databases;
        // The one that is written last is read last.
        let srie = copy_of(databases.srie_main_db(), user, Consistency::Majority).await?;
        let main = copy_of(databases.raseen_main_db(), user, Consistency::Majority).await?;
        let temp = copy_of(databases.raseen_temp_db(), user, Consistency::Majority).await?;
        let live = |temp: &RawDocumentBuf| document::state(temp) == Some(State::Live);
        Ok(temp.filter(live).map(|temp| Three { temp, main, srie }))
    }

    /// The kept copy as temp is to hold it, and its version.
    async fn above_all(
        &self,
        three: &Three,
        user: &UserId,
        keep: Keep,
    ) -> Result<(RawDocumentBuf, Version), QuarantineError> {
        let fence = self.engine.ledger().fence(user).await?;
        let kept = kept(three, keep, fence)?;
        let copies = three.all();
        let versions = copies.iter().map(|(_, copy)| document::version(copy));
        let version = Version::above(versions.chain([fence]));
        let version = version.ok_or_else(|| not_kept(keep, "its version numbers are exhausted"))?;
        let document = raised(kept, &three.temp, version, self.engine.clock().now());
        Ok((document, version))
    }

    /// Puts `document` in the place of `temp`; false where the user wrote meanwhile.
    async fn replace(
        &self,
        temp: &RawDocumentBuf,
        document: RawDocumentBuf,
        keep: Keep,
    ) -> Result<bool, QuarantineError> {
        let (store, users) = (
            self.engine.databases.raseen_temp_db().store(),
            RaseenTempUser::USERS,
        );
        let (id, guard) = (document::id(temp), Guard::Whole(temp.clone()));
        let change = Change::Replace(document.clone());
        match repeating(|| store.write(users, &id, &guard, &change)).await? {
            Written::Applied(_) => Ok(true),
            Written::Rejected(fault) => Err(QuarantineError::Refused(fault)),
            Written::TooLarge => Err(not_kept(keep, "it is too large")),
            Written::Unmatched => {
                // The answer to a write that was applied may have been lost.
                let find = Find::new(Query::Ids(vec![id]));
                let found = repeating(|| store.find(users, &find)).await?;
                Ok(found.first() == Some(&document))
            }
        }
    }
}

/// The copy that is to be kept, if it can be.
fn kept(
    three: &Three,
    keep: Keep,
    fence: Option<Version>,
) -> Result<&RawDocumentBuf, QuarantineError> {
    let copy = three
        .of(keep)
        .ok_or_else(|| not_kept(keep, "it does not exist"))?;
    if document::state(copy) != Some(State::Live) {
        return Err(not_kept(keep, "it is a tombstone"));
    }
    if document::version(copy) <= fence {
        return Err(not_kept(keep, "its user has been erased"));
    }
    if keep != Keep::Temp
        && Digest::claimed_by(copy).is_some_and(|claimed| claimed != Digest::of(copy))
    {
        return Err(not_kept(keep, "its content does not match its digest"));
    }
    Ok(copy)
}

fn not_kept(keep: Keep, reason: &str) -> QuarantineError {
    QuarantineError::NotKept {
        role: keep.role(),
        reason: reason.to_owned(),
    }
}

/// `kept` as temp holds it from now on, in the place of `temp`, whose time it keeps.
fn raised(
    kept: &RawDocument,
    temp: &RawDocument,
    version: Version,
    now: DateTime,
) -> RawDocumentBuf {
    Edit::new()
        .locate(Location::Temp)
        .unset_meta(field::DIGEST)
        .set_meta(field::VERSION, version.get())
        .set_meta(field::STAGED_AT, document::staged_at(temp).unwrap_or(now))
        .set_meta(field::UPDATED_AT, now)
        .apply(kept)
}
