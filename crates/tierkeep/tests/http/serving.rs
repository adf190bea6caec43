//! Over real connections: slow, rude and interrupted callers, and the end of the service.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rstest::rstest;
use tierkeep::http::{Connections, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common::{Backend, World};

const LONG: Duration = Duration::from_mins(1);

struct Served {
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Served {
    async fn start(router: Router, grace: Duration) -> Self {
        Self::with(router, Connections::default(), grace).await
    }

    async fn with(router: Router, limits: Connections, grace: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, router, limits, shutdown.clone(), grace));
        Self {
            address,
            shutdown,
            serving,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Writes all of this at once, then reads to the end.
    async fn exchange(&self, sent: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(sent).await.unwrap();
        rest(&mut stream).await
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap();
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    String::from_utf8(received).unwrap()
}

fn put(extra: &str) -> String {
    format!(
        "PUT /v1/user/scan_cache?username=reader HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{extra}\r\n"
    )
}

#[tokio::test]
async fn a_caller_who_sends_too_much_still_reads_the_answer() {
    let world = World::new(Backend::Memory).await;
    let served = Served::start(world.router.clone(), LONG).await;
    let bytes = 9 << 20;
    let mut sent = put(&format!("content-length: {bytes}\r\n")).into_bytes();
    sent.resize(sent.len() + bytes, b' ');
    let answer = served.exchange(&sent).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"code\":\"too_large\""), "{answer}");
    served.end().await;
}

#[tokio::test]
async fn a_caller_who_sends_too_much_in_pieces_still_reads_the_answer() {
    let world = World::new(Backend::Memory).await;
    let served = Served::start(world.router.clone(), LONG).await;
    let mut sent = put("transfer-encoding: chunked\r\n").into_bytes();
    for _ in 0..160 {
        sent.extend(b"10000\r\n");
        sent.resize(sent.len() + 0x10000, b' ');
        sent.extend(b"\r\n");
    }
    sent.extend(b"0\r\n\r\n");
    let answer = served.exchange(&sent).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    served.end().await;
}

#[tokio::test]
async fn a_caller_who_asks_first_is_refused_before_sending() {
    let world = World::new(Backend::Memory).await;
    let served = Served::start(world.router.clone(), LONG).await;
    let head = put("content-length: 9437184\r\nexpect: 100-continue\r\n");
    let answer = served.exchange(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    served.end().await;
}

#[tokio::test]
async fn a_caller_who_asks_first_may_send_what_fits() {
    let world = World::new(Backend::Memory).await;
    let served = Served::start(world.router.clone(), LONG).await;
    let mut stream = served.connect().await;
    let head = put("content-length: 2\r\nexpect: 100-continue\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_ahead = [0; 25];
    stream.read_exact(&mut go_ahead).await.unwrap();
    assert_eq!(&go_ahead, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    served.end().await;
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_stores_nothing() {
    let world = World::new(Backend::Memory).await;
    let served = Served::start(world.router.clone(), LONG).await;
    let before = world.everything().await;
    let mut stream = served.connect().await;
    stream
        .write_all(put("content-length: 100\r\n").as_bytes())
        .await
        .unwrap();
    stream.write_all(b"{\"a\":").await.unwrap();
    drop(stream);
    // The end of the service waits for every connection.
    served.end().await;
    assert_eq!(world.everything().await, before);
}

/// A router whose one route says that it was reached and answers when told.
fn slow() -> (Router, mpsc::UnboundedReceiver<()>, CancellationToken) {
    let (reached, at_work) = mpsc::unbounded_channel();
    let go = CancellationToken::new();
    let told = go.clone();
    let route = get(async move || {
        reached.send(()).unwrap();
        told.cancelled().await;
        "done"
    });
    (Router::new().route("/", route), at_work, go)
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn requests_in_flight_are_finished_and_no_more_are_accepted() {
    let (router, mut at_work, go) = slow();
    let served = Served::start(router, LONG).await;
    let mut stream = served.connect().await;
    stream.write_all(GET).await.unwrap();
    at_work.recv().await.unwrap();
    let idle = served.connect().await;
    served.shutdown.cancel();
    while TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!served.serving.is_finished());
    go.cancel();
    let answer = rest(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done"),
        "{answer}"
    );
    served.serving.await.unwrap();
    drop(idle);
}

#[tokio::test]
async fn requests_that_outlast_the_grace_are_cut_off() {
    let (router, mut at_work, _go) = slow();
    let served = Served::start(router, Duration::from_millis(10)).await;
    let mut stream = served.connect().await;
    stream.write_all(GET).await.unwrap();
    at_work.recv().await.unwrap();
    served.end().await;
    assert_eq!(rest(&mut stream).await, "");
}

#[rstest]
#[case(b"GET / HTTP/9.9\r\n\r\n" as &[u8])]
#[case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")]
#[case(b"PUT /v1/user HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab")]
#[tokio::test]
async fn what_is_not_http_is_turned_away(#[case] sent: &[u8]) {
    let world = World::new(Backend::Memory).await;
    let served = Served::start(world.router.clone(), LONG).await;
    let answer = served.exchange(sent).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    served.end().await;
}

/// A caller whose answer is larger than what the sockets between hold, and who reads none of it.
#[tokio::test]
async fn a_caller_who_does_not_read_his_answer_is_cut_off() {
    let answer = "x".repeat(64 << 20);
    let router = Router::new().route("/", get(async move || answer));
    let limits = Connections {
        read_nothing_timeout: Duration::from_millis(200),
        ..Connections::default()
    };
    let served = Served::with(router, limits, LONG).await;
    let mut stream = served.connect().await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    // The service ends within its grace of a minute only if the connection ends by itself.
    tokio::time::timeout(LONG / 2, served.end()).await.unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.ok();
    assert!(received.len() < 64 << 20, "{}", received.len());
}

#[tokio::test]
async fn a_connection_too_many_waits_until_another_ends() {
    let router = Router::new().route("/", get(async || "here"));
    let limits = Connections {
        most: 1,
        ..Connections::default()
    };
    let served = Served::with(router, limits, LONG).await;
    let ask = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = served.connect().await;
    first.write_all(ask).await.unwrap();
    let mut begun = [0; 12];
    first.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    let mut second = served.connect().await;
    second.write_all(ask).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), second.read_exact(&mut begun));
    assert!(early.await.is_err(), "a second one was let in");
    drop(first);
    second.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    drop(second);
    served.end().await;
}

/// The service reads so many bytes of a head. What it had not read would make its end a reset.
const HEAD_BYTES: usize = 64 * 1024;

#[rstest]
#[case::a_long_url("GET /".into())]
#[case::a_long_header("GET / HTTP/1.1\r\nhost: x\r\na: ".into())]
#[case::many_headers(format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(120)))]
#[tokio::test]
async fn a_head_that_is_too_large_is_refused(#[case] mut head: String) {
    let router = Router::new().fallback(async || "here");
    let served = Served::start(router, LONG).await;
    let mut stream = served.connect().await;
    if !head.ends_with("\r\n\r\n") {
        head.push_str(&"a".repeat(HEAD_BYTES - head.len()));
    }
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    served.end().await;
}

#[tokio::test]
async fn a_caller_who_begins_and_sends_no_more_is_cut_off() {
    let router = Router::new().route("/", get(async || "here"));
    let limits = Connections {
        head_timeout: Duration::from_millis(200),
        ..Connections::default()
    };
    let served = Served::with(router, limits, LONG).await;
    let mut stream = served.connect().await;
    stream.write_all(b"GET / HTT").await.unwrap();
    tokio::time::timeout(LONG, rest(&mut stream)).await.unwrap();
    served.end().await;
}
