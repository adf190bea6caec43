//! Reading a user's document.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, doc};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::Role;
use tierkeep_core::document::{self, field};
use tierkeep_core::store::StoreError;
use tierkeep_core::user::{UserId, UserType};
use tierkeep_core::version::Version;
use tracing::{debug, error, warn};

use crate::alerts::{AlertKind, Alerts};
use crate::claims::{Consistency, CurrentCopy};
use crate::copies::sound::is_sound;
use crate::users::{Found, Users, UsersError};

/// `last_accessed` is raised at most this often for each user.
const TOUCH_EVERY: Duration = Duration::from_mins(1);

impl Users {
    /// The document that counts for `user`; `None` where there is none.
    ///
    /// Raises `last_accessed` at most once a minute. Dropping the future leaves at most that undone.
    ///
    /// # Errors
    /// [`UsersError::Unavailable`] when a database that may hold the document did not answer: never "not
    /// found" in its place. [`UsersError::Quarantined`] when several documents claim the user.
    pub async fn read(&self, user: &UserId) -> Result<Option<Found>, UsersError> {
        let _at_work = self.engine.requests().begin();
        let found = self.look(user).await?;
        if let Some(found) = &found {
            if let Some(version) = found.version() {
                self.last_seen.note(user, version);
            }
            self.touch(user, found).await;
        }
        Ok(found)
    }

    /// As [`Users::read`], and changes nothing.
    pub(crate) async fn look(&self, user: &UserId) -> Result<Option<Found>, UsersError> {
        match user.user_type() {
            UserType::External => self.read_external(user).await,
            UserType::Internal => self.read_internal(user).await,
        }
    }

    async fn read_external(&self, user: &UserId) -> Result<Option<Found>, UsersError> {
        let external = self.engine.databases.external_db();
        let pending = self.pending.fence(&self.engine, user).await;
        let copy = CurrentCopy::of(external, user, Consistency::Majority).await;
        match fetched(user, copy)? {
            CurrentCopy::Live(document) | CurrentCopy::Foreign(document)
                if counts(&document, pending) =>
            {
                let lifted = self.lift(user, &document).await.unwrap_or_default();
                let document = lifted.unwrap_or(document);
                Ok(Some(found_in(Role::ExternalUsers, document)))
            }
            CurrentCopy::Live(_)
            | CurrentCopy::Foreign(_)
            | CurrentCopy::Absent
            | CurrentCopy::Entering(_)
            | CurrentCopy::Erased(_) => Ok(None),
            CurrentCopy::Unclear(reason) => Err(UsersError::Quarantined(reason)),
        }
    }

    async fn read_internal(&self, user: &UserId) -> Result<Option<Found>, UsersError> {
        // What waits to be erased counts as nothing, wherever it is.
        let pending = self.pending.fence(&self.engine, user).await;
        let fence = match self.in_temp(user, Consistency::Majority).await? {
            CurrentCopy::Live(document) | CurrentCopy::Foreign(document)
                if counts(&document, pending) =>
            {
                return Ok(Some(found_in(Role::RaseenTempUser, document)));
            }
            CurrentCopy::Unclear(reason) => return Err(UsersError::Quarantined(reason)),
            CurrentCopy::Live(_) | CurrentCopy::Foreign(_) | CurrentCopy::Absent => pending,
            // What main holds of an earlier life counts as nothing, also while a new one begins.
            CurrentCopy::Entering(document) | CurrentCopy::Erased(document) => {
                let life = document::version(&document).and_then(Version::life_began_above);
                life.max(pending)
            }
        };
        let main = self.engine.databases.raseen_main_db();
        let in_main = match CurrentCopy::of(main, user, Consistency::Majority).await {
            Ok(copy) => copy,
            Err(error) => return self.read_backup(user, fence, error).await,
        };
        let in_main = if matches!(in_main, CurrentCopy::Absent) {
            // "Absent" must not rest on a primary that has been deposed, of main or of temp.
            let main = CurrentCopy::of(main, user, Consistency::Linearizable).await;
            fetched(user, main)?
        } else {
            in_main
        };
        match in_main {
            CurrentCopy::Live(document) | CurrentCopy::Foreign(document) => {
                if !counts(&document, fence) {
                    return Ok(None);
                }
                if is_sound(&document) {
                    return Ok(Some(found_in(Role::RaseenMainUser, document)));
                }
                self.read_instead_of_damaged(user, fence).await.map(Some)
            }
            CurrentCopy::Unclear(reason) => Err(UsersError::Quarantined(reason)),
            CurrentCopy::Entering(_) | CurrentCopy::Erased(_) => Ok(None),
            CurrentCopy::Absent => self.read_absent(user, fence).await,
        }
    }

    async fn in_temp(
        &self,
        user: &UserId,
        consistency: Consistency,
    ) -> Result<CurrentCopy, UsersError> {
        let temp = self.engine.databases.raseen_temp_db();
        fetched(user, CurrentCopy::of(temp, user, consistency).await)
    }

