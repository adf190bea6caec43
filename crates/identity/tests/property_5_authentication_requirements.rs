//! Property 5, authentication requirements: internal users need a valid JWT and a valid GitHub token
//! and no `username`; external users are public and need neither.

use std::sync::LazyLock;

use proptest::prelude::*;
use tierkeep_core::identity::Decision;
use tierkeep_core::user::UserType;
use tierkeep_identity::{Credentials, HeaderText, UserTypeDetector};
use tokio::runtime::Runtime;
use wiremock::MockServer;

use crate::support::{
    GITHUB_TOKEN, NOW, PREVIOUS, SECRET, bearer, claims, detector, github, github_settings,
    header_of, hs256, token, with, without,
};

struct World {
    runtime: Runtime,
    lenient: UserTypeDetector,
    strict: UserTypeDetector,
    _github: MockServer,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(github());
    let settings = github_settings(&server);
    let (lenient, strict) = (detector(&settings, false), detector(&settings, true));
    World {
        runtime,
        lenient,
        strict,
        _github: server,
    }
});

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sent {
    Missing,
    Invalid,
    Valid,
}

/// A generated request: its credentials, and what its author knows of each.
#[derive(Clone, Debug)]
struct Request {
    jwt: (Sent, Vec<HeaderText>),
    github: (Sent, Vec<HeaderText>),
    name: Option<String>,
    strict: bool,
}

impl Request {
    fn brings_credentials(&self) -> bool {
        self.jwt.0 != Sent::Missing || self.github.0 != Sent::Missing
    }

    fn decision(&self) -> Decision {
        let credentials = Credentials {
            authorization: self.jwt.1.clone(),
            github_token: self.github.1.clone(),
            usernames: self.name.iter().cloned().collect(),
        };
        let detector = if self.strict {
            &WORLD.strict
        } else {
            &WORLD.lenient
        };
        WORLD
            .runtime
            .block_on(detector.detect(&credentials))
            .decision
    }
}

fn subject() -> impl Strategy<Value = String> {
    "[0-9a-fA-F]{24}"
}

fn valid_jwt() -> impl Strategy<Value = Vec<HeaderText>> {
    let secret = prop::sample::select(vec![SECRET, PREVIOUS]);
    let role = prop::option::of(prop::sample::select(vec!["hr", "admin", "developer"]));
    (subject(), 1..100_000_i64, 0..60_i64, secret, role).prop_map(
        |(subject, life, skew, secret, role)| {
            let mut claims = claims();
            claims["sub"] = subject.into();
            claims["exp"] = (NOW + life).into();
            claims["nbf"] = (NOW + skew).into();
            if let Some(role) = role {
                claims["role"] = role.into();
            }
            bearer(&hs256(header_of("HS256"), claims, secret))
        },
    )
}

fn invalid_jwt() -> impl Strategy<Value = Vec<HeaderText>> {
    let claim = prop::sample::select(vec!["exp", "sub", "type"]);
    prop_oneof![
        "[ -~]{0,40}".prop_map(|text| vec![HeaderText::from(text)]),
        "[!-~]{0,40}".prop_map(|text| bearer(&text)),
        "[a-zA-Z0-9 ]{32,64}".prop_map(|key| bearer(&hs256(header_of("HS256"), claims(), &key))),
        (0..100_000_i64).prop_map(|ago| bearer(&token(&with("exp", NOW - ago)))),
        (61..100_000_i64).prop_map(|ahead| bearer(&token(&with("nbf", NOW + ahead)))),
        claim.prop_map(|claim| bearer(&token(&without(claim)))),
        "[a-z]{0,7}".prop_map(|kind| bearer(&token(&with("type", format!("{kind}x"))))),
        valid_jwt().prop_map(|header| [header.clone(), header].concat()),
    ]
}

fn invalid_github() -> impl Strategy<Value = Vec<HeaderText>> {
    prop_oneof![
        Just(vec![HeaderText::from("")]),
        "gh[ou]_[a-zA-Z0-9]{0,40}".prop_map(|token| vec![HeaderText::from(token)]),
        "[!-~]{1,8} [!-~]{1,8}".prop_map(|token| vec![HeaderText::from(token)]),
        Just(vec![
            HeaderText::from(GITHUB_TOKEN),
            HeaderText::from(GITHUB_TOKEN)
        ]),
        prop::collection::vec(128_u8.., 1..20)
            .prop_map(|bytes| vec![HeaderText::from_bytes(bytes)]),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    let jwt = prop_oneof![
        1 => Just((Sent::Missing, vec![])),
        2 => invalid_jwt().prop_map(|header| (Sent::Invalid, header)),
        3 => valid_jwt().prop_map(|header| (Sent::Valid, header)),
    ];
    let github = prop_oneof![
        1 => Just((Sent::Missing, vec![])),
        1 => invalid_github().prop_map(|header| (Sent::Invalid, header)),
        2 => Just((Sent::Valid, vec![HeaderText::from(GITHUB_TOKEN)])),
    ];
    let name = prop::option::weighted(0.4, "[A-Za-z0-9_-]{1,39}");
    (jwt, github, name, any::<bool>()).prop_map(|(jwt, github, name, strict)| Request {
        jwt,
        github,
        name,
        strict,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn internal_takes_both_credentials_valid_and_no_username(request in requests()) {
        let entitled = request.jwt.0 == Sent::Valid
            && request.github.0 == Sent::Valid
            && request.name.is_none();
        let decision = request.decision();
        let internal = matches!(&decision, Decision::Caller(caller)
            if caller.user_type() == UserType::Internal);
        prop_assert_eq!(internal, entitled, "{:?} gave {:?}", request, decision);
    }

    #[test]
    fn external_is_public_without_authentication(name in "[A-Za-z0-9_-]{1,39}", strict: bool) {
        let nothing = (Sent::Missing, vec![]);
        let jwt = nothing.clone();
        let request = Request { jwt, github: nothing, name: Some(name.clone()), strict };
        match request.decision() {
            Decision::Caller(caller) => {
                prop_assert_eq!(caller.user_type(), UserType::External);
                let expected = format!("external_{}", name.to_lowercase());
                prop_assert_eq!(caller.user.as_str(), expected);
                prop_assert!(!caller.ambiguous);
            }
            other @ (Decision::CredentialsRequired { .. }
            | Decision::IdentityUnavailable
            | Decision::InvalidUsername(_)
            | Decision::AmbiguousIdentity) => prop_assert!(false, "{:?} gave {:?}", name, other),
        }
    }

    #[test]
    fn everything_unclear_is_treated_as_external(request in requests()) {
        let clear = request.jwt.0 == Sent::Valid && request.github.0 == Sent::Valid;
        prop_assume!(!clear || request.name.is_some());
        let brought = request.brings_credentials();
        match (request.decision(), &request.name) {
            (Decision::Caller(caller), Some(_)) => {
                prop_assert_eq!(caller.user_type(), UserType::External);
                prop_assert_eq!(caller.ambiguous, brought);
            }
            (Decision::AmbiguousIdentity, Some(_)) => prop_assert!(brought && request.strict),
            (Decision::CredentialsRequired { ambiguous, .. }, None) => {
                prop_assert_eq!(ambiguous, brought);
            }
            (other, _) => prop_assert!(false, "{:?} gave {:?}", request, other),
        }
    }
}
