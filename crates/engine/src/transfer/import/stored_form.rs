//! What may be done about a document that is there, and the form in which an arrival is stored.

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::rawdoc;
use tierkeep_core::bson;
use tierkeep_core::document::{self, Edit, Location, field};
use tierkeep_core::legacy::Composed;
use tierkeep_core::user::UserType;
use tierkeep_core::version::Version;

/// What a live document is to an arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ImportedState {
    /// An earlier run stored it, from the same.
    Same(Version),
    /// An earlier run stored it, from something else, and it was not changed since.
    Older(Version),
    /// An earlier run stored it, and it was changed since.
    Changed,
    /// It was never imported.
    Own,
}

/// Says what `stored` is, of which the head is enough.
pub(crate) fn standing(stored: &RawDocument, arrival: &Composed) -> ImportedState {
    standing_of(stored, &arrival.fingerprint)
}

/// Says what `stored` is to an arrival with this fingerprint.
pub(crate) fn standing_of(stored: &RawDocument, fingerprint: &str) -> ImportedState {
    match (document::imported(stored), document::version(stored)) {
        (Some((from, at)), Some(version)) if at == version => {
            if from == fingerprint {
                ImportedState::Same(version)
            } else {
                ImportedState::Older(version)
            }
        }
        (Some(_), _) => ImportedState::Changed,
        (None, _) => ImportedState::Own,
    }
}

/// Whether an import stored `copy`, and it was not changed since.
pub(crate) fn is_as_imported(copy: &RawDocument) -> bool {
    document::imported(copy).is_some_and(|(_, version)| document::version(copy) == Some(version))
}

/// The arrival as it is stored at `location` and `version`.
pub(crate) fn stored_form(
    arrival: &Composed,
    location: Location,
    version: Version,
) -> RawDocumentBuf {
    let imported = rawdoc! { "from": arrival.fingerprint.as_str(), "version": version.get() };
    let edit = Edit::new()
        .locate(location)
        .set_meta(field::VERSION, version.get())
        .set_meta(field::IMPORTED, imported);
    let edit = match arrival.user.user_type() {
        UserType::Internal => edit.set_meta(field::STAGED_AT, arrival.created_at),
        UserType::External => edit,
    };
    edit.apply(&arrival.document)
}
