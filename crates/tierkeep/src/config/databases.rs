//! Which seven databases there are. Owns the choice of backend and the proof, before any server is contacted, that no
//! two roles lead to one database. Must never fall back to anything that was not asked for.
//!
//! Rule source: the mission's Property 7 ("Database Connection String Correctness").

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use tierkeep_core::db::Role;

use super::connection_string::Target;
use super::loaded::{Effective, Loaded};
use super::problem::Problem;
use super::table::FILE_SUFFIX;

/// The setting that gives one connection string for all.
pub const CLUSTER_URL: &str = "TIERKEEP_CLUSTER_URL";
/// The setting that chooses the embedded store.
pub const DATA_DIR: &str = "TIERKEEP_DATA_DIR";

/// Where the seven databases are.
#[derive(Clone, Debug)]
pub enum Backend {
    /// One SQLite file each, in one directory.
    Embedded {
        /// The directory.
        data_dir: PathBuf,
    },
    /// MongoDB; there is a connection for each role.
    Mongo(BTreeMap<Role, Connection>),
}

/// How one MongoDB database is reached.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The connection string.
    pub url: SecretString,
    /// The database's name: of the string's path, or the role's own.
    pub database: String,
    /// The variable that the string came from, with `_FILE` where a file holds it.
    pub variable: String,
}

struct Candidate<'a> {
    role: Role,
    variable: &'static str,
    url: &'a SecretString,
    target: Target,
}

impl Candidate<'_> {
    fn database(&self) -> &str {
        self.target
            .path_database
            .as_deref()
            .unwrap_or(self.role.name())
    }

    fn is_same_database(&self, other: &Self) -> bool {
        // MongoDB refuses two names that differ in letter case alone.
        self.database().eq_ignore_ascii_case(other.database())
            && self.target.shares_server_with(&other.target)
    }
}

/// A variable without a value, and what it would be for.
pub type Missing = (&'static str, String);

/// The backend that the settings choose. `None` after at least one problem or missing variable.
pub fn backend(
    loaded: &Loaded,
    missing: &mut Vec<Missing>,
    problems: &mut Vec<Problem>,
) -> Option<Backend> {
    let given: Vec<&'static str> = Role::ALL
        .into_iter()
        .map(Role::url_variable)
        .chain([CLUSTER_URL])
        .filter(|name| loaded.secret(name).is_some())
        .collect();
    if let Some(data_dir) = loaded.path(DATA_DIR) {
        if given.is_empty() {
            return Some(Backend::Embedded {
                data_dir: data_dir.to_owned(),
            });
        }
        problems.push(both_backends(loaded, &given));
        return None;
    }
    let before = (missing.len(), problems.len());
    let candidates = candidates(loaded, missing, problems);
    problems.extend(cross_wired(&candidates));
    if (missing.len(), problems.len()) != before || candidates.len() != Role::ALL.len() {
        return None;
    }
    let connections = candidates.into_iter().map(|candidate| {
        let database = candidate.database().to_owned();
        let in_file = |it: &Effective| it.file.is_some();
        let suffix = if loaded.get(candidate.variable).is_some_and(in_file) {
            FILE_SUFFIX
        } else {
            ""
        };
        (
            candidate.role,
            Connection {
                url: candidate.url.clone(),
                database,
                variable: format!("{}{suffix}", candidate.variable),
            },
        )
    });
    Some(Backend::Mongo(connections.collect()))
}

fn both_backends(loaded: &Loaded, urls: &[&'static str]) -> Problem {
    let described = |name: &&'static str| {
        let source = loaded.source(name);
        format!("{name} ({source})")
    };
    let listed: Vec<String> = urls.iter().map(described).collect();
    let message = format!(
        "{} selects the embedded store, but connection strings are set too: {}",
        described(&DATA_DIR),
        listed.join(", ")
    );
    Problem::among([DATA_DIR].iter().chain(urls).copied(), message)
        .remedy("give either a data directory or connection strings")
}

fn candidates<'a>(
    loaded: &'a Loaded,
    missing: &mut Vec<Missing>,
    problems: &mut Vec<Problem>,
) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::new();
    let mut read: BTreeMap<&'static str, Result<Target, String>> = BTreeMap::new();
    for role in Role::ALL {
        let Some((variable, url)) = variable(loaded, role) else {
            // A variable whose value could not be read is a problem already.
            let absent = |name| loaded.get(name).is_some_and(Effective::is_absent);
            if absent(role.url_variable()) && absent(CLUSTER_URL) {
                missing.push((role.url_variable(), role.purpose().to_owned()));
            }
            continue;
        };
        // Roles that share a variable share what was read of it, and its problem.
        let is_first = !read.contains_key(variable);
        match read.entry(variable).or_insert_with(|| target(url)) {
            Ok(target) => candidates.push(Candidate {
                role,
                variable,
                url,
                target: target.clone(),
            }),
            Err(reason) if is_first => {
                let source = loaded.source(variable);
                let message = format!("{variable} ({source}) is not a connection string: {reason}");
                problems.push(Problem::new(variable, message));
            }
            Err(_) => {}
        }
    }
    candidates
}

