//! Telling HR records from users' documents by what tierkeep and programs like it write.

use bson::raw::RawDocument;

use super::{State, backup_status, field, metadata, state, user_id};

/// Whether `document` is an HR record, or the tombstone of one, as tierkeep writes them.
pub fn is_hr_record(document: &RawDocument) -> bool {
    let has_hr_status = matches!(backup_status(document), Some("pending" | "completed"));
    // Looking for a field that is not there goes through the whole document, so that comes last.
    has_hr_status && !is_of_user(document) && document.get_datetime(field::UPDATED_AT).is_ok()
}

/// Whether `document` is one of a user, or the tombstone of one, as tierkeep or programs like it write them.
pub fn is_of_user(document: &RawDocument) -> bool {
    let metadata = metadata(document);
    let has = |name| metadata.is_some_and(|m| !matches!(m.get(name), Ok(None)));
    let erased = || state(document) != Some(State::Live) && user_id(document).is_some();
    has(field::STORAGE_LOCATION) || has(field::STAGED_AT) || erased()
}
