//! The seven databases: their roles, and the sealed types that keep them apart.
//!
//! **Architecture invariant:** a move names its databases by type, so a wrong pair does not compile.
//! [`Handle`](crate::store::Handle) ties a store to one of the types.

use std::fmt;

use serde::Serialize;

use crate::user::UserType;

/// One of the seven databases, by what it is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// External users' documents.
    ExternalUsers,
    /// Internal users' documents of the last 24 hours.
    RaseenTempUser,
    /// Internal users' documents after that.
    RaseenMainUser,
    /// HR records.
    RaseenMainHr,
    /// The backup of `raseen_main_user`.
    SrieMainUser,
    /// The backup of `raseen_main_hr`.
    SrieMainHr,
    /// Migration records, audit trail, alerts, erasures, leases, control.
    EvaluationAudit,
}

impl Role {
    /// All seven, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::ExternalUsers,
        Self::RaseenTempUser,
        Self::RaseenMainUser,
        Self::RaseenMainHr,
        Self::SrieMainUser,
        Self::SrieMainHr,
        Self::EvaluationAudit,
    ];

    /// The role's name, which is also the default database name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExternalUsers => "external_users",
            Self::RaseenTempUser => "raseen_temp_user",
            Self::RaseenMainUser => "raseen_main_user",
            Self::RaseenMainHr => "raseen_main_hr",
            Self::SrieMainUser => "srie_main_user",
            Self::SrieMainHr => "srie_main_hr",
            Self::EvaluationAudit => "evaluation_audit",
        }
    }

    /// The role with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// What the database is for, in a few words, for error messages and the settings reference.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::ExternalUsers => "external users' documents",
            Self::RaseenTempUser => "internal users' documents until their retention has passed",
            Self::RaseenMainUser => "internal users' documents after their retention",
            Self::RaseenMainHr => "HR records",
            Self::SrieMainUser => "backup of raseen_main_user",
            Self::SrieMainHr => "backup of raseen_main_hr",
            Self::EvaluationAudit => "migration records, audit trail and control",
        }
    }

    /// The environment variable that holds the database's connection string.
    pub fn url_variable(self) -> &'static str {
        match self {
            Self::ExternalUsers => "EXTERNAL_USERS_DB_URL",
            Self::RaseenTempUser => "RASEEN_TEMP_USER_DB_URL",
            Self::RaseenMainUser => "RASEEN_MAIN_USER_DB_URL",
            Self::RaseenMainHr => "RASEEN_MAIN_HR_DB_URL",
            Self::SrieMainUser => "SRIE_MAIN_USER_DB_URL",
            Self::SrieMainHr => "SRIE_MAIN_HR_DB_URL",
            Self::EvaluationAudit => "EVALUATION_AUDIT_DB_URL",
        }
    }

    /// The type of the users whose work stops when this database is away; logs carry its marker.
    pub fn user_type(self) -> UserType {
        match self {
            Self::ExternalUsers => UserType::External,
            Self::RaseenTempUser
            | Self::RaseenMainUser
            | Self::RaseenMainHr
            | Self::SrieMainUser
            | Self::SrieMainHr
            | Self::EvaluationAudit => UserType::Internal,
        }
    }

    /// Whether no user's writes are served while these databases are away.
    pub fn keep_from_serving(away: &[Self]) -> bool {
        [Self::ExternalUsers, Self::RaseenTempUser]
            .iter()
            .all(|role| away.contains(role))
    }

    /// Whether a command that works refuses to begin while this database is away.
    pub fn critical(self) -> bool {
        match self {
            Self::ExternalUsers
            | Self::RaseenTempUser
            | Self::RaseenMainUser
            | Self::EvaluationAudit => true,
            Self::RaseenMainHr | Self::SrieMainUser | Self::SrieMainHr => false,
        }
    }

    /// Whether the service does not start while these databases are away: without `evaluation_audit` nothing can be
    /// recorded. A restart makes no smaller outage larger.
    pub fn keep_from_starting(away: &[Self]) -> bool {
        away.contains(&Self::EvaluationAudit) || Self::keep_from_serving(away)
    }

    /// Whether the database holds HR records.
    pub fn holds_hr(self) -> bool {
        match self {
            Self::RaseenMainHr | Self::SrieMainHr => true,
            Self::ExternalUsers
            | Self::RaseenTempUser
            | Self::RaseenMainUser
            | Self::SrieMainUser
            | Self::EvaluationAudit => false,
        }
    }

    /// The one collection that holds this role's user documents, where it has one.
    pub fn users(self) -> Option<&'static str> {
        match self {
            Self::ExternalUsers => Some("external_users"),
            Self::RaseenTempUser | Self::RaseenMainUser | Self::SrieMainUser => {
                Some("internal_users")
            }
            Self::RaseenMainHr | Self::SrieMainHr | Self::EvaluationAudit => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What kind of data a request is about; with the user type it decides the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataCategory {
    /// Documents about users.
    User,
    /// HR records.
    Hr,
    /// Records of what was done.
    Audit,
}

/// The database into which new data of this category from this type of user is written first.
#[doc(alias = "get_appropriate_database")]
pub fn appropriate_database(user_type: UserType, category: DataCategory) -> Role {
    match (category, user_type) {
        (DataCategory::User, UserType::Internal) => Role::RaseenTempUser,
        (DataCategory::User, UserType::External) => Role::ExternalUsers,
        (DataCategory::Hr, UserType::Internal | UserType::External) => Role::RaseenMainHr,
        (DataCategory::Audit, UserType::Internal | UserType::External) => Role::EvaluationAudit,
    }
}

/// The names of the collections that are no user collections.
pub mod collection {
    /// Migration records, in `evaluation_audit`.
    pub const MIGRATION_RECORDS: &str = "migration_records";
    /// The intents of batches at work, in `evaluation_audit`.
    pub const MIGRATION_INTENTS: &str = "migration_intents";
    /// Quarantine marks and the pause switch, in `evaluation_audit`.
    pub const CONTROL: &str = "control";
    /// The erasure ledger, in `evaluation_audit`.
    pub const ERASURES: &str = "erasures";
    /// The audit trail, in `evaluation_audit`.
    pub const AUDIT_TRAIL: &str = "audit_trail";
    /// Alerts, in `evaluation_audit`.
    pub const ALERTS: &str = "alerts";
    /// Who is at work on what, in `evaluation_audit`.
    pub const LEASES: &str = "leases";
    /// The stamp that says which role a database has, in every database.
    pub const IDENTITY: &str = "tierkeep_identity";
}

mod sealed {
    pub trait Sealed {}
}

/// A database as a type.
pub trait Database: sealed::Sealed + Send + Sync + 'static {
    /// Its role.
    const ROLE: Role;
}

