//! `token`: owns the tokens that an operator issues. Must never sign one on MongoDB that is not in the audit trail.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::{EncodingKey, encode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use tierkeep_core::audit::AuditKind;
use tierkeep_core::bson::DateTime;
use tierkeep_core::clock;
use tierkeep_core::user::UserId;
use tierkeep_engine::Purpose;
use tierkeep_identity::{RoleClaim, issue_development_token};

use super::{Context, audit};
use crate::config::{Backend, IdentitySettings, ServiceSettings, Settings, units};
use crate::exit::{Exit, UsageError};

/// How long a token is valid at most where the databases are on MongoDB.
const LONGEST_ON_MONGODB: Duration = Duration::from_hours(12);

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
    /// The login of the GitHub account that the caller's GitHub token must belong to
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

/// Prints a token that the service with the same settings believes. On MongoDB it is recorded in the audit trail first.
///
/// # Errors
/// Wrong configuration, keys that can only check, a data directory that does not exist or whose secret can be neither read
/// nor made, or a database for the trail that cannot be reached.
pub async fn run(args: &TokenArgs, context: &Context) -> anyhow::Result<Exit> {
    let ServiceSettings {
        settings, identity, ..
    } = context.service()?;
    match &settings.backend {
        Backend::Embedded { data_dir } => must_exist(data_dir)?,
        Backend::Mongo(_) => lasts_no_longer_than_a_shift(args)?,
    }
    let secret = identity
        .keys
        .signing_secret()?
        .ok_or_else(|| signed_elsewhere(args, &identity))?;
    if matches!(settings.backend, Backend::Mongo(_)) {
        record(args, context, &settings).await?;
    }
    let expires_at: DateTime = clock::after(context.clock.now(), args.ttl);
    let token = issue_development_token(&secret, &args.sub, args.role, args.ttl, &*context.clock)?;
    let token = with_claims(&token, &further_claims(args, &identity), &secret)?;
    let result = json!({
        "token": token.expose_secret(),
        "expires_at": expires_at.try_to_rfc3339_string()?,
    });
    context
        .output()
        .result(&result, |_| token.expose_secret().to_owned())?;
    Ok(Exit::Done)
}

fn must_exist(data_dir: &Path) -> Result<(), UsageError> {
    if data_dir.is_dir() {
        return Ok(());
    }
    Err(UsageError {
        message: format!("the data directory {} does not exist", data_dir.display()),
        remedy: Some("`tierkeep serve` and `tierkeep init` create one".into()),
    })
}

/// Where the data of others may be, a token is for the work at hand.
fn lasts_no_longer_than_a_shift(args: &TokenArgs) -> Result<(), UsageError> {
    if args.ttl <= LONGEST_ON_MONGODB {
        return Ok(());
    }
    Err(UsageError {
        message: format!(
            "--ttl is {}, but a token for MongoDB is valid for at most 12h",
            shown(args.ttl)
        ),
        remedy: Some("give --ttl 12h or less".into()),
    })
}

/// A length of time as options take it.
fn shown(ttl: Duration) -> String {
    jiff::fmt::friendly::SpanPrinter::new().unsigned_duration_to_string(&ttl)
}

/// What the holder of the private key has to sign.
fn signed_elsewhere(args: &TokenArgs, identity: &IdentitySettings) -> UsageError {
    let mut claims = vec![
        format!("sub={:?}", args.sub.to_ascii_lowercase()),
        "type=\"access\"".to_owned(),
        "exp".to_owned(),
    ];
    claims.extend(args.role.map(|role| format!("role={:?}", role.as_str())));
    let further = further_claims(args, identity);
    claims.extend(
        further
            .iter()
            .map(|(name, value)| format!("{name}={value:?}")),
    );
    UsageError {
        message: "JWTs are verified with public keys here, so this process has no signing key"
            .to_owned(),
        remedy: Some(format!(
            "the issuer with the private key has to sign it, with the claims {}",
            claims.join(", ")
        )),
    }
}

async fn record(args: &TokenArgs, context: &Context, settings: &Settings) -> anyhow::Result<()> {
    let (engine, _) = context.open(settings, Purpose::Work).await?;
    let user = UserId::internal(&args.sub)?;
    let role = args.role.map_or("none", RoleClaim::as_str);
    let action = format!("issue a token, role {role}, valid for {}", shown(args.ttl));
    audit::does(
        engine.audit_trail(),
        AuditKind::AdminAction,
        &action,
        Some(&user),
    )
    .await?;
    Ok(())
}

/// The claims that this service asks for beyond those of every token.
fn further_claims(args: &TokenArgs, identity: &IdentitySettings) -> Vec<(&'static str, String)> {
    [
        ("github_login", args.github_login.clone()),
        ("iss", identity.issuer.clone()),
        ("aud", identity.audience.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// The same token with these claims too, signed again.
fn with_claims(
    token: &SecretString,
    claims: &[(&'static str, String)],
    secret: &SecretString,
) -> anyhow::Result<SecretString> {
    let mut token = insecure_decode::<Map<String, Value>>(token.expose_secret())?;
    for (name, value) in claims {
        token
            .claims
            .insert((*name).to_owned(), value.as_str().into());
    }
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    Ok(SecretString::from(encode(
        &token.header,
        &token.claims,
        &key,
    )?))
}
