//! The causes of refusals: owns the closed errors that reading a request, asking the engine and answering can end in, and
//! their conversion into [`Problem`], which happens nowhere else.
//!
//! An error of a route is a choice of these. Their text is that of the problem.

use axum::response::{IntoResponse, Response};
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::content::{Damaged, InvalidBody};
use tierkeep_core::db::Role;
use tierkeep_core::identity::InvalidUsername;
use tierkeep_core::store::StoreError;
use tierkeep_core::version::Version;
use tierkeep_engine::{EraseError, HrError, UsersError};
use tierkeep_identity::RoleClaim;
use tracing::error;

use super::{Code, Problem};

/// An error with the codes that it can lead to.
pub(in crate::http) trait Cause: Into<Problem> {
    /// The codes of all variants.
    const CODES: &'static [Code];
}

/// Declares causes: the codes of each, and its conversion.
macro_rules! causes {
    ($($name:ident [$($code:ident),*] |$cause:ident| $problem:expr;)*) => {$(
        impl Cause for $name {
            const CODES: &'static [Code] = &[$(Code::$code),*];
        }

        impl From<$name> for Problem {
            fn from($cause: $name) -> Self {
                $problem
            }
        }

        impl IntoResponse for $name {
            fn into_response(self) -> Response {
                Problem::from(self).into_response()
            }
        }
    )*};
}

/// An internal error occurred: a value cannot be written as JSON, or a conversion panicked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct InternalError;

/// Why a stored document is not shown.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) enum ShowError {
    /// An internal error occurred.
    Internal(InternalError),
    /// What is stored is not valid BSON.
    Damaged(Damaged),
    /// There is no memory for it.
    NoMemory(NoMemory),
}

impl From<InternalError> for ShowError {
    fn from(cause: InternalError) -> Self {
        Self::Internal(cause)
    }
}

impl From<Damaged> for ShowError {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged)
    }
}

/// No permit for a public request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum NoPermit {
    /// The queue is full, or too slow.
    Busy,
    /// The queue does not advance.
    Stalled,
}

/// The memory for bodies is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct NoMemory;

/// The caller's bucket is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct RateLimited {
    /// After how many seconds one more request is let through.
    pub(in crate::http) retry_after_seconds: u64,
}

/// Why a caller is not known, or not served.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) enum CallerError {
    /// There are no sufficient credentials and no name of a public user.
    CredentialsRequired(&'static str),
    /// GitHub could not be asked.
    IdentityUnavailable {
        /// How long GitHub asked to be left alone, where it did.
        retry_after_seconds: Option<u64>,
    },
    /// The `username` is not valid.
    InvalidUsername(InvalidUsername),
    /// Strict mode: a public name and credentials at once.
    AmbiguousIdentity,
    /// Too many requests.
    RateLimited(RateLimited),
    /// No permit to record the decision.
    NoPermit(NoPermit),
    /// The audit trail cannot record the decision.
    Audit(StoreError),
}

/// Why a caller does not have a role.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) enum RoleError {
    /// There is no valid JWT.
    JwtRequired(&'static str, RoleClaim),
    /// The JWT has another role, or none.
    RoleRequired(RoleClaim),
    /// The keys that verify JWTs could not be fetched yet.
    KeysUnavailable,
    /// Too many requests.
    RateLimited(RateLimited),
    /// No permit to record the refusal.
    NoPermit(NoPermit),
    /// The audit trail cannot record the refusal.
    Audit(StoreError),
}

/// Why a body is not read.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) enum BodyError {
    /// Its type is another than this.
    MediaType(&'static str),
    /// It is only a part of what would be put.
    ContentRange,
    /// It is larger than the limit.
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// It did not arrive in time.
    Timeout,
    /// Its framing is broken.
    BrokenOff,
    /// It is not JSON, or says what cannot be stored or done.
    Invalid(InvalidBody),
    /// There is no memory for it.
    NoMemory(NoMemory),
    /// An internal error occurred.
    Internal(InternalError),
}

