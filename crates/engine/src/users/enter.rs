//! Putting a user's document where writes go: a new user, what is in main, or a new life after an erasure.
//!
//! Entering temp takes two steps. While the entry holds the `_id` nothing else can enter temp, so main
//! cannot change under it; the second look at main finds what moved between reading and inserting.

use std::sync::Arc;

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::bson;
use tierkeep_core::compare::Side;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, Edit, Location, State, field};
use tierkeep_core::erasure::{Erasure, Stage};
use tierkeep_core::store::{Change, Class, Guard, StoreError, Written};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tracing::warn;

use crate::claims::{Consistency, CurrentCopy, claims};
use crate::copies::adopt::{Adoption, adopt_copies};
use crate::copies::pair::Pair;
use crate::copies::put::{PutOutcome, put};
use crate::copies::sound::{NewestCopy, is_sound};
use crate::copies::staging::{self, Entered, Insertion, Known, StagingEntry, insert_or_replace};
use crate::erasure::service::ErasureService;
use crate::erasure::tombstones;
use crate::mutant::Mutant;
use crate::users::attempt::{Round, Write};
use crate::users::conditions::{check, receipt};
use crate::users::{Users, UsersError};

/// What an entry is made from.
struct Base {
    /// The live document that is copied up.
    document: Option<RawDocumentBuf>,
    /// The highest version seen anywhere.
    highest: Option<Version>,
    /// What main held and the ledger said.
    known: Known,
}

impl Users {
    /// Creates an external user, or gives one a new life over its tombstone.
    pub(super) async fn enter_external(&self, write: &mut Write<'_>) -> Result<Round, UsersError> {
        let role = Role::ExternalUsers;
        let external = self.engine.databases.external_db();
        let tombstone = match CurrentCopy::of(external, write.user, Consistency::Majority).await? {
            CurrentCopy::Live(document) => return self.over(write, &document, role).await,
            CurrentCopy::Foreign(_) => {
                return match adopt_copies(self.engine.ledger(), external, write.user).await? {
                    Adoption::Done | Adoption::Again => Ok(Round::Again),
                    Adoption::Quarantined(reason) => Err(UsersError::Quarantined(reason)),
                };
            }
            CurrentCopy::Unclear(reason) => return Err(UsersError::Quarantined(reason)),
            CurrentCopy::Entering(_) => return Ok(Round::Again),
            CurrentCopy::Erased(tombstone) => Some(tombstone),
            CurrentCopy::Absent => None,
        };
        check(write.condition, false, None)?;
        let erasure = self.external_erasure(write.user).await?;
        if let Some(Some(entry)) = &erasure
            && entry.predates_all_of(role)
        {
            let erasures = ErasureService::new(Arc::clone(&self.engine));
            erasures.finish_in(role, write.user, entry).await?;
            return Ok(Round::Again);
        }
        let fence = erasure.as_ref().and_then(|entry| entry.as_ref()?.fence());
        let highest = tombstone.as_deref().and_then(document::version).max(fence);
        let mut document = compose(write, None, highest, self.engine.clock().now())?;
        if erasure.is_none() {
            document = Edit::new()
                .set_meta(field::LEDGER_UNSEEN, true)
                .apply(&document);
        }
        let (store, users) = self.target(role)?;
        let placed =
            insert_or_replace(store.as_ref(), users, &document, tombstone.as_deref()).await?;
        if let Insertion::Refused(fault) = placed {
            return Err(UsersError::Rejected(fault));
        }
        let now = self.external_erasure(write.user).await?.flatten();
        let now = now.and_then(|entry| entry.fence());
        if let Some(now) = now.filter(|now| Some(*now) > fence) {
            // Erased meanwhile, and what was written may have come too late for the tombstone.
            tombstones::rewrite(&self.engine, &[(write.user.clone(), now)]).await?;
            return Ok(Round::Again);
        }
        let receipt =
            receipt(&document, &write.op, role, true).filter(|_| placed == Insertion::Ours);
        Ok(receipt.map_or(Round::Again, Round::Done))
    }

