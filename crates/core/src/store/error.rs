//! What can go wrong with a whole store operation. What is wrong with one document is a
//! [`Fault`](super::Fault) and not an error.

use serde::Serialize;

use crate::db::Role;

/// The kind of a failure, as health rows and logs show it: never a host, a user or a driver's text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// No answer in time.
    Timeout,
    /// Nothing listens there, or the connection broke.
    Refused,
    /// No server fit for the operation could be selected: no primary, or all away.
    NoServer,
    /// The server steps down, starts up or shuts down; it may have run the operation before.
    Transition,
    /// The server is not the primary and refused the operation before it ran any of it.
    NotPrimary,
    /// Credentials were refused.
    Auth,
    /// The user may not do this.
    Unauthorized,
    /// The disk is full.
    DiskFull,
    /// The database was held by another for too long, or takes no more operations at the moment; nothing was applied.
    Busy,
    /// The write may be applied, but a majority has not acknowledged it.
    Unacknowledged,
    /// The files or the answer cannot be understood.
    Corrupt,
    /// What answers is another database than the one that was meant; nothing was applied.
    Identity,
    /// Anything else.
    Other,
}

impl Class {
    /// The class as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::NoServer => "no_server",
            Self::Transition => "transition",
            Self::NotPrimary => "not_primary",
            Self::Auth => "auth",
            Self::Unauthorized => "unauthorized",
            Self::DiskFull => "disk_full",
            Self::Busy => "busy",
            Self::Unacknowledged => "unacknowledged",
            Self::Corrupt => "corrupt",
            Self::Identity => "identity",
            Self::Other => "other",
        }
    }
}

/// What a caller should do about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Repeat the step now, with backoff.
    Retry,
    /// Leave it for a later run and tell an operator; costs no document its retries.
    Defer,
}

/// A database did not do what it was asked to; the effect may still be there in part or whole.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{database}: {operation} failed: {} (code {code})", class.as_str())]
pub struct StoreError {
    /// The database.
    pub database: Role,
    /// The operation, a method of [`Store`](super::Store).
    pub operation: &'static str,
    /// The kind of failure.
    pub class: Class,
    /// The database's code; 0 where there is none.
    pub code: i32,
}

impl StoreError {
    /// Whether the effect may be there nevertheless.
    pub fn is_ambiguous(&self) -> bool {
        match self.class {
            Class::Timeout
            | Class::Refused
            | Class::Transition
            | Class::Unacknowledged
            | Class::NoServer
            | Class::Corrupt
            | Class::Other => true,
            Class::NotPrimary
            | Class::Busy
            | Class::Auth
            | Class::Unauthorized
            | Class::Identity
            | Class::DiskFull => false,
        }
    }

    /// What to do about it.
    pub fn verdict(&self) -> Verdict {
        match self.class {
            Class::Timeout
            | Class::Refused
            | Class::Transition
            | Class::NotPrimary
            | Class::Busy
            | Class::Unacknowledged => Verdict::Retry,
            Class::NoServer
            | Class::Auth
            | Class::Unauthorized
            | Class::DiskFull
            | Class::Corrupt
            | Class::Identity
            | Class::Other => Verdict::Defer,
        }
    }
}
