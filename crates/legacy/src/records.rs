//! HR documents: one record for each, several batches after the other. Of documents that would be the same record (a
//! main database and its backup, both given), the newest counts.

use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use bson::{Bson, Timestamp};
use tierkeep_core::bson;
use tierkeep_core::hr::{Arrival, HrCollection};
use tierkeep_core::legacy::{Source, SourceError, SourceKind, record};
use tierkeep_engine::{Compared, ImportOutcome};
use tokio_util::sync::CancellationToken;

use crate::batch::{BYTES, USERS, rule};
use crate::index::{Index, place_of};
use crate::report::Tally;
use crate::scratch::{Place, Refused};
use crate::{ImportError, Importer, Progress};

/// How many documents that changed are read at once.
const CHANGED_TOGETHER: usize = 20;

/// Documents of one HR collection, sorted out.
#[derive(Debug, Default)]
struct Sorted {
    /// The records that count, and where their documents are.
    arrivals: Vec<Arrival>,
    places: Vec<Place>,
    merged: u64,
    refused: Vec<Refused>,
    secrets: u64,
}

/// The numbers of the HR collections.
fn collections(index: &Index) -> Vec<usize> {
    let numbers = 0..index.collections.len();
    numbers
        .filter(|number| index.collections[*number].kind == SourceKind::Hr)
        .collect()
}

/// The name under which records of this collection are kept.
fn kept_as(name: &str) -> Option<HrCollection> {
    HrCollection::parse(name).ok()
}

