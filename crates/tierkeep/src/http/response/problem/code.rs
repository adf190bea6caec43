//! The stable codes of refusals: owns the name, the status and the title of each.

use axum::http::StatusCode;

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
    Malformed = "malformed", BAD_REQUEST, "The request is malformed";
    /// Strict mode: a public name and credentials at once.
    AmbiguousIdentity = "ambiguous_identity", BAD_REQUEST, "The request has both a public user name and credentials";
    /// No sufficient credentials, and no name of a public user.
    CredentialsRequired = "credentials_required", UNAUTHORIZED, "Credentials or a user name are required";
    /// Known, but not allowed.
    RoleRequired = "role_required", FORBIDDEN, "A role is required";
    /// External users may only read.
    PublicWritesOff = "public_writes_off", FORBIDDEN, "External users have read-only access";
    /// No such path.
    NotFound = "not_found", NOT_FOUND, "The path does not exist";
    /// The user does not exist.
    UserNotFound = "user_not_found", NOT_FOUND, "The user does not exist";
    /// The user is stored, the section is not.
    SectionNotFound = "section_not_found", NOT_FOUND, "The section does not exist";
    /// No section has this name.
    UnknownSection = "unknown_section", NOT_FOUND, "The section name is unknown";
    /// No collection of HR records has this name.
    UnknownCollection = "unknown_collection", NOT_FOUND, "The collection name is unknown";
    /// The HR record is not stored.
    RecordNotFound = "record_not_found", NOT_FOUND, "The record does not exist";
    /// No database has this name.
    UnknownDatabase = "unknown_database", NOT_FOUND, "The database name is unknown";
    /// The path does not support this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The path does not support this method";
    /// The body did not arrive in time.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "The body did not arrive in time";
    /// Documents contradict each other.
    Conflict = "conflict", CONFLICT, "The stored documents are in conflict";
    /// The movement was stopped everywhere.
    MoverPaused = "mover_paused", CONFLICT, "The mover is paused";
    /// A condition does not hold.
    VersionMismatch = "version_mismatch", PRECONDITION_FAILED, "The condition is not met";
    /// Over a limit of size.
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The body or the document is too large";
    /// Another type of body.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body's type is not supported";
    /// JSON that cannot be stored.
    InvalidContent = "invalid_content", UNPROCESSABLE_ENTITY, "The content cannot be stored";
    /// The `username` is not valid.
    InvalidUsername = "invalid_username", UNPROCESSABLE_ENTITY, "The user name is invalid";
    /// Too many requests.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too many requests";
    /// The stored document cannot be read.
    CorruptDocument = "corrupt_document", INTERNAL_SERVER_ERROR, "The stored document is damaged";
    /// A defect of the service.
    Internal = "internal", INTERNAL_SERVER_ERROR, "An internal error occurred";
    /// A database is unavailable.
    DatabaseUnavailable = "database_unavailable", SERVICE_UNAVAILABLE, "A database is unavailable";
    /// GitHub could not be asked.
    IdentityUnavailable = "identity_unavailable", SERVICE_UNAVAILABLE, "The identity cannot be verified at the moment";
    /// It is unknown whether the write happened.
    OutcomeUnknown = "outcome_unknown", SERVICE_UNAVAILABLE, "The outcome of the change is unknown";
}

impl Code {
    /// The seconds after which a retry can succeed; `None` where it cannot.
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
