//! The mail: plain text, one for each message.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use secrecy::ExposeSecret as _;
use tierkeep_engine::{About, Channel, ChannelKind, Notice, Undelivered};

use super::runbook;
use crate::config::alerts::{EmailConfig, MailSecurity};

const TIMEOUT: Duration = Duration::from_secs(15);

/// Receivers of mails.
#[derive(Debug)]
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Email {
    /// The receivers that the settings name.
    ///
    /// # Errors
    /// A host that TLS cannot vouch for.
    pub fn new(config: &EmailConfig) -> anyhow::Result<Self> {
        let unfit = "the mail server of TIERKEEP_ALERT_EMAIL cannot be used";
        let parameters = || TlsParameters::new(config.host.clone()).context(unfit);
        let tls = match config.security {
            MailSecurity::Tls => Tls::Wrapper(parameters()?),
            MailSecurity::StartTls => Tls::Required(parameters()?),
            MailSecurity::Loopback => Tls::None,
        };
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(config.host.as_str())
                .port(config.port)
                .tls(tls)
                .timeout(Some(TIMEOUT));
        if let Some((user, password)) = &config.credentials {
            let password = password.expose_secret().to_owned();
            transport = transport.credentials(Credentials::new(user.clone(), password));
        }
        Ok(Self {
            transport: transport.build(),
            from: config.from.clone(),
            to: config.to.clone(),
        })
    }

    fn message(&self, notice: &Notice) -> Option<Message> {
        let named = Message::builder()
            .from(self.from.clone())
            .subject(subject(notice))
            .message_id(Some(format!("<{}@tierkeep.invalid>", notice.id)));
        self.to
            .iter()
            .cloned()
            .fold(named, MessageBuilder::to)
            .header(ContentType::TEXT_PLAIN)
            .body(text(notice))
            .ok()
    }
}

fn subject(notice: &Notice) -> String {
    let total = notice.total;
    match notice.about {
        Some(About::Raised(kind)) => format!("[tierkeep] {}: {total} raised", kind.as_str()),
        Some(About::Resolved(kind)) => format!("[tierkeep] {}: {total} resolved", kind.as_str()),
        None => "[tierkeep] test message".to_owned(),
    }
}

fn text(notice: &Notice) -> String {
    if notice.about.is_none() {
        return "This is a test message: alerts are delivered to this address.\n".to_owned();
    }
    let mut text = String::new();
    for alert in &notice.alerts {
        let _ = writeln!(text, "{}\n  {}", alert.subject, alert.message);
        let _ = match &alert.resolved_at {
            Some(resolved) => writeln!(text, "  raised {}, resolved {resolved}", alert.first_at),
            None => writeln!(text, "  raised {} ({} times)", alert.first_at, alert.count),
        };
    }
    let shown = u64::try_from(notice.alerts.len()).unwrap_or(u64::MAX);
    let more = notice.total.saturating_sub(shown);
    if more > 0 {
        let _ = writeln!(text, "\nand {more} more");
    }
    if let Some(About::Raised(kind)) = notice.about {
        let _ = writeln!(text, "\nWhat to do: {}", runbook(kind));
    }
    text.push_str("\n`tierkeep alerts list` shows all of them.\n");
    text
}

#[async_trait]
impl Channel for Email {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Email
    }

    async fn send(&self, notice: &Notice) -> Result<(), Undelivered> {
        let message = self.message(notice).ok_or_else(|| Undelivered {
            reason: "the message cannot be formatted as a mail".into(),
            may_have_arrived: false,
        })?;
        let sent = self.transport.send(message).await;
        sent.map(|_| ()).map_err(|error| undelivered(&error))
    }
}

/// The server's own words may hold an address.
fn undelivered(error: &SmtpError) -> Undelivered {
    let never_connected = |error: &SmtpError| {
        let mut cause = error.source();
        while let Some(one) = cause {
            if let Some(io) = one.downcast_ref::<io::Error>() {
                return io.kind() == io::ErrorKind::ConnectionRefused;
            }
            cause = one.source();
        }
        false
    };
    let (reason, may_have_arrived) = if let Some(code) = error.status() {
        (format!("the mail server answered {code}"), false)
    } else if error.is_tls() {
        ("TLS failed".to_owned(), false)
    } else if error.is_timeout() {
        ("timeout".to_owned(), true)
    } else if error.is_client() {
        (
            "the mail server does not support what is needed (TLS, or an authentication method)"
                .to_owned(),
            false,
        )
    } else {
        ("connection failed".to_owned(), !never_connected(error))
    };
    Undelivered {
        reason,
        may_have_arrived,
    }
}
