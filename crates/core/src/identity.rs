//! Who is asking: the decision over verified evidence, as a pure function.
//!
//! Rule source: the mission's Property 5 and the decision table of the service's contract. Evidence is
//! gathered by the `tierkeep-identity` crate; nothing but the two credentials and `username` is part of
//! it.

use crate::user::{InvalidUser, UserId, UserType};

/// What became of the JWT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JwtEvidence {
    /// None was sent.
    Absent,
    /// It was sent and is not valid; the reason is for logs and holds nothing of the token.
    Invalid(&'static str),
    /// It is valid and names this internal user.
    Valid(UserId),
}

/// What became of the GitHub token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GithubEvidence {
    /// None was sent.
    Absent,
    /// GitHub refused it, or it belongs to another account than the JWT names.
    Invalid(&'static str),
    /// GitHub could not be asked.
    Unreachable,
    /// One was sent, and GitHub was not asked because its answer could change nothing.
    Unchecked,
    /// GitHub knows its owner, and the JWT does not contradict.
    Valid,
}

/// Why a `username` parameter names nobody.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidUsername {
    /// It is empty or malformed.
    #[error(transparent)]
    Malformed(#[from] InvalidUser),
    /// It was given more than once, were it with the same value.
    #[error("user name is given more than once")]
    Repeated,
}

/// What became of the `username` parameter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NameEvidence {
    /// None was sent.
    Absent,
    /// It is empty, repeated or malformed.
    Invalid(InvalidUsername),
    /// It names this external user.
    Valid(UserId),
}

/// Everything about a request that bears on who is asking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// The bearer token.
    pub jwt: JwtEvidence,
    /// The GitHub token.
    pub github: GithubEvidence,
    /// The `username` parameter.
    pub username: NameEvidence,
}

impl Evidence {
    fn has_credentials(&self) -> bool {
        self.jwt != JwtEvidence::Absent || self.github != GithubEvidence::Absent
    }
}

/// Who is asking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The user is known.
    Caller(Caller),
    /// Treated as external, with nobody to address.
    CredentialsRequired {
        /// Credentials were sent, but did not suffice.
        ambiguous: bool,
        /// Why.
        reason: &'static str,
    },
    /// GitHub could not be asked: private data never falls through to the public database.
    IdentityUnavailable,
    /// The `username` is malformed, whatever credentials came along.
    InvalidUsername(InvalidUsername),
    /// Strict mode: a public name and credentials at once.
    AmbiguousIdentity,
}

/// A user who may be served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The id, with its prefix.
    pub user: UserId,
    /// A public user was named although credentials came along.
    pub ambiguous: bool,
    /// Why the caller is taken for this user.
    pub reason: &'static str,
}

impl Caller {
    /// Internal or external.
    #[doc(alias = "is_internal_user")]
    pub fn user_type(&self) -> UserType {
        self.user.user_type()
    }
}

/// Decides who is asking. `strict` refuses requests that name a public user and bring credentials.
///
/// Internal takes both credentials valid and no `username`; everything unclear is treated as external.
pub fn decide(evidence: Evidence, strict: bool) -> Decision {
    let ambiguous = evidence.has_credentials();
    match (evidence.username, evidence.jwt, evidence.github) {
        (NameEvidence::Invalid(why), _, _) => Decision::InvalidUsername(why),
        (NameEvidence::Valid(_), _, _) if ambiguous && strict => Decision::AmbiguousIdentity,
        (NameEvidence::Valid(user), _, _) => Decision::Caller(Caller {
            user,
            ambiguous,
            reason: if ambiguous {
                "a public user was named; the credentials were not considered"
            } else {
                "a public user was named"
            },
        }),
        (NameEvidence::Absent, JwtEvidence::Valid(user), GithubEvidence::Valid) => {
            Decision::Caller(Caller {
                user,
                ambiguous: false,
                reason: "the JWT and the GitHub token are valid",
            })
        }
        (NameEvidence::Absent, JwtEvidence::Valid(_), GithubEvidence::Unreachable) => {
            Decision::IdentityUnavailable
        }
        (NameEvidence::Absent, JwtEvidence::Valid(_), GithubEvidence::Absent) => {
            Decision::CredentialsRequired {
                ambiguous,
                reason: "the GitHub token is missing",
            }
        }
        // Nobody is internal on a token that was not checked.
        (NameEvidence::Absent, JwtEvidence::Valid(_), GithubEvidence::Unchecked) => {
            Decision::CredentialsRequired {
                ambiguous,
                reason: "the GitHub token was not checked",
            }
        }
        (NameEvidence::Absent, JwtEvidence::Valid(_), GithubEvidence::Invalid(reason))
        | (NameEvidence::Absent, JwtEvidence::Invalid(reason), _) => {
            Decision::CredentialsRequired { ambiguous, reason }
        }
        (NameEvidence::Absent, JwtEvidence::Absent, _) => Decision::CredentialsRequired {
            ambiguous,
            reason: "the JWT is missing",
        },
    }
}
