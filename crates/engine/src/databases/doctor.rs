//! Looking for what is wrong with the databases themselves: everything at once, where an opening ends with the first.
//!
//! Must never write, or admit anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tierkeep_core::clock::Clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::{Class, FoundCollection, FoundIndex, Hello, Store, StoreError};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::databases::error::Hazard;
use crate::databases::shards;
use crate::databases::stamp::{self, Stamp};
use crate::databases::unreached::Unreached;

/// A clock that is off by more than this is wrong.
const SKEW: Duration = Duration::from_secs(10);
/// How long a database may take to say hello.
const HELLO: Duration = Duration::from_secs(4);
/// How long the files of one database are looked through.
const LOOK_THROUGH: Duration = Duration::from_secs(8);

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work, or data is in danger.
    Error,
    /// Something works worse than it should, or will not work soon.
    Warning,
    /// It works; it could be wiser.
    Note,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What was looked at, a stable word.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Which database it is about, if one.
    pub database: Option<Role>,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub remedy: String,
}

/// What an examination found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Examined {
    /// The databases that answered.
    pub reached: BTreeSet<Role>,
    /// Those of them that were prepared.
    pub prepared: BTreeSet<Role>,
    /// What is wrong, in no particular order.
    pub findings: Vec<Finding>,
}