    /// Main holds nothing: temp is asked again, linearizably, and then srie.
    async fn read_absent(
        &self,
        user: &UserId,
        fence: Option<Version>,
    ) -> Result<Option<Found>, UsersError> {
        if let CurrentCopy::Live(document) | CurrentCopy::Foreign(document) =
            self.in_temp(user, Consistency::Linearizable).await?
            && counts(&document, fence)
        {
            return Ok(Some(found_in(Role::RaseenTempUser, document)));
        }
        let srie = self.engine.databases.srie_main_db();
        let srie = CurrentCopy::of(srie, user, Consistency::Majority);
        let Ok(srie) = self.backup.with(srie).await else {
            return Ok(None);
        };
        let Some(document) = live(srie)? else {
            return Ok(None);
        };
        // The tombstones of an erasure may be gone already: only the ledger knows whether this is what was erased.
        let erased = fetched(
            user,
            self.ledger.with(self.engine.ledger().fence(user)).await,
        )?;
        if !counts(&document, fence.max(erased)) {
            return Ok(None);
        }
        if !is_sound(&document) {
            self.tell_of_damage(user, Role::SrieMainUser).await;
            return Err(UsersError::Corrupt(Role::SrieMainUser));
        }
        warn_of_backup(
            user,
            "read from the backup because main has no copy of the user",
        );
        Ok(Some(found_in(Role::SrieMainUser, document)))
    }

    /// Main's copy does not match its own digest: srie's is served where that one does.
    async fn read_instead_of_damaged(
        &self,
        user: &UserId,
        fence: Option<Version>,
    ) -> Result<Found, UsersError> {
        self.tell_of_damage(user, Role::RaseenMainUser).await;
        let srie = self.engine.databases.srie_main_db();
        let srie = CurrentCopy::of(srie, user, Consistency::Majority);
        let srie = self.backup.with(srie).await.unwrap_or(CurrentCopy::Absent);
        let intact = live(srie)?
            .filter(|document| counts(document, fence) && is_sound(document))
            .ok_or(UsersError::Corrupt(Role::RaseenMainUser))?;
        warn_of_backup(
            user,
            "read from the backup because the copy in main is damaged",
        );
        Ok(found_in(Role::SrieMainUser, intact))
    }

    /// Alerts that a copy does not match its digest.
    pub(super) async fn tell_of_damage(&self, user: &UserId, database: Role) {
        error!(
            user_id = %user,
            user_type = %user.user_type(),
            database = %database,
            "a copy does not match its digest",
        );
        let message = format!("the copy in {database} does not match its digest");
        let alerts = Alerts::new(Arc::clone(&self.engine));
        alerts
            .tell(AlertKind::CorruptDocument, user.as_str(), &message)
            .await;
    }

    /// Main cannot be reached: the answer comes from srie; if srie has no copy either, it is unknown whether the user
    /// exists.
    async fn read_backup(
        &self,
        user: &UserId,
        fence: Option<Version>,
        main: StoreError,
    ) -> Result<Option<Found>, UsersError> {
        failed_fetch(user, &main);
        let srie = self.engine.databases.srie_main_db();
        let srie = CurrentCopy::of(srie, user, Consistency::Majority).await;
        match live(fetched(user, srie)?)?.filter(|document| counts(document, fence)) {
            Some(document) if !is_sound(&document) => {
                self.tell_of_damage(user, Role::SrieMainUser).await;
                Err(UsersError::Corrupt(Role::SrieMainUser))
            }
            Some(document) => {
                warn_of_backup(user, "read from the backup while main is unavailable");
                Ok(Some(found_in(Role::SrieMainUser, document)))
            }
            None => Err(UsersError::Unavailable(main)),
        }
    }

    /// Raises `last_accessed`. A failure costs nothing but the date.
    async fn touch(&self, user: &UserId, found: &Found) {
        let now = self.engine.clock().now();
        let Some(version) = found.version() else {
            return;
        };
        let recent = document::last_accessed(&found.document)
            .is_some_and(|at| clock::after(at, TOUCH_EVERY) > now);
        if recent || found.source == Role::SrieMainUser {
            return;
        }
        let (Some(store), Some(users)) = (
            self.engine.databases.store(found.source),
            found.source.users(),
        ) else {
            return;
        };
        let id = Bson::String(user.to_string());
        let when = doc! { "metadata.version": version.get() };
        let set = doc! { field::LAST_ACCESSED: now };
        if let Err(error) = store.amend(users, &[id], &when, &set).await {
            debug!(
                user_id = %user,
                user_type = %user.user_type(),
                %error,
                "last_accessed was not updated",
            );
        }
    }
}

fn found_in(source: Role, document: RawDocumentBuf) -> Found {
    Found { document, source }
}

fn warn_of_backup(user: &UserId, what: &'static str) {
    warn!(
        user_id = %user,
        user_type = %user.user_type(),
        database = %Role::SrieMainUser,
        "{what}",
    );
}

/// Whether a document belongs to the life that the erasure at this version leaves standing.
fn counts(document: &RawDocument, fence: Option<Version>) -> bool {
    fence.is_none() || document::version(document) > fence
}

/// The copy in main or srie, where it is live.
fn live(copy: CurrentCopy) -> Result<Option<RawDocumentBuf>, UsersError> {
    match copy {
        CurrentCopy::Live(document) | CurrentCopy::Foreign(document) => Ok(Some(document)),
        CurrentCopy::Absent | CurrentCopy::Entering(_) | CurrentCopy::Erased(_) => Ok(None),
        CurrentCopy::Unclear(reason) => Err(UsersError::Quarantined(reason)),
    }
}

/// Logs a failed read once, where it is handled.
fn fetched<T>(user: &UserId, result: Result<T, StoreError>) -> Result<T, UsersError> {
    result.map_err(|error| {
        failed_fetch(user, &error);
        UsersError::Unavailable(error)
    })
}

fn failed_fetch(user: &UserId, error: &StoreError) {
    error!(
        user_id = %user,
        user_type = %user.user_type(),
        database = %error.database,
        error = error.class.as_str(),
        code = error.code,
        "error in fetching from {}",
        error.database,
    );
}
