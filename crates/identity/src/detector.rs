//! The User Type Detector: owns which evidence is gathered, and in which order.
//!
//! Must never look at anything but the two credentials and `username`, decide by itself (that is
//! [`tierkeep_core::identity::decide`]), or ask GitHub where its answer could change nothing.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretSlice};
use tierkeep_core::identity::{
    Decision, Evidence, GithubEvidence, InvalidUsername, JwtEvidence, NameEvidence, decide,
};
use tierkeep_core::user::UserId;

use crate::github::{GithubAnswer, GithubOwner, GithubVerifier, QuestionLimit, Unlimited};
use crate::jwt::{JwtRefused, JwtVerifier, KeysUnavailable, VerifiedJwt};

/// The value of a header as it came. It may be a secret, so it does not print.
#[derive(Clone)]
pub struct HeaderText(SecretSlice<u8>);

impl HeaderText {
    /// A header's bytes, whatever they are.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(SecretSlice::from(bytes.into()))
    }

    /// The value, if it is nothing but visible ASCII and spaces, without spaces around it.
    fn text(&self) -> Option<&str> {
        let text = std::str::from_utf8(self.0.expose_secret()).ok()?;
        let plain = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        plain.then(|| text.trim_matches(' '))
    }
}

impl From<&str> for HeaderText {
    fn from(text: &str) -> Self {
        Self::from_bytes(text)
    }
}

impl From<String> for HeaderText {
    fn from(text: String) -> Self {
        Self::from_bytes(text)
    }
}

impl fmt::Debug for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderText(..)")
    }
}

/// Everything about a request that bears on who is asking, as it came.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Every `Authorization` header.
    pub authorization: Vec<HeaderText>,
    /// Every `X-GitHub-Token` header.
    pub github_token: Vec<HeaderText>,
    /// Every `username` parameter, decoded.
    pub usernames: Vec<String>,
}

/// Who is asking, and what became known on the way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detection {
    /// Who is asking.
    pub decision: Decision,
    /// The owner of the GitHub token, where GitHub named one that the JWT does not contradict.
    pub github_owner: Option<GithubOwner>,
    /// The JWT, where it is valid, whether or not the decision depends on it.
    pub jwt: Option<VerifiedJwt>,
    /// When it is worth asking GitHub again, where it was not asked.
    pub github_wait: Option<GithubWait>,
}

/// When it is worth asking GitHub about a token again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GithubWait {
    /// GitHub wants not to be asked for so long.
    Github(Duration),
    /// The caller's limit is reached, and holds for so long.
    Caller(Duration),
}

/// What became of the GitHub token.
struct GithubFound {
    evidence: GithubEvidence,
    owner: Option<GithubOwner>,
    wait: Option<GithubWait>,
}

impl GithubFound {
    fn only(evidence: GithubEvidence) -> Self {
        Self {
            evidence,
            owner: None,
            wait: None,
        }
    }
}

/// Why a route that needs the JWT alone cannot have it. Each of these is a 401.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum JwtRequired {
    /// There is no `Authorization` header.
    #[error("the JWT is missing")]
    Missing,
    /// There are several.
    #[error("the request has more than one Authorization header")]
    Repeated,
    /// It is not `Bearer` and one token.
    #[error("the Authorization header is not a bearer token")]
    NotBearer,
    /// The token is not believed.
    #[error(transparent)]
    Refused(#[from] JwtRefused),
}

impl JwtRequired {
    /// The reason as a fixed text, fit for logs and answers.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "the JWT is missing",
            Self::Repeated => "the request has more than one Authorization header",
            Self::NotBearer => "the Authorization header is not a bearer token",
            Self::Refused(why) => why.reason(),
        }
    }
}

/// Decides who is asking: internal takes a valid JWT, a valid GitHub token and no `username`.
#[derive(Debug)]
pub struct UserTypeDetector {
    jwt: JwtVerifier,
    github: GithubVerifier,
    strict: bool,
}

impl UserTypeDetector {
    /// A detector over these verifiers. `strict` refuses requests that name a public user and bring
    /// credentials.
    pub fn new(jwt: JwtVerifier, github: GithubVerifier, strict: bool) -> Self {
        Self {
            jwt,
            github,
            strict,
        }
    }

    /// Gathers the evidence and decides.
    ///
    /// GitHub is asked only where the JWT is valid and no `username` was given. Cancel safe.
    #[doc(alias = "is_internal_user")]
    pub async fn detect(&self, credentials: &Credentials) -> Detection {
        self.detect_within(credentials, &Unlimited).await
    }

