//! Internal users: the young to temp, the others to srie and then main.
//!
//! A user who signs up at the same moment stands in temp at the same version as what is stored in main here. The
//! one looks at main after having put an entry into temp; the other looks at temp after having written main: one
//! of the two always sees the other, whoever was stopped for however long. Whoever signed up wins.

use std::borrow::Cow;

use bson::Bson;
use bson::raw::RawDocumentBuf;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{Handle, UserDatabase};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, Location};
use tierkeep_core::erasure::tombstone;
use tierkeep_core::legacy::Composed;
use tierkeep_core::mover::{Copied, Copies, Item, Record, main_form};
use tierkeep_core::store::{Change, Guard, StoreError, Written};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;

use super::external::{refused, replace};
use super::settle::{Standing, is_as_imported, settled, standing};
use super::{Intake, Look, Taken, claims_of};
use crate::adoption::{Beside, Entered, claims, enter};
use crate::copying::{copy, read_back};
use crate::entry::{is_abandoned, withdraw};
use crate::erase::entomb;
use crate::retry::repeating;
use crate::users::{Resident, resident};

/// How many users enter temp at once.
const AT_ONCE: usize = 16;

/// What is to be done about one user.
enum Step {
    /// Nothing; this is what became of it.
    Over(Taken),
    /// Into temp, above this version of main.
    Enter(Option<Version>),
    /// In the place of the older import in temp.
    Replace,
    /// To srie and main, at this version.
    Settle(Version),
    /// An import of a moment ago stands in main beside whoever signed up meanwhile.
    GiveWay,
}

