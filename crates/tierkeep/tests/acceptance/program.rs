//! Running the built binary on a separate backend, and reading its databases as another program would.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use serde_json::Value;
use tierkeep::clock::SystemClock;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::{Cursor, Find, Query, Store};
use tierkeep_mongo::MongoStore;
use tierkeep_sqlite::SqliteStore;

use super::databases::Databases;

pub const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes!";

/// How long a service may take to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked whether it has.
const INTERVAL: Duration = Duration::from_millis(10);

/// The arguments that serve on a free port.
pub const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    Sqlite,
    Mongo,
}

/// Seven fresh databases and the environment that leads to them.
pub struct Deployment {
    pub backend: Backend,
    pub dir: tempfile::TempDir,
    pub environment: BTreeMap<String, String>,
    #[expect(dead_code, reason = "dropped with this")]
    databases: Option<Databases>,
}

/// The connection string of the replica set that the tests run on, with this database in its path.
pub fn mongo_url(database: &str) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test command hands the server over this way"
    )]
    let url = std::env::var("TIERKEEP_TEST_MONGODB_URL")
        .expect("no MongoDB to test on: run `cargo xtask test`, or set TIERKEEP_TEST_MONGODB_URL");
    let (servers, options) = url.split_once('?').unwrap_or((&url, ""));
    let hosts = servers
        .trim_start_matches("mongodb://")
        .split('/')
        .next()
        .unwrap_or_default();
    format!("mongodb://{hosts}/{database}?{options}")
}

impl Deployment {
    pub fn new(backend: Backend) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut environment = BTreeMap::new();
        let mut set = |name: &str, value: String| environment.insert(name.to_owned(), value);
        set("SECRET_KEY", SECRET.into());
        set("TIERKEEP_LOG", "json".into());
        // Tests ask as fast as they can.
        for limit in ["RATE", "BURST", "NEW_USERS"] {
            set(&format!("TIERKEEP_PUBLIC_{limit}"), "1000000".into());
        }
        let databases = match backend {
            Backend::Sqlite => {
                set(
                    "TIERKEEP_DATA_DIR",
                    dir.path().join("data").display().to_string(),
                );
                set("TIERKEEP_GITHUB_VERIFY", "off".into());
                None
            }
            Backend::Mongo => {
                let unique = uuid::Uuid::now_v7().simple().to_string();
                let names = Role::ALL.map(|role| format!("t{}_{role}", &unique[20..]));
                for (role, database) in Role::ALL.into_iter().zip(&names) {
                    set(role.url_variable(), mongo_url(database));
                }
                Some(Databases::new(&mongo_url(""), names.into()))
            }
        };
        Self {
            backend,
            dir,
            environment,
            databases,
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_tierkeep")), arguments)
    }

    /// The same, of another build.
    pub fn command_of(&self, build: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(build);
        command
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed and answers its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The database of `role`, opened by another program.
    pub async fn open(&self, role: Role) -> Arc<dyn Store> {
        match self.backend {
            Backend::Sqlite => {
                let dir = PathBuf::from(&self.environment["TIERKEEP_DATA_DIR"]);
                std::fs::create_dir_all(&dir).unwrap();
                let path = dir.join(format!("{role}.db"));
                Arc::new(SqliteStore::open(&path, role, Arc::new(SystemClock)).unwrap())
            }
            Backend::Mongo => {
                let own = self.environment.get(role.url_variable());
                let url = own.unwrap_or_else(|| &self.environment["TIERKEEP_CLUSTER_URL"]);
                let url = url.clone().into();
                Arc::new(MongoStore::connect(&url, role).await.unwrap())
            }
        }
    }

    /// Everything in one collection.
    pub async fn all(&self, role: Role, collection: &str) -> Vec<RawDocumentBuf> {
        let store = self.open(role).await;
        let mut all = Vec::new();
        let mut after: Option<Cursor> = None;
        loop {
            let page = store
                .find(collection, &Find::new(Query::All).after(after.take()))
                .await;
            let page = page.unwrap();
            let Some(last) = page.last() else { return all };
            after = Some(Cursor::after(last));
            all.extend(page);
        }
    }

    pub async fn users(&self, role: Role) -> Vec<RawDocumentBuf> {
        self.all(role, role.users().unwrap()).await
    }

    /// Starts `serve` and waits for nothing.
    pub fn serve_unheard(&self) -> Service {
        let mut command = self.command(SERVE);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Service {
            child: command.spawn().unwrap(),
            base: String::new(),
            log: Arc::default(),
        }
    }

    /// Starts `serve` on a free port and waits until it listens.
    pub fn serve(&self) -> Service {
        Self::serve_by(self.command(SERVE))
    }

    /// As [`Deployment::serve`], by a command made of the usual one.
    pub fn serve_by(mut command: Command) -> Service {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else {
                panic!("serve ended before it listened: {seen:#?}");
            };
            let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
            if parsed["message"]
                .as_str()
                .is_some_and(|message| message.contains("listening"))
            {
                break parsed["address"].as_str().unwrap().to_owned();
            }
            seen.push(line);
        };
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Service {
            child,
            base: format!("http://{address}"),
            log,
        }
    }
}

/// A running `serve`; killed when dropped.
pub struct Service {
    child: Child,
    pub base: String,
    /// What it has logged since it listens.
    pub log: Arc<Mutex<Vec<String>>>,
}

impl Service {
    /// One that listens at `base`.
    pub fn of(child: Child, base: String) -> Self {
        Self {
            child,
            base,
            log: Arc::default(),
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(waited < PATIENCE, "the service goes on");
            tokio::time::sleep(INTERVAL).await;
            waited += INTERVAL;
        }
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A GitHub that knows every token but those that start with `bad`.
pub async fn github() -> wiremock::MockServer {
    use wiremock::matchers::{method, path};
    let server = wiremock::MockServer::start().await;
    wiremock::Mock::given(method("GET"))
        .and(path("/user"))
        .respond_with(
            wiremock::ResponseTemplate::new(200)
                .set_body_json(serde_json::json!({ "id": 7, "login": "octocat" })),
        )
        .mount(&server)
        .await;
    server
}

/// A valid JWT for this subject.
pub fn token(subject: &str) -> String {
    token_of(subject, None)
}

/// A valid JWT for this subject, with this role.
pub fn token_of(subject: &str, role: Option<tierkeep_identity::RoleClaim>) -> String {
    use secrecy::ExposeSecret;
    let ttl = Duration::from_hours(1);
    tierkeep_identity::issue_development_token(&SECRET.into(), subject, role, ttl, &SystemClock)
        .unwrap()
        .expose_secret()
        .to_owned()
}
