//! Exit codes: owns the one mapping from errors to codes and the way an error is said on stderr. Must never
//! end the process itself; `main` returns the code.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use tierkeep_core::legacy::SourceError;
use tierkeep_core::store::{Class, StoreError};
use tierkeep_engine::{
    ConnectError, DumpError, EraseError, MoveError, PruneError, QuarantineError, RestoreError,
    UsersError,
};

use tierkeep_legacy::ImportError;

use crate::config::{Problems, SecretKeyError};
use crate::output::OutputError;
use crate::terminal::harmless;

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed, or differences were found.
    Failed = 1,
    /// Wrong usage or configuration; nothing was touched.
    Usage = 2,
    /// A database could not be reached.
    Unreachable = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A verb was used wrongly in a way that the command line's grammar does not see.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// What is wrong.
    pub message: String,
    /// What to do instead.
    pub remedy: Option<String>,
}

/// Databases that were not reached, and what to look at.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unreachable {
    #[source]
    error: ConnectError,
    remedy: String,
}

impl Unreachable {
    /// `error` names the databases.
    pub fn new(error: ConnectError, remedy: String) -> Self {
        Self { error, remedy }
    }
}

/// The code for an error; its causes are looked at from the outermost inwards.
pub fn of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(of_cause).unwrap_or(Exit::Failed)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if cause.is::<Problems>() || cause.is::<UsageError>() || cause.is::<SecretKeyError>() {
        return Some(Exit::Usage);
    }
    if let Some(error) = cause.downcast_ref::<OutputError>() {
        return Some(match error {
            // The process that read the results has closed the output: it has read enough.
            OutputError::Closed => Exit::Done,
            OutputError::Io(_) | OutputError::Json(_) => Exit::Failed,
        });
    }
    if let Some(error) = cause.downcast_ref::<ConnectError>() {
        return Some(of_connect(error));
    }
    if let Some(error) = cause.downcast_ref::<tierkeep_mongo::ConnectError>() {
        return Some(match error {
            tierkeep_mongo::ConnectError::Invalid { .. } => Exit::Usage,
            tierkeep_mongo::ConnectError::Unresolved { .. } => Exit::Unreachable,
        });
    }
    if let Some(error) = cause.downcast_ref::<MoveError>() {
        return Some(of_store(&error.error));
    }
    if let Some(error) = cause.downcast_ref::<UsersError>() {
        return Some(of_users(error));
    }
    if let Some(error) = cause.downcast_ref::<RestoreError>() {
        return Some(match error {
            RestoreError::Store(error) => of_store(error),
            RestoreError::Connect(error) => of_connect(error),
        });
    }
    if let Some(error) = cause.downcast_ref::<EraseError>() {
        return Some(of_erase(error));
    }
    if let Some(error) = cause.downcast_ref::<DumpError>() {
        return Some(of_dump(error));
    }
    if let Some(error) = cause.downcast_ref::<QuarantineError>() {
        return Some(of_quarantine(error));
    }
    if let Some(PruneError::Unavailable(error)) = cause.downcast_ref::<PruneError>() {
        return Some(of_store(error));
    }
    if let Some(error) = cause.downcast_ref::<tierkeep_mongo::LegacyError>() {
        return Some(match error {
            tierkeep_mongo::LegacyError::Invalid(_) => Exit::Usage,
            tierkeep_mongo::LegacyError::Unresolved(_) => Exit::Unreachable,
        });
    }
    if let Some(error) = cause.downcast_ref::<ImportError>() {
        return Some(of_import(error));
    }
    if let Some(error) = cause.downcast_ref::<SourceError>() {
        return Some(of_class(error.class));
    }
    cause.downcast_ref::<StoreError>().map(of_store)
}

fn of_quarantine(error: &QuarantineError) -> Exit {
    match error {
        QuarantineError::Store(error) => of_store(error),
        QuarantineError::File(error) => of_dump(error),
        QuarantineError::Unknown(_)
        | QuarantineError::Several { .. }
        | QuarantineError::ChoiceNeeded(..)
        | QuarantineError::NoChoice(..)
        | QuarantineError::TooLarge(..)
        | QuarantineError::NotKept { .. }
        | QuarantineError::Refused(_)
        | QuarantineError::Contended(_) => Exit::Failed,
    }
}

fn of_import(error: &ImportError) -> Exit {
    match error {
        ImportError::Source(error) => of_class(error.class),
        ImportError::Store(error) => of_store(error),
        ImportError::OwnDatabase { .. }
        | ImportError::Stamped(_)
        | ImportError::NoReplicaSet(_) => Exit::Usage,
        ImportError::Scratch(_) | ImportError::BrokenOff => Exit::Failed,
    }
}

fn of_connect(error: &ConnectError) -> Exit {
    match error {
        ConnectError::Unreachable(_) => Exit::Unreachable,
        ConnectError::SameDatabase { .. }
        | ConnectError::StampedAsOther { .. }
        | ConnectError::OtherDeployment { .. }
        | ConnectError::AuditLost { .. }
        | ConnectError::TtlIndex { .. }
        | ConnectError::ShardKey { .. }
        | ConnectError::Hazard { .. }
        | ConnectError::Imitator { .. }
        | ConnectError::Missing(_) => Exit::Usage,
        ConnectError::Store(error) => of_store(error),
    }
}

fn of_users(error: &UsersError) -> Exit {
    match error {
        UsersError::Unavailable(error) => of_store(error),
        UsersError::Mismatch { .. }
        | UsersError::NotFound
        | UsersError::SectionNotFound
        | UsersError::TooLarge
        | UsersError::Rejected(_)
        | UsersError::Quarantined(_)
        | UsersError::Corrupt(_)
        | UsersError::OutcomeUnknown(_)
        | UsersError::Contended => Exit::Failed,
    }
}