/// Where a connection string leads. The driver's own word counts for what this program does not look at: credentials and
/// options.
fn target(url: &SecretString) -> Result<Target, String> {
    let target = Target::parse(url.expose_secret())?;
    match tierkeep_mongo::misunderstood(url) {
        Some(reason) => Err(reason),
        None => Ok(target),
    }
}

/// A database's own variable wins over the one for all.
fn variable(loaded: &Loaded, role: Role) -> Option<(&'static str, &SecretString)> {
    let own = loaded.get(role.url_variable())?;
    if let Some(url) = loaded.secret(role.url_variable()) {
        return Some((role.url_variable(), url));
    }
    own.is_absent().then_some(())?;
    loaded.secret(CLUSTER_URL).map(|url| (CLUSTER_URL, url))
}

fn cross_wired(candidates: &[Candidate<'_>]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = candidates.iter().filter_map(named_as_other).collect();
    let mut told: Vec<Vec<Role>> = Vec::new();
    for (index, first) in candidates.iter().enumerate() {
        let is_told = |other: Role| {
            told.iter()
                .any(|roles| roles.contains(&first.role) && roles.contains(&other))
        };
        let same: Vec<&Candidate<'_>> = candidates[index + 1..]
            .iter()
            .filter(|other| first.is_same_database(other) && !is_told(other.role))
            .collect();
        if same.is_empty() {
            continue;
        }
        let roles: Vec<Role> = [first.role]
            .into_iter()
            .chain(same.iter().map(|it| it.role))
            .collect();
        let mut message = format!("{} resolve to the same database", listed(&roles));
        for candidate in [first].into_iter().chain(same) {
            let _ = write!(
                message,
                "\n  {} by {}: database {:?}",
                candidate.role,
                candidate.variable,
                candidate.database()
            );
        }
        problems.push(Problem::among(roles.iter().map(|role| role.name()), message).remedy(
            "give each role its own database; leave the path of TIERKEEP_CLUSTER_URL empty and name the credentials' \
             database with ?authSource=",
        ));
        told.push(roles);
    }
    problems
}

/// A path that names the default database of another role is a mistake, even where that role is elsewhere.
fn named_as_other(candidate: &Candidate<'_>) -> Option<Problem> {
    let database = candidate.target.path_database.as_deref()?;
    let owner = Role::by_name(&database.to_ascii_lowercase()).filter(|it| *it != candidate.role)?;
    let message = format!(
        "{} of {} names the database {database:?}, which is the database of {owner}",
        candidate.variable, candidate.role
    );
    let remedy = format!("{} belongs in {}", owner.name(), owner.url_variable());
    Some(Problem::among([candidate.role.name(), owner.name()], message).remedy(remedy))
}

fn listed(roles: &[Role]) -> String {
    let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}
