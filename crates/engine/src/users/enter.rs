//! Putting a user's document where writes go: a new user, what is in main, or a new life after an erasure.
//!
//! Entering temp takes two steps. While the entry holds the `_id` nothing else can enter temp, so main
//! cannot change under it; the second look at main finds what moved between reading and inserting.

use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, Edit, Location, State, field};
use tierkeep_core::store::{Change, Class};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tracing::warn;

use crate::claims::{Consistency, CurrentCopy};
use crate::copies::adopt::{Adoption, adopt_copies};
use crate::copies::staging::{self, Entered, Insertion, Known, StagingEntry, insert_or_replace};
use crate::erasure::tombstones;
use crate::users::conditions::{check, receipt};
use crate::users::write::{Round, Write};
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
        let fence = self.external_fence(write.user).await?;
        let highest = tombstone.as_deref().and_then(document::version).max(fence);
        let document = compose(write, None, highest, self.engine.clock().now())?;
        let (store, users) = self.target(role)?;
        let placed =
            insert_or_replace(store.as_ref(), users, &document, tombstone.as_deref()).await?;
        if let Insertion::Refused(fault) = placed {
            return Err(UsersError::Rejected(fault));
        }
        let now = self.external_fence(write.user).await?;
        if let Some(now) = now.filter(|now| Some(*now) > fence) {
            // Erased meanwhile, and what was written may have come too late for the tombstone.
            tombstones::rewrite(&self.engine, &[(write.user.clone(), now)]).await?;
            return Ok(Round::Again);
        }
        let receipt =
            receipt(&document, &write.op, role, true).filter(|_| placed == Insertion::Ours);
        Ok(receipt.map_or(Round::Again, Round::Done))
    }

    /// External users need no database but their own: while the ledger is away, the tombstone alone says where a
    /// new life begins. One that is there and cannot be understood is no permission.
    async fn external_fence(&self, user: &UserId) -> Result<Option<Version>, UsersError> {
        match self.ledger.with(self.engine.ledger().fence(user)).await {
            Ok(fence) => Ok(fence),
            Err(error) if error.class == Class::Corrupt => Err(error.into()),
            Err(error) => {
                warn!(
                    user_id = %user,
                    user_type = %user.user_type(),
                    database = %error.database,
                    error = error.class.as_str(),
                    "a user is stored without a look into the erasure ledger",
                );
                Ok(None)
            }
        }
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
        let fence = ledger.fence(write.user).await?;
        let buried = over
            .filter(|document| document::state(document) == Some(State::Erased))
            .and_then(document::version)
            .max(fence);
        let main = CurrentCopy::of(
            self.engine.databases.raseen_main_db(),
            write.user,
            Consistency::Majority,
        )
        .await?;
        let main_version = main.version();
        let (document, seen) = match main {
            CurrentCopy::Live(document) => (Some(document), main_version),
            CurrentCopy::Erased(_) => (None, main_version),
            CurrentCopy::Foreign(_) => {
                return match adopt_copies(
                    ledger,
                    self.engine.databases.raseen_main_db(),
                    write.user,
                )
                .await?
                {
                    Adoption::Done | Adoption::Again => Ok(None),
                    Adoption::Quarantined(reason) => Err(UsersError::Quarantined(reason)),
                };
            }
            CurrentCopy::Unclear(reason) => return Err(UsersError::Quarantined(reason)),
            CurrentCopy::Absent | CurrentCopy::Entering(_) => {
                // srie being away blocks nothing; a move compares the versions again.
                let srie = CurrentCopy::of(
                    self.engine.databases.srie_main_db(),
                    write.user,
                    Consistency::Majority,
                );
                match self.backup.with(srie).await {
                    Ok(CurrentCopy::Live(document)) => {
                        let version = document::version(&document);
                        (Some(document), version)
                    }
                    Ok(CurrentCopy::Foreign(_)) => {
                        return match adopt_copies(
                            ledger,
                            self.engine.databases.srie_main_db(),
                            write.user,
                        )
                        .await
                        {
                            Ok(Adoption::Quarantined(reason)) => {
                                Err(UsersError::Quarantined(reason))
                            }
                            Ok(Adoption::Done | Adoption::Again) => Ok(None),
                            Err(error) => Err(UsersError::Unavailable(error)),
                        };
                    }
                    Ok(CurrentCopy::Unclear(reason)) => {
                        return Err(UsersError::Quarantined(reason));
                    }
                    Ok(current) => (None, current.version()),
                    Err(_) => (None, None),
                }
            }
        };
        let document = document.filter(|_| seen > buried || buried.is_none());
        Ok(Some(Base {
            document,
            highest: seen.max(buried),
            known: Known {
                main: main_version,
                fence,
            },
        }))
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
