//! How alerts are delivered. Owns what the receivers' addresses must look like; must never quote a secret or an
//! address that may hold one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::message::Mailbox;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::connection_string::decoded;
use super::databases::{DATA_DIR, Missing};
use super::loaded::Loaded;
use super::problem::{Problem, Problems};
use super::secret_key::{SecretKeyError, webhook_secret, webhook_secret_again};
use super::settings::finish;

const WEBHOOK_URL: &str = "TIERKEEP_ALERT_WEBHOOK_URL";
pub(super) const WEBHOOK_SECRET: &str = "TIERKEEP_ALERT_WEBHOOK_SECRET";
const EMAIL: &str = "TIERKEEP_ALERT_EMAIL";
/// What the text of a webhook's secret begins with.
const SECRET_PREFIX: &str = "whsec_";
/// How long it may be. Source: Standard Webhooks, "Signature scheme".
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How alerts are delivered.
#[derive(Clone, Debug, Default)]
pub struct AlertConfig {
    /// By a signed POST.
    pub webhook: Option<WebhookConfig>,
    /// By mail.
    pub email: Option<EmailConfig>,
}

/// Where alerts are posted.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// The address.
    pub url: SecretString,
    /// Whether it is on this machine.
    pub loopback: bool,
    secret: WebhookSecret,
}

#[derive(Clone, Debug)]
enum WebhookSecret {
    Given(SecretString),
    Kept(PathBuf),
}

/// Where and how alerts are mailed.
#[derive(Clone, Debug)]
pub struct EmailConfig {
    /// The mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What keeps others from reading along.
    pub security: MailSecurity,
    /// User and password, where the server wants them.
    pub credentials: Option<(String, SecretString)>,
    /// The sender of the mails.
    pub from: Mailbox,
    /// Their recipients.
    pub to: Vec<Mailbox>,
}

/// What keeps others from reading along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailSecurity {
    /// TLS from the first byte.
    Tls,
    /// STARTTLS, and nothing is said without it.
    StartTls,
    /// The server is on this machine.
    Loopback,
}

impl AlertConfig {
    /// The settings of alerts alone, for a verb that needs no database.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn of(loaded: &Loaded) -> Result<Self, Problems> {
        let mut problems = loaded.problems().to_vec();
        let mut missing = Vec::new();
        let config = alerts(loaded, &mut missing, &mut problems);
        finish(Some(config), loaded, &missing, problems)
    }

    /// Where alerts are posted by these settings, whatever is wrong with others.
    ///
    /// # Errors
    /// Everything that is wrong with the settings of the webhook, at once.
    pub fn webhook_of(loaded: &Loaded) -> Result<Option<WebhookConfig>, Problems> {
        let mut problems = loaded.problems_about(&[WEBHOOK_URL, WEBHOOK_SECRET]);
        let mut missing = Vec::new();
        let webhook = webhook(loaded, &mut missing, &mut problems);
        finish(Some(webhook), loaded, &missing, problems)
    }
}

impl WebhookConfig {
    /// The bytes that sign. In a data directory they are made where there are none.
    ///
    /// # Errors
    /// When the secret of the data directory can be neither read nor made.
    pub fn key(&self) -> Result<Vec<u8>, SecretKeyError> {
        self.key_by(webhook_secret)
    }

    /// The same; makes none where the data directory has lost its own.
    ///
    /// # Errors
    /// When the secret of the data directory cannot be read.
    pub fn key_again(&self) -> Result<Vec<u8>, SecretKeyError> {
        self.key_by(webhook_secret_again)
    }

    fn key_by(
        &self,
        kept: impl FnOnce(&Path) -> Result<SecretString, SecretKeyError>,
    ) -> Result<Vec<u8>, SecretKeyError> {
        let secret = match &self.secret {
            WebhookSecret::Given(secret) => secret.clone(),
            WebhookSecret::Kept(data_dir) => kept(data_dir)?,
        };
        let text = secret.expose_secret();
        // An operator may have put another text into the file.
        Ok(key_of(text).unwrap_or_else(|| text.as_bytes().to_vec()))
    }
}

