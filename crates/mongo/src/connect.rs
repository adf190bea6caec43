//! From a connection string to a store. Owns the clients and their time limits.
//!
//! Nothing here waits for a server: a connection string that parses gives a store, and whether a server listens shows
//! with its first operation. A connection string never reaches an error, a log or `Debug`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use mongodb::Client;
use mongodb::error::{Error, ErrorKind};
use mongodb::event::EventHandler;
use mongodb::event::cmap::CmapEvent;
use mongodb::options::{Acknowledgment, ClientOptions, ConnectionString};
use secrecy::{ExposeSecret, SecretString};
use tierkeep_core::db::Role;
use tokio::runtime::Builder;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::sight::Sight;
use crate::store::MongoStore;

/// How long the driver looks for a primary, unless the connection string says otherwise.
const SERVER_SELECTION: Duration = Duration::from_secs(5);
/// How long the driver waits for a connection, unless the connection string says otherwise.
const CONNECT: Duration = Duration::from_secs(5);
/// How often the driver looks at a server, unless the connection string says otherwise: often enough that a
/// server it has lost sight of is found again within the selection's time.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long servers are waited for at the end.
const GOODBYE: Duration = Duration::from_secs(1);
/// The name under which the server's logs and statistics show the connections.
const APP_NAME: &str = "tierkeep";

/// Why a connection string gives no store. Names the role and its variable, never the string.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The string is no MongoDB connection string.
    #[error("{role}: {} is not a valid MongoDB connection string", role.url_variable())]
    Invalid {
        /// The database it was meant for.
        role: Role,
    },
    /// The host name of a `mongodb+srv` string has no records that could be read.
    #[error("{role}: the host name in {} could not be resolved", role.url_variable())]
    Unresolved {
        /// The database it was meant for.
        role: Role,
    },
}

impl ConnectError {
    /// The database that the connection string was meant for.
    pub fn role(self) -> Role {
        match self {
            Self::Invalid { role } | Self::Unresolved { role } => role,
        }
    }

    fn new(role: Role, error: &Error) -> Self {
        if is_unresolved(error) {
            Self::Unresolved { role }
        } else {
            Self::Invalid { role }
        }
    }
}

/// Whether a connection string was understood and its host name could not be resolved.
pub(crate) fn is_unresolved(error: &Error) -> bool {
    matches!(*error.kind, ErrorKind::DnsResolve { .. } | ErrorKind::Io(_))
}

/// What the driver does not accept in a connection string, without quoting any value of it; `None` when a client can be
/// made of it. Reads the files of certificates that it names; resolves no name and contacts no server.
pub fn misunderstood(url: &SecretString) -> Option<String> {
    let url = url.expose_secret();
    if is_understood(url) {
        return None;
    }
    let generic = "it cannot be read; a user name and a password in it must be percent-encoded";
    let (servers, options) = url.split_once('?').unwrap_or((url, ""));
    if !is_understood(servers) {
        return Some(generic.to_owned());
    }
    let options: Vec<&str> = options.split('&').collect();
    let culprit = (0..options.len()).find(|index| {
        let mut others = options.clone();
        others.remove(*index);
        is_understood(&format!("{servers}?{}", others.join("&")))
    });
    let Some(culprit) = culprit else {
        return Some("several of its options or their values are not accepted".to_owned());
    };
    let name = options[culprit].split('=').next().unwrap_or_default();
    Some(if name.to_ascii_lowercase().ends_with("file") {
        format!(
            "the file of its option {name:?} cannot be read, or does not hold the key or certificate"
        )
    } else {
        format!("its option {name:?} or its value is not accepted")
    })
}

/// Whether the driver makes a client of `url`: what it refuses when it reads the string, and what only when it puts the
/// options together.
fn is_understood(url: &str) -> bool {
    if ConnectionString::parse(url).is_err() {
        return false;
    }
    let listed = with_listed_hosts(url);
    let Some(Ok(options)) = ClientOptions::parse(listed.as_str())
        .into_future()
        .now_or_never()
    else {
        return false;
    };
    // The client's tasks belong to a runtime that never runs them.
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else {
        return true;
    };
    let is_accepted = {
        let _entered = runtime.enter();
        Client::with_options(options).is_ok()
    };
    runtime.shutdown_background();
    is_accepted
}

