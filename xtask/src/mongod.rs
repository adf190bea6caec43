//! A MongoDB server for tests: started as a replica set of one on loopback, ended with the task. `release` fetches it.
//!
//! The server is ended by its process id, whatever ends the task. Where no server can be had this fails and
//! says why: a suite that quietly skipped the real database would prove nothing.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bson::doc;
use mongodb::Client;
use tempfile::TempDir;

/// Names a server that runs already; set for the tests.
pub(crate) const URL_VARIABLE: &str = "TIERKEEP_TEST_MONGODB_URL";

const REPLICA_SET: &str = "tierkeep";
/// After this many seconds the server closes files that are not in use. Each test has databases of its own, with some
/// files for each collection. With the usual ten minutes, the faster the tests are, the more files are open at once,
/// and a server that may open no more ends itself.
const IDLE_SECONDS: u32 = 30;
/// Starts a command with the highest limit of open files that is allowed here.
const AS_MANY_FILES_AS_ALLOWED: &str = r#"ulimit -n "$(ulimit -Hn)"; exec "$0" "$@""#;
/// What a line of its log holds that tells why it ends.
const FATAL: &str = r#""s":"F""#;
/// How long a server may take to start or to become primary.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is asked whether it has.
const INTERVAL: Duration = Duration::from_millis(100);

/// What a server keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// Little, beside builds and tests.
    Little,
    /// Enough for what is measured, as a server of its own machine has.
    Ample,
}

impl Room {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Little => &[
                "--wiredTigerCacheSizeGB",
                "0.5",
                "--oplogSize",
                "512",
                // Tests drop their databases, and each drop waits until the journal is next written: 100 ms otherwise.
                "--journalCommitInterval",
                "10",
            ],
            Self::Ample => &["--wiredTigerCacheSizeGB", "4", "--oplogSize", "4096"],
        }
    }
}

/// A running server; ended when dropped.
#[derive(Debug)]
pub(crate) struct Mongod {
    process: Child,
    port: u16,
    /// Holds the data and the log; deleted with the server.
    folder: TempDir,
}

impl Mongod {
    /// Starts a replica set of this binary with an empty database below `parent`, and waits until it takes writes.
    pub(crate) async fn start(binary: &Path, parent: &Path, room: Room) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("data-")
            .tempdir_in(parent)?;
        // Free now; if another process takes it meanwhile, the server says so and ends.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new("sh")
            .args(["-c", AS_MANY_FILES_AS_ALLOWED])
            .arg(binary)
            .args(["--bind_ip", "127.0.0.1", "--port", &port.to_string()])
            .args(["--replSet", REPLICA_SET, "--nounixsocket"])
            .args(room.options())
            .args(["--setParameter", "enableTestCommands=1"])
            .arg("--setParameter")
            .arg(format!("wiredTigerFileHandleCloseIdleTime={IDLE_SECONDS}"))
            .arg("--dbpath")
            .arg(folder.path())
            .arg("--logpath")
            .arg(folder.path().join("mongod.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the task, which ends the server when the tests have stopped using it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be started", binary.display()))?;
        let mut mongod = Self {
            process,
            port,
            folder,
        };
        let initiated = mongod.initiate().await;
        initiated.context("mongod did not become a primary")?;
        Ok(mongod)
    }

    /// The server's process.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// The connection string.
    pub(crate) fn url(&self) -> String {
        format!(
            "mongodb://127.0.0.1:{}/?replicaSet={REPLICA_SET}",
            self.port
        )
    }

    /// Makes it a replica set of one, and waits until it takes writes.
    async fn initiate(&mut self) -> Result<()> {
        let member = format!("127.0.0.1:{}", self.port);
        let direct = format!("mongodb://{member}/?directConnection=true");
        let admin = Client::with_uri_str(direct).await?.database("admin");
        let config = doc! { "_id": REPLICA_SET, "members": [{ "_id": 0, "host": member }] };
        let mut initiated = false;
        let mut waited = Duration::ZERO;
        loop {
            self.still_runs()?;
            if !initiated {
                let initiate = admin.run_command(doc! { "replSetInitiate": config.clone() });
                initiated = initiate.await.is_ok();
            } else if admin
                .run_command(doc! { "hello": 1 })
                .await
                .is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or_default())
            {
                return Ok(());
            }
            ensure!(
                waited < PATIENCE,
                "it did not in {} s; the end of its log:\n{}",
                PATIENCE.as_secs(),
                self.end_of_log()
            );
            tokio::time::sleep(INTERVAL).await;
            waited += INTERVAL;
        }
    }

    /// Whether it still runs; else how it ended, with what room was left and the end of its log.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        let Some(status) = self.process.try_wait()? else {
            return Ok(());
        };
        let folder = self.folder.path();
        let room = rustix::fs::statvfs(folder)?;
        bail!(
            "mongod ended by itself with {status}, with {} MiB free below {}; the end of its log:\n{}",
            room.f_bavail.saturating_mul(room.f_frsize) >> 20,
            folder.display(),
            self.end_of_log()
        );
    }

    /// The last lines of its log that matter: what was fatal where anything was, else whatever it said last.
    fn end_of_log(&self) -> String {
        let log = fs::read(self.folder.path().join("mongod.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let mut told: Vec<&str> = lines
            .iter()
            .copied()
            .filter(|it| it.contains(FATAL))
            .collect();
        if told.is_empty() {
            told = lines;
        }
        told.split_off(told.len().saturating_sub(5)).join("\n")
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        // Its data is thrown away, so it need not end in good order; waiting leaves no zombie behind.
        if self.process.kill().is_ok() {
            drop(self.process.wait());
        }
    }
}