    /// The ledger's entry of an external user; `None` where the ledger could not be asked.
    ///
    /// External users need no database but their own: while the ledger is away, the tombstone alone says where a
    /// new life begins, and the document is marked. A ledger that cannot be understood is no permission.
    async fn external_erasure(&self, user: &UserId) -> Result<Option<Option<Erasure>>, UsersError> {
        match self.ledger.with(self.engine.ledger().entry(user)).await {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if error.class == Class::Corrupt => Err(error.into()),
            Err(error) => {
                warn!(
                    user_id = %user,
                    user_type = %user.user_type(),
                    database = %error.database,
                    error = error.class.as_str(),
                    "a user is stored without a check of the erasure ledger",
                );
                Ok(None)
            }
        }
    }

    /// Raises a document whose life began without a look into the ledger above the fence of what was erased before, once
    /// the ledger answers. Answers what is stored then; `None` where nothing changed.
    pub(super) async fn lift(
        &self,
        user: &UserId,
        document: &RawDocument,
    ) -> Result<Option<RawDocumentBuf>, UsersError> {
        if !document::is_ledger_unseen(document) {
            return Ok(None);
        }
        let Ok(entry) = self.ledger.with(self.engine.ledger().entry(user)).await else {
            return Ok(None);
        };
        // What a pending erasure is about to erase must not be raised above its tombstone.
        if entry
            .as_ref()
            .is_some_and(|entry| entry.stage == Stage::Pending)
        {
            return Ok(None);
        }
        let fence = entry.and_then(|entry| entry.fence());
        let version = document::version(document);
        let lifted = Edit::new().unset_meta(field::LEDGER_UNSEEN);
        let lifted = if fence >= version {
            let above = Version::above([fence])
                .ok_or(UsersError::Quarantined(Quarantine::VersionsUsedUp))?;
            lifted.set_meta(field::VERSION, above.get())
        } else {
            lifted
        };
        let (store, users) = self.target(Role::ExternalUsers)?;
        let id = document::id(document);
        let guard = Guard::Whole(document.to_owned());
        let lifted = lifted.apply(document);
        let change = Change::Replace(lifted.clone());
        Ok(match store.write(users, &id, &guard, &change).await? {
            Written::Applied(_) => Some(lifted),
            Written::Unmatched | Written::TooLarge | Written::Rejected(_) => None,
        })
    }

    /// Enters temp, over a tombstone or an abandoned entry where there is one.
    pub(super) async fn enter_temp(
        &self,
        write: &Write<'_>,
        over: Option<&RawDocument>,
    ) -> Result<Round, UsersError> {
        let role = Role::RaseenTempUser;
        let Some(base) = self.base(write, over).await? else {
            return Ok(Round::Again);
        };
        if let Some(document) = &base.document
            && let Some(receipt) = receipt(document, &write.op, role, false)
        {
            return Ok(Round::Done(receipt));
        }
        if let Some(document) = &base.document {
            write.known_not_applied(document, role)?;
        }
        let current = base.document.as_deref().and_then(document::version);
        check(write.condition, base.document.is_some(), current)?;
        let created = base.document.is_none();
        let now = self.engine.clock().now();
        let document = compose(write, base.document.as_deref(), base.highest, now)?;
        let staging = StagingEntry {
            user: write.user,
            document,
            over,
            known: base.known,
            open_moves: None,
        };
        match staging::enter(&self.engine, &staging, Change::Confirm { created }).await? {
            Entered::Done(document) => {
                Ok(receipt(&document, &write.op, role, created).map_or(Round::Again, Round::Done))
            }
            Entered::Again => Ok(Round::Again),
            Entered::Refused(fault) => Err(UsersError::Rejected(fault)),
            Entered::Unmatched => self.landed(write, created).await,
        }
    }

