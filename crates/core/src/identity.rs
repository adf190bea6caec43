//! Who is asking: the decision over verified evidence, as a pure function.
//!
//! Rule source: the mission's Property 5 and the decision table of the service's contract. Evidence is
//! gathered by the `tierkeep-identity` crate; nothing but the two credentials and `username` is part of
//! it.

use crate::user::{InvalidUser, UserId, UserType};

/// A decision for a public user although credentials came along, as the answer's header and the audit trail say it.
pub const AMBIGUOUS: &str = "external; ambiguous";

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

/// Why a `username` parameter is invalid.
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
    /// Treated as external, but no user is named.
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
    /// The request names a public user and also carries credentials.
    pub ambiguous: bool,
    /// The reason for the decision.
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
                "the request names a public user; the credentials were ignored"
            } else {
                "the request names a public user"
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
        // No caller is internal by a token that was not checked.
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SUBJECT: &str = "507f1f77bcf86cd799439011";
    const WHY_JWT: &str = "why the JWT is invalid";
    const WHY_GITHUB: &str = "why the GitHub token is invalid";

    fn internal() -> UserId {
        UserId::internal(SUBJECT).unwrap()
    }

    fn external() -> UserId {
        UserId::external("srie06").unwrap()
    }

    fn jwts() -> [JwtEvidence; 3] {
        [
            JwtEvidence::Absent,
            JwtEvidence::Invalid(WHY_JWT),
            JwtEvidence::Valid(internal()),
        ]
    }

    fn githubs() -> [GithubEvidence; 5] {
        [
            GithubEvidence::Absent,
            GithubEvidence::Invalid(WHY_GITHUB),
            GithubEvidence::Unreachable,
            GithubEvidence::Unchecked,
            GithubEvidence::Valid,
        ]
    }

    fn names() -> [NameEvidence; 4] {
        [
            NameEvidence::Absent,
            NameEvidence::Invalid(InvalidUsername::Repeated),
            NameEvidence::Invalid(UserId::external("a.b").unwrap_err().into()),
            NameEvidence::Valid(external()),
        ]
    }

    fn whole_table() -> Vec<(Evidence, bool)> {
        let mut table = Vec::new();
        for jwt in jwts() {
            for github in githubs() {
                for username in names() {
                    for strict in [false, true] {
                        let (jwt, github) = (jwt.clone(), github.clone());
                        table.push((
                            Evidence {
                                jwt,
                                github,
                                username: username.clone(),
                            },
                            strict,
                        ));
                    }
                }
            }
        }
        table
    }

    #[derive(PartialEq, Eq, Debug)]
    enum Answer {
        Internal,
        External { ambiguous: bool },
        Nobody { ambiguous: bool },
        Unavailable,
        BadName,
        Refused,
    }

    /// The contract's table, row by row, over what was sent and what became of it.
    fn contract(evidence: &Evidence, strict: bool) -> Answer {
        let sent = [
            !matches!(evidence.jwt, JwtEvidence::Absent),
            !matches!(evidence.github, GithubEvidence::Absent),
        ];
        let ambiguous = sent.contains(&true);
        let jwt_holds = matches!(evidence.jwt, JwtEvidence::Valid(_));
        let named = !matches!(evidence.username, NameEvidence::Absent);
        let well_named = matches!(evidence.username, NameEvidence::Valid(_));

        let mut answer = Answer::Nobody { ambiguous };
        if jwt_holds && evidence.github == GithubEvidence::Unreachable {
            answer = Answer::Unavailable;
        }
        if jwt_holds && evidence.github == GithubEvidence::Valid {
            answer = Answer::Internal;
        }
        if named {
            answer = if ambiguous && strict {
                Answer::Refused
            } else {
                Answer::External { ambiguous }
            };
        }
        if named && !well_named {
            answer = Answer::BadName;
        }
        answer
    }

    fn answer(decision: &Decision) -> Answer {
        match decision {
            Decision::Caller(Caller {
                user, ambiguous, ..
            }) => match user.user_type() {
                UserType::Internal => {
                    assert_eq!((user, *ambiguous), (&internal(), false));
                    Answer::Internal
                }
                UserType::External => {
                    assert_eq!(user, &external());
                    Answer::External {
                        ambiguous: *ambiguous,
                    }
                }
            },
            Decision::CredentialsRequired { ambiguous, .. } => Answer::Nobody {
                ambiguous: *ambiguous,
            },
            Decision::IdentityUnavailable => Answer::Unavailable,
            Decision::InvalidUsername(_) => Answer::BadName,
            Decision::AmbiguousIdentity => Answer::Refused,
        }
    }

    #[test]
    fn every_combination_of_evidence_is_decided_as_the_contract_says() {
        let table = whole_table();
        assert_eq!(table.len(), 3 * 5 * 4 * 2);
        for (evidence, strict) in table {
            let decision = decide(evidence.clone(), strict);
            let expected = contract(&evidence, strict);
            assert_eq!(
                answer(&decision),
                expected,
                "{evidence:?}, strict: {strict}"
            );
        }
    }

    #[test]
    fn exactly_one_combination_of_evidence_makes_an_internal_user() {
        let internal: Vec<_> = whole_table()
            .into_iter()
            .filter(|(evidence, strict)| {
                answer(&decide(evidence.clone(), *strict)) == Answer::Internal
            })
            .collect();
        assert_eq!(
            internal.len(),
            2,
            "once leniently and once strictly: {internal:?}"
        );
        for (evidence, _) in internal {
            assert_eq!(evidence.username, NameEvidence::Absent);
            assert_eq!(evidence.github, GithubEvidence::Valid);
            assert!(matches!(evidence.jwt, JwtEvidence::Valid(_)));
        }
    }

    #[test]
    fn strictness_changes_nothing_but_named_users_with_credentials() {
        for (evidence, _) in whole_table() {
            let (lenient, strict) = (decide(evidence.clone(), false), decide(evidence, true));
            if lenient != strict {
                assert_eq!(answer(&lenient), Answer::External { ambiguous: true });
                assert_eq!(strict, Decision::AmbiguousIdentity);
            }
        }
    }

    #[test]
    fn a_bad_name_is_told_as_it_was_found() {
        for (evidence, strict) in whole_table() {
            if let NameEvidence::Invalid(why) = evidence.username.clone() {
                assert_eq!(decide(evidence, strict), Decision::InvalidUsername(why));
            }
        }
    }

    #[rstest]
    #[case(JwtEvidence::Absent, GithubEvidence::Absent, "the JWT is missing")]
    #[case(JwtEvidence::Absent, GithubEvidence::Valid, "the JWT is missing")]
    #[case(JwtEvidence::Absent, GithubEvidence::Unreachable, "the JWT is missing")]
    #[case(JwtEvidence::Invalid(WHY_JWT), GithubEvidence::Absent, WHY_JWT)]
    #[case(
        JwtEvidence::Invalid(WHY_JWT),
        GithubEvidence::Invalid(WHY_GITHUB),
        WHY_JWT
    )]
    #[case(JwtEvidence::Invalid(WHY_JWT), GithubEvidence::Unreachable, WHY_JWT)]
    #[case(
        JwtEvidence::Valid(internal()),
        GithubEvidence::Absent,
        "the GitHub token is missing"
    )]
    #[case(
        JwtEvidence::Valid(internal()),
        GithubEvidence::Invalid(WHY_GITHUB),
        WHY_GITHUB
    )]
    #[case(
        JwtEvidence::Valid(internal()),
        GithubEvidence::Unchecked,
        "the GitHub token was not checked"
    )]
    fn a_caller_without_sufficient_credentials_learns_what_is_wanting(
        #[case] jwt: JwtEvidence,
        #[case] github: GithubEvidence,
        #[case] expected: &str,
    ) {
        let evidence = Evidence {
            jwt,
            github,
            username: NameEvidence::Absent,
        };
        match decide(evidence, false) {
            Decision::CredentialsRequired { reason, .. } => assert_eq!(reason, expected),
            Decision::Caller(_)
            | Decision::IdentityUnavailable
            | Decision::InvalidUsername(_)
            | Decision::AmbiguousIdentity => panic!("a caller was accepted"),
        }
    }
}
