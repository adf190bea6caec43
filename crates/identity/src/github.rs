//! GitHub tokens: owns the question whether GitHub knows a token, and the memory of its answers.
//!
//! Must never take anything but GitHub's 401 for a refusal, follow a redirect with a token in hand, keep a token (answers are
//! kept under a keyed hash), or remember that GitHub could not be asked, unless GitHub itself said for how long.
//!
//! Where to look next: `wait` (how long GitHub wants to be left alone).
//!
//! The call is `GET /user` of GitHub's REST API, "Get the authenticated user".

mod wait;

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use tierkeep_core::bson::DateTime;
use tierkeep_core::repeats::Repeats;
use tierkeep_core::user::UserId;

/// The public GitHub API.
pub const DEFAULT_API_URL: &str = "https://api.github.com";
/// The longest token that GitHub is asked about.
pub const MAX_TOKEN_BYTES: usize = 1024;
/// How many answers are kept.
const CACHED_ANSWERS: u64 = 10_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);
/// More than GitHub ever says about a user.
const MAX_BODY_BYTES: usize = 256 * 1024;
const USER_AGENT: &str = concat!("tierkeep/", env!("CARGO_PKG_VERSION"));

/// Whether GitHub is asked at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GithubVerification {
    /// Each token is checked.
    #[default]
    On,
    /// Any well-formed token counts as valid, its owner unknown. For development on one machine.
    Off,
}

/// How GitHub is asked.
#[derive(Clone, Debug)]
pub struct GithubSettings {
    /// `GITHUB_API_URL`: https, or http to a loopback address.
    pub api_url: String,
    /// How long a known owner is remembered.
    pub cache_ttl: Duration,
    /// How long a refusal is remembered, `cache_ttl` at most.
    pub refusal_ttl: Duration,
    /// Whether GitHub is asked at all.
    pub verification: GithubVerification,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long the whole call may take.
    pub total_timeout: Duration,
}

impl Default for GithubSettings {
    /// The public API, 5 minutes, refusals 30 seconds, verification on.
    fn default() -> Self {
        Self {
            api_url: DEFAULT_API_URL.to_owned(),
            cache_ttl: Duration::from_mins(5),
            refusal_ttl: Duration::from_secs(30),
            verification: GithubVerification::On,
            connect_timeout: CONNECT_TIMEOUT,
            total_timeout: TOTAL_TIMEOUT,
        }
    }
}

/// Why GitHub cannot be asked with these settings. Holds nothing of the URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GithubSettingsError {
    /// The text is no absolute URL of a server.
    #[error("GITHUB_API_URL is not a URL of a server")]
    Url,
    /// The token would travel in clear text.
    #[error("GITHUB_API_URL must be https unless its host is a loopback address")]
    Insecure,
    /// The URL carries a password, a query or a fragment.
    #[error("GITHUB_API_URL must not have a user, a query or a fragment")]
    Decorated,
    /// No HTTP client could be made, for want of TLS roots for example.
    #[error("the HTTP client for GITHUB_API_URL could not be created")]
    Client,
}

/// The account that a token belongs to.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Deserialize)]
pub struct GithubOwner {
    /// The account's number, which never changes.
    pub id: u64,
    /// The account's name, which may change; compare without letter case.
    pub login: String,
}

/// Why GitHub could not be asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Unreachable {
    /// No answer in time.
    Timeout,
    /// No connection, or a broken one.
    Connection,
    /// An answer with this status, which is neither 200 nor 401.
    Status(u16),
    /// An answer that does not name an owner.
    Malformed,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timeout"),
            Self::Connection => f.write_str("connection failed"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Malformed => f.write_str("malformed answer"),
        }
    }
}

