//! Replica sets of mongod processes that a test can stop, kill and start again.
//!
//! Each server hangs on a shell that waits for the end of its input: however the tests end, it kills the server by
//! its process id and deletes the data.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use rustix::process::{Pid, Signal, kill_process};
use tierkeep_core::bson;

/// How long servers may take to start, to agree, and to catch up.
const PATIENCE: Duration = Duration::from_mins(1);
const INTERVAL: Duration = Duration::from_millis(50);
/// The fail point that holds an index build.
pub const BUILD: &str = "hangAfterSettingUpIndexBuild";
/// Where the test command keeps the server that it fetched.
const FETCHED: &str = "target/mongod/6.0.5/mongod";

/// Keeps the process of `"$@"` until its input ends, then kills it; deletes the data unless told to keep it.
const KEEPER: &str = r#"data=$1; shift
"$@" > /dev/null 2>&1 < /dev/null & child=$!
echo $child
read -r word
kill -9 $child
wait $child
[ "$word" = keep ] || rm -rf "$data""#;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test command hands the server's binary over this way"
)]
fn binary() -> PathBuf {
    let named = std::env::var("MONGOD_BIN").map(PathBuf::from);
    let binary = named.unwrap_or_else(|_| workspace().join(FETCHED));
    assert!(
        binary.is_file(),
        "{} is not there: `cargo xtask mongod` fetches it, or set MONGOD_BIN",
        binary.display()
    );
    binary
}

/// One mongod.
pub struct Server {
    port: u16,
    data: PathBuf,
    keeper: Option<Keeper>,
}

struct Keeper {
    shell: Child,
    input: ChildStdin,
    process: Pid,
}

impl Server {
    /// One that is to have this port, with no data.
    pub fn new(port: u16) -> Self {
        let data = tempfile::Builder::new().prefix("cluster-").tempdir();
        Self {
            port,
            data: data.unwrap().keep(),
            keeper: None,
        }
    }

    /// Starts it as a member of this replica set, or by itself.
    pub fn start(&mut self, set: Option<&str>) {
        let mut shell = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.data)
            .arg(binary())
            .args(["--bind_ip", "127.0.0.1", "--port", &self.port.to_string()])
            .args(set.map(|set| format!("--replSet={set}")))
            .arg("--nounixsocket")
            .args(["--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64"])
            .args(["--setParameter", "enableTestCommands=1"])
            .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
            .arg("--dbpath")
            .arg(&self.data)
            .arg("--logpath")
            .arg(self.data.join("mongod.log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It tells of the child that it killed.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut process)
            .unwrap();
        self.keeper = Some(Keeper {
            input: shell.stdin.take().unwrap(),
            process: Pid::from_raw(process.trim().parse().unwrap()).unwrap(),
            shell,
        });
    }

    fn signal(&self, signal: Signal) {
        if let Some(keeper) = &self.keeper {
            kill_process(keeper.process, signal).unwrap();
        }
    }

    /// `kill -9`; the data stays.
    fn kill(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            keeper.input.write_all(b"keep\n").unwrap();
            keeper.shell.wait().unwrap();
        }
    }

    /// Asks this server, whatever its role; `None` where it does not answer.
    pub async fn ask(&self, command: Document) -> Option<Document> {
        let url = format!(
            "mongodb://127.0.0.1:{}/?directConnection=true&serverSelectionTimeoutMS=1000\
             &connectTimeoutMS=1000",
            self.port
        );
        let client = Client::with_uri_str(url).await.unwrap();
        let admin = client.database("admin");
        let answer = admin.run_command(command);
        let answer = tokio::time::timeout(Duration::from_secs(10), answer).await;
        answer.ok()?.ok()
    }
}

/// A replica set.
pub struct ReplicaSet {
    name: &'static str,
    servers: Vec<Server>,
}

impl ReplicaSet {
    /// Starts one of empty servers on these ports.
    pub async fn start(name: &'static str, ports: &[u16]) -> Self {
        let mut servers: Vec<Server> = ports.iter().copied().map(Server::new).collect();
        for server in &mut servers {
            server.start(Some(name));
        }
        let set = Self { name, servers };
        let member = |(n, server): (usize, &Server)| {
            let id = i32::try_from(n).unwrap();
            doc! { "_id": id, "host": format!("127.0.0.1:{}", server.port) }
        };
        let members: Vec<Document> = set.servers.iter().enumerate().map(member).collect();
        // Short, so that an election takes a second or two.
        let settings = doc! { "electionTimeoutMillis": 2_000, "heartbeatIntervalMillis": 500 };
        let config = doc! { "_id": name, "version": 1, "members": members, "settings": settings };
        set.until("answers", async || {
            let initiate = doc! { "replSetInitiate": config.clone() };
            set.servers[0].ask(initiate).await.is_some()
        })
        .await;
        set.until("is whole", async || set.is_whole().await).await;
        set
    }

