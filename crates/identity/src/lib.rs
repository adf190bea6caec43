//! The User Type Detector as a library: it gathers evidence about a request (a JWT, a GitHub token, a
//! public user name) and leaves the decision to [`tierkeep_core::identity::decide`].
//!
//! **Architecture invariant:** nothing here speaks HTTP to callers, knows a database, reads the
//! environment or the wall clock, or lets a token or key reach a message, a log line or a `Debug` text.
//!
//! Where to look: [`detector`] (evidence in, decision out), [`jwt`] (whose token it is), [`github`]
//! (whether GitHub knows the other token's owner).
//!
//! ```
//! use std::sync::Arc;
//! use tierkeep_core::bson::DateTime;
//! use tierkeep_core::clock::Clock;
//! use tierkeep_core::identity::Decision;
//! use tierkeep_identity::{
//!     Credentials, GithubSettings, GithubVerifier, JwtKeys, JwtSettings, JwtVerifier,
//!     UserTypeDetector,
//! };
//!
//! #[derive(Debug)]
//! struct Noon;
//! impl Clock for Noon {
//!     fn now(&self) -> DateTime {
//!         DateTime::from_millis(1_800_000_000_000)
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = JwtKeys::Secret { current: "0123456789abcdef0123456789abcdef".into(), previous: None };
//! let jwt = JwtVerifier::new(JwtSettings::new(keys), Arc::new(Noon))?;
//! let github = GithubVerifier::new(&GithubSettings::default())?;
//! let detector = UserTypeDetector::new(jwt, github, false);
//!
//! let credentials = Credentials { usernames: vec!["SRIE06".into()], ..Credentials::default() };
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let detection = detector.detect(&credentials).await;
//! let Decision::Caller(caller) = detection.decision else { panic!("the request names a public user") };
//! assert_eq!(caller.user.as_str(), "external_srie06");
//! # });
//! # Ok(())
//! # }
//! ```

pub mod detector;
pub mod github;
pub mod jwt;

pub use detector::{Credentials, Detection, GithubWait, HeaderText, JwtRequired, UserTypeDetector};
pub use github::{
    GithubAnswer, GithubOwner, GithubSettings, GithubSettingsError, GithubVerification,
    GithubVerifier, QuestionLimit, Unlimited, Unreachable,
};
pub use jwt::{
    IssueError, JwtKeyError, JwtKeys, JwtRefused, JwtSettings, JwtVerifier, KeysUnavailable, Look,
    NewerKeys, RoleClaim, SharedKeys, VerifiedJwt, install_crypto_provider,
    issue_development_token,
};
