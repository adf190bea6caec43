//! Performing a batch's actions through the stores. Decides nothing: what to do comes from
//! [`Batch::action`], what it means from [`Batch::observe`].
//!
//! The databases of a move are named by type, so a wrong pair does not compile.

use std::collections::{BTreeMap, HashMap};

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, doc};
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{
    BackedUp, EvaluationAudit, Handle, Promotes, RaseenTempUser, UserDatabase, collection,
};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, State};
use tierkeep_core::erasure::tombstone;
use tierkeep_core::mover::{
    Action, Batch, Copied, Copies, Item, Observation, Phase, Record, Seen, SeenInTemp, Status,
    Target, Verify, record_field,
};
use tierkeep_core::store::{Change, Class, Fence, Find, Guard, Inserted, Put, Query, StoreError};

use tracing::{Instrument as _, debug_span, warn};

use crate::adoption::{Adoption, adopt_copies};
use crate::connection::ConnectionManager;
use crate::erase::entomb;
use crate::foreign;
use crate::ledger::Ledger;
use crate::migration::MoverSettings;
use crate::mutant::{Mutant, Mutation};
use crate::retry::repeating;

type Main = <RaseenTempUser as Promotes>::Main;
type Backup = <Main as BackedUp>::Backup;

/// About how many bytes of copies are read back at once, so that a batch does not take its size once more.
const READ_BACK_BYTES: usize = 1024 * 1024;

/// The databases of one move.
#[derive(Clone, Debug)]
pub(crate) struct Movement {
    temp: Handle<RaseenTempUser>,
    main: Handle<Main>,
    backup: Handle<Backup>,
    audit: Handle<EvaluationAudit>,
    ledger: Ledger,
    clock: std::sync::Arc<dyn Clock>,
    run_id: String,
    verify: Verify,
    foreign_writers: bool,
    mutation: Mutation,
}

/// A batch stopped because a database did not do its part; nothing is lost.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// As far as it came; `None` when an answer did not fit.
    pub(crate) batch: Option<Batch>,
    /// Why.
    pub(crate) error: StoreError,
}

impl Movement {
    pub(crate) fn new(
        databases: &ConnectionManager,
        run_id: &str,
        settings: &MoverSettings,
    ) -> Self {
        Self {
            temp: databases.raseen_temp_db().clone(),
            main: databases.raseen_main_db().clone(),
            backup: databases.srie_main_db().clone(),
            audit: databases.audit_db().clone(),
            ledger: databases.ledger().clone(),
            clock: std::sync::Arc::clone(databases.clock()),
            run_id: run_id.to_owned(),
            verify: settings.verify,
            foreign_writers: settings.foreign_writers,
            mutation: databases.mutation(),
        }
    }

    /// Takes the batch through its phases until it is done or enters `until`.
    pub(crate) async fn advance(
        &self,
        mut batch: Batch,
        until: Option<Phase>,
    ) -> Result<Batch, Box<Stopped>> {
        while batch.phase() != Phase::Done && Some(batch.phase()) != until {
            let step = debug_span!("move.step", phase = ?batch.phase());
            let observation = match self.perform(batch.action()).instrument(step).await {
                Ok(Some(observation)) => observation,
                Ok(None) => break,
                Err(error) => {
                    return Err(Box::new(Stopped {
                        batch: Some(batch),
                        error,
                    }));
                }
            };
            batch = batch.observe(observation).map_err(|_| {
                let database = self.audit.store().role();
                let error = StoreError {
                    database,
                    operation: "observe",
                    class: Class::Corrupt,
                    code: 0,
                };
                Box::new(Stopped { batch: None, error })
            })?;
        }
        Ok(batch)
    }

