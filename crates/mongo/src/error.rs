//! What failures mean. Owns the one classification of MongoDB's error codes, into the class of a whole
//! operation's failure or a fault of one document.
//!
//! Nothing here keeps a message: the server's and the driver's texts name hosts, users and contents.

use bson::raw::{RawDocument, RawDocumentBuf};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use tierkeep_core::db::Role;
use tierkeep_core::store::{Class, Fault, StoreError};

/// The server's code of a unique index's refusal.
pub(crate) const DUPLICATE_KEY: i32 = 11000;
/// The server's code for a collection that exists already.
pub(crate) const NAMESPACE_EXISTS: i32 = 48;
/// The server's code for a collection that does not exist.
pub(crate) const NAMESPACE_NOT_FOUND: i32 = 26;
/// The server's code for an index whose name another index has.
pub(crate) const INDEX_KEY_SPECS_CONFLICT: i32 = 86;
/// The server's code for a document without a usable `_id`.
pub(crate) const INVALID_ID: i32 = 53;
/// The server's code for a document above 16 MiB.
pub(crate) const TOO_LARGE: i32 = 10334;

/// The server's code for a user who lacks the right.
pub(crate) const UNAUTHORIZED: i32 = 13;

/// Whose matter a code is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The whole operation's.
    Operation(Class),
    /// One document's, for this reason.
    Document(&'static str),
}

/// What the server's code means. Codes that are not listed are nobody's in particular: the operation is
/// left for later, and no document pays for it.
pub(crate) fn kind(code: i32) -> Kind {
    match code {
        // Retry now.
        6 | 7 | 9001 => Kind::Operation(Class::Refused),
        89 => Kind::Operation(Class::Timeout),
        91 | 189 | 10107 | 11600 | 11602 | 13435 | 13436 => Kind::Operation(Class::Transition),
        112 => Kind::Operation(Class::Busy),
        64 => Kind::Operation(Class::Unacknowledged),
        // Leave it for later.
        UNAUTHORIZED => Kind::Operation(Class::Unauthorized),
        18 => Kind::Operation(Class::Auth),
        14031 => Kind::Operation(Class::DiskFull),
        // One document's own fault.
        2 => Kind::Document("the server takes a value in it for a bad one"),
        9 => Kind::Document("the server cannot parse it"),
        15 => Kind::Document("it is nested too deeply"),
        52 => Kind::Document("a field name starts with a dollar sign"),
        INVALID_ID => Kind::Document("its _id is none that a document can have"),
        121 => Kind::Document("it fails the collection's validator"),
        TOO_LARGE | 17419 | 17420 => Kind::Document("it is larger than 16 MiB"),
        DUPLICATE_KEY => Kind::Document("another document holds the same unique fields"),
        // 50 and 262 (out of time on the server), 192, and all the others.
        _ => Kind::Operation(Class::Other),
    }
}

/// The class of an operation that failed with `code` as a whole.
fn class(code: i32) -> Class {
    match kind(code) {
        Kind::Operation(class) => class,
        Kind::Document(_) => Class::Other,
    }
}

/// A command that did not do what it should have done.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The kind of failure.
    pub(crate) class: Class,
    /// The server's code; 0 where it sent none.
    pub(crate) code: i32,
}

impl Failure {
    /// The server refused the command with `code`.
    pub(crate) fn of_code(code: i32) -> Self {
        Self {
            class: class(code),
            code,
        }
    }

    /// A majority did not acknowledge the write, for the reason `code`.
    fn unacknowledged(code: i32) -> Self {
        let class = match class(code) {
            Class::Other => Class::Unacknowledged,
            class @ (Class::Timeout
            | Class::Refused
            | Class::NoServer
            | Class::Transition
            | Class::Auth
            | Class::Unauthorized
            | Class::DiskFull
            | Class::Busy
            | Class::Unacknowledged
            | Class::Corrupt) => class,
        };
        Self { class, code }
    }

    /// No answer in time.
    pub(crate) fn timeout() -> Self {
        Self {
            class: Class::Timeout,
            code: 0,
        }
    }