/// What became of a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GithubAnswer {
    /// GitHub knows the token and its owner.
    Owner(GithubOwner),
    /// Verification is off: the token is well-formed, and that is all.
    Unverified,
    /// GitHub does not know the token.
    Refused,
    /// No token looks like this; GitHub was not asked.
    Malformed,
    /// GitHub could not be asked.
    Unreachable(Unreachable),
    /// GitHub wants not to be asked about this token for so long.
    Limited(Duration),
    /// GitHub was not asked: the caller may ask again after so long.
    OverLimit(Duration),
}

/// The limit within which GitHub is asked for the sake of one caller.
pub trait QuestionLimit: Send + Sync {
    /// Counts one question for a caller with the JWT of this user.
    ///
    /// # Errors
    /// After how long it is worth trying again, where GitHub must not be asked.
    fn admit(&self, user: &UserId) -> Result<(), Duration>;
}

/// No limit.
#[derive(Clone, Copy, Debug)]
pub struct Unlimited;

impl QuestionLimit for Unlimited {
    fn admit(&self, _user: &UserId) -> Result<(), Duration> {
        Ok(())
    }
}

/// The answers that may be remembered.
#[derive(Clone, Debug)]
enum Remembered {
    Owner(GithubOwner),
    Refused,
    /// GitHub wants to be left alone until then.
    Limited(Instant),
}

/// Why there is no answer to remember.
#[derive(Clone, Copy, Debug)]
enum NoAnswer {
    Unreachable(Unreachable),
    OverLimit(Duration),
}

/// How long answers are remembered.
#[derive(Clone, Copy, Debug)]
struct Memory {
    owner: Duration,
    refusal: Duration,
}

impl Memory {
    fn lasts(&self, answer: &Remembered, at: Instant) -> Duration {
        match answer {
            Remembered::Owner(_) => self.owner,
            Remembered::Refused => self.refusal.min(self.owner),
            Remembered::Limited(until) => until.saturating_duration_since(at),
        }
    }
}

impl Expiry<blake3::Hash, Remembered> for Memory {
    fn expire_after_create(
        &self,
        _key: &blake3::Hash,
        answer: &Remembered,
        at: Instant,
    ) -> Option<Duration> {
        Some(self.lasts(answer, at))
    }

    fn expire_after_update(
        &self,
        _key: &blake3::Hash,
        answer: &Remembered,
        at: Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.lasts(answer, at))
    }
}

/// Asks GitHub for the owners of tokens, once for each token and while.
pub struct GithubVerifier {
    verification: GithubVerification,
    client: Client,
    user_url: Url,
    answers: Cache<blake3::Hash, Remembered>,
    hash_key: [u8; blake3::KEY_LEN],
    began: Instant,
    told: Repeats<Unreachable>,
}

impl fmt::Debug for GithubVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GithubVerifier")
            .field("verification", &self.verification)
            .field("user_url", &self.user_url.as_str())
            .finish_non_exhaustive()
    }
}

