//! What failures mean: the class of a whole operation's failure, or a fault of one document. The table of the server's
//! codes is in `codes`.
//!
//! Of the server's and the driver's texts only the name of an index is kept: they name hosts, users and contents.

mod codes;

use bson::raw::{RawDocument, RawDocumentBuf};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use tierkeep_core::breaker::Reach;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Class, Fault, StoreError};

pub(crate) use codes::kind;

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
pub(crate) enum FailureKind {
    /// The whole operation's.
    Operation(Class),
    /// One document's, for this reason.
    Document(&'static str),
    /// One document's, because an index of its collection refuses it for this reason.
    Index(Indexed, &'static str),
}

/// Which of a collection's indexes can refuse a document with a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Indexed {
    /// A unique one, which the server names.
    Unique,
    /// Any but the one over `_id`.
    Any,
    Text,
    /// `2dsphere`.
    Sphere,
    /// `2d`.
    Plane,
    Hashed,
    Haystack,
}

impl Indexed {
    /// Whether `index`, as the server lists it, is of this kind.
    pub(crate) fn is(self, index: &RawDocument) -> bool {
        let has = |kind: &str| {
            let key = index.get_document("key").into_iter().flatten();
            key.map_while(Result::ok)
                .any(|(_, value)| value.as_str() == Some(kind))
        };
        match self {
            Self::Unique => false,
            Self::Any => index.get_str("name").is_ok_and(|name| name != "_id_"),
            Self::Text => has("text"),
            Self::Sphere => has("2dsphere"),
            Self::Plane => has("2d"),
            Self::Hashed => has("hashed"),
            Self::Haystack => has("geoHaystack"),
        }
    }
}

/// The class of an operation that failed with `code` as a whole.
fn class(code: i32) -> Class {
    match kind(code) {
        FailureKind::Operation(class) => class,
        FailureKind::Document(_) | FailureKind::Index(_, _) => Class::Other,
    }
}

/// Why the server refuses one document while it takes others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: i32,
    pub(crate) reason: &'static str,
    /// Which indexes may be the reason.
    pub(crate) by: Option<Indexed>,
    /// The one that the server names.
    pub(crate) index: Option<String>,
}

impl Refusal {
    /// Why a document is refused with `code`; `None` where the code is not a document's matter.
    fn of(code: i32, index: Option<String>) -> Option<Self> {
        let (reason, by) = match kind(code) {
            FailureKind::Operation(_) => return None,
            FailureKind::Document(reason) => (reason, None),
            FailureKind::Index(by, reason) => (reason, Some(by)),
        };
        Some(Self {
            code,
            reason,
            by,
            index,
        })
    }

    /// The document's fault, where one of `indexes` is the reason.
    pub(crate) fn fault(&self, indexes: &[String]) -> Fault {
        let reason = match (indexes, self.by) {
            ([index], _) => format!("the index {index:?} refuses it: {}", self.reason),
            ([], Some(Indexed::Unique) | None) => self.reason.to_owned(),
            ([], Some(_)) => format!("an index refuses it: {}", self.reason),
            (several, _) => {
                let names: Vec<String> = several.iter().map(|name| format!("{name:?}")).collect();
                let names = names.join(", ");
                format!("one of the indexes {names} refuses it: {}", self.reason)
            }
        };
        Fault {
            code: self.code,
            reason,
        }
    }
}

/// A command that did not do what it should have done.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The kind of failure.
    pub(crate) class: Class,
    /// The server's code; 0 where it sent none.
    pub(crate) code: i32,
    /// The unique index that the server names.
    index: Option<String>,
}

impl Failure {
    /// A failure of this class that has no other code than `code`.
    pub(crate) fn new(class: Class, code: i32) -> Self {
        Self {
            class,
            code,
            index: None,
        }
    }

    /// The server refused the command with `code`.
    pub(crate) fn of_code(code: i32) -> Self {
        Self::new(class(code), code)
    }

    /// The same, with what the server says about it.
    fn said(code: i32, message: &str) -> Self {
        Self {
            index: index_in(code, message),
            ..Self::of_code(code)
        }
    }