fn of_erase(error: &EraseError) -> Exit {
    match error {
        EraseError::Unavailable(error) => of_store(error),
        EraseError::Contended(_) => Exit::Failed,
    }
}

fn of_dump(error: &DumpError) -> Exit {
    match error {
        DumpError::NotEmpty(_) | DumpError::NoDirectory(_) => Exit::Usage,
        DumpError::Broken { .. }
        | DumpError::Io { .. }
        | DumpError::NoUser(_)
        | DumpError::Unreadable { .. } => Exit::Failed,
        DumpError::Store(error) => of_store(error),
        DumpError::Erase(error) => of_erase(error),
        DumpError::Users(error) => of_users(error),
    }
}

/// The code for the failure of a database.
pub fn of_store(error: &StoreError) -> Exit {
    of_class(error.class)
}

fn of_class(class: Class) -> Exit {
    match class {
        Class::Timeout
        | Class::Refused
        | Class::NoServer
        | Class::Transition
        | Class::NotPrimary
        | Class::Identity
        | Class::Auth => Exit::Unreachable,
        Class::Unauthorized
        | Class::DiskFull
        | Class::Busy
        | Class::Unacknowledged
        | Class::Corrupt
        | Class::Other => Exit::Failed,
    }
}

/// Says on stderr what went wrong, and what to do where the error knows; answers the code.
pub fn report(error: &anyhow::Error) -> Exit {
    let exit = of(error);
    if exit != Exit::Done {
        // If stderr is closed, no output is left to report that on.
        let message = message(error);
        let _ = io::stderr().write_all(harmless(&message).as_bytes());
    }
    exit
}

fn message(error: &anyhow::Error) -> String {
    let mut text = String::from("error: ");
    let mut said = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // An error that repeats its cause is said once.
        if said.ends_with(&cause) {
            continue;
        }
        let _ = write!(said, "{}{cause}", if said.is_empty() { "" } else { ": " });
    }
    text.push_str(&said);
    text.push('\n');
    if let Some(remedy) = remedy(error) {
        let _ = writeln!(text, "  help: {remedy}");
    }
    text
}

fn remedy(error: &anyhow::Error) -> Option<&str> {
    if let Some(error) = error.downcast_ref::<UsageError>() {
        return error.remedy.as_deref();
    }
    if let Some(error) = error.downcast_ref::<Unreachable>() {
        return Some(&error.remedy);
    }
    if error.chain().any(is_unauthorized) {
        return Some(
            "tierkeep doctor names each right that the user of a connection string lacks, and the command that grants it",
        );
    }
    let source = error.chain().find_map(|cause| {
        let import = cause.downcast_ref::<ImportError>();
        cause.downcast_ref::<SourceError>().or(match import {
            Some(ImportError::Source(error)) => Some(error),
            Some(_) | None => None,
        })
    });
    source.map(|_| {
        "check MONGODB_URL or the LEGACY_ variable of that database, that the server runs, and that its user can read; \
         no data is lost, so repeat the command"
    })
}

/// Whether a database refused its user, not that of the predecessor's database.
fn is_unauthorized(cause: &(dyn std::error::Error + 'static)) -> bool {
    let connect = cause.downcast_ref::<ConnectError>();
    let store = cause.downcast_ref::<StoreError>().or(match connect {
        Some(ConnectError::Store(error)) => Some(error),
        Some(_) | None => None,
    });
    store.is_some_and(|error| error.class == Class::Unauthorized)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use rstest::rstest;
    use tierkeep_core::db::Role;

    use super::*;
    use crate::config::Problem;

    fn store(class: Class) -> StoreError {
        StoreError {
            database: Role::ExternalUsers,
            operation: "hello",
            class,
            code: 0,
        }
    }

    #[rstest]
    #[case(anyhow::anyhow!("anything"), Exit::Failed)]
    #[case(Problems::from(Problem::new("X", "wrong")).into(), Exit::Usage)]
    #[case(UsageError { message: "wrong".into(), remedy: None }.into(), Exit::Usage)]
    #[case(OutputError::Closed.into(), Exit::Done)]
    #[case(ConnectError::Unreachable(Vec::new()).into(), Exit::Unreachable)]
    #[case(ConnectError::Missing(Role::ExternalUsers).into(), Exit::Usage)]
    #[case(UsersError::Unavailable(store(Class::Timeout)).into(), Exit::Unreachable)]
    #[case(UsersError::NotFound.into(), Exit::Failed)]
    #[case(UsersError::SectionNotFound.into(), Exit::Failed)]
    #[case(EraseError::Unavailable(store(Class::Refused)).into(), Exit::Unreachable)]
    #[case(store(Class::NoServer).into(), Exit::Unreachable)]
    #[case(store(Class::DiskFull).into(), Exit::Failed)]
    fn errors_have_their_code(#[case] error: anyhow::Error, #[case] exit: Exit) {
        assert_eq!(of(&error), exit);
        assert_eq!(
            of(&Err::<(), _>(error).context("while starting").unwrap_err()),
            exit
        );
    }

    #[test]
    fn a_missing_right_leads_to_doctor() {
        let error = anyhow::Error::from(ConnectError::Store(store(Class::Unauthorized)));
        assert!(message(&error).contains("\n  help: tierkeep doctor names each right"));
        let error = anyhow::Error::from(store(Class::DiskFull));
        assert!(!message(&error).contains("help"));
    }

    #[test]
    fn a_message_says_each_cause_once_and_the_remedy() {
        let error = UsageError {
            message: "no such user".into(),
            remedy: Some("look".into()),
        };
        let error = Err::<(), _>(error).context("explain").unwrap_err();
        assert_eq!(
            message(&error),
            "error: explain: no such user\n  help: look\n"
        );
    }
}