impl GithubVerifier {
    /// A verifier with an empty memory.
    ///
    /// # Errors
    /// [`GithubSettingsError`] where `api_url` cannot be asked safely.
    pub fn new(settings: &GithubSettings) -> Result<Self, GithubSettingsError> {
        let (user_url, loopback) = user_url(&settings.api_url)?;
        let accept = HeaderValue::from_static("application/vnd.github+json");
        let mut client = Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(HeaderMap::from_iter([(ACCEPT, accept)]))
            .redirect(Policy::none())
            .referer(false)
            .https_only(!loopback)
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.total_timeout);
        if loopback {
            client = client.no_proxy();
        }
        let memory = Memory {
            owner: settings.cache_ttl,
            refusal: settings.refusal_ttl,
        };
        Ok(Self {
            verification: settings.verification,
            client: client.build().map_err(|_| GithubSettingsError::Client)?,
            user_url,
            answers: Cache::builder()
                .max_capacity(CACHED_ANSWERS)
                .expire_after(memory)
                .build(),
            hash_key: rand::random(),
            began: Instant::now(),
            told: Repeats::default(),
        })
    }

    /// What GitHub says, or said lately, about this token.
    ///
    /// Callers that ask about one token at the same time share one request. Cancel safe: another
    /// caller that waits takes over.
    pub async fn check(&self, token: &str) -> GithubAnswer {
        self.check_within(token, || Ok(())).await
    }

    /// The same where `admit` lets GitHub be asked; it is called only where GitHub has to be, and answers after how long to
    /// try again where not.
    pub async fn check_within(
        &self,
        token: &str,
        admit: impl FnOnce() -> Result<(), Duration>,
    ) -> GithubAnswer {
        let visible = token.bytes().all(|b| b.is_ascii_graphic());
        if !visible || token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return GithubAnswer::Malformed;
        }
        match self.verification {
            GithubVerification::Off => return GithubAnswer::Unverified,
            GithubVerification::On => {}
        }
        let key = blake3::keyed_hash(&self.hash_key, token.as_bytes());
        let asked = self.ask(token, admit);
        match self.answers.try_get_with(key, asked).await {
            Ok(Remembered::Owner(owner)) => GithubAnswer::Owner(owner),
            Ok(Remembered::Refused) => GithubAnswer::Refused,
            Ok(Remembered::Limited(until)) => {
                GithubAnswer::Limited(until.saturating_duration_since(Instant::now()))
            }
            Err(why) => match *why {
                NoAnswer::Unreachable(why) => GithubAnswer::Unreachable(why),
                NoAnswer::OverLimit(wait) => GithubAnswer::OverLimit(wait),
            },
        }
    }

    async fn ask(
        &self,
        token: &str,
        admit: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<Remembered, NoAnswer> {
        admit().map_err(NoAnswer::OverLimit)?;
        let answer = self.call(token).await;
        answer.map_err(|why| {
            self.tell(why);
            NoAnswer::Unreachable(why)
        })
    }

    fn tell(&self, why: Unreachable) {
        let millis = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        if let Some(more) = self.told.due(why, DateTime::from_millis(millis)) {
            tracing::warn!(%why, more, "GitHub could not verify a token");
        }
    }

    async fn call(&self, token: &str) -> Result<Remembered, Unreachable> {
        let request = self.client.get(self.user_url.clone()).bearer_auth(token);
        let response = request.send().await.map_err(|error| class(&error))?;
        match response.status() {
            StatusCode::OK => owner(response).await.map(Remembered::Owner),
            StatusCode::UNAUTHORIZED => Ok(Remembered::Refused),
            limited @ (StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) => {
                let why = Unreachable::Status(limited.as_u16());
                let wait = wait::of(response.headers()).ok_or(why)?;
                self.tell(why);
                Ok(Remembered::Limited(Instant::now() + wait))
            }
            other => Err(Unreachable::Status(other.as_u16())),
        }
    }
}

fn class(error: &reqwest::Error) -> Unreachable {
    if error.is_timeout() {
        Unreachable::Timeout
    } else {
        Unreachable::Connection
    }
}

/// The owner that the body names.
async fn owner(mut response: Response) -> Result<GithubOwner, Unreachable> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| class(&error))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(Unreachable::Malformed);
        }
        body.extend_from_slice(&chunk);
    }
    let object = body.trim_ascii_start().starts_with(b"{");
    let owner: GithubOwner = serde_json::from_slice(&body).map_err(|_| Unreachable::Malformed)?;
    let named = owner.id > 0 && !owner.login.is_empty();
    if object && named {
        Ok(owner)
    } else {
        Err(Unreachable::Malformed)
    }
}

/// Whether the host is on this machine; `None` without a host.
pub(crate) fn is_loopback(url: &Url) -> Option<bool> {
    let host = url.host_str()?;
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    Some(host == "localhost" || address.is_ok_and(|address| address.is_loopback()))
}