/// A `mongodb+srv` string as one that lists its hosts, so that no name has to be resolved.
fn with_listed_hosts(url: &str) -> String {
    let Some(rest) = url.strip_prefix("mongodb+srv://") else {
        return url.to_owned();
    };
    let Some((servers, options)) = rest.split_once('?') else {
        return format!("mongodb://{rest}");
    };
    let is_of_srv = |option: &&str| !option.to_ascii_lowercase().starts_with("srv");
    let options: Vec<&str> = options.split('&').filter(is_of_srv).collect();
    format!("mongodb://{servers}?{}", options.join("&"))
}

/// What a connection string asks for that is less than a majority, in words; `None` where it asks for nothing less.
///
/// It has no effect: every write asks for a majority and the journal itself.
pub fn weaker_than_majority(url: &SecretString) -> Option<String> {
    let concern = ConnectionString::parse(url.expose_secret())
        .ok()?
        .write_concern?;
    if concern.journal == Some(false) {
        return Some("journal=false".to_owned());
    }
    match concern.w? {
        Acknowledgment::Majority => None,
        Acknowledgment::Nodes(nodes) => Some(format!("w={nodes}")),
        Acknowledgment::Custom(name) => Some(format!("w={name}")),
        // The driver's enum is not exhaustive.
        _ => Some("w".to_owned()),
    }
}

/// A connection string, and whether it is the public's client.
type Key = (String, bool);

/// A client that is open.
#[derive(Clone)]
struct Opened {
    client: Client,
    /// The database that the path of its connection string names.
    database: Option<String>,
    /// How often it has given its connections up: another server may answer the next.
    cleared: Arc<AtomicU64>,
    /// Which of its servers were not reached, and why.
    sight: Sight,
}

/// The clients that are open, one for each connection string, so that roles on one cluster share their connections.
/// `external_users` has its own: public requests take no connection from other requests.
#[derive(Default)]
pub struct Servers {
    open: Mutex<HashMap<Key, Opened>>,
}

impl Servers {
    /// None open yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The store of `role` at `url`: its own variable's value, or one that several roles share.
    ///
    /// A database named in the path of `url` wins over the role's name.
    ///
    /// # Errors
    /// [`ConnectError`] when `url` cannot be understood; whether a server is there is not looked at.
    pub async fn connect(
        &self,
        url: &SecretString,
        role: Role,
    ) -> Result<MongoStore, ConnectError> {
        let refused = |error: Error| ConnectError::new(role, &error);
        let of_the_public = role == Role::ExternalUsers;
        let opened = self.open(url, of_the_public).await.map_err(refused)?;
        let database = opened.database.as_deref().unwrap_or(role.name());
        let store = MongoStore::with_client(&opened.client, database, role);
        Ok(store.counting(opened.cleared).seeing(opened.sight))
    }

    /// The client for `url`, and the database that its path names.
    pub(crate) async fn client(
        &self,
        url: &SecretString,
    ) -> Result<(Client, Option<String>), Error> {
        let opened = self.open(url, false).await?;
        Ok((opened.client, opened.database))
    }

    async fn open(&self, url: &SecretString, of_the_public: bool) -> Result<Opened, Error> {
        let mut open = self.open.lock().await;
        let key = (url.expose_secret().to_owned(), of_the_public);
        if let Some(known) = open.get(&key) {
            return Ok(known.clone());
        }
        let made = client(url).await?;
        open.insert(key, made.clone());
        Ok(made)
    }

    /// Ends the connections; stores over them answer no more. To be awaited before the runtime ends, which would
    /// interrupt the driver in saying goodbye.
    pub async fn close(&self) {
        let mut closing = JoinSet::new();
        for (_, opened) in self.open.lock().await.drain() {
            closing.spawn(opened.client.shutdown().immediate(true).into_future());
        }
        // A server that is away cannot be told.
        tokio::time::timeout(GOODBYE, closing.join_all()).await.ok();
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").finish_non_exhaustive()
    }
}

impl MongoStore {
    /// The store of `role` at `url`, with connections of its own.
    ///
    /// A database named in the path of `url` wins over the role's name.
    ///
    /// # Errors
    /// [`ConnectError`] when `url` cannot be understood; whether a server is there is not looked at.
    pub async fn connect(url: &SecretString, role: Role) -> Result<Self, ConnectError> {
        Servers::new().connect(url, role).await
    }
}