impl Intake {
    /// One round over internal users.
    pub(super) async fn internal(&self, arrivals: &[&Composed]) -> Result<Vec<Taken>, StoreError> {
        let steps = self.steps(arrivals).await?;
        let mut taken = vec![Taken::Busy; arrivals.len()];
        let (mut settle, mut single) = (Vec::new(), Vec::new());
        for (index, step) in steps.into_iter().enumerate() {
            taken[index] = match &step {
                Step::Over(over) => over.clone(),
                Step::Enter(None) | Step::Settle(_) => Taken::Stored,
                Step::Enter(Some(_)) | Step::Replace => Taken::Replaced,
                Step::GiveWay => Taken::Own,
            };
            match step {
                Step::Over(_) => {}
                Step::Settle(version) => settle.push((index, version)),
                Step::Enter(_) | Step::Replace | Step::GiveWay => single.push((index, step)),
            }
        }
        if self.dry_run {
            return Ok(taken);
        }
        self.settle(arrivals, &settle, &mut taken).await?;
        let done: Vec<(usize, Taken)> = stream::iter(single)
            .map(|(index, step)| async move {
                Ok::<_, StoreError>((index, self.one(arrivals[index], step).await?))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (index, outcome) in done {
            taken[index] = outcome;
        }
        Ok(taken)
    }

    /// Looks at all copies and says what is to be done about each user.
    async fn steps(&self, arrivals: &[&Composed]) -> Result<Vec<Step>, StoreError> {
        let databases = &self.databases;
        let temp = databases.raseen_temp_db();
        let now = temp.store().hello().await?.now;
        let cutoff = clock::before(now, self.settings.retention);
        let erased = self.erased(arrivals).await?;
        let users: Vec<&UserId> = arrivals.iter().map(|it| &it.user).collect();
        let mut in_temp = claims_of(temp, &users, Look::Heads).await?;
        let mut in_main = claims_of(databases.raseen_main_db(), &users, Look::Heads).await?;
        let mut in_srie = claims_of(databases.srie_main_db(), &users, Look::Heads).await?;
        let mut steps = Vec::with_capacity(arrivals.len());
        for (arrival, erased) in arrivals.iter().zip(erased) {
            let user = &arrival.user;
            let of = |found: &mut std::collections::HashMap<String, Vec<RawDocumentBuf>>| {
                resident(found.remove(user.as_str()).unwrap_or_default(), user)
            };
            let (temp, main, srie) = (of(&mut in_temp), of(&mut in_main), of(&mut in_srie));
            steps.push(match temp {
                _ if erased => Step::Over(Taken::Erased),
                Resident::Erased(_) => Step::Over(Taken::Erased),
                Resident::Foreign(_) | Resident::Unclear(_) => Step::Over(Taken::Own),
                Resident::Entering(entry) => {
                    // One of an import that was cut off need not grow old.
                    let left =
                        is_abandoned(&entry, databases.clock().now()) || is_as_imported(&entry);
                    if left && !self.dry_run {
                        let nonce = document::nonce(&entry).unwrap_or_default();
                        withdraw(databases, user, nonce).await?;
                    }
                    Step::Over(Taken::Busy)
                }
                Resident::Live(live) => match standing(&live, arrival) {
                    Standing::Same(_) => Step::Over(Taken::Same),
                    Standing::Older(_) => Step::Replace,
                    Standing::Changed => Step::Over(Taken::Changed),
                    Standing::Own if is_shadowed(&main, &live) || is_shadowed(&srie, &live) => {
                        Step::GiveWay
                    }
                    Standing::Own => Step::Over(Taken::Own),
                },
                Resident::Nobody => after_temp(arrival, &main, &srie, arrival.created_at > cutoff),
            });
        }
        Ok(steps)
    }

    /// What concerns one user alone.
    async fn one(&self, arrival: &Composed, step: Step) -> Result<Taken, StoreError> {
        let databases = &self.databases;
        match step {
            Step::Over(over) => Ok(over),
            Step::Settle(_) => Ok(Taken::Busy),
            Step::Replace => {
                // While a document lives in temp, an erasure replaces it there.
                replace(databases.raseen_temp_db(), Location::Temp, arrival).await
            }
            Step::GiveWay => {
                self.give_way(&arrival.user).await?;
                Ok(Taken::Own)
            }
            Step::Enter(main) => {
                let Some(version) = Version::above([main]) else {
                    return Ok(refused(arrival, "its version numbers are used up"));
                };
                let beside = Beside {
                    user: &arrival.user,
                    adopted: settled(arrival, Location::Temp, version),
                    over: None,
                    main,
                    // Nobody whom the ledger names comes here.
                    fence: None,
                };
                Ok(match enter(databases, &beside).await? {
                    Entered::Done if main.is_some() => Taken::Replaced,
                    Entered::Done => Taken::Stored,
                    Entered::Again => Taken::Busy,
                    Entered::Refused(fault) => refused(arrival, &fault.to_string()),
                })
            }
        }
    }

    /// Stores users in srie, then in main, reads both back, and looks at temp and the ledger afterwards.
    async fn settle(
        &self,
        arrivals: &[&Composed],
        which: &[(usize, Version)],
        taken: &mut [Taken],
    ) -> Result<(), StoreError> {
        if which.is_empty() {
            return Ok(());
        }
        let databases = &self.databases;
        let ledger = databases.ledger();
        let (mut places, mut items) = (Vec::new(), Vec::new());
        let mut documents: Vec<RawDocumentBuf> = Vec::new();
        for (index, version) in which {
            let (item, document) = main_copy(arrivals[*index], *version);
            places.push(*index);
            items.push(item);
            documents.push(document);
        }
        for main in [false, true] {
            let copies = Copies {
                items: items.iter().collect(),
                documents: Cow::Borrowed(&documents),
            };
            let copied = if main {
                copy(ledger, databases.raseen_main_db(), &copies, true).await?
            } else {
                copy(ledger, databases.srie_main_db(), &copies, true).await?
            };
            for (index, copied) in places.iter().zip(&copied) {
                match copied {
                    Copied::Settled => {}
                    Copied::Rejected(reason) => taken[*index] = refused(arrivals[*index], reason),
                    // Somebody else's content has this version there: whoever it is was faster.
                    Copied::Contradicted(_) | Copied::Unsettled => taken[*index] = Taken::Busy,
                }
            }
            keep_settled(&mut places, &copied);
            keep_settled(&mut items, &copied);
            keep_settled(&mut documents, &copied);
            // A crash here leaves srie ahead of main, or main without a look at temp; the next run goes on.
        }
        if items.is_empty() {
            return Ok(());
        }
        let copies = Copies {
            items: items.iter().collect(),
            documents: documents.into(),
        };
        let verify = self.settings.verify;
        let (srie, main) = tokio::try_join!(
            read_back(databases.srie_main_db(), &copies, verify),
            read_back(databases.raseen_main_db(), &copies, verify),
        )?;
        for ((index, item), (srie, main)) in places.iter().zip(&items).zip(srie.iter().zip(&main)) {
            let proven = [srie, main].into_iter().all(|seen| {
                seen.as_ref().is_some_and(|seen| {
                    seen.version > item.version
                        || (seen.version == item.version && seen.digest == item.digest)
                })
            });
            if !proven {
                taken[*index] = Taken::Busy;
            }
        }
        self.look_at_temp(&places, &items, taken).await?;
        self.bury_internal(&places, &items, taken).await
    }

    /// Whoever entered temp before main was written here has not seen it: an entry is taken out, and whoever is
    /// live at no higher version keeps its own.
    async fn look_at_temp(
        &self,
        places: &[usize],
        items: &[Item],
        taken: &mut [Taken],
    ) -> Result<(), StoreError> {
        let users: Vec<&UserId> = items.iter().map(|item| &item.user).collect();
        let mut found = claims_of(self.databases.raseen_temp_db(), &users, Look::Surely).await?;
        for (index, item) in places.iter().zip(items) {
            let claims = found.remove(item.user.as_str()).unwrap_or_default();
            match resident(claims, &item.user) {
                Resident::Entering(entry) if document::version(&entry) <= Some(item.version) => {
                    // Its maker cannot confirm it any more, and looks at main again.
                    let nonce = document::nonce(&entry).unwrap_or_default();
                    withdraw(&self.databases, &item.user, nonce).await?;
                    taken[*index] = Taken::Busy;
                }
                Resident::Live(live)
                    if document::version(&live) <= Some(item.version)
                        && document::imported(&live).is_none() =>
                {
                    self.give_way(&item.user).await?;
                    taken[*index] = Taken::Own;
                }
                Resident::Nobody
                | Resident::Entering(_)
                | Resident::Live(_)
                | Resident::Erased(_)
                | Resident::Foreign(_)
                | Resident::Unclear(_) => {}
            }
        }
        Ok(())
    }

    async fn bury_internal(
        &self,
        places: &[usize],
        items: &[Item],
        taken: &mut [Taken],
    ) -> Result<(), StoreError> {
        let databases = &self.databases;
        let users: Vec<&str> = items.iter().map(|item| item.user.as_str()).collect();
        let fences = databases.ledger().fences(&users).await?;
        let now = databases.clock().now();
        for ((index, item), fence) in places.iter().zip(items).zip(fences) {
            let Some(fence) = fence else { continue };
            let stones = [tombstone(&item.user, fence, now)];
            databases.ledger().reopen(&stones).await?;
            // Temp first: while its tombstone stands, nothing older in the others counts.
            entomb(databases.raseen_temp_db(), &stones).await?;
            entomb(databases.raseen_main_db(), &stones).await?;
            entomb(databases.srie_main_db(), &stones).await?;
            taken[*index] = Taken::Erased;
        }
        Ok(())
    }

    /// Takes what an import stored, and nobody changed, out of main and srie again.
    async fn give_way(&self, user: &UserId) -> Result<(), StoreError> {
        take_out(self.databases.raseen_main_db(), user).await?;
        take_out(self.databases.srie_main_db(), user).await
    }
}

/// What is to be done about a user of whom temp holds nothing.
fn after_temp(arrival: &Composed, main: &Resident, srie: &Resident, young: bool) -> Step {
    match main {
        Resident::Live(live) => match standing(live, arrival) {
            Standing::Same(version) if version_of(srie) >= Some(version) => Step::Over(Taken::Same),
            // A backup that was lost is made again.
            Standing::Same(version) => Step::Settle(version),
            Standing::Older(version) => Step::Enter(Some(version)),
            Standing::Changed => Step::Over(Taken::Changed),
            Standing::Own => Step::Over(Taken::Own),
        },
        Resident::Erased(_) => Step::Over(Taken::Erased),
        Resident::Foreign(_) | Resident::Unclear(_) => Step::Over(Taken::Own),
        Resident::Entering(_) => Step::Over(Taken::Busy),
        Resident::Nobody => match srie {
            Resident::Nobody if young => Step::Enter(None),
            Resident::Nobody => Step::Settle(Version::FIRST),
            // An earlier run was cut off between srie and main.
            Resident::Live(live) => match standing(live, arrival) {
                Standing::Same(version) => Step::Settle(version),
                Standing::Older(version) => version.next().map_or(
                    Step::Over(refused(arrival, "its version numbers are used up")),
                    Step::Settle,
                ),
                Standing::Changed | Standing::Own => Step::Over(Taken::Own),
            },
            Resident::Erased(_) => Step::Over(Taken::Erased),
            Resident::Foreign(_) | Resident::Unclear(_) => Step::Over(Taken::Own),
            Resident::Entering(_) => Step::Over(Taken::Busy),
        },
    }
}

fn version_of(resident: &Resident) -> Option<Version> {
    match resident {
        Resident::Live(live) => document::version(live),
        Resident::Nobody
        | Resident::Foreign(_)
        | Resident::Entering(_)
        | Resident::Erased(_)
        | Resident::Unclear(_) => None,
    }
}

/// Whether `copy` is an import that temp's own document knows nothing of.
fn is_shadowed(copy: &Resident, own: &RawDocumentBuf) -> bool {
    match copy {
        Resident::Live(copy) => {
            is_as_imported(copy) && document::version(copy) >= document::version(own)
        }
        Resident::Nobody
        | Resident::Foreign(_)
        | Resident::Entering(_)
        | Resident::Erased(_)
        | Resident::Unclear(_) => false,
    }
}

/// Those of `all` whose copy is settled.
fn keep_settled<T>(all: &mut Vec<T>, copied: &[Copied]) {
    let mut copied = copied.iter();
    all.retain(|_| copied.next() == Some(&Copied::Settled));
}

fn main_copy(arrival: &Composed, version: Version) -> (Item, RawDocumentBuf) {
    let document = settled(arrival, Location::Main, version);
    let digest = Digest::of(&document);
    let document = main_form(&document, &digest);
    let item = Item {
        user: arrival.user.clone(),
        version,
        digest,
        size: u64::try_from(document.as_bytes().len()).unwrap_or(u64::MAX),
        record: Record::id_of(&arrival.user, version, arrival.created_at),
    };
    (item, document)
}

async fn take_out<D: UserDatabase>(database: &Handle<D>, user: &UserId) -> Result<(), StoreError> {
    let store = database.store();
    for _ in 0..super::ROUNDS {
        let Resident::Live(copy) = resident(claims(database, user, false).await?, user) else {
            return Ok(());
        };
        if !is_as_imported(&copy) {
            return Ok(());
        }
        let id = Bson::String(user.to_string());
        let guard = Guard::Whole(copy);
        let written = repeating(|| store.write(D::USERS, &id, &guard, &Change::Remove)).await?;
        match written {
            Written::Applied(_) => return Ok(()),
            // It was read meanwhile, which changes when it was read last.
            Written::Unmatched | Written::TooLarge | Written::Rejected(_) => {}
        }
    }
    Ok(())
}