    /// An answer that cannot be understood.
    pub(crate) fn corrupt() -> Self {
        Self {
            class: Class::Corrupt,
            code: 0,
        }
    }

    /// The failure as the store's callers see it.
    pub(crate) fn at(self, database: Role, operation: &'static str) -> StoreError {
        StoreError {
            database,
            operation,
            class: self.class,
            code: self.code,
        }
    }

    /// Whether the server found no plan: the index that the command insists on is not there, or there are several
    /// over the same fields, of which others leave documents out.
    pub(crate) fn is_missing_index(&self) -> bool {
        const BAD_VALUE: i32 = 2;
        const INDEX_NOT_FOUND: i32 = 27;
        const NO_QUERY_EXECUTION_PLANS: i32 = 291;
        [BAD_VALUE, INDEX_NOT_FOUND, NO_QUERY_EXECUTION_PLANS].contains(&self.code)
    }
}

impl From<Error> for Failure {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the driver's enum is not exhaustive; what it adds is left for later, as any unlisted code"
    )]
    fn from(error: Error) -> Self {
        let other = |class| Self { class, code: 0 };
        match &*error.kind {
            ErrorKind::Command(command) => Self::of_code(command.code),
            ErrorKind::Write(WriteFailure::WriteError(write)) => Self::of_code(write.code),
            ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
                Self::unacknowledged(concern.code)
            }
            ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::TimedOut => other(Class::Timeout),
            ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } => other(Class::Refused),
            ErrorKind::ServerSelection { .. } | ErrorKind::DnsResolve { .. } => {
                other(Class::NoServer)
            }
            ErrorKind::Authentication { .. } => other(Class::Auth),
            ErrorKind::InvalidResponse { .. } | ErrorKind::Bson(_) => other(Class::Corrupt),
            _ => other(Class::Other),
        }
    }
}

/// The whole reply behind a driver's error, where the server did what it was asked to and only the
/// driver's decoding failed: a document in it holds a text that is no UTF-8.
pub(crate) fn undecoded(error: &Error) -> Option<RawDocumentBuf> {
    let reply = error.server_response()?;
    let ok = reply.get("ok").ok().flatten()?;
    let ok = ok.as_f64() == Some(1.0) || ok.as_i32() == Some(1);
    ok.then(|| reply.clone())
}

/// One statement's error in the reply to a write command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WriteError {
    /// Which statement.
    pub(crate) index: usize,
    /// The server's code.
    pub(crate) code: i32,
    /// Whether it is a clash with a document of the same `_id`.
    pub(crate) on_id: bool,
}

/// Why one statement failed while others of its command may not have.
#[derive(Debug)]
pub(crate) enum Blame {
    /// For a reason of the document's own.
    Document(Fault),
    /// With a code that is not listed: nobody's in particular, so no other document waits for it.
    Nobody(Failure),
}

impl WriteError {
    /// Whose matter it is; `Err` where it is the whole operation's.
    pub(crate) fn blame(self) -> Result<Blame, Failure> {
        let code = self.code;
        match kind(code) {
            Kind::Document(reason) => Ok(Blame::Document(Fault {
                code,
                reason: reason.to_owned(),
            })),
            Kind::Operation(class @ Class::Other) => Ok(Blame::Nobody(Failure { class, code })),
            Kind::Operation(class) => Err(Failure { class, code }),
        }
    }
}

/// Fails where a majority has not acknowledged the write: then nothing in the reply counts.
pub(crate) fn acknowledged(reply: &RawDocument) -> Result<(), Failure> {
    match reply.get_document("writeConcernError") {
        Err(_) => Ok(()),
        Ok(error) => Err(Failure::unacknowledged(code_of(error))),
    }
}

