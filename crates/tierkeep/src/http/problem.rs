//! Refusals: owns which status and which stable code each of them has, and how they look (RFC 9457).
//!
//! Must never say more than the caller may know: no host, no driver's text, no token.

use std::borrow::Cow;

use axum::http::header::{ETAG, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tierkeep_core::content::{Damaged, InvalidBody};
use tierkeep_core::db::Role;
use tierkeep_core::identity::InvalidUsername;
use tierkeep_core::store::StoreError;
use tierkeep_engine::{EraseError, HrError, UsersError};
use tierkeep_identity::RoleClaim;
use utoipa::ToSchema;

use super::answer;

/// The longest `detail`; longer ones quote the caller's own body.
const MAX_DETAIL_CHARS: usize = 300;
/// When a turn may be free again.
const BUSY_SECONDS: u64 = 1;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:ident, $title:literal;)*) => {
        /// The stable name of a kind of refusal.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All of them, in the order of their status.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name as callers see it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The status it comes with.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// What it means, in a few words that never change.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The request cannot be read.
    Malformed = "malformed", BAD_REQUEST, "The request cannot be read";
    /// Strict mode: a public name and credentials at once.
    AmbiguousIdentity = "ambiguous_identity", BAD_REQUEST, "A public user name and credentials came together";
    /// Nobody to address.
    CredentialsRequired = "credentials_required", UNAUTHORIZED, "Credentials or a user name are required";
    /// Known, but not allowed.
    RoleRequired = "role_required", FORBIDDEN, "A role is required";
    /// External users may only read.
    PublicWritesOff = "public_writes_off", FORBIDDEN, "External users may only read here";
    /// No such path.
    NotFound = "not_found", NOT_FOUND, "There is nothing at this path";
    /// The user is not stored.
    UserNotFound = "user_not_found", NOT_FOUND, "The user is not stored";
    /// The user is stored, the section is not.
    SectionNotFound = "section_not_found", NOT_FOUND, "The section is not stored";
    /// No section has this name.
    UnknownSection = "unknown_section", NOT_FOUND, "There is no section of this name";
    /// No collection of HR records has this name.
    UnknownCollection = "unknown_collection", NOT_FOUND, "There is no collection of this name";
    /// The HR record is not stored.
    RecordNotFound = "record_not_found", NOT_FOUND, "The record is not stored";
    /// No database has this name.
    UnknownDatabase = "unknown_database", NOT_FOUND, "There is no database of this name";
    /// The path does not take this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The path does not take this method";
    /// The body did not arrive in time.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "The body did not arrive in time";
    /// Documents contradict each other.
    Conflict = "conflict", CONFLICT, "The user's documents contradict each other";
    /// The movement was stopped everywhere.
    MoverPaused = "mover_paused", CONFLICT, "The movement is paused";
    /// A condition does not hold.
    VersionMismatch = "version_mismatch", PRECONDITION_FAILED, "The condition does not hold";
    /// Over a limit of size.
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The body or the document would be too large";
    /// Another type of body.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body's type is not supported";
    /// JSON that cannot be stored.
    InvalidContent = "invalid_content", UNPROCESSABLE_ENTITY, "The content cannot be stored";
    /// The `username` names nobody.
    InvalidUsername = "invalid_username", UNPROCESSABLE_ENTITY, "The user name is invalid";
    /// Too many requests.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too many requests";
    /// What is stored is not what was written.
    CorruptDocument = "corrupt_document", INTERNAL_SERVER_ERROR, "The stored document is damaged";
    /// A defect of the service.
    Internal = "internal", INTERNAL_SERVER_ERROR, "The service failed";
    /// A database is away.
    DatabaseUnavailable = "database_unavailable", SERVICE_UNAVAILABLE, "A database is not available";
    /// GitHub could not be asked.
    IdentityUnavailable = "identity_unavailable", SERVICE_UNAVAILABLE, "The identity cannot be checked now";
    /// Nobody knows whether the write happened.
    OutcomeUnknown = "outcome_unknown", SERVICE_UNAVAILABLE, "Whether the change was made is not known";
}