/// Pages cut into batches of about [`BYTES`].
fn batches(page: Vec<RawDocumentBuf>) -> Vec<Vec<RawDocumentBuf>> {
    let mut batches = vec![Vec::new()];
    let mut bytes = 0;
    for document in page {
        let size = u64::try_from(document.as_bytes().len()).unwrap_or(u64::MAX);
        let last = batches.last().map_or(0, Vec::len);
        if last > 0 && (bytes + size > BYTES || last >= USERS) {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(batch) = batches.last_mut() {
            batch.push(document);
        }
    }
    batches
}

/// The predecessor's HR collections at these sources, whether tierkeep keeps records under their names or not.
///
/// # Errors
/// A source did not answer.
pub async fn hr_collections(sources: &[Arc<dyn Source>]) -> Result<Vec<HrCollection>, SourceError> {
    let mut names = Vec::new();
    for source in sources {
        let collections = source.collections().await?;
        let hr = collections
            .iter()
            .filter(|name| SourceKind::of(name) == SourceKind::Hr);
        names.extend(hr.filter_map(|name| kept_as(name)));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

impl Importer {
    /// Files which document of each record counts.
    pub(crate) async fn look_at_records(
        &self,
        index: &Index,
        not_before: &[Option<Timestamp>],
    ) -> Result<(), ImportError> {
        for number in collections(index) {
            let collection = &index.collections[number];
            let fields = Some(record::FIELDS.as_slice());
            let after = not_before.get(collection.source).copied().flatten();
            let source = &self.sources[collection.source];
            let mut pages = source.scan(&collection.name, fields, after).await?;
            while let Some(page) = pages.next().await? {
                file(index, number, &page)?;
            }
        }
        Ok(())
    }

    /// Takes all HR documents in.
    pub(crate) async fn copy_records(
        &self,
        index: &Index,
        not_before: &[Option<Timestamp>],
        tally: &mut Tally,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<(), ImportError> {
        let mut done = 0;
        for number in collections(index) {
            let collection = &index.collections[number];
            let after = not_before.get(collection.source).copied().flatten();
            let source = &self.sources[collection.source];
            let mut pages = source.scan(&collection.name, None, after).await?;
            while let Some(page) = pages.next().await? {
                for batch in batches(page) {
                    if stop.is_cancelled() {
                        return Ok(());
                    }
                    let count = u64::try_from(batch.len()).unwrap_or_default();
                    tally.source_documents += count;
                    done += count;
                    self.take_records(index, number, batch, tally).await?;
                    progress.settled(done, done);
                }
            }
        }
        Ok(())
    }

    /// Imports documents of one HR collection, as they were filed.
    async fn take_records(
        &self,
        index: &Index,
        number: usize,
        documents: Vec<RawDocumentBuf>,
        tally: &mut Tally,
    ) -> Result<(), ImportError> {
        let collection = &index.collections[number];
        let shown = collection.shown.as_str();
        let Some(kept_as) = kept_as(&collection.name) else {
            return Ok(());
        };
        let sorted = sort(index, number, &documents)?;
        drop(documents);
        tally.secrets += sorted.secrets;
        tally.merged += sorted.merged;
        let mut refused = sorted.refused;
        let taken = self.intake().take_hr(&kept_as, &sorted.arrivals).await?;
        for (place, taken) in sorted.places.iter().zip(taken) {
            match taken {
                ImportOutcome::Stored | ImportOutcome::Replaced | ImportOutcome::Same => {
                    tally.imported += 1;
                }
                ImportOutcome::Refused(refusal) => refused.push(Refused {
                    place: place.clone(),
                    reason: refusal.to_string(),
                }),
                ImportOutcome::Changed
                | ImportOutcome::Own
                | ImportOutcome::Erased
                | ImportOutcome::Busy => {
                    tally.left_out(shown, rule(&taken, true), 1);
                }
            }
        }
        tally.refused += u64::try_from(refused.len()).unwrap_or_default();
        Ok(index.scratch.refuse(&refused)?)
    }

    /// Files and imports documents that changed.
    pub(crate) async fn take_changed_records(
        &self,
        index: &Index,
        number: usize,
        ids: &[Bson],
        not_before: Option<Timestamp>,
        tally: &mut Tally,
    ) -> Result<(), ImportError> {
        let collection = &index.collections[number];
        let source = &self.sources[collection.source];
        for some in ids.chunks(CHANGED_TOGETHER) {
            let found = source
                .fetch(&collection.name, some, None, not_before)
                .await?;
            file(index, number, &found)?;
            for batch in batches(found) {
                self.take_records(index, number, batch, tally).await?;
            }
        }
        Ok(())
    }

    /// Compares all HR documents with what is stored; answers each by its collection and id, and how many are
    /// refused.
    pub(crate) async fn compare_records(
        &self,
        index: &Index,
        not_before: &[Option<Timestamp>],
        stop: &CancellationToken,
        each: &mut dyn FnMut(String, Compared),
    ) -> Result<u64, ImportError> {
        let mut refused = 0;
        for number in collections(index) {
            let collection = &index.collections[number];
            let Some(kept_as) = kept_as(&collection.name) else {
                continue;
            };
            let after = not_before.get(collection.source).copied().flatten();
            let source = &self.sources[collection.source];
            let mut pages = source.scan(&collection.name, None, after).await?;
            while let Some(page) = pages.next().await? {
                for batch in batches(page) {
                    if stop.is_cancelled() {
                        return Ok(refused);
                    }
                    let sorted = sort(index, number, &batch)?;
                    refused += u64::try_from(sorted.refused.len()).unwrap_or_default();
                    let intake = self.intake();
                    let compared = intake.compare_hr(&kept_as, &sorted.arrivals).await?;
                    for (arrival, compared) in sorted.arrivals.iter().zip(compared) {
                        each(format!("{}/{}", collection.name, arrival.id), compared);
                    }
                }
            }
        }
        Ok(refused)
    }
}

fn place(number: usize, document: &RawDocumentBuf) -> Place {
    Place {
        collection: u32::try_from(number).unwrap_or(u32::MAX),
        id: place_of(document),
    }
}

fn file(index: &Index, number: usize, page: &[RawDocumentBuf]) -> Result<(), ImportError> {
    let filed: Vec<_> = page
        .iter()
        .filter_map(|document| {
            let (id, at) = record::moment(document)?;
            Some((id.to_string(), at, place(number, document)))
        })
        .collect();
    Ok(index
        .scratch
        .records(&index.collections[number].name, &filed)?)
}

fn sort(index: &Index, number: usize, documents: &[RawDocumentBuf]) -> Result<Sorted, ImportError> {
    let collection = &index.collections[number];
    let mut sorted = Sorted::default();
    for document in documents {
        let place = place(number, document);
        match record::record(document) {
            Err(refusal) => sorted.refused.push(Refused {
                place,
                reason: refusal.to_string(),
            }),
            Ok(record) => {
                sorted.secrets += record.secrets;
                let id = record.arrival.id.as_str();
                if index
                    .scratch
                    .counts_as_record(&collection.name, id, &place)?
                {
                    sorted.arrivals.push(record.arrival);
                    sorted.places.push(place);
                } else {
                    sorted.merged += 1;
                }
            }
        }
    }
    Ok(sorted)
}