/// The statements that failed.
pub(crate) fn write_errors(reply: &RawDocument) -> Result<Vec<WriteError>, Failure> {
    let Ok(errors) = reply.get_array("writeErrors") else {
        return Ok(Vec::new());
    };
    errors
        .into_iter()
        .map(|error| {
            let error = error
                .ok()
                .and_then(bson::raw::RawBsonRef::as_document)
                .ok_or_else(Failure::corrupt)?;
            let index = error.get_i32("index").map_err(|_| Failure::corrupt())?;
            Ok(WriteError {
                index: usize::try_from(index).map_err(|_| Failure::corrupt())?,
                code: code_of(error),
                on_id: clashes_on_id(error),
            })
        })
        .collect()
}

fn code_of(error: &RawDocument) -> i32 {
    error.get_i32("code").unwrap_or_default()
}

/// Whether the unique index of a duplicate key error is the one over `_id` alone.
fn clashes_on_id(error: &RawDocument) -> bool {
    code_of(error) == DUPLICATE_KEY
        && error.get_document("keyPattern").is_ok_and(|pattern| {
            let mut fields = pattern.iter_elements().map_while(Result::ok);
            fields.next().is_some_and(|field| field.key() == "_id") && fields.next().is_none()
        })
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use tierkeep_core::store::Verdict;

    use super::*;

    fn verdict(failure: Failure) -> Verdict {
        failure.at(Role::RaseenMainUser, "insert").verdict()
    }

    #[test]
    fn codes_that_pass_by_themselves_are_retried_now() {
        for code in [
            6, 7, 64, 89, 91, 112, 189, 9001, 10107, 11600, 11602, 13435, 13436,
        ] {
            assert_eq!(verdict(Failure::of_code(code)), Verdict::Retry, "{code}");
        }
    }

    #[test]
    fn codes_that_need_an_operator_and_unlisted_ones_are_left_for_later() {
        for code in [1, 8, 13, 18, 26, 50, 192, 262, 14031, 999_999, -1, 0] {
            assert_eq!(verdict(Failure::of_code(code)), Verdict::Defer, "{code}");
            let write = WriteError {
                index: 0,
                code,
                on_id: false,
            };
            let blame = write.blame();
            match code {
                13 | 18 | 14031 => assert!(blame.is_err(), "{code}"),
                _ => assert!(matches!(blame, Ok(Blame::Nobody(_))), "{code}"),
            }
        }
    }

    #[test]
    fn codes_of_one_document_are_its_own_fault() {
        for code in [2, 9, 15, 52, 53, 121, 10334, 11000, 17419, 17420] {
            let write = WriteError {
                index: 0,
                code,
                on_id: false,
            };
            assert!(matches!(write.blame(), Ok(Blame::Document(fault)) if fault.code == code));
            assert_eq!(verdict(Failure::of_code(code)), Verdict::Defer, "{code}");
        }
    }

    #[test]
    fn a_reply_with_a_write_concern_error_acknowledges_nothing() {
        let reply = |code: i32| rawdoc! { "ok": 1, "n": 1, "writeConcernError": { "code": code } };
        for (code, class) in [
            (64, Class::Unacknowledged),
            (100, Class::Unacknowledged),
            (11602, Class::Transition),
            (91, Class::Transition),
            (14031, Class::DiskFull),
        ] {
            let failure = acknowledged(&reply(code)).unwrap_err();
            assert_eq!((failure.class, failure.code), (class, code));
        }
        assert!(acknowledged(&rawdoc! { "ok": 1, "n": 1 }).is_ok());
    }

    #[test]
    fn only_the_index_over_id_alone_says_that_a_document_exists() {
        let reply = rawdoc! { "ok": 1, "writeErrors": [
            { "index": 0, "code": 11000, "keyPattern": { "_id": 1 } },
            { "index": 2, "code": 11000, "keyPattern": { "user_id": 1 } },
            { "index": 3, "code": 11000, "keyPattern": { "_id": 1, "a": 1 } },
            { "index": 4, "code": 11000 },
            { "index": 5, "code": 121 },
        ] };
        let on_id: Vec<_> = write_errors(&reply)
            .unwrap()
            .into_iter()
            .map(|error| (error.index, error.on_id))
            .collect();
        assert_eq!(
            on_id,
            [(0, true), (2, false), (3, false), (4, false), (5, false)]
        );
    }
}
