//! Some users at a time: which of their documents count, those documents whole, and what they become. Bounded by
//! bytes, so that memory does not grow with the users.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bson::Timestamp;
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::legacy::compose::Parts;
use tierkeep_core::legacy::{Chosen, Composed, choose, compose};
use tierkeep_core::user::UserId;
use tierkeep_engine::ImportOutcome;

use crate::index::{Collection, id_at, place_of};
use crate::report::{BUSY, Tally};
use crate::scratch::{Filed, Place, Refused, Scratch};
use crate::{ImportError, Importer};

/// The most users of a batch.
pub(crate) const USERS: usize = 500;
/// About the most bytes of documents of a batch; a batch at work holds several times as much.
pub(crate) const BYTES: u64 = 1024 * 1024;
/// Of about how many documents it is asked at once what is filed of them.
const FILED_TOGETHER: u32 = 1_000;

const GONE: &str = "removed from the source before it was read";

/// The rule by which a document is left out; of HR records, or of users.
pub(crate) fn rule(taken: &ImportOutcome, hr: bool) -> &'static str {
    match taken {
        ImportOutcome::Changed => "changed in tierkeep since it was imported",
        ImportOutcome::Own if hr => "the record exists in tierkeep already",
        ImportOutcome::Own => "the user exists in tierkeep already",
        ImportOutcome::Erased if hr => "the record was deleted in tierkeep",
        ImportOutcome::Erased => "the user was erased in tierkeep",
        ImportOutcome::Busy
        | ImportOutcome::Stored
        | ImportOutcome::Replaced
        | ImportOutcome::Same
        | ImportOutcome::Refused(_) => BUSY,
    }
}

/// Some users with what is filed of their documents.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    users: Vec<(UserId, Vec<Filed>)>,
    /// The size of the documents that are to be read.
    pub(crate) bytes: u64,
}

/// Goes through users in order.
#[derive(Debug, Default)]
pub(crate) struct Users {
    after: String,
    queue: VecDeque<(String, Vec<Filed>)>,
    /// Only these.
    only: Option<VecDeque<String>>,
}

impl Users {
    /// Only these.
    pub(crate) fn of(users: impl IntoIterator<Item = String>) -> Self {
        Self {
            only: Some(users.into_iter().collect()),
            ..Self::default()
        }
    }

    fn one(&mut self, scratch: &Scratch) -> Result<Option<(String, Vec<Filed>)>, ImportError> {
        if let Some(only) = &mut self.only {
            let Some(user) = only.pop_front() else {
                return Ok(None);
            };
            let filed = scratch.of_user(&user)?;
            return Ok(Some((user, filed)));
        }
        if self.queue.is_empty() {
            self.queue = scratch.users(&self.after, FILED_TOGETHER)?.into();
            if let Some((last, _)) = self.queue.back() {
                self.after.clone_from(last);
            }
        }
        Ok(self.queue.pop_front())
    }

    /// The next batch; `None` after the last.
    pub(crate) fn next(&mut self, scratch: &Scratch) -> Result<Option<Batch>, ImportError> {
        let mut batch = Batch::default();
        while batch.users.len() < USERS && batch.bytes < BYTES {
            let Some((user, filed)) = self.one(scratch)? else {
                break;
            };
            let Ok(id) = UserId::parse(&user) else {
                continue;
            };
            let sizes = filed.iter().map(|one| (&one.dated.place, one.size));
            let sizes: BTreeMap<&Place, u64> = sizes.collect();
            let counting = chosen(&filed, &BTreeSet::new());
            let counting = counting.map(|it| places(&it)).unwrap_or_default();
            batch.bytes += counting
                .iter()
                .filter_map(|place| sizes.get(place))
                .sum::<u64>();
            if !filed.is_empty() {
                batch.users.push((id, filed));
            }
        }
        Ok((!batch.users.is_empty()).then_some(batch))
    }
}

/// A user put together.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) user: UserId,
    pub(crate) filed: Vec<Filed>,
    /// What counts.
    counting: BTreeSet<Place>,
    /// What is not there any more.
    gone: BTreeSet<Place>,
    /// The predecessor is writing the user.
    is_written: bool,
}

/// What counts among these, but for what is gone.
fn chosen(filed: &[Filed], gone: &BTreeSet<Place>) -> Option<Chosen<Place>> {
    let dated = filed.iter().map(|one| &one.dated);
    let there: Vec<_> = dated.filter(|one| !gone.contains(&one.place)).collect();
    choose(&there)
}

fn places(chosen: &Chosen<Place>) -> BTreeSet<Place> {
    let single = chosen.scan.iter().chain(&chosen.progress);
    single.chain(chosen.derived.values()).cloned().collect()
}

