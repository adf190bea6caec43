//! What a write may rely on, and what its answer says: conditions, receipts, errors.

use crate::users::attempt::{Round, Write};
use crate::users::{Condition, Receipt, UsersError};
use bson::raw::RawDocument;
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::document;
use tierkeep_core::route;
use tierkeep_core::store::Fault;
use tierkeep_core::user::{Section, UserId};
use tierkeep_core::version::Version;
use tracing::error;

/// The user is stored, and yet nothing matched: the write was applied and its answer lost, or the
/// condition does not hold, or the document came in between.
pub(super) fn already(
    write: &Write<'_>,
    document: &RawDocument,
    role: Role,
) -> Result<Round, UsersError> {
    if let Some(receipt) = receipt(document, &write.op, role, false) {
        return Ok(Round::Done(receipt));
    }
    if document::has_version(document) && document::version(document).is_none() {
        return Err(UsersError::Quarantined(Quarantine::Version));
    }
    write.known_not_applied(document, role)?;
    check(write.condition, true, document::version(document))?;
    Ok(Round::Again)
}

/// What operation `op` did to `document`; `None` when it is not remembered.
pub(super) fn receipt(
    document: &RawDocument,
    op: &str,
    database: Role,
    created: bool,
) -> Option<Receipt> {
    Some(Receipt {
        version: document::version_of_op(document, op)?,
        database,
        updated_at: document::updated_at(document)?,
        created,
    })
}

pub(super) fn check(
    condition: Condition,
    stored: bool,
    current: Option<Version>,
) -> Result<(), UsersError> {
    if condition.holds(stored, current) {
        Ok(())
    } else {
        Err(UsersError::Mismatch { current })
    }
}

/// What cannot be split into elements cannot be merged with.
pub(super) fn unreadable(section: &Section) -> UsersError {
    UsersError::Rejected(Fault {
        code: 0,
        reason: format!(
            "the stored {section} is not valid BSON and cannot be merged; replace it with PUT"
        ),
    })
}

/// Logs a failed write once, where it is handled. A refused condition is an answer, not a failure.
pub(super) fn logged(user: &UserId, error: UsersError) -> UsersError {
    let target = route::writes(user.user_type());
    let database = match &error {
        UsersError::Unavailable(error) => error.database,
        UsersError::OutcomeUnknown(database) | UsersError::Corrupt(database) => *database,
        UsersError::Rejected(_) | UsersError::Quarantined(_) | UsersError::Contended => target,
        UsersError::Mismatch { .. }
        | UsersError::NotFound
        | UsersError::SectionNotFound
        | UsersError::TooLarge => return error,
    };
    error!(
        user_id = %user,
        user_type = %user.user_type(),
        database = %database,
        %error,
        "error in storing to {target}",
    );
    error
}
