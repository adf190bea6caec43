//! `token`: owns development tokens. Must never issue one where other people's data may be.

use std::time::Duration;

use clap::Args;
use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::{EncodingKey, encode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use tierkeep_core::bson::DateTime;
use tierkeep_core::clock;
use tierkeep_core::user::UserId;
use tierkeep_identity::{RoleClaim, issue_development_token};

use super::Context;
use crate::config::{identity, units};
use crate::exit::{Exit, UsageError};

/// Arguments of `token`.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// The subject: 24 hex digits, the user's id without internal_
    #[arg(long, value_name = "HEX", value_parser = subject)]
    pub sub: String,
    /// The role that the token grants: hr or admin
    #[arg(long, value_name = "ROLE", value_parser = role)]
    pub role: Option<RoleClaim>,
    /// How long the token is valid
    #[arg(long, value_name = "DURATION", value_parser = time_to_live, default_value = "1h")]
    pub ttl: Duration,
    /// The GitHub account that must own the GitHub token sent along
    #[arg(long, value_name = "LOGIN")]
    pub github_login: Option<String>,
}

fn subject(text: &str) -> Result<String, String> {
    UserId::internal(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// JWTs count in whole seconds.
fn time_to_live(text: &str) -> Result<Duration, String> {
    let ttl = units::duration(text)?;
    if ttl < Duration::from_secs(1) {
        return Err("expected at least 1s".to_owned());
    }
    Ok(ttl)
}

fn role(text: &str) -> Result<RoleClaim, &'static str> {
    RoleClaim::parse(text).ok_or("expected hr or admin")
}

/// Prints a token that the service with the same data directory believes.
///
/// # Errors
/// Wrong configuration, or a data directory whose secret can be neither read nor made.
pub fn run(args: &TokenArgs, context: &Context) -> anyhow::Result<Exit> {
    let keys = identity::development_keys(&context.loaded)?;
    let secret = keys.signing_secret()?.ok_or_else(|| UsageError {
        message: "JWTs are checked with a public key, so tokens are issued by whoever holds the other half"
            .to_owned(),
        remedy: None,
    })?;
    let expires_at: DateTime = clock::after(context.clock.now(), args.ttl);
    let mut token =
        issue_development_token(&secret, &args.sub, args.role, args.ttl, &*context.clock)?;
    if let Some(login) = &args.github_login {
        token = with_github_login(&token, login, &secret)?;
    }
    let result = json!({
        "token": token.expose_secret(),
        "expires_at": expires_at.try_to_rfc3339_string()?,
    });
    context
        .output()
        .result(&result, |_| token.expose_secret().to_owned())?;
    Ok(Exit::Done)
}

/// The same token with the claim that binds it to a GitHub account, signed again.
fn with_github_login(
    token: &SecretString,
    login: &str,
    secret: &SecretString,
) -> anyhow::Result<SecretString> {
    let mut token = insecure_decode::<Map<String, Value>>(token.expose_secret())?;
    token.claims.insert("github_login".to_owned(), login.into());
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    Ok(SecretString::from(encode(
        &token.header,
        &token.claims,
        &key,
    )?))
}
