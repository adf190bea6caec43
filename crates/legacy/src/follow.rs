//! Following the predecessor while it keeps running: the copy, then every change, until no program writes there any
//! more.
//!
//! A change only says which document changed; its user is put together again from what the source holds by then. Where
//! something of that is gone by then, the user waits for the change that says so.
//! So changes of one user arrive in order, a repeat does nothing, and a restart looks at everything once more and
//! goes on from the place that was noted. Where changes are not told from there any more, because the source was dropped or
//! keeps too few of them, the place is forgotten and everything is copied again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::{Bson, Timestamp};
use serde::Serialize;
use tierkeep_core::bson;
use tierkeep_core::legacy::owner::account;
use tierkeep_core::legacy::source::{Change, Changed, Changes};
use tierkeep_core::legacy::{SourceError, SourceKind};
use tierkeep_core::store::Class;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::batch::Users;
use crate::index::{Collection, Index, Sheet, place_of, place_of_id, wanted, with_id};
use crate::refusals::Refusals;
use crate::report::{Report, Tally};
use crate::scratch::Place;
use crate::{ImportError, Importer, Progress};

/// How many documents that changed are looked at together.
const READ_TOGETHER: usize = 100;
/// How often it is said how far behind the source this is.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// What was followed so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Followed {
    /// Changes of documents.
    pub changes: u64,
    /// Users that were put together again.
    pub users: u64,
    /// How far behind the source this is.
    pub lag: Lag,
    /// How often everything was copied again because the source did not tell changes from the noted place any more.
    pub restarts: u64,
}

/// How far behind the source something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Lag(
    /// In seconds.
    pub u64,
);

/// What is still to be done about changes.
#[derive(Debug, Default)]
struct Open {
    users: BTreeSet<String>,
    /// HR documents, by the number of their collection.
    records: BTreeMap<usize, Vec<Bson>>,
    everything: bool,
    /// Sources whose changes were lost and that have told none since.
    lost: BTreeSet<usize>,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.records.is_empty() && !self.everything
    }
}

/// Whether changes cannot be followed from the noted place: it is not kept any more, or the server does not take it for a
/// place at all.
fn cannot_resume(error: &SourceError) -> bool {
    let is_refused = [Class::Corrupt, Class::Other].contains(&error.class);
    error.is_history_lost() || is_refused && !error.is_no_replica_set()
}