/// The address of `/user` below the API's, and whether it is on this machine.
fn user_url(api_url: &str) -> Result<(Url, bool), GithubSettingsError> {
    let mut url = Url::parse(api_url).map_err(|_| GithubSettingsError::Url)?;
    let loopback = is_loopback(&url).ok_or(GithubSettingsError::Url)?;
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => return Err(GithubSettingsError::Insecure),
        _ => return Err(GithubSettingsError::Url),
    }
    let user_info = !url.username().is_empty() || url.password().is_some();
    if user_info || url.query().is_some() || url.fragment().is_some() {
        return Err(GithubSettingsError::Decorated);
    }
    url.path_segments_mut()
        .map_err(|()| GithubSettingsError::Url)?
        .pop_if_empty()
        .push("user");
    Ok((url, loopback))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://api.github.com", Ok("https://api.github.com/user"))]
    #[case("https://git.example/api/v3", Ok("https://git.example/api/v3/user"))]
    #[case("https://git.example/api/v3/", Ok("https://git.example/api/v3/user"))]
    #[case("http://127.0.0.1:9/x", Ok("http://127.0.0.1:9/x/user"))]
    #[case("http://127.9.9.9", Ok("http://127.9.9.9/user"))]
    #[case("http://[::1]:9", Ok("http://[::1]:9/user"))]
    #[case("http://localhost:9", Ok("http://localhost:9/user"))]
    #[case("http://api.github.com", Err(GithubSettingsError::Insecure))]
    #[case("http://10.0.0.1", Err(GithubSettingsError::Insecure))]
    #[case("http://localhost.example", Err(GithubSettingsError::Insecure))]
    #[case("http://127.0.0.1.example", Err(GithubSettingsError::Insecure))]
    #[case("https://me:pw@api.github.com", Err(GithubSettingsError::Decorated))]
    #[case("https://api.github.com?x=1", Err(GithubSettingsError::Decorated))]
    #[case("https://api.github.com#x", Err(GithubSettingsError::Decorated))]
    #[case("ftp://127.0.0.1", Err(GithubSettingsError::Url))]
    #[case("api.github.com", Err(GithubSettingsError::Url))]
    #[case("", Err(GithubSettingsError::Url))]
    fn tokens_go_to_https_or_this_machine_only(
        #[case] api_url: &str,
        #[case] expected: Result<&str, GithubSettingsError>,
    ) {
        let url = user_url(api_url).map(|(url, _)| url.to_string());
        assert_eq!(url, expected.map(str::to_owned));
    }

    #[test]
    fn refusals_are_remembered_for_a_shorter_while_than_owners() {
        let memory = Memory {
            owner: Duration::from_mins(5),
            refusal: Duration::from_secs(30),
        };
        let owner = Remembered::Owner(GithubOwner {
            id: 1,
            login: "octocat".into(),
        });
        let now = Instant::now();
        assert_eq!(memory.lasts(&owner, now), Duration::from_mins(5));
        assert_eq!(
            memory.lasts(&Remembered::Refused, now),
            Duration::from_secs(30)
        );
    }

    #[test]
    fn a_refusal_never_outlasts_the_setting_for_owners() {
        let memory = Memory {
            owner: Duration::from_secs(1),
            refusal: Duration::from_secs(30),
        };
        let now = Instant::now();
        assert_eq!(
            memory.lasts(&Remembered::Refused, now),
            Duration::from_secs(1)
        );
    }

    #[test]
    fn an_answer_that_replaces_another_lives_as_long_as_a_new_one() {
        let memory = Memory {
            owner: Duration::from_mins(5),
            refusal: Duration::from_secs(30),
        };
        let (key, now) = (blake3::hash(b"any"), Instant::now());
        let created = memory.expire_after_create(&key, &Remembered::Refused, now);
        let updated = memory.expire_after_update(&key, &Remembered::Refused, now, None);
        assert_eq!((created, created), (updated, Some(Duration::from_secs(30))));
    }
}
