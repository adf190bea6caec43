//! Every refused document of an import, from the scratch file, some at a time: there may be as many as documents.

use bson::Bson;
use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;

use crate::index::{Collection, Index, id_at, shown_id};
use crate::report::RefusedLine;
use crate::scratch::{Refused, Scratch};
use crate::{ImportError, Importer};

/// How many are read at once.
const TOGETHER: u32 = 100;
/// The most that a report lists.
const LISTED: usize = 10_000;
/// About the most bytes of them, as ids in the source may be long.
const LISTED_BYTES: usize = 4 * 1024 * 1024;

/// The refused documents of one import.
#[derive(Debug)]
pub struct Refusals {
    scratch: Scratch,
    collections: Vec<Collection>,
}

impl Refusals {
    pub(crate) fn of(index: Index) -> Self {
        Self {
            scratch: index.scratch,
            collections: index.collections,
        }
    }

    /// Those that a report lists, in order.
    pub(crate) fn listed(&self) -> Result<Vec<RefusedLine>, ImportError> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        let mut after = None;
        'all: loop {
            let page = self.scratch.refused(after.as_ref(), TOGETHER)?;
            let Some(last) = page.last() else { break };
            after = Some(last.place.clone());
            for refused in &page {
                if lines.len() >= LISTED || bytes >= LISTED_BYTES {
                    break 'all;
                }
                let line = self.line(refused);
                bytes += line.collection.len() + line.id.len() + line.reason.len();
                lines.push(line);
            }
        }
        lines.sort();
        Ok(lines)
    }

    fn line(&self, refused: &Refused) -> RefusedLine {
        let collection = self.collections.get(refused.place.collection as usize);
        RefusedLine {
            collection: collection.map(|it| it.shown.clone()).unwrap_or_default(),
            id: shown_id(&refused.place.id),
            reason: refused.reason.clone(),
        }
    }
}

impl Importer {
    /// Hands each refused document to `each`, whole where it is still there, with the line about it.
    ///
    /// # Errors
    /// As [`Importer::run`].
    pub async fn refused_documents(
        &self,
        refusals: &Refusals,
        mut each: impl FnMut(&RefusedLine, Option<RawDocumentBuf>),
    ) -> Result<(), ImportError> {
        let mut after = None;
        loop {
            let page = refusals.scratch.refused(after.as_ref(), TOGETHER)?;
            let Some(last) = page.last() else { break };
            after = Some(last.place.clone());
            // One at a time: together they may be as large as the source.
            for refused in &page {
                let line = refusals.line(refused);
                let place = &refused.place;
                let Some(collection) = refusals.collections.get(place.collection as usize) else {
                    each(&line, None);
                    continue;
                };
                let source = &self.sources[collection.source];
                let ids: [Bson; 1] = [id_at(&place.id)];
                let found = source.fetch(&collection.name, &ids, None, None).await?;
                each(&line, found.into_iter().next());
            }
        }
        Ok(())
    }
}
