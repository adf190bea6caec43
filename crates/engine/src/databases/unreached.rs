//! Databases that were not reached, as shown to an operator: their addresses, and the reasons.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tierkeep_core::db::Role;
use tierkeep_core::store::{Class, Store, StoreError, Whereabouts};

/// A database that was not reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreached {
    /// The failure.
    pub error: StoreError,
    /// Where it is and why, as far as its backend knows.
    pub whereabouts: Vec<Whereabouts>,
}

impl Unreached {
    /// The failure of `store`, with what its backend knows now.
    pub(crate) fn new(store: &dyn Store, error: StoreError) -> Self {
        Self {
            error,
            whereabouts: store.whereabouts(),
        }
    }

    /// The database.
    pub fn role(&self) -> Role {
        self.error.database
    }

    /// Where it is and why it was not reached, without a user or a password.
    pub fn cause(&self) -> String {
        let class = in_words(self.error.class);
        // Servers that answer do not explain why one that is needed does not, unless what they answered is the reason.
        let troubled = self.whereabouts.iter().filter(|it| it.trouble.is_some());
        let said: Vec<String> = troubled
            .map(|it| format!("{}: {}", it.place, it.trouble.as_deref().unwrap_or(class)))
            .collect();
        if !said.is_empty() {
            return said.join("; ");
        }
        let places: Vec<&str> = self
            .whereabouts
            .iter()
            .map(|it| it.place.as_str())
            .collect();
        if places.is_empty() {
            return class.to_owned();
        }
        format!("{}: {class}", places.join(", "))
    }
}

/// What a class means to an operator.
fn in_words(class: Class) -> &'static str {
    match class {
        Class::Timeout => "no answer in time",
        Class::Refused => "connection refused or lost",
        Class::NoServer => "no suitable server was found",
        Class::Transition => "the server is starting, stepping down or shutting down",
        Class::NotPrimary => "the server is not the primary",
        Class::Auth => "the user name or password was rejected",
        Class::Unauthorized => "the user lacks a privilege",
        Class::DiskFull => "the disk is full",
        Class::Busy => "it was busy for too long",
        Class::Unacknowledged => "a majority did not acknowledge",
        Class::Corrupt => "its files or its answer cannot be read",
        Class::Identity => "a different database answers",
        Class::Other => "it failed for another reason",
    }
}

/// One line for each cause, with the databases that it keeps away.
pub(crate) fn listed(unreached: &[Unreached]) -> String {
    let mut lines = String::new();
    for (cause, roles) in by_cause(unreached) {
        let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
        let _ = write!(lines, "\n  {}: {cause}", names.join(", "));
    }
    lines
}

/// The causes in the order of the first database that each keeps away.
fn by_cause(unreached: &[Unreached]) -> Vec<(String, Vec<Role>)> {
    let mut groups: BTreeMap<String, Vec<Role>> = BTreeMap::new();
    for one in unreached {
        groups.entry(one.cause()).or_default().push(one.role());
    }
    let mut groups: Vec<(String, Vec<Role>)> = groups.into_iter().collect();
    for (_, roles) in &mut groups {
        roles.sort_unstable();
    }
    groups.sort_by(|(_, one), (_, other)| one.cmp(other));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(role: Role, class: Class, whereabouts: &[(&str, Option<&str>)]) -> Unreached {
        let whereabouts = whereabouts.iter().map(|(place, trouble)| Whereabouts {
            place: (*place).to_owned(),
            trouble: trouble.map(str::to_owned),
        });
        Unreached {
            error: StoreError {
                database: role,
                operation: "hello",
                class,
                code: 0,
            },
            whereabouts: whereabouts.collect(),
        }
    }

    #[test]
    fn equal_causes_are_one_line_and_every_database_is_named() {
        let refused = [("10.0.0.1:27017", Some("connection refused"))];
        let all: Vec<Unreached> = Role::ALL
            .into_iter()
            .map(|role| away(role, Class::NoServer, &refused))
            .collect();
        let said = listed(&all);
        assert_eq!(said.lines().skip(1).count(), 1, "{said}");
        for role in Role::ALL {
            assert!(said.contains(role.name()), "{said}");
        }
        assert!(said.ends_with("10.0.0.1:27017: connection refused"));
    }

    #[test]
    fn what_the_class_says_stands_in_for_a_cause_that_is_not_known() {
        let answered = away(Role::SrieMainHr, Class::Auth, &[("h:1", None)]);
        let expected = "h:1: the user name or password was rejected";
        assert_eq!(answered.cause(), expected);
        let nowhere = away(Role::SrieMainHr, Class::Timeout, &[]);
        assert_eq!(nowhere.cause(), "no answer in time");
        let one_of_two = [("a:1", Some("connection refused")), ("b:1", None)];
        let one_of_two = away(Role::SrieMainHr, Class::NoServer, &one_of_two);
        assert_eq!(one_of_two.cause(), "a:1: connection refused");
    }
}