impl Importer {
    /// Imports everything and follows changes until `stop` is cancelled, or until nothing has changed for `idle`.
    ///
    /// # Errors
    /// [`ImportError`]; another start continues.
    pub async fn follow(
        &self,
        idle: Option<Duration>,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<(Report, Refusals, Followed), ImportError> {
        let following = Self {
            follows: true,
            ..self.clone()
        };
        following.follow_on(idle, progress, stop).await
    }

    async fn follow_on(
        &self,
        idle: Option<Duration>,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<(Report, Refusals, Followed), ImportError> {
        let started = self.engine.clock().now();
        self.refuse_own_databases().await?;
        // First the place from which changes are told, then the copy: nothing falls between.
        let mut followed = Followed::default();
        let mut streams = Vec::with_capacity(self.sources.len());
        for number in 0..self.sources.len() {
            streams.push(self.open(number, &mut followed).await?);
        }
        let mut times = self.cluster_times().await?;
        let mut index = self.look(&times, progress, stop).await?;
        self.copy(&mut index, &times, progress, stop).await?;
        let mut quiet_since = Instant::now();
        let mut said_at = Instant::now();
        let mut open = Open::default();
        while !stop.is_cancelled() {
            let mut changed = 0;
            for (number, stream) in streams.iter_mut().enumerate() {
                let (changes, is_over) = self.changes(number, stream.as_mut(), &mut open).await?;
                changed += changes.len();
                self.take_up(number, &mut index, &changes, &mut times, &mut open)
                    .await?;
                followed.lag = self.lag(changes.last(), followed.lag);
                if is_over {
                    *stream = self.begin_again(number, &mut followed).await?;
                    times[number] = self.sources[number].cluster_time().await?;
                    open.everything = true;
                }
            }
            followed.changes += u64::try_from(changed).unwrap_or_default();
            followed.users += self
                .bring_over(&mut index, &times, &mut open, progress, stop)
                .await?;
            if changed > 0 {
                quiet_since = Instant::now();
            } else if open.is_empty() {
                followed.lag = Lag(0);
                if idle.is_some_and(|idle| quiet_since.elapsed() >= idle) {
                    break;
                }
            }
            if open.is_empty() {
                self.note(&streams).await?;
            }
            progress.follows(&followed);
            if said_at.elapsed() >= SAID_EVERY {
                said_at = Instant::now();
                let Followed {
                    changes,
                    users,
                    lag,
                    ..
                } = followed;
                info!(
                    changes,
                    users,
                    lag_seconds = lag.0,
                    "following the predecessor"
                );
            }
        }
        // The report covers the present state of everything.
        if followed.changes > 0 || index.tally.is_busy() {
            let mut now = self.look(&times, &crate::NoProgress, stop).await?;
            if !stop.is_cancelled() {
                self.copy(&mut now, &times, &crate::NoProgress, stop)
                    .await?;
                index = now;
            }
        }
        let (report, refusals) = self.report(index, started, stop)?;
        Ok((report, refusals, followed))
    }

    async fn open(
        &self,
        number: usize,
        followed: &mut Followed,
    ) -> Result<Box<dyn Changes>, ImportError> {
        let source = &self.sources[number];
        let token = self.intake().followed_to(source.name()).await?;
        match source.watch(token.as_ref()).await {
            Ok(stream) => Ok(stream),
            Err(error) if token.is_some() && cannot_resume(&error) => {
                self.begin_again(number, followed).await
            }
            Err(error) => Err(self.named(number, error)),
        }
    }

    /// Forgets the place that was noted, and follows from now on; everything must be copied after it.
    async fn begin_again(
        &self,
        number: usize,
        followed: &mut Followed,
    ) -> Result<Box<dyn Changes>, ImportError> {
        let source = &self.sources[number];
        warn!(
            database = source.name(),
            "the predecessor's database was dropped, or no longer has the changes since the resume token: copying \
             everything again",
        );
        followed.restarts += 1;
        self.intake().forget_followed(source.name()).await?;
        let watched = source.watch(None).await;
        watched.map_err(|error| self.named(number, error))
    }

    /// The next changes of a source, and whether none follow. Changes that are lost as soon as they are followed again
    /// end the run: the source keeps too few of them for as long as a copy takes.
    async fn changes(
        &self,
        number: usize,
        stream: &mut dyn Changes,
        open: &mut Open,
    ) -> Result<(Vec<Change>, bool), ImportError> {
        match stream.next().await {
            Ok(changes) => {
                open.lost.remove(&number);
                let is_over = changes.iter().any(|change| change.of == Changed::Ended);
                Ok((changes, is_over))
            }
            Err(error) if error.is_history_lost() && open.lost.insert(number) => {
                Ok((Vec::new(), true))
            }
            Err(error) => Err(self.named(number, error)),
        }
    }

    fn named(&self, number: usize, error: SourceError) -> ImportError {
        if error.is_no_replica_set() {
            ImportError::NoReplicaSet(self.sources[number].name().to_owned())
        } else {
            error.into()
        }
    }

    fn lag(&self, last: Option<&Change>, before: Lag) -> Lag {
        let Some(at) = last.and_then(|change| change.at) else {
            return before;
        };
        let now = self.engine.clock().now().timestamp_millis() / 1_000;
        Lag(u64::try_from(now - i64::from(at.time)).unwrap_or_default())
    }

    /// Notes which users changes are about, and files the documents again.
    async fn take_up(
        &self,
        number: usize,
        index: &mut Index,
        changes: &[Change],
        times: &mut [Option<Timestamp>],
        open: &mut Open,
    ) -> Result<(), ImportError> {
        let source = &self.sources[number];
        let mut ids: BTreeMap<usize, Vec<Bson>> = BTreeMap::new();
        let mut accounts: BTreeMap<usize, Vec<Bson>> = BTreeMap::new();
        for change in changes {
            if let (Some(time), Some(at)) = (times.get_mut(number), change.at) {
                *time = (*time).max(Some(at));
            }
            match &change.of {
                Changed::Ended | Changed::Everything => open.everything = true,
                Changed::Document { collection, id } => {
                    let place = self.number_of(index, number, collection);
                    let kind = index.collections[place].kind;
                    let news = match kind {
                        _ if self.skipped(kind).is_some() => continue,
                        SourceKind::Scans | SourceKind::Progress | SourceKind::Derived(_) => {
                            &mut ids
                        }
                        SourceKind::Accounts => &mut accounts,
                        SourceKind::Hr => &mut open.records,
                        SourceKind::DerivedHr | SourceKind::System | SourceKind::Unknown => {
                            continue;
                        }
                    };
                    news.entry(place).or_default().push(id.clone());
                }
            }
        }
        let not_before = times.get(number).copied().flatten();
        for (place, ids) in accounts {
            // Whose a document is may rest on any account.
            open.everything |= self.is_news(index, place, &ids, not_before).await?;
        }
        for (place, ids) in ids {
            let mut places: Vec<Place> = Vec::new();
            for id in &ids {
                let filed = Place {
                    collection: u32::try_from(place).unwrap_or(u32::MAX),
                    id: place_of_id(id),
                };
                open.users.extend(index.scratch.take_out(&filed)?);
                places.push(filed);
            }
            let collection = index.collections[place].clone();
            let wanted = wanted(collection.kind);
            for some in ids.chunks(READ_TOGETHER) {
                let found = source
                    .fetch(&collection.name, some, Some(&wanted), not_before)
                    .await?;
                let sheet = Sheet::of(&found, place, &collection, &self.options.dates);
                index.file(place, sheet)?;
            }
            for filed in &places {
                open.users.extend(index.scratch.owner_of(filed)?);
            }
        }
        Ok(())
    }

    /// Whether one of these accounts has another user name or address than was seen, or came or went. A sign-in
    /// that only changes a token is no news.
    async fn is_news(
        &self,
        index: &Index,
        number: usize,
        ids: &[Bson],
        not_before: Option<Timestamp>,
    ) -> Result<bool, ImportError> {
        let collection = &index.collections[number];
        let source = &self.sources[collection.source];
        for some in ids.chunks(READ_TOGETHER) {
            let fields = wanted(SourceKind::Accounts);
            let found = source
                .fetch(&collection.name, some, Some(&fields), not_before)
                .await?;
            for account in found.iter().filter_map(|it| account(it)) {
                if !index.scratch.holds(&account)? {
                    return Ok(true);
                }
            }
            let there: BTreeSet<Vec<u8>> = found.iter().map(|it| place_of(it)).collect();
            for id in some.iter().filter(|id| !there.contains(&place_of_id(id))) {
                if let Some(account) = account(&with_id(id))
                    && index.scratch.has_account(&account.id)?
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The number of a collection, which may be new.
    fn number_of(&self, index: &mut Index, source: usize, name: &str) -> usize {
        let is_it = |it: &Collection| it.source == source && it.name == name;
        if let Some(number) = index.collections.iter().position(is_it) {
            return number;
        }
        let shown = if self.sources.len() > 1 {
            format!("{}.{name}", self.sources[source].name())
        } else {
            name.to_owned()
        };
        index.collections.push(Collection {
            source,
            kind: SourceKind::of(name),
            name: name.to_owned(),
            shown,
        });
        index.collections.len() - 1
    }

    /// Puts the users together again that changes are about; answers how many. Those who are being written stay open.
    async fn bring_over(
        &self,
        index: &mut Index,
        times: &[Option<Timestamp>],
        open: &mut Open,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<u64, ImportError> {
        if std::mem::take(&mut open.everything) {
            info!("an account or an entire collection changed: checking everything again");
            *index = self.look(times, progress, stop).await?;
            self.copy(index, times, progress, stop).await?;
            open.users.clear();
            open.records.clear();
            return Ok(index.tally.users);
        }
        let mut tally = Tally::default();
        for (number, ids) in &open.records {
            let source = index.collections[*number].source;
            let after = times.get(source).copied().flatten();
            self.take_changed_records(index, *number, ids, after, &mut tally)
                .await?;
        }
        if !tally.is_busy() {
            open.records.clear();
        }
        let users = std::mem::take(&mut open.users);
        let count = u64::try_from(users.len()).unwrap_or_default();
        if users.is_empty() {
            return Ok(0);
        }
        let mut tally = Tally::default();
        let wanted = Users::of(users.iter().cloned());
        self.take(index, wanted, times, &mut tally, stop, &|_| {})
            .await?;
        if tally.is_busy() {
            open.users = users;
            return Ok(0);
        }
        Ok(count)
    }

    async fn note(&self, streams: &[Box<dyn Changes>]) -> Result<(), ImportError> {
        let now = self.engine.clock().now();
        for (source, stream) in self.sources.iter().zip(streams) {
            if let Some(token) = stream.token() {
                self.intake()
                    .note_followed(source.name(), &token, now)
                    .await?;
            }
        }
        Ok(())
    }
}
