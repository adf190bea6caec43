//! Starting a cluster: a config server and shards, each a replica set of one, and the router.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf, cstr};
use bson::rawdoc;
use tokio::net::TcpListener;

use crate::node::{Node, ask_once, is_ok};
use crate::process::Mongod;
use crate::router::{AutoShard, Router, Settings, majority};

/// How long a server may take to start, to become primary or to be added.
const PATIENCE: Duration = Duration::from_mins(1);
const INTERVAL: Duration = Duration::from_millis(50);
const CONFIG: &str = "cfg";

/// How long a shard keeps the documents of a chunk that it has given away, in seconds.
const ORPHANS_KEPT: i32 = 1;

/// A sharded cluster; its processes end with it, or with the process that started it.
#[derive(Debug)]
pub struct ShardedCluster {
    config: Mongod,
    shards: BTreeMap<String, Mutex<Mongod>>,
    settings: Arc<Settings>,
    router: u16,
    /// Ends the router's thread when it is dropped.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl ShardedCluster {
    /// Starts a cluster of `shards` shards, called `s0`, `s1` and so on, and waits until its router answers.
    ///
    /// The router has a thread and a runtime of its own, so that tests with a runtime each share it.
    ///
    /// # Errors
    /// Where a server or the router cannot be started.
    pub fn start(shards: usize) -> io::Result<Self> {
        let config = Mongod::start(&["--configsvr", "--replSet", CONFIG])?;
        let mut started = BTreeMap::new();
        for n in 0..shards {
            let name = format!("s{n}");
            let kept = format!("orphanCleanupDelaySecs={ORPHANS_KEPT}");
            let arguments = ["--shardsvr", "--replSet", &name, "--setParameter", &kept];
            let mongod = Mongod::start(&arguments)?;
            started.insert(name, Mutex::new(mongod));
        }
        let ports: BTreeMap<String, u16> = started
            .iter()
            .map(|(name, mongod)| (name.clone(), locked(mongod).port()))
            .collect();
        let settings = Arc::<Settings>::default();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (tell, told) = mpsc::channel();
        let (of_router, config_port) = (Arc::clone(&settings), config.port());
        thread::Builder::new()
            .name("router".to_owned())
            .spawn(move || {
                let begun = run_router(config_port, &ports, of_router, &tell, stopped);
                if let Err(error) = begun {
                    tell.send(Err(error)).ok();
                }
            })?;
        let router = told.recv().map_err(io::Error::other)??;
        Ok(Self {
            config,
            shards: started,
            settings,
            router,
            _stop: stop,
        })
    }

    /// The router's connection string, with `database` in its path.
    pub fn url(&self, database: &str, options: &str) -> String {
        format!("mongodb://127.0.0.1:{}/{database}?{options}", self.router)
    }

    /// From now on these collections are sharded as they come into being.
    pub fn shard_new(&self, how: AutoShard) {
        let rules = self.settings.shards_new.write();
        rules.unwrap_or_else(PoisonError::into_inner).push(how);
    }

    /// Scans of this database lose their sort on the way through the router.
    pub fn drop_sorts(&self, database: &str) {
        let unsorted = self.settings.unsorted.write();
        let mut unsorted = unsorted.unwrap_or_else(PoisonError::into_inner);
        unsorted.insert(database.to_owned());
    }

    /// The names of the shards.
    pub fn shards(&self) -> impl Iterator<Item = &str> {
        self.shards.keys().map(String::as_str)
    }

    /// Sends a command to a shard, past the router.
    ///
    /// # Errors
    /// Where the shard does not answer.
    pub async fn ask_shard(
        &self,
        shard: &str,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        let port = locked(self.mongod(shard)?).port();
        ask_once(port, database, command).await
    }