    async fn perform(&self, action: Action<'_>) -> Result<Option<Observation>, StoreError> {
        Ok(Some(match action {
            Action::Claims(items) => Observation::Claims(alone(&self.temp, &items).await?),
            Action::Record(items) => Observation::Recorded(self.record(&items).await?),
            Action::Copy(Target::Backup, copies) => {
                Observation::Copied(copy(&self.ledger, &self.backup, &copies, true).await?)
            }
            Action::Copy(Target::Main, copies) => {
                let guarded = !self.mutation.has(Mutant::UnguardedWriteToMain);
                Observation::Copied(copy(&self.ledger, &self.main, &copies, guarded).await?)
            }
            Action::ReadBack(copies) => {
                // One after the other: both at once would be most of the memory that a move takes.
                let backup = read_back(&self.backup, &copies, self.verify).await?;
                let main = read_back(&self.main, &copies, self.verify).await?;
                let mut seen = backup.into_iter().zip(main).collect();
                if self.mutation.has(Mutant::HigherIsFine) {
                    seen = take_higher_for_equal(&copies.items, seen);
                }
                Observation::ReadBack(seen)
            }
            Action::ReadTemp(items) => Observation::Temp(self.read_temp(&items).await?),
            Action::Erasures(items) => Observation::Erasures(self.erasures(&items).await?),
            Action::Delete(items) => {
                if self.delete(&items).await? == items.len() {
                    Observation::DeletedAll
                } else {
                    Observation::Deleted
                }
            }
            Action::Complete(items) => {
                self.complete(&items).await?;
                Observation::Completed
            }
            Action::Done => return Ok(None),
        }))
    }

    /// A pending record for each; those of earlier attempts are kept.
    async fn record(&self, items: &[&Item]) -> Result<Vec<Copied>, StoreError> {
        if self.mutation.has(Mutant::MoveWithoutRecord) {
            return Ok(vec![Copied::Settled; items.len()]);
        }
        let now = self.clock.now();
        let records: Vec<RawDocumentBuf> = items
            .iter()
            .map(|item| Record::pending(item, &self.run_id, now))
            .collect();
        let store = self.audit.store();
        let inserted = repeating(|| store.insert(collection::MIGRATION_RECORDS, &records)).await?;
        Ok(inserted
            .into_iter()
            .zip(items)
            .map(|(outcome, item)| match outcome {
                Inserted::Stored | Inserted::Exists => Copied::Settled,
                Inserted::Rejected(fault) => {
                    Copied::Rejected(format!("its migration record is refused: {fault}"))
                }
                Inserted::Unsettled(error) => unsettled(item, &error),
            })
            .collect())
    }

    async fn read_temp(&self, items: &[&Item]) -> Result<Vec<SeenInTemp>, StoreError> {
        let found = read(&self.temp, items, true).await?;
        Ok(items
            .iter()
            .map(|item| match found.get(item.user.as_str()) {
                Some(document) if document::state(document) == Some(State::Live) => {
                    document::version(document).map_or(SeenInTemp::Gone, SeenInTemp::Live)
                }
                Some(_) | None => SeenInTemp::Gone,
            })
            .collect())
    }

    /// Whoever stopped longer than the tombstones stood may have written what was erased: who looks into the
    /// ledger after writing finds out and puts them again.
    async fn erasures(&self, items: &[&Item]) -> Result<Vec<bool>, StoreError> {
        let users: Vec<&str> = items.iter().map(|item| item.user.as_str()).collect();
        if self.mutation.has(Mutant::NoLedgerAfterWriting) {
            return Ok(vec![false; items.len()]);
        }
        let fences = self.ledger.fences(&users).await?;
        let now = self.clock.now();
        let mut erased = Vec::with_capacity(items.len());
        let mut stones = Vec::new();
        for (item, fence) in items.iter().zip(fences) {
            let fence = fence.filter(|fence| *fence > item.version);
            stones.extend(fence.map(|fence| tombstone(&item.user, fence, now)));
            erased.push(fence.is_some());
        }
        if !stones.is_empty() {
            self.ledger.reopen(&stones).await?;
            // Temp first: while its tombstone stands, nothing older in the others counts.
            entomb(&self.temp, &stones).await?;
            entomb(&self.main, &stones).await?;
            entomb(&self.backup, &stones).await?;
        }
        Ok(erased)
    }