/// The settings of alerts.
pub(super) fn alerts(
    loaded: &Loaded,
    missing: &mut Vec<Missing>,
    problems: &mut Vec<Problem>,
) -> AlertConfig {
    AlertConfig {
        webhook: webhook(loaded, missing, problems),
        email: email(loaded, problems),
    }
}

fn webhook(
    loaded: &Loaded,
    missing: &mut Vec<Missing>,
    problems: &mut Vec<Problem>,
) -> Option<WebhookConfig> {
    let secret = loaded.secret(WEBHOOK_SECRET);
    if secret.is_some_and(|secret| key_of(secret.expose_secret()).is_none()) {
        let source = loaded.source(WEBHOOK_SECRET);
        let message = format!(
            "{WEBHOOK_SECRET} ({source}) is not {SECRET_PREFIX} followed by Base64 of 24 to 64 bytes"
        );
        let remedy = "echo \"whsec_$(openssl rand -base64 32)\" generates one";
        problems.push(Problem::new(WEBHOOK_SECRET, message).remedy(remedy));
    }
    let url = loaded.secret(WEBHOOK_URL)?;
    let loopback = match web_address(url.expose_secret()) {
        Ok(loopback) => loopback,
        Err(reason) => {
            let source = loaded.source(WEBHOOK_URL);
            let message = format!("{WEBHOOK_URL} ({source}) {reason}");
            problems.push(Problem::new(WEBHOOK_URL, message));
            return None;
        }
    };
    let absent = loaded
        .get(WEBHOOK_SECRET)
        .is_some_and(super::loaded::Effective::is_absent);
    let secret = match (secret, loaded.path(DATA_DIR)) {
        (Some(secret), _) => WebhookSecret::Given(secret.clone()),
        (None, Some(data_dir)) if absent => WebhookSecret::Kept(Path::to_owned(data_dir)),
        (None, _) => {
            if absent {
                missing.push((
                    WEBHOOK_SECRET,
                    format!("signs what is posted to {WEBHOOK_URL}"),
                ));
            }
            return None;
        }
    };
    Some(WebhookConfig {
        url: url.clone(),
        loopback,
        secret,
    })
}

/// Whether the address is on this machine.
fn web_address(text: &str) -> Result<bool, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL of a server")?;
    let host = url.host_str().ok_or("is not a URL of a server")?;
    let loopback = is_loopback(host);
    match url.scheme() {
        "https" => Ok(loopback),
        "http" if loopback => Ok(true),
        "http" => Err("must be https unless its host is a loopback address"),
        _ => Err("must start with https://"),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// The bytes that a webhook's secret encodes.
fn key_of(secret: &str) -> Option<Vec<u8>> {
    let text = secret.trim().strip_prefix(SECRET_PREFIX)?;
    let key = STANDARD.decode(text).ok()?;
    SECRET_BYTES.contains(&key.len()).then_some(key)
}

fn email(loaded: &Loaded, problems: &mut Vec<Problem>) -> Option<EmailConfig> {
    let text = loaded.secret(EMAIL)?;
    match mail_address(text.expose_secret().trim()) {
        Ok(config) => Some(config),
        Err(reason) => {
            let source = loaded.source(EMAIL);
            let message = format!("{EMAIL} ({source}) {reason}");
            let remedy = "smtps://USER:PASSWORD@mail.example.org?from=tierkeep@example.org&to=night@example.org\n\
                          smtps is TLS (port 465), smtp is STARTTLS (port 587), or unencrypted on a loopback address; \
                          separate several addresses of to by commas; write @ : / ? & % in a user or password as %40 %3A %2F \
                          %3F %26 %25";
            problems.push(Problem::new(EMAIL, message).remedy(remedy));
            None
        }
    }
}

fn mail_address(text: &str) -> Result<EmailConfig, String> {
    let url = Url::parse(text).map_err(|_| "is not a URL of a mail server")?;
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or("does not name a mail server")?.to_owned();
    let (security, usual_port) = match url.scheme() {
        "smtps" => (MailSecurity::Tls, 465),
        "smtp" if is_loopback(&host) => (MailSecurity::Loopback, 25),
        "smtp" => (MailSecurity::StartTls, 587),
        _ => return Err("must start with smtps:// or smtp://".into()),
    };
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err("must not have a path or a fragment".into());
    }
    let user = decoded(url.username()).ok_or("has a user that cannot be decoded")?;
    let password = url.password().map(|password| {
        decoded(password)
            .map(SecretString::from)
            .ok_or("has a password that cannot be decoded")
    });
    let password = password.transpose()?;
    let credentials = match (user.is_empty(), password) {
        (true, None) => None,
        (false, Some(password)) => Some((user, password)),
        (true, Some(_)) | (false, None) => {
            return Err("must have a user and a password, or neither".into());
        }
    };
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for pair in url.query().unwrap_or_default().split('&') {
        match pair.split_once('=') {
            Some(("from", value)) => from.extend(mailboxes("from", value)?),
            Some(("to", value)) => to.extend(mailboxes("to", value)?),
            Some(_) | None => {
                return Err("must have from and to, and nothing else, after the ?".into());
            }
        }
    }
    let [from] = from.as_slice() else {
        return Err("must name one address in from".into());
    };
    if to.is_empty() {
        return Err("must name an address in to".into());
    }
    Ok(EmailConfig {
        port: url.port().unwrap_or(usual_port),
        host,
        security,
        credentials,
        from: from.clone(),
        to,
    })
}

