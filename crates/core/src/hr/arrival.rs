//! Records that were put together elsewhere: they keep their own dates, and say of which version they are.

use bson::DateTime;
use bson::raw::{RawDocument, RawDocumentBuf};

use super::{Content, HrId, TooLarge, Writing, digested};
use crate::document::{Edit, MAX_DOCUMENT_BYTES, field};
use crate::version::Version;

/// A record that was put together elsewhere.
#[derive(Clone, PartialEq, Debug)]
pub struct Arrival {
    /// Which record.
    pub id: HrId,
    /// What is in it.
    pub content: Content,
    /// When it was made.
    pub created_at: DateTime,
    /// When it was changed last.
    pub updated_at: DateTime,
    /// Changes when anything in it does.
    pub fingerprint: String,
}

impl Arrival {
    /// The record at `version`, above `before`.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn at(
        &self,
        version: Version,
        before: Option<&RawDocument>,
    ) -> Result<RawDocumentBuf, TooLarge> {
        let writing = Writing {
            id: &self.id,
            before,
            version,
            op: &self.fingerprint,
            at: self.updated_at,
        };
        writing.arrived(self)
    }
}

impl Writing<'_> {
    /// The record that was put together elsewhere, with its own dates, pending; `metadata.imported` says of which
    /// version it is the content.
    ///
    /// # Errors
    /// [`TooLarge`].
    fn arrived(&self, arrival: &Arrival) -> Result<RawDocumentBuf, TooLarge> {
        let imported = bson::rawdoc! {
            "from": arrival.fingerprint.as_str(),
            "version": self.version.get(),
        };
        let record = Edit::new()
            .set(field::CREATED_AT, arrival.created_at)
            .set_meta(field::IMPORTED, imported)
            .apply(&self.record(&arrival.content)?);
        if record.as_bytes().len() > MAX_DOCUMENT_BYTES {
            return Err(TooLarge);
        }
        Ok(digested(&record))
    }
}