/// A query parameter that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct QueryError(pub(in crate::http) &'static str);

/// Why the conditions of a request on a user's document are not met.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) enum UserConditionError {
    /// A header cannot be read.
    Malformed(&'static str),
    /// The condition is not met.
    Mismatch(Option<Version>),
    /// The document cannot be read to evaluate the condition.
    Read(UserReadError),
}

/// Why the conditions of a request on an HR record are not met.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) enum RecordConditionError {
    /// A header cannot be read.
    Malformed(&'static str),
    /// The condition is not met.
    Mismatch(Option<Version>),
    /// The record cannot be read to evaluate the condition.
    Read(RecordReadError),
}

/// Why a user's document is not read.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) enum UserReadError {
    /// A database did not answer.
    Unavailable(StoreError),
    /// The stored documents are in conflict.
    Quarantined(Quarantine),
    /// No copy of the user matches its own digest.
    Corrupt(Role),
    /// The engine answers a read with an error of writes.
    Internal,
}

/// Why an HR record is not read.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) enum RecordReadError {
    /// A database did not answer.
    Unavailable(StoreError),
    /// No copy of the record matches its own digest.
    Corrupt(Role),
    /// The engine answers a read with an error of writes.
    Internal,
}

/// Why a section is not written: every error of the engine but that the user is not stored, who is created.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) struct SectionWriteError(pub(in crate::http) UsersError);

/// Why a section is not removed from a user who has it.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) struct SectionRemoveError(pub(in crate::http) UsersError);

/// Why an HR record is not written: every error of the engine but that it is not stored; it is created.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) struct RecordWriteError(pub(in crate::http) HrError);

/// Why an HR record is not removed.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) struct RecordRemoveError(pub(in crate::http) HrError);

/// The user does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct UserNotFound;

/// The user is stored, the section is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct SectionNotFound;

/// The HR record is not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct RecordNotFound;

/// The path names no section. Holds the names of those that exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::http) struct UnknownSection(pub(in crate::http) String);

/// The path names no collection of HR records. Holds the names of those that exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::http) struct UnknownCollection(pub(in crate::http) String);

/// The path names no database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct UnknownDatabase;

/// The content cannot be that of an HR record, or the id cannot be one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::http) struct InvalidRecord(pub(in crate::http) String);

/// Why a caller may not write.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::http) enum WriteDenied {
    /// External users may only read.
    PublicWritesOff,
    /// The address created as many public users as it may.
    RateLimited(RateLimited),
    /// No permit to see whether the user is stored.
    NoPermit(NoPermit),
    /// It cannot be read whether the user is stored.
    Read(UserReadError),
}

/// The movement was stopped everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct MoverPaused;

