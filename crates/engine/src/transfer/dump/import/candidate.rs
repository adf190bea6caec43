//! A document of a dump that claims to be one of a user: read, and refused where it is none.

use tierkeep_core::adopt::{self, Quarantine};
use tierkeep_core::bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, State};
use tierkeep_core::user::{UserId, UserType};
use tierkeep_core::version::Version;

/// A document of the dump that belongs to a user.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Its place in the page.
    pub(crate) index: usize,
    pub(crate) user: UserId,
    /// `None`: another program wrote it.
    pub(crate) version: Option<Version>,
    pub(crate) is_tombstone: bool,
    pub(crate) document: RawDocumentBuf,
}

/// What a document of a dump is.
pub(super) enum Read {
    /// A user's, with its version where it has one.
    User(UserId, Option<Version>),
    /// An entry into temp that was not confirmed: it was never visible.
    Entry,
    Refused(String),
}

pub(super) fn read(document: &RawDocument, expected: UserType) -> Read {
    if !document::is_native(document) {
        return match adopt::foreign(document, expected) {
            Ok(foreign) => Read::User(foreign.user, None),
            Err(reason) => Read::Refused(reason.to_string()),
        };
    }
    if let Err(reason) = adopt::check_metadata(document) {
        return Read::Refused(reason.to_string());
    }
    let id = document::user_id(document).unwrap_or_default();
    let user = match UserId::parse(id) {
        Ok(user) if user.user_type() == expected && user.as_str() == id => user,
        Ok(_) | Err(_) => {
            let id = id.chars().take(64).collect();
            return Read::Refused(Quarantine::NotOfType(expected, id).to_string());
        }
    };
    let wrong_type = match document.get(document::field::USER_TYPE) {
        Ok(Some(user_type)) => user_type.as_str() != Some(expected.as_str()),
        Ok(None) | Err(_) => false,
    };
    if wrong_type {
        return Read::Refused(format!(
            "its user_type does not belong in a database of {expected} users"
        ));
    }
    if is_entry(document) {
        return Read::Entry;
    }
    let claims_other = Digest::claimed_by(document).is_some_and(|it| it != Digest::of(document));
    if claims_other
        && document
            .get_str(document::field::DATA_LOCATION)
            .is_ok_and(|it| it == "main")
    {
        return Read::Refused("its content does not match its digest".to_owned());
    }
    Read::User(user, document::version(document))
}

/// What a document is named by in a report.
pub(super) fn shown(document: &RawDocument) -> String {
    if let Some(user) = document::user_id(document) {
        return user.to_owned();
    }
    let id = document::id(document);
    id.as_str()
        .map_or_else(|| id.to_string(), ToOwned::to_owned)
}

pub(super) fn is_entry(document: &RawDocument) -> bool {
    document::state(document) == Some(State::Entering)
}