    /// The same; GitHub is asked within the limit of the caller. Where that is reached, the decision is
    /// [`Decision::IdentityUnavailable`], with [`GithubWait::Caller`].
    pub async fn detect_within(
        &self,
        credentials: &Credentials,
        limit: &impl QuestionLimit,
    ) -> Detection {
        let username = name_evidence(&credentials.usernames);
        let role = self.role(&credentials.authorization).await;
        if username == NameEvidence::Absent
            && role == Err(JwtRequired::Refused(JwtRefused::NoKeysYet))
        {
            return Detection {
                decision: Decision::IdentityUnavailable,
                github_owner: None,
                jwt: None,
                github_wait: None,
            };
        }
        let (jwt, verified) = match role {
            Ok(verified) => (JwtEvidence::Valid(verified.user.clone()), Some(verified)),
            Err(JwtRequired::Missing) => (JwtEvidence::Absent, None),
            Err(why) => (JwtEvidence::Invalid(why.reason()), None),
        };
        let asking = verified
            .as_ref()
            .filter(|_| username == NameEvidence::Absent);
        let github = self
            .github_evidence(&credentials.github_token, asking, limit)
            .await;
        let evidence = Evidence {
            jwt,
            github: github.evidence,
            username,
        };
        Detection {
            decision: decide(evidence, self.strict),
            github_owner: github.owner,
            jwt: verified,
            github_wait: github.wait,
        }
    }

    /// Reads the JWT alone, for the routes that take a role and no GitHub token. Cancel safe.
    ///
    /// # Errors
    /// [`JwtRequired`] where there is no valid one. Whether its role suffices is the route's question.
    pub async fn role(&self, authorization: &[HeaderText]) -> Result<VerifiedJwt, JwtRequired> {
        let header = match authorization {
            [] => return Err(JwtRequired::Missing),
            [header] => header,
            [_, _, ..] => return Err(JwtRequired::Repeated),
        };
        let token = header
            .text()
            .and_then(bearer)
            .ok_or(JwtRequired::NotBearer)?;
        Ok(self.jwt.verify_with_new_keys(token).await?)
    }

    /// Fetches the keys that verify JWTs, where they come from a URL.
    ///
    /// # Errors
    /// [`KeysUnavailable`]; the previous keys stay in use.
    pub async fn refresh_keys(&self) -> Result<(), KeysUnavailable> {
        self.jwt.refresh_keys().await
    }

    /// The evidence of the GitHub token, asked about for the sake of this JWT.
    async fn github_evidence(
        &self,
        headers: &[HeaderText],
        asking: Option<&VerifiedJwt>,
        limit: &impl QuestionLimit,
    ) -> GithubFound {
        let invalid = |reason| GithubFound::only(GithubEvidence::Invalid(reason));
        let unasked = |wait| GithubFound {
            wait: Some(wait),
            ..GithubFound::only(GithubEvidence::Unreachable)
        };
        let header = match headers {
            [] => return GithubFound::only(GithubEvidence::Absent),
            [header] => header,
            [_, _, ..] => return invalid("the request has more than one X-GitHub-Token header"),
        };
        let Some(jwt) = asking else {
            return GithubFound::only(GithubEvidence::Unchecked);
        };
        let token = header.text().unwrap_or_default();
        let admit = || limit.admit(&jwt.user);
        match self.github.check_within(token, admit).await {
            GithubAnswer::Owner(owner) => match contradiction(jwt, &owner) {
                None => GithubFound {
                    owner: Some(owner),
                    ..GithubFound::only(GithubEvidence::Valid)
                },
                Some(reason) => invalid(reason),
            },
            GithubAnswer::Unverified => GithubFound::only(GithubEvidence::Valid),
            GithubAnswer::Refused => invalid("GitHub rejects the GitHub token"),
            GithubAnswer::Malformed => invalid("the GitHub token is malformed"),
            GithubAnswer::Unreachable(_) => GithubFound::only(GithubEvidence::Unreachable),
            GithubAnswer::Limited(wait) => unasked(GithubWait::Github(wait)),
            GithubAnswer::OverLimit(wait) => unasked(GithubWait::Caller(wait)),
        }
    }
}

fn name_evidence(usernames: &[String]) -> NameEvidence {
    match usernames {
        [] => NameEvidence::Absent,
        [name] => match UserId::external(name) {
            Ok(user) => NameEvidence::Valid(user),
            Err(why) => NameEvidence::Invalid(InvalidUsername::Malformed(why)),
        },
        [_, _, ..] => NameEvidence::Invalid(InvalidUsername::Repeated),
    }
}

/// The token of `Bearer <token>` (RFC 6750, section 2.1; the scheme in any letter case).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let one_token = !token.is_empty() && !token.contains(' ');
    (scheme.eq_ignore_ascii_case("bearer") && one_token).then_some(token)
}

/// How the JWT's claims about GitHub disagree with the token's owner, if they do.
fn contradiction(jwt: &VerifiedJwt, owner: &GithubOwner) -> Option<&'static str> {
    let other_login = jwt
        .github_login
        .as_ref()
        .is_some_and(|login| !login.eq_ignore_ascii_case(&owner.login));
    let other_id = jwt.github_id.is_some_and(|id| id != owner.id);
    (other_login || other_id)
        .then_some("the GitHub token belongs to a different account than the JWT names")
}