    /// Sends a command to the config server.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn ask_config(
        &self,
        database: &str,
        command: &RawDocument,
    ) -> io::Result<RawDocumentBuf> {
        ask_once(self.config.port(), database, command).await
    }

    /// Sends a command to the router.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn ask(&self, database: &str, command: &RawDocument) -> io::Result<RawDocumentBuf> {
        ask_once(self.router, database, command).await
    }

    /// `kill -9` of a shard; its data stays.
    ///
    /// # Errors
    /// Where there is no such shard.
    pub fn kill(&self, shard: &str) -> io::Result<()> {
        locked(self.mongod(shard)?).kill()
    }

    /// Starts a shard again that was killed; it answers a while later.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start_again(&self, shard: &str) -> io::Result<()> {
        locked(self.mongod(shard)?).start_again()
    }

    /// For how many seconds shards keep the documents of chunks that they have given away.
    ///
    /// # Errors
    /// Where a shard does not answer.
    pub async fn keep_orphans(&self, seconds: i32) -> io::Result<()> {
        let command = rawdoc! { "setParameter": 1, "orphanCleanupDelaySecs": seconds };
        for shard in self.shards.keys() {
            self.ask_shard(shard, "admin", &command).await?;
        }
        Ok(())
    }

    pub(crate) fn config(&self) -> Node {
        Node::new(self.config.port())
    }

    fn mongod(&self, shard: &str) -> io::Result<&Mutex<Mongod>> {
        let unknown = || io::Error::other(format!("there is no shard {shard}"));
        self.shards.get(shard).ok_or_else(unknown)
    }
}

fn locked(mongod: &Mutex<Mongod>) -> MutexGuard<'_, Mongod> {
    mongod.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the servers a cluster, then answers connections until it is stopped; `tell` receives the router's port.
fn run_router(
    config: u16,
    shards: &BTreeMap<String, u16>,
    settings: Arc<Settings>,
    tell: &mpsc::Sender<io::Result<u16>>,
    stopped: tokio::sync::oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let config = Node::new(config);
        let nodes = shards
            .iter()
            .map(|(name, port)| (name.clone(), Node::new(*port)));
        let nodes: BTreeMap<String, Node> = nodes.collect();
        assemble(&config, &nodes).await?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let router = Arc::new(Router::new(config, nodes, settings));
        tell.send(Ok(port)).map_err(io::Error::other)?;
        tokio::select! {
            () = router.serve(listener) => {}
            _ = stopped => {}
        }
        Ok(())
    })
}

/// Makes replica sets of the servers, and a cluster of those, in which nothing moves by itself.
async fn assemble(config: &Node, shards: &BTreeMap<String, Node>) -> io::Result<()> {
    initiate(config, CONFIG, true).await?;
    for (name, shard) in shards {
        initiate(shard, name, false).await?;
    }
    let balancer = rawdoc! { "_configsvrBalancerStop": 1 };
    insist(config, &balancer).await?;
    for (name, shard) in shards {
        let address = format!("{name}/{}", shard.address());
        let add = rawdoc! {
            "_configsvrAddShard": address,
            "name": name.as_str(),
            "writeConcern": majority(),
        };
        insist(config, &add).await?;
    }
    Ok(())
}

async fn initiate(node: &Node, name: &str, is_config: bool) -> io::Result<()> {
    let mut set = rawdoc! { "_id": name };
    if is_config {
        set.append(cstr!("configsvr"), true);
    }
    let member = rawdoc! { "_id": 0, "host": node.address() };
    set.append(
        cstr!("members"),
        bson::raw::RawArrayBuf::from_iter([member]),
    );
    insist(node, &rawdoc! { "replSetInitiate": set }).await?;
    until(async || {
        let hello = node.ask("admin", &rawdoc! { "hello": 1 }).await.ok()?;
        let writes = hello.get_bool("isWritablePrimary").unwrap_or_default();
        writes.then_some(())
    })
    .await
    .ok_or_else(|| io::Error::other(format!("{name} has no primary")))
}

/// Sends a command until it is done.
async fn insist(node: &Node, command: &RawDocument) -> io::Result<()> {
    let mut refused = None;
    let done = until(async || {
        let answer = node.ask("admin", command).await.ok()?;
        if is_ok(&answer) {
            return Some(());
        }
        refused = Some(answer);
        None
    });
    match done.await {
        Some(()) => Ok(()),
        None => Err(io::Error::other(format!("{command:?}: {refused:?}"))),
    }
}

/// What `look` finds at last.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let mut waited = Duration::ZERO;
    while waited < PATIENCE {
        if let Some(found) = look().await {
            return Some(found);
        }
        tokio::time::sleep(INTERVAL).await;
        waited += INTERVAL;
    }
    None
}