    /// A connection string for all members, with `database` in its path.
    pub fn url(&self, database: &str, options: &str) -> String {
        let host = |server: &Server| format!("127.0.0.1:{}", server.port);
        let hosts: Vec<String> = self.servers.iter().map(host).collect();
        let (hosts, name) = (hosts.join(","), self.name);
        format!("mongodb://{hosts}/{database}?replicaSet={name}&{options}")
    }

    /// Where a server listens.
    pub fn port(&self, server: usize) -> u16 {
        self.servers[server].port
    }

    /// The servers but one no longer fetch what that one has taken, or do again.
    pub async fn follow(&self, leader: usize, follows: bool) {
        let mode = if follows { "off" } else { "alwaysOn" };
        for (n, server) in self.servers.iter().enumerate() {
            if n != leader {
                let point = doc! { "configureFailPoint": "stopReplProducer", "mode": mode };
                server.ask(point).await.unwrap();
            }
        }
    }

    /// A server's rollback id: it rises by one with each rollback, and with each start after a kill.
    pub async fn rollback_id(&self, server: usize) -> i32 {
        let counted = self.servers[server].ask(doc! { "replSetGetRBID": 1 });
        let counted = counted.await;
        counted.map_or(0, |counted| counted.get_i32("rbid").unwrap())
    }

    /// Waits until a server that was killed and started has rolled back what the others lack; `before` is its rollback
    /// id before it was killed.
    pub async fn until_rolled_back(&self, server: usize, before: i32) {
        self.until("has rolled back", async || {
            self.rollback_id(server).await > before + 1
        })
        .await;
    }

    /// Which server takes writes; waits for one.
    pub async fn primary(&self) -> usize {
        let mut waited = Duration::ZERO;
        loop {
            for (n, server) in self.servers.iter().enumerate() {
                if self.is_primary(server).await {
                    return n;
                }
            }
            assert!(waited < PATIENCE, "{} has no primary", self.name);
            tokio::time::sleep(INTERVAL).await;
            waited += INTERVAL;
        }
    }

    async fn is_primary(&self, server: &Server) -> bool {
        let hello = server.ask(doc! { "hello": 1 }).await;
        hello.is_some_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or_default())
    }

    /// A server that does not take writes.
    pub async fn secondary(&self) -> usize {
        let primary = self.primary().await;
        (0..self.servers.len()).find(|n| *n != primary).unwrap()
    }

    /// Sends a command to the primary's admin database.
    pub async fn command(&self, command: Document) -> Option<Document> {
        self.servers[self.primary().await].ask(command).await
    }

    /// The primary steps down, and is not eligible again for `seconds`.
    pub async fn step_down(&self, seconds: i32) {
        let command = doc! {
            "replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": true,
        };
        self.command(command).await;
    }

    /// `kill -9`.
    pub fn kill(&mut self, server: usize) {
        self.servers[server].kill();
    }

    /// Suspends the server process; its connections stay open.
    pub fn freeze(&self, server: usize) {
        self.servers[server].signal(Signal::STOP);
    }

    /// Resumes it.
    pub fn thaw(&self, server: usize) {
        self.servers[server].signal(Signal::CONT);
    }

    /// Ends every fault, and waits until each server is there and knows what the primary knows.
    pub async fn heal(&mut self) {
        for server in &mut self.servers {
            if server.keeper.is_none() {
                server.start(Some(self.name));
            }
            server.signal(Signal::CONT);
        }
        self.until("is whole", async || self.is_whole().await).await;
        for server in &self.servers {
            for point in ["failCommand", "stopReplProducer", BUILD] {
                server
                    .ask(doc! { "configureFailPoint": point, "mode": "off" })
                    .await
                    .unwrap();
            }
        }
    }

    async fn is_whole(&self) -> bool {
        let mut primaries = 0;
        for server in &self.servers {
            let Some(hello) = server.ask(doc! { "hello": 1 }).await else {
                return false;
            };
            let says = |what: &str| hello.get_bool(what).unwrap_or_default();
            primaries += i32::from(says("isWritablePrimary"));
            if !says("isWritablePrimary") && !says("secondary") {
                return false;
            }
        }
        primaries == 1
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let mut waited = Duration::ZERO;
        while !holds().await {
            assert!(waited < PATIENCE, "{} never {what}", self.name);
            tokio::time::sleep(INTERVAL).await;
            waited += INTERVAL;
        }
    }
}

/// Ports that are not in use.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let taken = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    taken.map(|listener| listener.local_addr().unwrap().port())
}