fn mailboxes(name: &str, value: &str) -> Result<Vec<Mailbox>, String> {
    let read = |text: &str| decoded(text)?.trim().parse::<Mailbox>().ok();
    let all: Option<Vec<Mailbox>> = value.split(',').map(read).collect();
    all.ok_or_else(|| format!("holds something in {name} that is not a mail address"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://hooks.example.org/x?y=z", Some(false))]
    #[case("http://127.0.0.1:9000/x", Some(true))]
    #[case("http://[::1]/x", Some(true))]
    #[case("http://localhost/x", Some(true))]
    #[case("http://hooks.example.org/x", None)]
    #[case("ftp://hooks.example.org/x", None)]
    #[case("https://", None)]
    fn alerts_travel_in_clear_text_on_this_machine_only(
        #[case] url: &str,
        #[case] loopback: Option<bool>,
    ) {
        assert_eq!(web_address(url).ok(), loopback);
    }

    #[rstest]
    #[case("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true)]
    #[case("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false)]
    #[case("whsec_c2hvcnQ=", false)]
    #[case("whsec_not base64", false)]
    fn a_secret_has_the_form_of_the_standard(#[case] secret: &str, #[case] fits: bool) {
        assert_eq!(key_of(secret).is_some(), fits);
    }

    #[rstest]
    #[case(
        "smtps://u:p%40ss@mail.example.org?from=a@b.c&to=ops%2Bnight@b.c,d@e.f",
        465,
        MailSecurity::Tls
    )]
    #[case(
        "smtp://u:p@mail.example.org:2525?from=a@b.c&to=d+x@e.f",
        2525,
        MailSecurity::StartTls
    )]
    #[case(
        "smtp://127.0.0.1?from=tierkeep%20%3Ca@b.c%3E&to=d@e.f",
        25,
        MailSecurity::Loopback
    )]
    fn a_mail_server_is_named_with_its_addresses(
        #[case] text: &str,
        #[case] port: u16,
        #[case] security: MailSecurity,
    ) {
        let config = mail_address(text).unwrap();
        assert_eq!((config.port, config.security), (port, security));
        assert_eq!(config.from.email.to_string(), "a@b.c");
        if let Some((_, password)) = &config.credentials {
            assert!(["p@ss", "p"].contains(&password.expose_secret()));
        }
    }

    #[rstest]
    #[case("ops@example.org")]
    #[case("mailto:ops@example.org")]
    #[case("smtps://mail.example.org")]
    #[case("smtps://mail.example.org?to=a@b.c")]
    #[case("smtps://mail.example.org?from=a@b.c")]
    #[case("smtps://mail.example.org?from=a@b.c&to=")]
    #[case("smtps://mail.example.org?from=a@b.c&to=nobody")]
    #[case("smtps://mail.example.org?from=a@b.c&to=a@b.c&tls=none")]
    #[case("smtps://user@mail.example.org?from=a@b.c&to=a@b.c")]
    fn anything_else_is_refused_without_quoting_it(#[case] text: &str) {
        let reason = mail_address(text).unwrap_err();
        assert!(!reason.contains("example.org"), "{reason}");
    }
}
