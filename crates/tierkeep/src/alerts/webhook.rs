//! The webhook: a POST of JSON, signed as Standard Webhooks say.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use secrecy::{ExposeSecret as _, SecretSlice};
use serde::Serialize;
use sha2::Sha256;
use tierkeep_core::clock::Clock;
use tierkeep_engine::{About, Alert, AlertKind, Channel, ChannelKind, Notice, Undelivered};

use super::runbook;
use crate::config::alerts::WebhookConfig;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);
const USER_AGENT: &str = concat!("tierkeep/", env!("CARGO_PKG_VERSION"));

/// A receiver of signed webhooks.
pub struct Webhook {
    client: Client,
    url: Url,
    key: WebhookKey,
    clock: Arc<dyn Clock>,
}

/// The bytes that sign what is posted, which may be replaced at any time. Clones share them.
#[derive(Clone, Debug)]
pub struct WebhookKey(Arc<RwLock<SecretSlice<u8>>>);

impl WebhookKey {
    fn new(key: Vec<u8>) -> Self {
        Self(Arc::new(RwLock::new(key.into())))
    }

    /// Signs everything from now on.
    pub fn replace(&self, key: Vec<u8>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key.into();
    }

    /// Source: Standard Webhooks, "Signature scheme".
    fn signature(&self, id: &str, seconds: i64, body: &str) -> Option<String> {
        let key = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret()).ok()?;
        mac.update(format!("{id}.{seconds}.{body}").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        Some(format!("v1,{signature}"))
    }
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

/// What is posted.
#[derive(Serialize, Debug)]
struct Payload<'a> {
    r#type: &'static str,
    timestamp: &'a str,
    data: Told<'a>,
}

#[derive(Serialize, Debug)]
struct Told<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runbook_url: Option<String>,
    total: u64,
    alerts: &'a [Alert],
}

impl<'a> Payload<'a> {
    fn of(notice: &'a Notice) -> Self {
        let (r#type, kind) = match notice.about {
            Some(About::Raised(kind)) => ("alert.raised", Some(kind)),
            Some(About::Resolved(kind)) => ("alert.resolved", Some(kind)),
            None => ("alert.test", None),
        };
        Self {
            r#type,
            timestamp: &notice.at,
            data: Told {
                kind: kind.map(AlertKind::as_str),
                runbook_url: kind.map(runbook),
                total: notice.total,
                alerts: &notice.alerts,
            },
        }
    }
}

impl Webhook {
    /// The receiver that the settings name.
    ///
    /// # Errors
    /// A secret that can be neither read nor made, or an HTTP client that cannot be, for want of TLS roots for
    /// example.
    pub fn new(config: &WebhookConfig, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let mut client = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(Policy::none())
            .referer(false)
            .https_only(!config.loopback)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT);
        if config.loopback {
            client = client.no_proxy();
        }
        let unfit = "the HTTP client for TIERKEEP_ALERT_WEBHOOK_URL could not be created";
        Ok(Self {
            client: client
                .build()
                .map_err(reqwest::Error::without_url)
                .context(unfit)?,
            url: Url::parse(config.url.expose_secret()).context(unfit)?,
            key: WebhookKey::new(config.key()?),
            clock,
        })
    }

    /// What signs, so that it can be replaced.
    pub fn key(&self) -> WebhookKey {
        self.key.clone()
    }
}

#[async_trait]
impl Channel for Webhook {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Webhook
    }

    async fn send(&self, notice: &Notice) -> Result<(), Undelivered> {
        let unmade = |reason: &str| Undelivered {
            reason: reason.to_owned(),
            may_have_arrived: false,
        };
        let body = serde_json::to_string(&Payload::of(notice));
        let body = body.map_err(|_| unmade("the message cannot be formatted as JSON"))?;
        let seconds = self.clock.now().timestamp_millis().div_euclid(1_000);
        let signature = self.key.signature(&notice.id, seconds, &body);
        let signature = signature.ok_or_else(|| unmade("the message cannot be signed"))?;
        let answer = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &notice.id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(body)
            .send()
            .await
            .map_err(|error| undelivered(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Undelivered {
            reason: format!("status {}", status.as_u16()),
            may_have_arrived: true,
        })
    }
}

/// The error's own text may hold the address.
fn undelivered(error: &reqwest::Error) -> Undelivered {
    let (reason, may_have_arrived) = if error.is_connect() {
        ("connection failed", false)
    } else if error.is_timeout() {
        ("timeout", true)
    } else {
        ("connection lost", true)
    };
    Undelivered {
        reason: reason.to_owned(),
        may_have_arrived,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_signs_can_be_replaced_and_does_not_print() {
        let key = WebhookKey::new(b"the first secret of the tests".to_vec());
        let signed = || key.signature("msg_1", 1_800_000_000, "{}").unwrap();
        let first = signed();
        assert_eq!(signed(), first);
        key.clone()
            .replace(b"the second secret of the tests".to_vec());
        assert_ne!(signed(), first);
        assert!(!format!("{key:?}").contains("secret of"), "{key:?}");
    }
}