impl Importer {
    /// Reads the documents that count and composes the users that have any content left.
    pub(crate) async fn put_together(
        &self,
        collections: &[Collection],
        batch: Batch,
        not_before: &[Option<Timestamp>],
    ) -> Result<(Vec<Ready>, Vec<Composed>), ImportError> {
        let mut documents: BTreeMap<Place, RawDocumentBuf> = BTreeMap::new();
        let mut gone: BTreeSet<Place> = BTreeSet::new();
        // What is gone may have stood before something older.
        let choices = loop {
            let choices: Vec<_> = batch
                .users
                .iter()
                .map(|(_, filed)| chosen(filed, &gone))
                .collect();
            let mut wanted: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
            for place in choices.iter().flatten().flat_map(places) {
                if !documents.contains_key(&place) {
                    wanted.entry(place.collection).or_default().push(place);
                }
            }
            let gone_before = gone.len();
            for (number, places) in wanted {
                let Some(collection) = collections.get(number as usize) else {
                    gone.extend(places);
                    continue;
                };
                let ids: Vec<_> = places.iter().map(|place| id_at(&place.id)).collect();
                let found = self.sources[collection.source]
                    .fetch(
                        &collection.name,
                        &ids,
                        None,
                        not_before.get(collection.source).copied().flatten(),
                    )
                    .await?;
                for document in found {
                    let place = Place {
                        collection: number,
                        id: place_of(&document),
                    };
                    documents.insert(place, document);
                }
                let missing = places.into_iter();
                gone.extend(missing.filter(|place| !documents.contains_key(place)));
            }
            if gone.len() == gone_before {
                break choices;
            }
        };
        let (mut ready, mut composed) = (Vec::new(), Vec::new());
        for ((user, filed), chosen) in batch.users.into_iter().zip(choices) {
            // What went may have gone for something newer, which is not known yet: without either, the user would be
            // less for a moment. The change is told after this look.
            let is_gone = |one: &Filed| gone.contains(&one.dated.place);
            if self.follows && filed.iter().any(is_gone) {
                ready.push(Ready {
                    user,
                    filed,
                    counting: BTreeSet::new(),
                    gone: BTreeSet::new(),
                    is_written: true,
                });
                continue;
            }
            let Some(chosen) = chosen else {
                ready.push(Ready {
                    user,
                    gone: filed.iter().map(|one| one.dated.place.clone()).collect(),
                    filed,
                    counting: BTreeSet::new(),
                    is_written: false,
                });
                continue;
            };
            let of = |place: &Option<Place>| {
                let document = place.as_ref().and_then(|place| documents.get(place));
                document.map(AsRef::as_ref)
            };
            let derived = chosen.derived.iter();
            let parts = Parts {
                scan: of(&chosen.scan),
                progress: of(&chosen.progress),
                derived: derived
                    .filter_map(|(derived, place)| Some((*derived, documents.get(place)?.as_ref())))
                    .collect(),
                created_at: chosen.created_at,
                last_accessed: chosen.last_accessed,
            };
            composed.push(compose(&user, &parts));
            ready.push(Ready {
                user,
                gone: filed
                    .iter()
                    .filter(|one| is_gone(one))
                    .map(|one| one.dated.place.clone())
                    .collect(),
                counting: places(&chosen),
                filed,
                is_written: false,
            });
        }
        Ok((ready, composed))
    }
}

/// Accounts for every document of the users of a batch. `taken` is in the order of the users of whom anything was
/// left. Answers those that are refused.
pub(crate) fn account(
    collections: &[Collection],
    tally: &mut Tally,
    ready: Vec<Ready>,
    taken: Vec<ImportOutcome>,
) -> Vec<Refused> {
    let mut refused = Vec::new();
    let mut taken = taken.into_iter();
    for one in ready {
        let outcome = if one.counting.is_empty() {
            None
        } else {
            taken.next()
        };
        let stored = matches!(
            outcome,
            Some(ImportOutcome::Stored | ImportOutcome::Replaced | ImportOutcome::Same)
        );
        tally.users += u64::from(stored);
        for filed in &one.filed {
            let place = &filed.dated.place;
            let collection = collections
                .get(place.collection as usize)
                .map(|it| it.shown.as_str())
                .unwrap_or_default();
            match &outcome {
                _ if one.is_written => tally.left_out(collection, BUSY, 1),
                _ if one.gone.contains(place) => tally.left_out(collection, GONE, 1),
                None => tally.left_out(collection, GONE, 1),
                Some(ImportOutcome::Stored | ImportOutcome::Replaced | ImportOutcome::Same) => {
                    if one.counting.contains(place) {
                        tally.imported += 1;
                    } else {
                        tally.merged += 1;
                    }
                }
                Some(
                    left @ (ImportOutcome::Changed
                    | ImportOutcome::Own
                    | ImportOutcome::Erased
                    | ImportOutcome::Busy),
                ) => {
                    tally.left_out(collection, rule(left, false), 1);
                }
                Some(ImportOutcome::Refused(refusal)) => {
                    tally.refused += 1;
                    refused.push(Refused {
                        place: place.clone(),
                        reason: refusal.to_string(),
                    });
                }
            }
        }
    }
    refused
}