    /// Whether a router that answers did not reach a shard.
    pub(crate) fn is_of_a_shard(&self) -> bool {
        const MAX_TIME_EXPIRED: i32 = 50;
        match Reach::of(self.class) {
            Reach::Away(_) | Reach::Unclear => self.code != 0,
            Reach::Answered => self.code == MAX_TIME_EXPIRED,
        }
    }

    /// Why it refuses the one document that the command was about, if that is the matter.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        Refusal::of(self.code, self.index.clone())
    }

    /// A majority did not acknowledge the write, for the reason `code`. The write itself was applied, so a class that says
    /// that nothing was is none of its.
    fn unacknowledged(code: i32) -> Self {
        let class = match class(code) {
            Class::Other
            | Class::NotPrimary
            | Class::Busy
            | Class::Auth
            | Class::Unauthorized
            | Class::DiskFull => Class::Unacknowledged,
            class @ (Class::Timeout
            | Class::Refused
            | Class::NoServer
            | Class::Transition
            | Class::Unacknowledged
            | Class::Identity
            | Class::Corrupt) => class,
        };
        Self::new(class, code)
    }

    /// No answer in time.
    pub(crate) fn timeout() -> Self {
        Self::new(Class::Timeout, 0)
    }

    /// An answer that cannot be understood.
    pub(crate) fn corrupt() -> Self {
        Self::new(Class::Corrupt, 0)
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
        let other = |class| Self::new(class, 0);
        match &*error.kind {
            ErrorKind::Command(command) => Self::said(command.code, &command.message),
            ErrorKind::Write(WriteFailure::WriteError(write)) => {
                Self::said(write.code, &write.message)
            }
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct WriteError {
    /// Which statement.
    pub(crate) index: usize,
    /// The server's code.
    pub(crate) code: i32,
    /// Whether it is a clash with a document of the same `_id`.
    pub(crate) on_id: bool,
    /// The unique index that the server names.
    pub(crate) refused_by: Option<String>,
}

/// Why one statement failed while others of its command may not have.
#[derive(Debug)]
pub(crate) enum Blame {
    /// For a reason of the document's own.
    Document(Refusal),
    /// With a code that is not a document's: no other document waits for it.
    Nobody(Failure),
}

impl WriteError {
    /// A command about one document failed as a whole.
    pub(crate) fn alone(failure: Failure) -> Self {
        Self {
            index: 0,
            code: failure.code,
            on_id: false,
            refused_by: failure.index,
        }
    }

    /// Whose matter it is; `Err` where it is the whole operation's.
    pub(crate) fn blame(self) -> Result<Blame, Failure> {
        let code = self.code;
        if let Some(refusal) = Refusal::of(code, self.refused_by) {
            return Ok(Blame::Document(refusal));
        }
        match Failure::of_code(code) {
            failure if failure.class == Class::Other => Ok(Blame::Nobody(failure)),
            failure => Err(failure),
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
                refused_by: index_in(code_of(error), error.get_str("errmsg").unwrap_or_default()),
            })
        })
        .collect()
}

fn code_of(error: &RawDocument) -> i32 {
    error.get_i32("code").unwrap_or_default()
}

