//! External users: `external_users` alone, inserted first; what is there is replaced only as it was read.

use bson::Bson;
use bson::raw::RawDocumentBuf;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tierkeep_core::bson;
use tierkeep_core::db::{ExternalUsers, Handle, UserDatabase};
use tierkeep_core::document::{self, Edit, Location, field};
use tierkeep_core::erasure::tombstone;
use tierkeep_core::legacy::{Composed, Refusal};
use tierkeep_core::store::{Change, Guard, Inserted, StoreError, Written};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use super::settle::{Standing, settled, standing};
use super::{Intake, Look, Taken, claims_of};
use crate::adoption::claims;
use crate::erase::entomb;
use crate::retry::repeating;
use crate::users::{Resident, resident};

/// How many documents are replaced at once.
const AT_ONCE: usize = 16;

impl Intake {
    /// One round over external users.
    pub(super) async fn external(&self, arrivals: &[&Composed]) -> Result<Vec<Taken>, StoreError> {
        let external = self.databases.external_db();
        let erased = self.erased(arrivals).await?;
        let users: Vec<&UserId> = arrivals.iter().map(|it| &it.user).collect();
        let mut found = claims_of(external, &users, Look::Heads).await?;
        let (mut new, mut older) = (Vec::new(), Vec::new());
        let mut taken = vec![Taken::Busy; arrivals.len()];
        for (index, arrival) in arrivals.iter().enumerate() {
            let claims = found.remove(arrival.user.as_str()).unwrap_or_default();
            taken[index] = match resident(claims, &arrival.user) {
                _ if erased[index] => Taken::Erased,
                Resident::Erased(_) => Taken::Erased,
                Resident::Foreign(_) | Resident::Unclear(_) => Taken::Own,
                Resident::Entering(_) => Taken::Busy,
                Resident::Nobody => {
                    new.push(index);
                    Taken::Stored
                }
                Resident::Live(head) => match standing(&head, arrival) {
                    Standing::Same(_) => Taken::Same,
                    Standing::Changed => Taken::Changed,
                    Standing::Own => Taken::Own,
                    Standing::Older(_) => {
                        older.push(index);
                        Taken::Replaced
                    }
                },
            };
        }
        if self.dry_run {
            return Ok(taken);
        }
        self.insert_external(arrivals, &new, &mut taken).await?;
        let replaced: Vec<(usize, Taken)> = stream::iter(older.clone())
            .map(|index| async move {
                let outcome = replace(external, Location::External, arrivals[index]).await?;
                Ok::<_, StoreError>((index, outcome))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (index, outcome) in replaced {
            taken[index] = outcome;
        }
        new.extend(older);
        self.bury_external(arrivals, &new, &mut taken).await?;
        Ok(taken)
    }

    async fn insert_external(
        &self,
        arrivals: &[&Composed],
        new: &[usize],
        taken: &mut [Taken],
    ) -> Result<(), StoreError> {
        if new.is_empty() {
            return Ok(());
        }
        let documents: Vec<RawDocumentBuf> = new
            .iter()
            .map(|index| settled(arrivals[*index], Location::External, Version::FIRST))
            .collect();
        let store = self.databases.external_db().store();
        let outcomes = repeating(|| store.insert(ExternalUsers::USERS, &documents)).await?;
        for (index, outcome) in new.iter().zip(outcomes) {
            taken[*index] = match outcome {
                Inserted::Stored => Taken::Stored,
                // Somebody else was faster, or this run itself, and the answer was lost: look again.
                Inserted::Exists => Taken::Busy,
                Inserted::Rejected(fault) => refused(arrivals[*index], &fault.to_string()),
                Inserted::Unsettled(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Who was erased while it was stored is found by looking into the ledger afterwards.
    async fn bury_external(
        &self,
        arrivals: &[&Composed],
        written: &[usize],
        taken: &mut [Taken],
    ) -> Result<(), StoreError> {
        if written.is_empty() {
            return Ok(());
        }
        let users: Vec<&str> = written
            .iter()
            .map(|index| arrivals[*index].user.as_str())
            .collect();
        let ledger = self.databases.ledger();
        let now = self.databases.clock().now();
        for (index, fence) in written.iter().zip(ledger.fences(&users).await?) {
            let Some(fence) = fence else { continue };
            let stones = [tombstone(&arrivals[*index].user, fence, now)];
            ledger.reopen(&stones).await?;
            entomb(self.databases.external_db(), &stones).await?;
            taken[*index] = Taken::Erased;
        }
        Ok(())
    }
}

/// Puts the arrival in the place of what an earlier run stored, if that is still there exactly.
pub(super) async fn replace<D: UserDatabase>(
    database: &Handle<D>,
    location: Location,
    arrival: &Composed,
) -> Result<Taken, StoreError> {
    let user = &arrival.user;
    let Resident::Live(stored) = resident(claims(database, user, false).await?, user) else {
        return Ok(Taken::Busy);
    };
    let Standing::Older(version) = standing(&stored, arrival) else {
        return Ok(Taken::Busy);
    };
    let Some(next) = version.next() else {
        return Ok(refused(arrival, "its version numbers are used up"));
    };
    let id = Bson::String(user.to_string());
    let seen = document::last_accessed(&stored).max(document::last_accessed(&arrival.document));
    let mut replaced = settled(arrival, location, next);
    if let Some(seen) = seen {
        replaced = Edit::new().set(field::LAST_ACCESSED, seen).apply(&replaced);
    }
    let change = Change::Replace(replaced);
    let guard = Guard::Whole(stored);
    let store = database.store();
    Ok(
        match repeating(|| store.write(D::USERS, &id, &guard, &change)).await? {
            Written::Applied(document) => {
                debug_assert_eq!(document::version(&document), Some(next));
                Taken::Replaced
            }
            // Read or changed meanwhile, or the answer was lost: look again.
            Written::Unmatched => Taken::Busy,
            Written::TooLarge => Taken::Refused(Refusal::TooLarge(user.clone())),
            Written::Rejected(fault) => refused(arrival, &fault.to_string()),
        },
    )
}

pub(super) fn refused(arrival: &Composed, reason: &str) -> Taken {
    Taken::Refused(Refusal::Rejected {
        user: arrival.user.to_string(),
        reason: reason.to_owned(),
    })
}