causes! {
    InternalError [Internal] |_cause| Problem::Internal;
    ShowError [Internal, CorruptDocument, DatabaseUnavailable] |cause| match cause {
        ShowError::Internal(cause) => cause.into(),
        ShowError::NoMemory(none) => none.into(),
        ShowError::Damaged(damaged) => Problem::Damaged(damaged),
    };
    NoPermit [RateLimited, DatabaseUnavailable] |cause| match cause {
        NoPermit::Busy => Problem::Busy,
        NoPermit::Stalled => Problem::Stalled,
    };
    NoMemory [DatabaseUnavailable] |_cause| Problem::MemoryInUse;
    RateLimited [RateLimited] |cause| Problem::RateLimited {
        retry_after_seconds: cause.retry_after_seconds,
    };
    CallerError [
        AmbiguousIdentity, CredentialsRequired, InvalidUsername, RateLimited, DatabaseUnavailable, IdentityUnavailable
    ] |cause| match cause {
        CallerError::CredentialsRequired(why) => Problem::CredentialsRequired(why),
        CallerError::IdentityUnavailable { retry_after_seconds } => {
            Problem::IdentityUnavailable { retry_after_seconds }
        }
        CallerError::InvalidUsername(why) => Problem::InvalidUsername(why),
        CallerError::AmbiguousIdentity => Problem::AmbiguousIdentity,
        CallerError::RateLimited(limited) => limited.into(),
        CallerError::NoPermit(none) => none.into(),
        CallerError::Audit(error) => Problem::Database(error),
    };
    RoleError [
        CredentialsRequired, RoleRequired, RateLimited, DatabaseUnavailable, IdentityUnavailable
    ] |cause| match cause {
        RoleError::JwtRequired(why, role) => Problem::JwtRequired(why, role),
        RoleError::RoleRequired(role) => Problem::RoleRequired(role),
        RoleError::KeysUnavailable => Problem::IdentityUnavailable {
            retry_after_seconds: None,
        },
        RoleError::RateLimited(limited) => limited.into(),
        RoleError::NoPermit(none) => none.into(),
        RoleError::Audit(error) => Problem::Database(error),
    };
    BodyError [
        Malformed, RequestTimeout, TooLarge, UnsupportedMediaType, InvalidContent, Internal, DatabaseUnavailable
    ] |cause| match cause {
        BodyError::MediaType(expected) => Problem::UnsupportedMediaType(expected),
        BodyError::TooLarge { limit_bytes } => Problem::BodyTooLarge { limit_bytes },
        BodyError::Timeout => Problem::BodyTimeout,
        BodyError::ContentRange => {
            Problem::Malformed("Content-Range is not supported; send the complete body")
        }
        BodyError::BrokenOff => Problem::Malformed("the body ended early"),
        BodyError::Invalid(error) => Problem::Body(error),
        BodyError::NoMemory(none) => none.into(),
        BodyError::Internal(error) => error.into(),
    };
    QueryError [Malformed] |cause| Problem::Malformed(cause.0);
    UserConditionError [
        Malformed, Conflict, VersionMismatch, Internal, CorruptDocument, DatabaseUnavailable
    ] |cause| match cause {
        UserConditionError::Malformed(why) => Problem::Malformed(why),
        UserConditionError::Mismatch(current) => UsersError::Mismatch { current }.into(),
        UserConditionError::Read(error) => error.into(),
    };
    RecordConditionError [
        Malformed, VersionMismatch, Internal, CorruptDocument, DatabaseUnavailable
    ] |cause| match cause {
        RecordConditionError::Malformed(why) => Problem::Malformed(why),
        RecordConditionError::Mismatch(current) => HrError::Mismatch { current }.into(),
        RecordConditionError::Read(error) => error.into(),
    };
    UserReadError [Conflict, Internal, CorruptDocument, DatabaseUnavailable] |cause| match cause {
        UserReadError::Unavailable(error) => Problem::Database(error),
        UserReadError::Quarantined(why) => UsersError::Quarantined(why).into(),
        UserReadError::Corrupt(database) => UsersError::Corrupt(database).into(),
        UserReadError::Internal => Problem::Internal,
    };
    RecordReadError [Internal, CorruptDocument, DatabaseUnavailable] |cause| match cause {
        RecordReadError::Unavailable(error) => Problem::Database(error),
        RecordReadError::Corrupt(database) => HrError::Corrupt(database).into(),
        RecordReadError::Internal => Problem::Internal,
    };
    SectionWriteError [
        Conflict, VersionMismatch, TooLarge, InvalidContent, CorruptDocument, DatabaseUnavailable,
        OutcomeUnknown
    ] |cause| cause.0.into();
    SectionRemoveError [
        Conflict, VersionMismatch, InvalidContent, CorruptDocument, DatabaseUnavailable,
        OutcomeUnknown
    ] |cause| cause.0.into();
    RecordWriteError [
        Conflict, VersionMismatch, TooLarge, InvalidContent, CorruptDocument, DatabaseUnavailable,
        OutcomeUnknown
    ] |cause| cause.0.into();
    RecordRemoveError [
        RecordNotFound, Conflict, VersionMismatch, InvalidContent, CorruptDocument, DatabaseUnavailable,
        OutcomeUnknown
    ] |cause| cause.0.into();
    UserNotFound [UserNotFound] |_cause| UsersError::NotFound.into();
    SectionNotFound [SectionNotFound] |_cause| Problem::SectionNotFound;
    RecordNotFound [RecordNotFound] |_cause| HrError::NotFound.into();
    UnknownSection [UnknownSection] |cause| Problem::UnknownSection(cause.0);
    UnknownCollection [UnknownCollection] |cause| Problem::UnknownCollection(cause.0);
    UnknownDatabase [UnknownDatabase] |_cause| Problem::UnknownDatabase;
    InvalidRecord [InvalidContent] |cause| Problem::Body(InvalidBody::Content(cause.0));
    WriteDenied [
        PublicWritesOff, Conflict, RateLimited, Internal, CorruptDocument, DatabaseUnavailable
    ] |cause| match cause {
        WriteDenied::PublicWritesOff => Problem::PublicWritesOff,
        WriteDenied::RateLimited(limited) => limited.into(),
        WriteDenied::NoPermit(none) => none.into(),
        WriteDenied::Read(error) => error.into(),
    };
    MoverPaused [MoverPaused] |_cause| Problem::MoverPaused;
}

