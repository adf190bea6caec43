//! Faults of the network: answers that are lost although the command was performed, slow answers, and a connection
//! that carries no more data in either direction.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::raw::RawDocument;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_testkit::fault::{Fault, Moment};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::clusters;
use super::row::Row;

/// How often a wire that carries nothing looks whether it does again.
const INTERVAL: Duration = Duration::from_millis(20);
/// The head of a message: its length, two numbers, and its kind.
const HEAD: usize = 16;
/// The kind of message that commands come in, its flags, and the kind of its first section.
const OP_MSG: i32 = 2013;
const FLAGS: usize = 4;

/// A wire to a server.
pub struct Wire {
    port: u16,
    faults: Arc<Faults>,
    listener: AbortHandle,
}

#[derive(Default)]
struct Faults {
    /// Which answers are lost, how many more of them, and with each its connection.
    losing: Mutex<Option<(&'static str, u32)>>,
    lost: AtomicU64,
    delay_ms: AtomicU64,
    is_cut: AtomicBool,
}

impl Faults {
    /// Whether the answer to this command is to be lost.
    fn loses(&self, command: &str) -> bool {
        let mut losing = self.losing.lock().unwrap();
        match &mut *losing {
            Some((name, left)) if *left > 0 && *name == command => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    async fn passage(&self) {
        while self.is_cut.load(Ordering::Acquire) {
            sleep(INTERVAL).await;
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Wire {
    /// One to the server on this port.
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults = Arc::new(Faults::default());
        let known = Arc::clone(&faults);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let faults = Arc::clone(&known);
                // Whichever side ends it, or the loss of an answer, ends both.
                tokio::spawn(async move { carry(client, server, &faults).await });
            }
        });
        Self {
            port,
            faults,
            listener: listener.abort_handle(),
        }
    }

    /// A connection string with `database` in its path.
    pub fn url(&self, database: &str, options: &str) -> String {
        format!("mongodb://127.0.0.1:{}/{database}?{options}", self.port)
    }

    /// Loses the next `times` answers to this command.
    fn lose(&self, command: &'static str, times: u32) {
        *self.faults.losing.lock().unwrap() = Some((command, times));
    }

    /// Loses no more; answers how many were lost.
    fn keep(&self) -> u64 {
        *self.faults.losing.lock().unwrap() = None;
        self.faults.lost.swap(0, Ordering::AcqRel)
    }

    fn delay(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap();
        self.faults.delay_ms.store(by, Ordering::Release);
    }

    fn cut(&self, is_cut: bool) {
        self.faults.is_cut.store(is_cut, Ordering::Release);
    }
}

/// One message; `None` once the other side has gone.
async fn message(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message).await.ok()?;
    let length = i32::from_le_bytes(*message.first_chunk().unwrap());
    message.resize(usize::try_from(length).unwrap(), 0);
    from.read_exact(&mut message[4..]).await.ok()?;
    Some(message)
}

/// The command in a message of a client.
fn command(message: &[u8]) -> Option<&str> {
    let kind = i32::from_le_bytes(*message.get(12..HEAD)?.first_chunk()?);
    let (0, true) = (*message.get(HEAD + FLAGS)?, kind == OP_MSG) else {
        return None;
    };
    let body = message.get(HEAD + FLAGS + 1..)?;
    let length = usize::try_from(i32::from_le_bytes(*body.first_chunk()?)).ok()?;
    let body = RawDocument::from_bytes(body.get(..length)?).ok()?;
    let (name, _) = body.iter().next()?.ok()?;
    Some(name.as_str())
}

async fn carry(client: TcpStream, server: u16, faults: &Faults) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let is_lost = AtomicBool::new(false);
    let up = async {
        while let Some(message) = message(&mut from_client).await {
            faults.passage().await;
            if command(&message).is_some_and(|name| faults.loses(name)) {
                is_lost.store(true, Ordering::Release);
            }
            if to_server.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        while let Some(message) = message(&mut from_server).await {
            if is_lost.load(Ordering::Acquire) {
                faults.lost.fetch_add(1, Ordering::AcqRel);
                return;
            }
            let delay = faults.delay_ms.load(Ordering::Acquire);
            sleep(Duration::from_millis(delay)).await;
            faults.passage().await;
            if to_client.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_costs_no_document_a_retry_and_nothing_is_done_twice() {
    const COMMANDS: [&str; 5] = ["find", "insert", "update", "delete", "findAndModify"];
    let clusters = clusters().await;
    let wire = Wire::to(clusters.srie.port(0)).await;
    let mut row = Row::of(clusters.world_behind(&wire, "appName=row").await);
    row.plant(1).await;
    row.settle("without a fault").await;
    let mut lost = BTreeMap::new();
    for command in COMMANDS {
        for times in [1, 20] {
            let at = format!("{times} answers to {command} are lost");
            row.plant(1).await;
            row.plant_for_adoption().await;
            wire.lose(command, times);
            let run = row.world.migrate().await;
            *lost.entry(command).or_insert(0) += wire.keep();
            match run {
                Ok(run) => assert_eq!(run.failed, 0, "{at}"),
                Err(stopped) => assert!(times > 1, "{at}: {stopped}"),
            }
            row.settle(&at).await;
        }
    }
    for command in COMMANDS {
        assert!(
            lost[command] > 0,
            "no answer to {command} was lost: {lost:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_answers_delay_a_move_and_nothing_else() {
    let clusters = clusters().await;
    let wire = Wire::to(clusters.srie.port(0)).await;
    let mut row = Row::of(clusters.world_behind(&wire, "appName=row").await);
    row.plant(2).await;
    wire.delay(Duration::from_millis(200));
    let run = row.world.migrate().await.unwrap();
    assert_eq!((run.moved, run.failed), (Row::due(2), 0));
    wire.delay(Duration::ZERO);
    row.settle("fast again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_carries_no_data_delays_a_mover_for_a_bounded_time() {
    const BOUND: Duration = Duration::from_mins(2);
    let clusters = clusters().await;
    let wire = Wire::to(clusters.srie.port(0)).await;
    let options = "appName=row&serverSelectionTimeoutMS=1000&connectTimeoutMS=2000";
    let mut row = Row::of(clusters.world_behind(&wire, options).await);
    row.plant(2).await;
    let insert = Fault::nth(1, Moment::Before)
        .to(Role::RaseenMainUser)
        .of("insert");
    let hold = row.world.faults.hold(insert);
    let run = row.world.migrate_meanwhile();
    hold.reached().await;
    wire.cut(true);
    hold.release();
    let stopped = tokio::time::timeout(BOUND, run)
        .await
        .expect("the mover hangs");
    assert_eq!(stopped.unwrap().unwrap_err().summary.failed, 0);
    // What was sent meanwhile arrives now, long after its sender has given it up.
    wire.cut(false);
    row.settle("heard again").await;
}