    /// Whether this write's own entry was confirmed, by a call whose answer was lost.
    async fn landed(&self, write: &Write<'_>, created: bool) -> Result<Round, UsersError> {
        let temp = self.engine.databases.raseen_temp_db();
        let landed = CurrentCopy::of(temp, write.user, Consistency::Majority).await?;
        Ok(match landed {
            CurrentCopy::Live(document) => {
                receipt(&document, &write.op, Role::RaseenTempUser, created)
                    .map_or(Round::Again, Round::Done)
            }
            CurrentCopy::Absent
            | CurrentCopy::Foreign(_)
            | CurrentCopy::Entering(_)
            | CurrentCopy::Erased(_)
            | CurrentCopy::Unclear(_) => Round::Again,
        })
    }

    /// Reads what the entry is made from; `None` after something was put in order first.
    async fn base(
        &self,
        write: &Write<'_>,
        over: Option<&RawDocument>,
    ) -> Result<Option<Base>, UsersError> {
        let ledger = self.engine.ledger();
        let erasure = ledger.entry(write.user).await?;
        // While these are not known to have their tombstones, what is live there counts as erased: a new life waits.
        for role in [Role::RaseenTempUser, Role::RaseenMainUser] {
            if let Some(entry) = &erasure
                && entry.predates_all_of(role)
            {
                let erasures = ErasureService::new(Arc::clone(&self.engine));
                erasures.finish_in(role, write.user, entry).await?;
                return Ok(None);
            }
        }
        let srie_predates = erasure
            .as_ref()
            .is_some_and(|entry| entry.predates_all_of(Role::SrieMainUser));
        let fence = erasure.and_then(|entry| entry.fence());
        let buried = over
            .filter(|document| document::state(document) == Some(State::Erased))
            .and_then(document::version)
            .max(fence);
        let Some((main, srie)) = self.copies(write.user).await? else {
            return Ok(None);
        };
        let (main_version, srie_version) = (main.version(), srie.version());
        // What is erased, by main's own tombstone too, counts as nothing.
        let gone = if let CurrentCopy::Erased(tombstone) = &main {
            document::version(tombstone).max(buried)
        } else {
            buried
        };
        let counting = |copy: CurrentCopy| {
            let live = if let CurrentCopy::Live(document) = copy {
                Some(document)
            } else {
                None
            };
            live.filter(|document| document::version(document) > gone)
        };
        let in_srie = counting(srie).filter(|_| {
            let alone = Mutant::CopyUpFromMainAlone;
            !srie_predates && (!self.engine.mutation().has(alone) || main_version.is_none())
        });
        let document = match NewestCopy::of(counting(main), in_srie) {
            NewestCopy::None => None,
            NewestCopy::Main(document) => Some(document),
            NewestCopy::Srie(document) => {
                self.bring_main_up(write.user, &document).await?;
                return Ok(None);
            }
            NewestCopy::Damaged => {
                self.tell_of_damage(write.user, Role::RaseenMainUser).await;
                return Err(UsersError::Corrupt(Role::RaseenMainUser));
            }
        };
        Ok(Some(Base {
            document,
            highest: main_version.max(srie_version).max(buried),
            known: Known {
                main: main_version,
                fence,
            },
        }))
    }

    /// What main and srie hold of the user; `None` after a document of another program was adopted there first. Where main
    /// has a document of its own, nothing depends on one of another program in srie.
    async fn copies(
        &self,
        user: &UserId,
    ) -> Result<Option<(CurrentCopy, CurrentCopy)>, UsersError> {
        let ledger = self.engine.ledger();
        let databases = &self.engine.databases;
        let in_main = databases.raseen_main_db();
        let main = CurrentCopy::of(in_main, user, Consistency::Majority).await?;
        if let CurrentCopy::Unclear(reason) = main {
            return Err(UsersError::Quarantined(reason));
        }
        if matches!(main, CurrentCopy::Foreign(_)) {
            adopted(adopt_copies(ledger, in_main, user).await?)?;
            return Ok(None);
        }
        let srie = self.in_srie(user).await;
        if matches!(main, CurrentCopy::Absent) {
            if let CurrentCopy::Unclear(reason) = srie {
                return Err(UsersError::Quarantined(reason));
            }
            if matches!(srie, CurrentCopy::Foreign(_)) {
                adopted(adopt_copies(ledger, databases.srie_main_db(), user).await?)?;
                return Ok(None);
            }
        }
        Ok(Some((main, srie)))
    }