impl Cause for StoreError {
    const CODES: &'static [Code] = &[Code::DatabaseUnavailable];
}

impl Cause for EraseError {
    const CODES: &'static [Code] = &[Code::DatabaseUnavailable, Code::OutcomeUnknown];
}

impl From<UsersError> for UserReadError {
    fn from(error: UsersError) -> Self {
        match error {
            UsersError::Unavailable(error) => Self::Unavailable(error),
            UsersError::Quarantined(why) => Self::Quarantined(why),
            UsersError::Corrupt(database) => Self::Corrupt(database),
            UsersError::Mismatch { .. }
            | UsersError::NotFound
            | UsersError::SectionNotFound
            | UsersError::TooLarge
            | UsersError::Rejected(_)
            | UsersError::OutcomeUnknown(_)
            | UsersError::Contended => {
                error!(%error, "a read of a user ended in an error of writes");
                Self::Internal
            }
        }
    }
}

impl From<HrError> for RecordReadError {
    fn from(error: HrError) -> Self {
        match error {
            HrError::Unavailable(error) => Self::Unavailable(error),
            HrError::Corrupt(database) => Self::Corrupt(database),
            HrError::Mismatch { .. }
            | HrError::NotFound
            | HrError::TooLarge
            | HrError::Rejected(_)
            | HrError::Unclear(_)
            | HrError::OutcomeUnknown
            | HrError::Contended => {
                error!(%error, "a read of an HR record ended in an error of writes");
                Self::Internal
            }
        }
    }
}

/// Lets `?` turn one cause into another that holds it.
macro_rules! holds {
    ($($outer:ident::$variant:ident($inner:ty);)*) => {$(
        impl From<$inner> for $outer {
            fn from(inner: $inner) -> Self {
                Self::$variant(inner)
            }
        }
    )*};
}

holds! {
    CallerError::RateLimited(RateLimited);
    CallerError::NoPermit(NoPermit);
    CallerError::Audit(StoreError);
    RoleError::RateLimited(RateLimited);
    RoleError::NoPermit(NoPermit);
    RoleError::Audit(StoreError);
    BodyError::Invalid(InvalidBody);
    BodyError::Internal(InternalError);
    BodyError::NoMemory(NoMemory);
    ShowError::NoMemory(NoMemory);
    UserConditionError::Read(UserReadError);
    RecordConditionError::Read(RecordReadError);
    WriteDenied::RateLimited(RateLimited);
    WriteDenied::NoPermit(NoPermit);
    WriteDenied::Read(UserReadError);
}