/// A database of user documents.
pub trait UserDatabase: Database {
    /// The collection that holds them.
    const USERS: &'static str;
}

/// A database whose contents are copied to a backup.
pub trait BackedUp: Database {
    /// The backup.
    type Backup: Database;
}

/// A database whose documents move on to another after their retention.
pub trait Promotes: UserDatabase {
    /// Where they move to.
    type Main: UserDatabase + BackedUp<Backup: UserDatabase>;
}

macro_rules! databases {
    ($($(#[$doc:meta])* $name:ident $(($users:literal))?;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}
        impl sealed::Sealed for $name {}
        impl Database for $name {
            const ROLE: Role = Role::$name;
        }
        $(impl UserDatabase for $name {
            const USERS: &'static str = $users;
        })?
    )*};
}

databases! {
    /// `external_users`.
    ExternalUsers("external_users");
    /// `raseen_temp_user`.
    RaseenTempUser("internal_users");
    /// `raseen_main_user`.
    RaseenMainUser("internal_users");
    /// `raseen_main_hr`.
    RaseenMainHr;
    /// `srie_main_user`.
    SrieMainUser("internal_users");
    /// `srie_main_hr`.
    SrieMainHr;
    /// `evaluation_audit`.
    EvaluationAudit;
}

impl BackedUp for RaseenMainUser {
    type Backup = SrieMainUser;
}

impl BackedUp for RaseenMainHr {
    type Backup = SrieMainHr;
}

impl Promotes for RaseenTempUser {
    type Main = RaseenMainUser;
}