impl Finding {
    /// A finding about one database, or about none in particular.
    pub fn new(
        check: &'static str,
        severity: Severity,
        database: impl Into<Option<Role>>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            check,
            severity,
            database: database.into(),
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// A database that was not reached, with where it is and why.
    pub(crate) fn unreached(unreached: &Unreached) -> Self {
        let mut finding = Self::unanswered(&unreached.error);
        finding.message = format!(
            "{} does not answer: {}",
            unreached.role(),
            unreached.cause()
        );
        finding
    }

    /// A database that did not answer.
    pub fn unanswered(error: &StoreError) -> Self {
        let role = error.database;
        let variable = role.url_variable();
        let remedy = match error.class {
            Class::Auth => format!("correct the user and the password in {variable}"),
            Class::Unauthorized => {
                format!(
                    "grant the user of {variable} the roles readWrite and dbAdmin on the database"
                )
            }
            Class::DiskFull => "free space on the disk of the server".to_owned(),
            Class::Timeout
            | Class::Refused
            | Class::NoServer
            | Class::Transition
            | Class::NotPrimary => format!(
                "start its server, make it reachable from this host, or correct the address in {variable}"
            ),
            Class::Identity => format!("correct the address in {variable}"),
            Class::Busy | Class::Unacknowledged | Class::Corrupt | Class::Other => {
                "read the log of the server".to_owned()
            }
        };
        let message = format!(
            "{role} does not answer: {} at {}",
            error.class.as_str(),
            error.operation
        );
        Self::new(UNREACHABLE, Severity::Error, role, message, remedy)
    }
}

/// The check of findings about databases that do not answer.
pub const UNREACHABLE: &str = "reachability";

/// Looks at every database by itself and at all of them together.
pub async fn examine(stores: &[Arc<dyn Store>], clock: &Arc<dyn Clock>) -> Examined {
    let mut examined = Examined::default();
    let mut greetings = JoinSet::new();
    for store in stores {
        greetings.spawn(greet(Arc::clone(store), Arc::clone(clock)));
    }
    let mut hellos = BTreeMap::new();
    let mut skews = BTreeMap::new();
    for (role, greeting) in greetings.join_all().await {
        match greeting {
            Ok((hello, skew)) => {
                examined.reached.insert(role);
                hellos.insert(role, hello);
                skews.insert(role, skew);
            }
            Err(unreached) => examined.findings.push(Finding::unreached(&unreached)),
        }
    }
    let mut stamps = BTreeMap::new();
    for store in stores {
        let role = store.role();
        if !examined.reached.contains(&role) {
            continue;
        }
        match stamp::read(store.as_ref()).await {
            Ok(stamp) => {
                if stamp.is_some() {
                    examined.prepared.insert(role);
                }
                stamps.insert(role, stamp);
            }
            Err(error) => examined.findings.push(Finding::unanswered(&error)),
        }
        match store.indexes().await {
            Ok(found) => examined.findings.extend(traps(role, &found)),
            Err(error) => examined.findings.push(Finding::unanswered(&error)),
        }
        match store.collections().await {
            Ok(found) => examined.findings.extend(hazards(role, &found)),
            Err(error) => examined.findings.push(Finding::unanswered(&error)),
        }
    }
    let reached = stores
        .iter()
        .filter(|store| examined.reached.contains(&store.role()));
    let reached: Vec<_> = reached.cloned().collect();
    let of_shards = reached.iter().map(|store| shards::examined(store.as_ref()));
    examined
        .findings
        .extend(join_all(of_shards).await.into_iter().flatten());
    examined.findings.extend(damaged(&reached).await);
    examined.findings.extend(shared(&hellos));
    examined.findings.extend(stamped(&stamps));
    examined.findings.extend(skewed(&skews));
    examined
}

/// How far the server's clock is ahead of this one, in milliseconds, at least; negative where it is behind.
async fn greet(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
) -> (Role, Result<(Hello, i64), Unreached>) {
    let (began, before) = (Instant::now(), clock.now());
    let late = StoreError {
        database: store.role(),
        operation: "hello",
        class: Class::Timeout,
        code: 0,
    };
    let greeting = timeout(HELLO, store.hello()).await.unwrap_or(Err(late));
    let greeting = greeting.map(|hello| {
        let travelled = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let ahead = hello.now.timestamp_millis() - before.timestamp_millis();
        let skew = match ahead {
            ..0 => ahead,
            // The answer may be as young as the whole way.
            _ => ahead.saturating_sub(travelled).max(0),
        };
        (hello, skew)
    });
    let role = store.role();
    (
        role,
        greeting.map_err(|error| Unreached::new(store.as_ref(), error)),
    )
}

fn shared(hellos: &BTreeMap<Role, Hello>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let all: Vec<(&Role, &Hello)> = hellos.iter().collect();
    for (index, (first, one)) in all.iter().enumerate() {
        for (second, other) in all.iter().skip(index + 1) {
            if one.is_same_database(other) {
                let database = &one.database;
                findings.push(Finding::new(
                    "wiring",
                    Severity::Error,
                    **second,
                    format!("{first} and {second} resolve to the same database {database:?} on the same server"),
                    format!("set {} and {} to different databases", first.url_variable(), second.url_variable()),
                ));
            }
        }
    }
    findings
}

fn stamped(stamps: &BTreeMap<Role, Option<Stamp>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let deployment = |role: &Role| {
        let stamp = stamps.get(role)?.as_ref()?;
        (stamp.role == role.name()).then(|| stamp.deployment.clone())
    };
    let expected =
        deployment(&Role::EvaluationAudit).or_else(|| stamps.keys().find_map(deployment));
    if !stamps.is_empty() && stamps.values().all(Option::is_none) {
        findings.push(Finding::new(
            "stamps",
            Severity::Warning,
            None,
            "the databases have not been initialized",
            "run tierkeep init or start tierkeep serve, which create collections, indexes and stamps",
        ));
        return findings;
    }
    for (role, stamp) in stamps {
        let variable = role.url_variable();
        let Some(stamp) = stamp else {
            findings.push(unstamped(*role));
            continue;
        };
        if stamp.role != role.name() {
            findings.push(Finding::new(
                "roles",
                Severity::Error,
                *role,
                format!("the database of {role} is stamped as {}", stamp.role),
                format!("{variable} names the wrong database: correct it"),
            ));
        } else if expected
            .as_ref()
            .is_some_and(|expected| *expected != stamp.deployment)
        {
            findings.push(Finding::new(
                "deployment",
                Severity::Error,
                *role,
                format!(
                    "the database of {role} belongs to another deployment, {}",
                    stamp.deployment
                ),
                format!("{variable} names a database of another deployment: correct it"),
            ));
        }
    }
    findings
}

fn unstamped(role: Role) -> Finding {
    if role == Role::EvaluationAudit {
        return Finding::new(
            "stamps",
            Severity::Error,
            role,
            "evaluation_audit has no stamp, but the other databases belong to a deployment: its erasure ledger is \
             missing",
            format!(
                "correct {}, restore the database from a copy, or, if it is permanently lost, run tierkeep init \
                 --new-audit once",
                role.url_variable()
            ),
        );
    }
    Finding::new(
        "stamps",
        Severity::Warning,
        role,
        format!("the database of {role} has no stamp: it is new, or was emptied"),
        "tierkeep init stamps it; if it was emptied, tierkeep restore or tierkeep backup restores its documents",
    )
}

fn hazards(role: Role, found: &[FoundCollection]) -> Vec<Finding> {
    let holds_data =
        |name: &str| !name.starts_with("system.") && role.users().is_none_or(|users| users == name);
    let hazards = found.iter().filter(|it| holds_data(&it.name));
    hazards
        .filter_map(Hazard::of)
        .map(|hazard| {
            let remedy = format!("in that database: {}", hazard.remedy());
            Finding::new(
                "options",
                Severity::Error,
                role,
                format!("{role}.{hazard}"),
                remedy,
            )
        })
        .collect()
}

/// Looks through the files of all databases at once, each for no longer than [`LOOK_THROUGH`].
async fn damaged(stores: &[Arc<dyn Store>]) -> Vec<Finding> {
    let mut looks = JoinSet::new();
    for store in stores {
        let store = Arc::clone(store);
        looks.spawn(async move {
            let found = tokio::time::timeout(LOOK_THROUGH, store.damage()).await;
            (store.role(), found)
        });
    }
    let mut findings = Vec::new();
    while let Some(looked) = looks.join_next().await {
        match looked {
            Ok((role, Ok(Ok(found)))) => findings.extend(found.iter().map(|damage| {
                Finding::new(
                    "damage",
                    Severity::Error,
                    role,
                    format!("the file of {role} is damaged: {damage}"),
                    "keep a copy of the file and restore its documents as described in \
                     docs/operations/embedded-files.md",
                )
            })),
            Ok((_, Ok(Err(error)))) => findings.push(Finding::unanswered(&error)),
            Ok((role, Err(_))) => findings.push(Finding::new(
                "damage",
                Severity::Note,
                role,
                format!(
                    "the file of {role} is too large to be checked within {} s",
                    LOOK_THROUGH.as_secs()
                ),
                format!("with the service stopped: sqlite3 {role}.db 'PRAGMA integrity_check'"),
            )),
            Err(_) => {}
        }
    }
    findings
}

fn traps(role: Role, found: &[FoundIndex]) -> Vec<Finding> {
    let holds_data = |index: &FoundIndex| match role {
        Role::EvaluationAudit => index.collection != collection::LEASES,
        Role::RaseenMainHr | Role::SrieMainHr => true,
        Role::ExternalUsers | Role::RaseenTempUser | Role::RaseenMainUser | Role::SrieMainUser => {
            role.users() == Some(index.collection.as_str())
        }
    };
    let trap = |trap: &FoundIndex| {
        let (collection, index) = (&trap.collection, &trap.name);
        Finding::new(
            "ttl",
            Severity::Error,
            role,
            format!(
                "{role}.{collection} has the TTL index {index:?}: the server deletes documents by age"
            ),
            format!("in that database: db.{collection}.dropIndex(\"{index}\")"),
        )
    };
    let traps = found
        .iter()
        .filter(|index| index.deletes_by_age && holds_data(index));
    traps.map(trap).collect()
}

fn skewed(skews: &BTreeMap<Role, i64>) -> Vec<Finding> {
    let limit = i64::try_from(SKEW.as_millis()).unwrap_or(i64::MAX);
    let remedy =
        "set the clocks by NTP (chronyd or systemd-timesyncd) on this host and on the server";
    let off = |(role, skew): (&Role, &i64)| {
        let (seconds, way) = (
            skew.abs() / 1000,
            if *skew > 0 { "ahead of" } else { "behind" },
        );
        let message = format!(
            "the clock of the server of {role} is {seconds} s {way} the clock of this host"
        );
        (skew.abs() > limit)
            .then(|| Finding::new("clock", Severity::Warning, *role, message, remedy))
    };
    skews.iter().filter_map(off).collect()
}