/// A client for `url`.
async fn client(url: &SecretString) -> Result<Opened, Error> {
    let mut options = ClientOptions::parse(url.expose_secret()).await?;
    options.app_name.get_or_insert_with(|| APP_NAME.to_owned());
    options.retry_writes.get_or_insert(true);
    options
        .server_selection_timeout
        .get_or_insert(SERVER_SELECTION);
    options.connect_timeout.get_or_insert(CONNECT);
    options.heartbeat_freq.get_or_insert(HEARTBEAT);
    let database = options.default_database.clone();
    let cleared = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&cleared);
    // Also what the driver's own look at the server has found, of which no call hears.
    options.cmap_event_handler = Some(EventHandler::callback(move |event| {
        if matches!(event, CmapEvent::PoolCleared(_)) {
            counted.fetch_add(1, Ordering::AcqRel);
        }
    }));
    let sight = Sight::of(&mut options);
    let client = Client::with_options(options)?;
    Ok(Opened {
        client,
        database,
        cleared,
        sight,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn connect(url: &str) -> Result<MongoStore, ConnectError> {
        MongoStore::connect(&SecretString::from(url), Role::SrieMainUser).await
    }

    #[tokio::test]
    async fn a_database_in_the_path_wins_over_the_roles_name() {
        let named = connect("mongodb://localhost:1/elsewhere").await.unwrap();
        assert_eq!(named.database_name(), "elsewhere");
        let unnamed = connect("mongodb://localhost:1/?appName=x").await.unwrap();
        assert_eq!(unnamed.database_name(), "srie_main_user");
    }

    #[tokio::test]
    async fn a_bad_connection_string_is_named_by_role_and_variable_and_never_shown() {
        for url in [
            "",
            "postgres://me:hunter2@db/x",
            "mongodb://me:hunter2@",
            "mongodb://me:hun:ter2@host/",
            "mongodb://me:hunter2@host:port/",
            "mongodb://me:hunter2@host/?w=-7",
            "mongodb://me:hunter2@host/?tls=hunter2",
        ] {
            let error = connect(url).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                "srie_main_user: SRIE_MAIN_USER_DB_URL is not a valid MongoDB connection string",
                "{url}"
            );
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_the_driver_does_not_understand_is_named_without_its_value() {
        let said = |url: &str| misunderstood(&SecretString::from(url)).unwrap_or_default();
        for url in [
            "mongodb://h",
            "mongodb://u:p%40@h:1,[::1]:2/db?w=majority&tls=true",
            "mongodb+srv://u:p@cluster.example.org/?retryWrites=true",
            "mongodb+srv://cluster.example.org/?srvMaxHosts=2",
            "mongodb+srv://cluster.example.org",
        ] {
            assert_eq!(said(url), "");
        }
        for (url, name) in [
            ("mongodb://h/?w=-7", "\"w\""),
            ("mongodb://h/?unheardOf=1", "\"unheardOf\""),
            ("mongodb://h/?w=1&tls=hunter2&appName=x", "\"tls\""),
            (
                "mongodb://h?serverSelectionTimeoutMS=soon",
                "\"serverSelectionTimeoutMS\"",
            ),
            // What only the making of a client finds.
            (
                "mongodb://a,b/?directConnection=true",
                "\"directConnection\"",
            ),
            (
                "mongodb://h/?heartbeatFrequencyMS=1",
                "\"heartbeatFrequencyMS\"",
            ),
            (
                "mongodb://h/?tls=true&tlsCAFile=/hunter2/ca.pem",
                "the file of its option \"tlsCAFile\"",
            ),
            (
                "mongodb+srv://cluster.example.org/?tlsCAFile=/hunter2/ca.pem",
                "the file of its option \"tlsCAFile\"",
            ),
            ("mongodb://me:hun:ter2@host/", "percent-encoded"),
            ("mongodb://me:hunter2?w=-7@host/", "percent-encoded"),
        ] {
            let said = said(url);
            assert!(
                said.contains(name) && !said.contains("hunter2"),
                "{url}: {said}"
            );
        }
    }

    #[tokio::test]
    async fn nothing_that_prints_shows_a_connection_string() {
        let url = SecretString::from("mongodb://me:hunter2@localhost:1/");
        let servers = Servers::new();
        let store = servers.connect(&url, Role::ExternalUsers).await.unwrap();
        let printed = format!("{servers:?} {store:?}");
        assert!(
            !printed.contains("hunter2") && !printed.contains("localhost"),
            "{printed}"
        );
    }
}
