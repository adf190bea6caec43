//! Refusals: owns the one type of them, and which code each one has.
//!
//! Must never say more than the caller may know: no host, no driver's text, no token.
//!
//! Where to look: `code` (codes and their status), `causes` (the closed errors that lead here, and their conversion), `details`
//! (how a refusal is sent).

pub(in crate::http) mod causes;
mod code;
mod details;

use axum::http::Method;
use tierkeep_core::content::{Damaged, InvalidBody};
use tierkeep_core::db::Role;
use tierkeep_core::identity::InvalidUsername;
use tierkeep_core::store::StoreError;
use tierkeep_engine::{EraseError, HrError, UsersError};
use tierkeep_identity::RoleClaim;

pub use self::code::Code;
pub(in crate::http) use self::details::ProblemDetails;

/// The longest `detail`; longer ones quote the caller's own body.
const MAX_DETAIL_CHARS: usize = 300;
/// After how many seconds a permit may be free again.
const BUSY_SECONDS: u64 = 1;

/// Why a request is refused.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Problem {
    /// The engine refused.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The engine refused what was asked of an HR record.
    #[error(transparent)]
    Hr(#[from] HrError),
    /// Nothing was erased.
    #[error(transparent)]
    Erase(#[from] EraseError),
    /// A database did not answer.
    #[error(transparent)]
    Database(#[from] StoreError),
    /// The body cannot be read or stored.
    #[error(transparent)]
    Body(#[from] InvalidBody),
    /// A header, or the body's framing, cannot be read.
    #[error("{0}")]
    Malformed(&'static str),
    /// No sufficient credentials, and no name of a public user.
    #[error("{0}; send a JWT and a GitHub token, or name a public user with ?username=")]
    CredentialsRequired(&'static str),
    /// No valid JWT, where no other credential counts.
    #[error("{0}; this requires a JWT with the role {1}")]
    JwtRequired(&'static str, RoleClaim),
    /// The movement was stopped everywhere.
    #[error("the mover is paused; resume it with POST /v1/admin/mover/resume")]
    MoverPaused,
    /// The databases are not open yet.
    #[error("the service is starting: its databases are not open yet")]
    Starting,
    /// GitHub could not be asked.
    #[error(
        "the caller's identity cannot be verified at the moment: GitHub or the source of the JWT keys is unavailable"
    )]
    IdentityUnavailable {
        /// How long GitHub asked to be left alone, where it did.
        retry_after_seconds: Option<u64>,
    },
    /// The `username` is not valid.
    #[error(transparent)]
    InvalidUsername(InvalidUsername),
    /// Strict mode: a public name and credentials at once.
    #[error("send either credentials or ?username=, not both")]
    AmbiguousIdentity,
    /// Known, but not allowed.
    #[error("this requires a JWT with the role {0}")]
    RoleRequired(RoleClaim),
    /// No section has this name.
    #[error("the sections are {0}")]
    UnknownSection(String),
    /// No collection of HR records has this name.
    #[error("the collections are {0}")]
    UnknownCollection(String),
    /// No database has this name.
    #[error("the databases are {}", database_names())]
    UnknownDatabase,
    /// The user is stored, the section is not.
    #[error("the user exists, but has no such section")]
    SectionNotFound,
    /// External users may only read.
    #[error("external users have read-only access; TIERKEEP_PUBLIC_WRITES is off")]
    PublicWritesOff,
    /// Too many requests.
    #[error("too many requests; try again in {retry_after_seconds} s")]
    RateLimited {
        /// When it is worth trying again.
        retry_after_seconds: u64,
    },
    /// Too many public requests of others.
    #[error("too many public requests are in progress; try again in {BUSY_SECONDS} s")]
    Busy,
    /// Public requests of others wait for databases that do not answer.
    #[error("the databases do not answer the public requests in progress; try again later")]
    Stalled,
    /// Bodies of others use the memory for bodies.
    #[error("the memory for bodies is in use; try again later")]
    MemoryInUse,
    /// No such path.
    #[error("the path does not exist")]
    UnknownPath,
    /// The path does not support this method.
    #[error("the path does not support the method {0}")]
    UnknownMethod(Method),
    /// Another type of body.
    #[error("the body must be {0}")]
    UnsupportedMediaType(&'static str),
    /// The body is over the limit.
    #[error("the body is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// A read took longer than a request may take.
    #[error("the databases did not answer in time")]
    ReadTimeout,
    /// A write took longer than a request may take.
    #[error("the change timed out; read the document to find out whether it was made")]
    WriteTimeout,
    /// The stored document cannot be read.
    #[error(transparent)]
    Damaged(Damaged),
    /// A defect of the service.
    #[error("an internal error occurred; the log has the details under the request id")]
    Internal,
}

impl Problem {
    /// The one mapping from what went wrong to code and status.
    pub fn code(&self) -> Code {
        match self {
            Self::Users(error) => match error {
                UsersError::Unavailable(_) => Code::DatabaseUnavailable,
                UsersError::Mismatch { .. } => Code::VersionMismatch,
                UsersError::NotFound => Code::UserNotFound,
                UsersError::SectionNotFound => Code::SectionNotFound,
                UsersError::TooLarge => Code::TooLarge,
                UsersError::Rejected(_) => Code::InvalidContent,
                UsersError::Quarantined(_) => Code::Conflict,
                UsersError::Corrupt(_) => Code::CorruptDocument,
                UsersError::Contended | UsersError::OutcomeUnknown(_) => Code::OutcomeUnknown,
            },
            Self::Hr(error) => match error {
                HrError::Unavailable(_) => Code::DatabaseUnavailable,
                HrError::Mismatch { .. } => Code::VersionMismatch,
                HrError::NotFound => Code::RecordNotFound,
                HrError::TooLarge => Code::TooLarge,
                HrError::Rejected(_) => Code::InvalidContent,
                HrError::Unclear(_) => Code::Conflict,
                HrError::Corrupt(_) => Code::CorruptDocument,
                HrError::Contended | HrError::OutcomeUnknown => Code::OutcomeUnknown,
            },
            Self::Erase(error) => match error {
                EraseError::Unavailable(_) => Code::DatabaseUnavailable,
                EraseError::Contended(_) => Code::OutcomeUnknown,
            },
            Self::Body(error) => match error {
                InvalidBody::Malformed(_) => Code::Malformed,
                InvalidBody::Content(_) => Code::InvalidContent,
                InvalidBody::TooLarge => Code::TooLarge,
            },
            Self::Malformed(_) => Code::Malformed,
            Self::CredentialsRequired(_) | Self::JwtRequired(_, _) => Code::CredentialsRequired,
            Self::MoverPaused => Code::MoverPaused,
            Self::IdentityUnavailable { .. } => Code::IdentityUnavailable,
            Self::InvalidUsername(error) => match error {
                InvalidUsername::Malformed(_) | InvalidUsername::Repeated => Code::InvalidUsername,
            },
            Self::AmbiguousIdentity => Code::AmbiguousIdentity,
            Self::PublicWritesOff => Code::PublicWritesOff,
            Self::RateLimited { .. } | Self::Busy => Code::RateLimited,
            Self::RoleRequired(_) => Code::RoleRequired,
            Self::UnknownSection(_) => Code::UnknownSection,
            Self::UnknownCollection(_) => Code::UnknownCollection,
            Self::UnknownDatabase => Code::UnknownDatabase,
            Self::SectionNotFound => Code::SectionNotFound,
            Self::UnknownPath => Code::NotFound,
            Self::UnknownMethod(_) => Code::MethodNotAllowed,
            Self::UnsupportedMediaType(_) => Code::UnsupportedMediaType,
            Self::BodyTooLarge { .. } => Code::TooLarge,
            Self::BodyTimeout => Code::RequestTimeout,
            Self::Database(_)
            | Self::Starting
            | Self::Stalled
            | Self::MemoryInUse
            | Self::ReadTimeout => Code::DatabaseUnavailable,
            Self::WriteTimeout => Code::OutcomeUnknown,
            Self::Damaged(_) => Code::CorruptDocument,
            Self::Internal => Code::Internal,
        }
    }

    /// After how many seconds it is worth trying again, where this request knows better than its code.
    fn own_wait_seconds(&self) -> Option<u64> {
        if let Self::RateLimited {
            retry_after_seconds,
        } = self
        {
            return Some(*retry_after_seconds);
        }
        if let Self::IdentityUnavailable {
            retry_after_seconds,
        } = self
        {
            return *retry_after_seconds;
        }
        matches!(self, Self::Busy).then_some(BUSY_SECONDS)
    }

    /// What is wrong with this request, for people.
    pub(in crate::http) fn detail(&self) -> String {
        let detail = if let Self::Database(error)
        | Self::Users(UsersError::Unavailable(error))
        | Self::Hr(HrError::Unavailable(error))
        | Self::Erase(EraseError::Unavailable(error)) = self
        {
            unavailable(error)
        } else {
            self.to_string()
        };
        match detail.char_indices().nth(MAX_DETAIL_CHARS) {
            Some((end, _)) => format!("{}…", &detail[..end]),
            None => detail,
        }
    }
}

fn database_names() -> String {
    Role::ALL.map(Role::name).join(", ")
}

fn unavailable(error: &StoreError) -> String {
    format!(
        "{} is unavailable ({})",
        error.database,
        error.class.as_str()
    )
}

/// 404 for every path that is not a route.
pub(in crate::http) async fn unknown_path() -> Problem {
    Problem::UnknownPath
}

/// 405 for every method that a path does not take; the router adds `Allow`.
pub(in crate::http) async fn unknown_method(method: Method) -> Problem {
    Problem::UnknownMethod(method)
}