    /// What srie holds of the user; nothing while it is away, which blocks no write: a move compares the versions again.
    async fn in_srie(&self, user: &UserId) -> CurrentCopy {
        let srie = self.engine.databases.srie_main_db();
        let copy = CurrentCopy::of(srie, user, Consistency::Majority);
        self.backup.with(copy).await.unwrap_or(CurrentCopy::Absent)
    }

    /// Main holds less than srie, or a damaged copy: it gets srie's, which is intact, before anything is made from it.
    async fn bring_main_up(&self, user: &UserId, copy: &RawDocumentBuf) -> Result<(), UsersError> {
        let main = self.engine.databases.raseen_main_db();
        let damaged = claims(main, user, Consistency::Majority).await?;
        let damaged = damaged
            .into_iter()
            .find(|there| document::version(there) == document::version(copy) && !is_sound(there));
        let Some(damaged) = damaged else {
            let pair = Pair::users(&self.engine);
            let one = std::slice::from_ref(copy);
            return match put(&pair, Side::Main, one).await?.into_iter().next() {
                Some(PutOutcome::Refused(reason)) => {
                    warn!(
                        user_id = %user,
                        user_type = %user.user_type(),
                        database = %Role::RaseenMainUser,
                        reason,
                        "the database refuses the backup's copy",
                    );
                    Err(UsersError::Unavailable(StoreError {
                        database: Role::RaseenMainUser,
                        operation: "put_newer",
                        class: Class::Other,
                        code: 0,
                    }))
                }
                Some(PutOutcome::Stored | PutOutcome::Erased) | None => Ok(()),
            };
        };
        self.tell_of_damage(user, Role::RaseenMainUser).await;
        let (store, users) = self.target(Role::RaseenMainUser)?;
        let (id, change) = (document::id(&damaged), Change::Replace(copy.clone()));
        store
            .write(users, &id, &Guard::Whole(damaged), &change)
            .await?;
        let written = [tombstones::Written::live(user, document::version(copy))];
        tombstones::check_after_writing(&self.engine, &written).await?;
        Ok(())
    }
}

fn adopted(adoption: Adoption) -> Result<(), UsersError> {
    match adoption {
        Adoption::Done | Adoption::Again => Ok(()),
        Adoption::Quarantined(reason) => Err(UsersError::Quarantined(reason)),
    }
}

/// The document that the write leads to, live, at one above `highest`.
fn compose(
    write: &Write<'_>,
    base: Option<&RawDocument>,
    highest: Option<Version>,
    now: bson::DateTime,
) -> Result<RawDocumentBuf, UsersError> {
    let version =
        Version::above([highest]).ok_or(UsersError::Quarantined(Quarantine::VersionsUsedUp))?;
    let document = match (base, &write.value) {
        (None, None) => return Err(UsersError::NotFound),
        (None, Some(value)) => document::first(write.user, write.section, value, version, now),
        (Some(base), value) => {
            let edit = match value {
                Some(value) => Edit::new().set(write.section.as_str(), value.clone()),
                None => Edit::new().unset(write.section.as_str()),
            };
            edit.locate(Location::Temp)
                .unset_meta(field::DIGEST)
                .set_meta(field::VERSION, version.get())
                .set_meta(field::STAGED_AT, now)
                .set_meta(field::UPDATED_AT, now)
                .apply(base)
        }
    };
    let ops = document::ops_with(&document, &write.op, version);
    let document = Edit::new().set_meta(field::OPS, ops).apply(&document);
    if document.as_bytes().len() > document::MAX_DOCUMENT_BYTES {
        return Err(UsersError::TooLarge);
    }
    Ok(document)
}