/// The name of the unique index in the server's text about a clash (`… index: NAME dup key: { … }`).
fn index_in(code: i32, message: &str) -> Option<String> {
    if code != DUPLICATE_KEY {
        return None;
    }
    let (_, from) = message.split_once(" index: ")?;
    let (name, _) = from.split_once(" dup key:")?;
    // The server may add the index's collation.
    let name = name.split(" collation:").next().unwrap_or(name);
    Some(name.to_owned())
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

    fn statement(code: i32) -> WriteError {
        WriteError::alone(Failure::of_code(code))
    }

    #[test]
    fn codes_that_pass_by_themselves_are_retried_now() {
        for code in [
            6, 7, 24, 43, 64, 89, 91, 112, 133, 189, 365, 462, 9001, 10107, 11600, 11602, 13388,
            13435, 13436,
        ] {
            assert_eq!(verdict(Failure::of_code(code)), Verdict::Retry, "{code}");
        }
    }

    #[test]
    fn only_codes_that_end_a_write_under_way_leave_its_outcome_unknown() {
        let ambiguous = |code| {
            Failure::of_code(code)
                .at(Role::RaseenTempUser, "write")
                .is_ambiguous()
        };
        for nothing_ran in [
            13, 18, 24, 112, 133, 365, 433, 10107, 13388, 13435, 13436, 14031,
        ] {
            assert!(!ambiguous(nothing_ran), "{nothing_ran}");
        }
        for unknown in [
            0, 1, 6, 7, 50, 64, 89, 91, 100, 189, 202, 262, 9001, 11600, 11601, 11602, 999_999,
        ] {
            assert!(ambiguous(unknown), "{unknown}");
        }
    }

    #[test]
    fn codes_that_need_an_operator_and_unlisted_ones_are_left_for_later() {
        for code in [
            1, 8, 13, 18, 26, 50, 67, 192, 262, 301, 371, 14031, 999_999, -1, 0,
        ] {
            assert_eq!(verdict(Failure::of_code(code)), Verdict::Defer, "{code}");
            let blame = statement(code).blame();
            match code {
                13 | 18 | 301 | 371 | 14031 => assert!(blame.is_err(), "{code}"),
                _ => assert!(matches!(blame, Ok(Blame::Nobody(_))), "{code}"),
            }
        }
    }

    #[test]
    fn codes_of_one_document_are_its_own_fault() {
        for code in [
            2, 9, 15, 22, 52, 53, 121, 171, 201, 378, 10334, 11000, 13027, 16746, 16755, 16766,
            16804, 17261, 17262, 17419, 17420,
        ] {
            let blame = statement(code).blame();
            assert!(matches!(blame, Ok(Blame::Document(refusal)) if refusal.code == code));
            assert_eq!(verdict(Failure::of_code(code)), Verdict::Defer, "{code}");
        }
    }

    #[test]
    fn the_index_that_refuses_a_document_is_named_as_far_as_it_is_known() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        let reason =
            |code, known: &[&str]| Refusal::of(code, None).unwrap().fault(&names(known)).reason;
        assert_eq!(
            reason(17_262, &["by_name"]),
            "the index \"by_name\" refuses it: its language is not supported by text indexes"
        );
        assert_eq!(
            reason(16_755, &["a", "b"]),
            "one of the indexes \"a\", \"b\" refuses it: a location in it is not valid"
        );
        assert_eq!(
            reason(171, &[]),
            "an index refuses it: two of the fields are arrays"
        );
        assert_eq!(
            reason(11_000, &[]),
            "another document holds the same unique fields"
        );
        assert_eq!(reason(121, &[]), "the collection's validator rejects it");
        let text = "E11000 duplicate key error collection: a.users index: by mail dup key: { mail: \"x\" }";
        assert_eq!(index_in(11_000, text).as_deref(), Some("by mail"));
        assert_eq!(index_in(121, text), None);
    }

    #[test]
    fn a_router_that_answers_is_told_from_one_that_does_not() {
        for code in [6, 50, 89, 91, 133] {
            assert!(Failure::of_code(code).is_of_a_shard(), "{code}");
        }
        for other in [Failure::of_code(13), Failure::timeout()] {
            assert!(!other.is_of_a_shard(), "{other:?}");
        }
        assert!(!Failure::new(Class::NoServer, 0).is_of_a_shard());
    }

    #[test]
    fn a_reply_with_a_write_concern_error_acknowledges_nothing() {
        let reply = |code: i32| rawdoc! { "ok": 1, "n": 1, "writeConcernError": { "code": code } };
        for (code, class) in [
            (64, Class::Unacknowledged),
            (100, Class::Unacknowledged),
            (11602, Class::Transition),
            (91, Class::Transition),
            (189, Class::Transition),
            // Elsewhere they say that nothing was applied.
            (10107, Class::Unacknowledged),
            (14031, Class::Unacknowledged),
        ] {
            let failure = acknowledged(&reply(code)).unwrap_err();
            assert_eq!((failure.class, failure.code), (class, code));
            assert!(
                failure.at(Role::RaseenTempUser, "write").is_ambiguous(),
                "{code}"
            );
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
