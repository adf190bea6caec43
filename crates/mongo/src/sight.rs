//! What the driver's own looks at the servers of a client found: which were not reached, and why.
//!
//! For operators alone. Holds host names and ports, and never a user, a password or a server's text.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mongodb::error::{Error, ErrorKind};
use mongodb::event::EventHandler;
use mongodb::event::sdam::SdamEvent;
use mongodb::options::ClientOptions;
use tierkeep_core::store::Whereabouts;

/// The servers of one client, by address, with what is wrong with each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl Sight {
    /// Watches the servers of `options`, which are not in use yet.
    pub(crate) fn of(options: &mut ClientOptions) -> Self {
        let sight = Self::default();
        let known = options.hosts.iter().map(|host| (host.to_string(), None));
        sight.servers().extend(known);
        let (heard, set) = (sight.clone(), options.repl_set_name.clone());
        options.sdam_event_handler = Some(EventHandler::callback(move |event| {
            heard.hear(&event, set.as_deref());
        }));
        sight
    }

    /// Each server, and what is wrong with it.
    pub(crate) fn whereabouts(&self) -> Vec<Whereabouts> {
        let servers = self.servers();
        let whereabouts = servers.iter().map(|(place, trouble)| Whereabouts {
            place: place.clone(),
            trouble: trouble.clone(),
        });
        whereabouts.collect()
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the driver adds events, and only these say why a server was not reached"
    )]
    fn hear(&self, event: &SdamEvent, set: Option<&str>) {
        match event {
            SdamEvent::ServerHeartbeatFailed(failed) => {
                let trouble = trouble(&failed.failure);
                self.note(failed.server_address.to_string(), Some(trouble));
            }
            SdamEvent::ServerHeartbeatSucceeded(answered) => {
                let found = answered.reply.get_str("setName").ok();
                let trouble = set.and_then(|set| wrong_set(set, found));
                self.note(answered.server_address.to_string(), trouble);
            }
            _ => {}
        }
    }

    fn note(&self, address: String, trouble: Option<String>) {
        self.servers().insert(address, trouble);
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wrong_set(wanted: &str, found: Option<&str>) -> Option<String> {
    match found {
        Some(found) if found == wanted => None,
        Some(found) => Some(format!(
            "the server belongs to the replica set {found:?}, but the connection string has replicaSet={wanted}"
        )),
        None => Some(format!(
            "the server does not belong to a replica set, but the connection string has replicaSet={wanted}"
        )),
    }
}

/// Why a server was not reached, in a few words.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the driver adds kinds, and their texts may quote what was sent"
)]
fn trouble(error: &Error) -> String {
    match &*error.kind {
        ErrorKind::Io(error) => of_io(error),
        ErrorKind::DnsResolve { .. } => UNKNOWN_HOST.to_owned(),
        ErrorKind::Authentication { .. } => "the user name or password was rejected".to_owned(),
        ErrorKind::InvalidTlsConfig { .. } => "the TLS options cannot be used".to_owned(),
        ErrorKind::ServerSelection { .. } => "no answer in time".to_owned(),
        _ => "the server rejected the handshake".to_owned(),
    }
}

const UNKNOWN_HOST: &str = "the host name is unknown";

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other kind is told by its own text"
)]
fn of_io(error: &io::Error) -> String {
    let inner = error.get_ref().map(ToString::to_string);
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "no route to the host".to_owned()
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => {
            "the connection was closed; check whether the server requires TLS".to_owned()
        }
        // Rustls tells its own errors this way.
        io::ErrorKind::InvalidData => {
            format!("TLS: {}", inner.unwrap_or_else(|| error.to_string()))
        }
        _ => {
            let text = error.to_string();
            if text.contains("failed to lookup address") {
                UNKNOWN_HOST.to_owned()
            } else {
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::SecretString;
    use tierkeep_core::db::Role;
    use tierkeep_core::store::Store as _;

    use super::*;
    use crate::connect::Servers;

    /// What is said of the servers of `url` after a hello in vain.
    async fn said(url: &str) -> Vec<(String, String)> {
        let store = Servers::new()
            .connect(&SecretString::from(url), Role::SrieMainUser)
            .await
            .unwrap();
        let hello = tokio::time::timeout(Duration::from_secs(20), store.hello()).await;
        assert!(hello.unwrap().is_err());
        let said = store.whereabouts().into_iter();
        said.map(|it| (it.place, it.trouble.unwrap_or_default()))
            .collect()
    }

    #[tokio::test]
    async fn a_server_that_is_not_reached_is_named_with_the_reason_and_without_the_credentials() {
        let refused = said("mongodb://me:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=700").await;
        let expected = ("127.0.0.1:1".to_owned(), "connection refused".to_owned());
        assert_eq!(refused, [expected]);
        let unknown =
            said("mongodb://me:hunter2@no-such-host.invalid:27017/?serverSelectionTimeoutMS=700")
                .await;
        let place = "no-such-host.invalid:27017".to_owned();
        assert_eq!(unknown, [(place, UNKNOWN_HOST.to_owned())]);
    }

    #[test]
    fn another_replica_set_is_named() {
        assert_eq!(wrong_set("rs0", Some("rs0")), None);
        let other = wrong_set("rs0", Some("rs1")).unwrap();
        assert!(other.contains("\"rs1\"") && other.contains("replicaSet=rs0"));
        assert!(
            wrong_set("rs0", None)
                .unwrap()
                .contains("not belong to a replica set")
        );
    }
}