impl Code {
    /// After how many seconds it is worth trying again; `None` where nothing would be different.
    pub fn retry_after_seconds(self) -> Option<u16> {
        match self {
            Self::DatabaseUnavailable | Self::IdentityUnavailable => Some(5),
            Self::OutcomeUnknown => Some(1),
            Self::Malformed
            | Self::AmbiguousIdentity
            | Self::CredentialsRequired
            | Self::RoleRequired
            | Self::NotFound
            | Self::UserNotFound
            | Self::SectionNotFound
            | Self::UnknownSection
            | Self::UnknownCollection
            | Self::RecordNotFound
            | Self::UnknownDatabase
            | Self::MethodNotAllowed
            | Self::RequestTimeout
            | Self::Conflict
            | Self::MoverPaused
            | Self::VersionMismatch
            | Self::TooLarge
            | Self::UnsupportedMediaType
            | Self::InvalidContent
            | Self::InvalidUsername
            | Self::PublicWritesOff
            | Self::RateLimited
            | Self::CorruptDocument
            | Self::Internal => None,
        }
    }

    /// The address of the page about it.
    pub fn page(self) -> String {
        let repository = env!("CARGO_PKG_REPOSITORY");
        format!("{repository}/blob/main/docs/errors/{}.md", self.as_str())
    }
}

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
    /// The body cannot be read or stored.
    #[error(transparent)]
    Body(#[from] InvalidBody),
    /// A header, or the body's framing, cannot be read.
    #[error("{0}")]
    Malformed(&'static str),
    /// Nobody to address.
    #[error("{0}; send a JWT and a GitHub token, or name a public user with ?username=")]
    CredentialsRequired(&'static str),
    /// No valid JWT, where it alone says who is asking.
    #[error("{0}; this takes a JWT with the role {1}")]
    JwtRequired(&'static str, RoleClaim),
    /// The movement was stopped everywhere.
    #[error("the movement is paused; POST /v1/admin/mover/resume lets it go on")]
    MoverPaused,
    /// The databases are not open yet.
    #[error("the service is starting: its databases are not open yet")]
    Starting,
    /// GitHub, or the account of before, could not be asked.
    #[error("whose the GitHub token is cannot be found out now")]
    IdentityUnavailable,
    /// The `username` names nobody.
    #[error(transparent)]
    InvalidUsername(InvalidUsername),
    /// Strict mode: a public name and credentials at once.
    #[error("send either credentials or ?username=, not both")]
    AmbiguousIdentity,
    /// Known, but not allowed.
    #[error("this takes a JWT with the role {0}")]
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
    #[error("the user is stored, but has no such section")]
    SectionNotFound,
    /// External users may only read.
    #[error("external users may only read here; TIERKEEP_PUBLIC_WRITES is off")]
    PublicWritesOff,
    /// Too many requests.
    #[error("too many requests; try again in {retry_after_seconds} s")]
    RateLimited {
        /// When it is worth trying again.
        retry_after_seconds: u64,
    },
    /// Too many public requests of others.
    #[error("too many public requests are at work; try again in {BUSY_SECONDS} s")]
    Busy,
    /// Public requests of others wait for databases that do not answer.
    #[error("the databases do not answer the public requests that are at work; try again later")]
    Stalled,
    /// No such path.
    #[error("there is nothing at this path")]
    UnknownPath,
    /// The path does not take this method.
    #[error("the path does not take the method {0}")]
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
    #[error("the change took too long; read the document to see whether it was made")]
    WriteTimeout,
    /// What is stored is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// A defect of the service.
    #[error("the service failed; the request id leads to the log")]
    Internal,
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Users(UsersError::Unavailable(error))
    }
}

impl Problem {
    /// The one mapping from what went wrong to code and status.
    pub fn code(&self) -> Code {
        match self {
            Self::Users(error) => match error {
                UsersError::Unavailable(_) => Code::DatabaseUnavailable,
                UsersError::Mismatch { .. } => Code::VersionMismatch,
                UsersError::NotFound => Code::UserNotFound,
                UsersError::TooLarge => Code::TooLarge,
                UsersError::Rejected(_) => Code::InvalidContent,
                UsersError::Quarantined(_) => Code::Conflict,
                UsersError::Contended | UsersError::OutcomeUnknown(_) => Code::OutcomeUnknown,
            },
            Self::Hr(error) => match error {
                HrError::Unavailable(_) => Code::DatabaseUnavailable,
                HrError::Mismatch { .. } => Code::VersionMismatch,
                HrError::NotFound => Code::RecordNotFound,
                HrError::TooLarge => Code::TooLarge,
                HrError::Rejected(_) => Code::InvalidContent,
                HrError::Unclear(_) => Code::Conflict,
                HrError::Contended | HrError::OutcomeUnknown => Code::OutcomeUnknown,
            },
            Self::Erase(error) => match error {
                EraseError::Unavailable(_) => Code::DatabaseUnavailable,
                EraseError::UsedUp(_) => Code::Conflict,
                EraseError::Contended(_) => Code::OutcomeUnknown,
            },
            Self::Body(error) => match error {
                InvalidBody::Malformed(_) => Code::Malformed,
                InvalidBody::Content(_) => Code::InvalidContent,
            },
            Self::Malformed(_) => Code::Malformed,
            Self::CredentialsRequired(_) | Self::JwtRequired(_, _) => Code::CredentialsRequired,
            Self::MoverPaused => Code::MoverPaused,
            Self::IdentityUnavailable => Code::IdentityUnavailable,
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
            Self::Starting | Self::Stalled | Self::ReadTimeout => Code::DatabaseUnavailable,
            Self::WriteTimeout => Code::OutcomeUnknown,
            Self::Damaged(_) => Code::CorruptDocument,
            Self::Internal => Code::Internal,
        }
    }

    /// After how many seconds one more request is not too many, where that is what is wrong.
    fn too_many(&self) -> Option<u64> {
        if let Self::RateLimited {
            retry_after_seconds,
        } = self
        {
            return Some(*retry_after_seconds);
        }
        matches!(self, Self::Busy).then_some(BUSY_SECONDS)
    }

    /// What is wrong with this request, for people.
    pub(super) fn detail(&self) -> String {
        let detail = if let Self::Users(UsersError::Unavailable(error))
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
        "{} is not available ({})",
        error.database,
        error.class.as_str()
    )
}

/// A refusal as it is sent.
#[derive(Serialize, ToSchema, Debug)]
#[schema(as = Problem)]
pub(super) struct Sent<'a> {
    /// The page about the code.
    #[serde(rename = "type")]
    #[schema(format = "uri")]
    kind: String,
    /// What the code means.
    title: &'a str,
    /// The status, once more.
    status: u16,
    /// What is wrong with this request.
    detail: Cow<'a, str>,
    /// The stable name.
    code: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = self.code();
        let sent = Sent {
            kind: code.page(),
            title: code.title(),
            status: code.status().as_u16(),
            detail: self.detail().into(),
            code: code.as_str(),
        };
        let body = serde_json::to_vec(&sent).unwrap_or_default();
        let media_type = HeaderValue::from_static("application/problem+json");
        let mut answer = answer::bytes(code.status(), media_type, body);
        if let Some(seconds) = code.retry_after_seconds() {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if let Some(seconds) = self.too_many() {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if code.status() == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        if let Self::Users(UsersError::Mismatch {
            current: Some(version),
        })
        | Self::Hr(HrError::Mismatch {
            current: Some(version),
        }) = self
            && let Ok(tag) = HeaderValue::try_from(format!("\"{version}\""))
        {
            answer.headers_mut().insert(ETAG, tag);
        }
        answer
    }
}

/// 404 for every path that is none of ours.
pub(super) async fn unknown_path() -> Problem {
    Problem::UnknownPath
}

/// 405 for every method that a path does not take; the router adds `Allow`.
pub(super) async fn unknown_method(method: Method) -> Problem {
    Problem::UnknownMethod(method)
}