    /// One statement for each distinct version. Answers how many are known to have gone.
    async fn delete(&self, items: &[&Item]) -> Result<usize, StoreError> {
        if self.foreign_writers {
            foreign::delete(&self.temp, items).await?;
            return Ok(0);
        }
        let mut by_version = BTreeMap::new();
        for item in items {
            by_version
                .entry(item.version)
                .or_insert_with(Vec::new)
                .push(Bson::String(item.user.to_string()));
        }
        let fences: Vec<Fence> = by_version
            .into_iter()
            .map(|(version, ids)| Fence { version, ids })
            .collect();
        let store = self.temp.store();
        if self.mutation.has(Mutant::UnguardedDelete) {
            let whatever = Guard::Fields(doc! {});
            for id in fences.iter().flat_map(|fence| &fence.ids) {
                let users = RaseenTempUser::USERS;
                repeating(|| store.write(users, id, &whatever, &Change::Remove)).await?;
            }
            return Ok(0);
        }
        // A repeat after a lost answer finds fewer: then temp is asked what it still holds.
        let gone = repeating(|| store.delete(RaseenTempUser::USERS, &fences)).await?;
        Ok(usize::try_from(gone).unwrap_or(usize::MAX))
    }

    async fn complete(&self, items: &[&Item]) -> Result<(), StoreError> {
        let ids: Vec<Bson> = items
            .iter()
            .map(|item| Bson::ObjectId(item.record))
            .collect();
        let set = Record::completed(&self.run_id, self.clock.now());
        let store = self.audit.store();
        // One that another mover gave up, or completed a moment ago, is rare.
        let mut left = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        for status in [Status::Pending, Status::Failed] {
            let when = doc! { record_field::STATUS: status.as_str() };
            let amended =
                repeating(|| store.amend(collection::MIGRATION_RECORDS, &ids, &when, &set)).await?;
            left = left.saturating_sub(amended);
            if left == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Whether each is its user's only document in temp, whatever the `_id`s.
async fn alone(temp: &Handle<RaseenTempUser>, items: &[&Item]) -> Result<Vec<bool>, StoreError> {
    let mut claims: BTreeMap<String, usize> = BTreeMap::new();
    let mut runs = vec![items];
    while let Some(run) = runs.pop() {
        let limit = run.len() * 2;
        let users = run.iter().map(|item| item.user.to_string()).collect();
        let find = Find::new(Query::Users(users)).limit(limit).keys();
        let page = repeating(|| temp.store().find(RaseenTempUser::USERS, &find)).await?;
        if page.len() >= limit && run.len() > 1 {
            // So many claims that some may not be on the page.
            let (first, second) = run.split_at(run.len() / 2);
            runs.extend([first, second]);
            continue;
        }
        for user in page
            .iter()
            .filter_map(|document| document::user_id(document))
        {
            *claims.entry(user.to_owned()).or_default() += 1;
        }
    }
    Ok(items
        .iter()
        .map(|item| claims.get(item.user.as_str()).is_none_or(|n| *n < 2))
        .collect())
}

/// Inserts first; for those that are there already, skips equals and sends the others guarded.
pub(crate) async fn copy<D: UserDatabase>(
    ledger: &Ledger,
    target: &Handle<D>,
    copies: &Copies<'_>,
    guarded: bool,
) -> Result<Vec<Copied>, StoreError> {
    let store = target.store();
    let Copies { items, documents } = copies;
    let inserted = repeating(|| store.insert(D::USERS, documents)).await?;
    let mut outcomes: Vec<Copied> = Vec::with_capacity(items.len());
    let mut there = Vec::new();
    for (index, outcome) in inserted.into_iter().enumerate() {
        outcomes.push(match outcome {
            Inserted::Stored => Copied::Settled,
            Inserted::Exists => {
                there.push(index);
                Copied::Settled
            }
            Inserted::Rejected(fault) => Copied::Rejected(fault.to_string()),
            Inserted::Unsettled(error) => unsettled(items[index], &error),
        });
    }
    if there.is_empty() {
        return Ok(outcomes);
    }
    if !guarded {
        for index in there {
            let document = &documents[index];
            let (id, whatever) = (document::id(document), Guard::Fields(doc! {}));
            let change = Change::Replace(document.clone());
            repeating(|| store.write(D::USERS, &id, &whatever, &change)).await?;
        }
        return Ok(outcomes);
    }
    let mut stale = Vec::new();
    let of_there: Vec<&Item> = there.iter().map(|index| items[*index]).collect();
    for (index, seen) in there.iter().zip(compare(ledger, target, &of_there).await?) {
        match seen {
            Compared::Equal => {}
            Compared::Older => stale.push(*index),
            Compared::Odd(outcome) => outcomes[*index] = outcome,
        }
    }
    if stale.is_empty() {
        return Ok(outcomes);
    }
    let newer: Vec<RawDocumentBuf> = stale
        .iter()
        .map(|index| documents[*index].clone())
        .collect();
    let put = repeating(|| store.put_newer(D::USERS, &newer)).await?;
    for (index, outcome) in stale.into_iter().zip(put) {
        match outcome {
            Put::Settled => {}
            Put::Rejected(fault) => outcomes[index] = Copied::Rejected(fault.to_string()),
            Put::Unsettled(error) => outcomes[index] = unsettled(items[index], &error),
        }
    }
    Ok(outcomes)
}

/// A document that waits for a later run alone, because of an error that says nothing about the others.
fn unsettled(item: &Item, error: &StoreError) -> Copied {
    warn!(
        user_id = %item.user,
        user_type = %item.user.user_type(),
        database = %error.database,
        error = error.class.as_str(),
        code = error.code,
        "error in moving data to {}, left for a later run",
        error.database,
    );
    Copied::Unsettled
}

/// What a target holds under the `_id` of a copy.
enum Compared {
    /// The same, by version and by the digest it claims; or something newer.
    Equal,
    /// An older version.
    Older,
    /// Nothing that may be written over.
    Odd(Copied),
}

/// Compares what is there with the copies, after giving legacy documents their final form.
async fn compare<D: UserDatabase>(
    ledger: &Ledger,
    target: &Handle<D>,
    items: &[&Item],
) -> Result<Vec<Compared>, StoreError> {
    let mut found = read(target, items, true).await?;
    let mut compared = Vec::with_capacity(items.len());
    for &item in items {
        let user = &item.user;
        if found
            .get(user.as_str())
            .is_some_and(|it| !document::is_native(it))
        {
            match adopt_copies(ledger, target, user).await? {
                Adoption::Done => found.extend(read(target, &[item], true).await?),
                Adoption::Again => {
                    compared.push(Compared::Odd(Copied::Unsettled));
                    continue;
                }
                Adoption::Quarantined(reason) => {
                    compared.push(Compared::Odd(Copied::Contradicted(reason)));
                    continue;
                }
            }
        }
        let head = found.get(user.as_str());
        compared.push(match head.and_then(|head| document::version(head)) {
            Some(version) if version > item.version => Compared::Equal,
            Some(version) if version == item.version => {
                let claimed = head.and_then(|head| Digest::claimed_by(head));
                if claimed.as_ref() == Some(&item.digest) {
                    Compared::Equal
                } else {
                    contradiction(target, item).await?
                }
            }
            Some(_) | None => Compared::Older,
        });
    }
    Ok(compared)
}

/// A copy of the same version that does not claim the same digest: only its content says whether it differs.
async fn contradiction<D: UserDatabase>(
    target: &Handle<D>,
    item: &Item,
) -> Result<Compared, StoreError> {
    let whole = read(target, &[item], false).await?;
    let Some(copy) = whole.get(item.user.as_str()) else {
        return Ok(Compared::Odd(Copied::Unsettled));
    };
    let differs = document::version(copy) == Some(item.version) && Digest::of(copy) != item.digest;
    Ok(if differs {
        Compared::Odd(Copied::Contradicted(Quarantine::Conflict {
            database: target.store().role().name(),
            version: item.version,
        }))
    } else {
        Compared::Equal
    })
}

/// Reads the copies back. A claim that agrees is taken for [`Verify::Version`]; one that does not is never
/// taken: only the content says whether the copy differs.
pub(crate) async fn read_back<D: UserDatabase>(
    database: &Handle<D>,
    copies: &Copies<'_>,
    verify: Verify,
) -> Result<Vec<Option<Seen>>, StoreError> {
    let items = &copies.items;
    match verify {
        Verify::Full => {
            let sent: Vec<(&Item, &RawDocumentBuf)> = copies.iter().collect();
            let mut all = Vec::with_capacity(sent.len());
            let mut rest = sent.as_slice();
            while !rest.is_empty() {
                let (some, others) = rest.split_at(read_at_once(rest));
                rest = others;
                let items: Vec<&Item> = some.iter().map(|(item, _)| *item).collect();
                let found = read(database, &items, false).await?;
                all.extend(some.iter().map(|(item, sent)| {
                    let stored = found.get(item.user.as_str())?;
                    // What is stored byte for byte as it was sent has the digest of what was sent.
                    let unchanged = stored.as_bytes() == sent.as_bytes();
                    seen(stored, |stored| {
                        if unchanged {
                            item.digest.clone()
                        } else {
                            Digest::of(stored)
                        }
                    })
                }));
            }
            Ok(all)
        }
        Verify::Version => {
            let heads = read(database, items, true).await?;
            let agrees = |item: &Item| {
                heads.get(item.user.as_str()).is_none_or(|head| {
                    document::version(head) != Some(item.version)
                        || Digest::claimed_by(head).as_ref() == Some(&item.digest)
                })
            };
            let doubtful: Vec<&Item> = items.iter().copied().filter(|item| !agrees(item)).collect();
            let whole = read(database, &doubtful, false).await?;
            Ok(items
                .iter()
                .map(|item| {
                    let user = item.user.as_str();
                    match whole.get(user) {
                        Some(copy) => seen(copy, Digest::of),
                        None => seen(heads.get(user)?, |_| item.digest.clone()),
                    }
                })
                .collect())
        }
    }
}

/// How many of these are read back at once: one at least, and no more than [`READ_BACK_BYTES`] hold.
fn read_at_once(sent: &[(&Item, &RawDocumentBuf)]) -> usize {
    let mut bytes = 0;
    let fits = sent.iter().take_while(|(_, copy)| {
        bytes += copy.as_bytes().len();
        bytes <= READ_BACK_BYTES
    });
    fits.count().max(1)
}

fn seen(copy: &RawDocument, digest: impl FnOnce(&RawDocument) -> Digest) -> Option<Seen> {
    let version = document::version(copy)?;
    Some(Seen {
        version,
        digest: digest(copy),
    })
}

/// What must never be done: the newer copy need not contain what moves.
fn take_higher_for_equal(
    items: &[&Item],
    seen: Vec<(Option<Seen>, Option<Seen>)>,
) -> Vec<(Option<Seen>, Option<Seen>)> {
    let equal = |item: &Item, seen: Option<Seen>| {
        seen.map(|seen| {
            if seen.version <= item.version {
                return seen;
            }
            Seen {
                version: item.version,
                digest: item.digest.clone(),
            }
        })
    };
    items
        .iter()
        .zip(seen)
        .map(|(item, (srie, main))| (equal(item, srie), equal(item, main)))
        .collect()
}

/// Reads documents by `_id`; only their heads where that is enough.
pub(crate) async fn read<D: UserDatabase>(
    database: &Handle<D>,
    items: &[&Item],
    head: bool,
) -> Result<HashMap<String, RawDocumentBuf>, StoreError> {
    let mut found = HashMap::with_capacity(items.len());
    let mut missing: Vec<Bson> = items
        .iter()
        .map(|item| Bson::String(item.user.to_string()))
        .collect();
    while !missing.is_empty() {
        let mut find = Find::new(Query::Ids(missing.clone())).limit(missing.len());
        if head {
            find = find.head();
        }
        let page = repeating(|| database.store().find(D::USERS, &find)).await?;
        if page.is_empty() {
            break;
        }
        for document in page {
            if let Bson::String(id) = document::id(&document) {
                found.insert(id, document);
            }
        }
        let before = missing.len();
        missing.retain(|id| id.as_str().is_none_or(|id| !found.contains_key(id)));
        if missing.len() == before {
            break;
        }
    }
    Ok(found)
}
