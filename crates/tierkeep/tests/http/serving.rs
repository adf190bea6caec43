//! Over real connections: slow, misbehaving and interrupted callers, and the shutdown of the service.

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
async fn for_a_connection_too_many_the_one_that_was_silent_for_longest_is_ended() {
    let router = Router::new().route("/", get(async || "here"));
    let limits = Connections {
        most: 2,
        ..Connections::default()
    };
    let served = Served::with(router, limits, LONG).await;
    let mut begun = [0; 12];
    let mut silent = served.connect().await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut next = served.connect().await;
        next.write_all(GET).await.unwrap();
        next.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200");
        open.push(next);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(rest(&mut silent).await, "");
    let mut first = open.remove(0);
    tokio::time::timeout(LONG, rest(&mut first)).await.unwrap();
    drop(open);
    served.end().await;
}

/// Silent connections of one address take nothing from others, whose requests are answered all the time.
#[tokio::test(flavor = "multi_thread")]
async fn many_silent_connections_keep_no_other_address_out() {
    let router = Router::new().route("/", get(async || "here"));
    let limits = Connections {
        most: 64,
        ..Connections::default()
    };
    let served = Served::with(router, limits, LONG).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(served.connect().await);
    }
    let from_another = || async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(served.address).await.unwrap();
        stream.write_all(GET).await.unwrap();
        let mut begun = [0; 12];
        stream.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200");
        stream
    };
    let mut kept = Vec::new();
    for _ in 0..15 {
        let answered = tokio::time::timeout(LONG / 6, from_another()).await;
        kept.push(answered.unwrap());
    }
    // The address has places of its own: none of its connections gave way to the silent ones.
    for stream in &mut kept {
        stream.write_all(GET).await.unwrap();
    }
    drop((silent, kept));
    served.end().await;
}

#[rstest]
#[case::without_a_host("GET / HTTP/1.1\r\n\r\n", "400")]
#[case::with_two_hosts("GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", "400")]
#[case::old_without_a_host("GET /health/live HTTP/1.0\r\n\r\n", "200")]
#[case::coded_twice(
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "400"
)]
#[case::coded_in_two_lines(
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "400"
)]
#[case::not_chunked(
    "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: identity\r\n\r\n",
    "400"
)]
#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_is_refused(#[case] sent: &str, #[case] status: &str) {
    let world = World::new(Backend::Memory).await;
    let served = Served::start(world.router.clone(), LONG).await;
    let answer = served.exchange(sent.as_bytes()).await;
    let expected = [format!("HTTP/1.1 {status} "), format!("HTTP/1.0 {status} ")];
    assert!(
        expected.iter().any(|head| answer.starts_with(head)),
        "{answer}"
    );
    served.end().await;
}

#[tokio::test]
async fn a_part_of_a_document_cannot_be_put() {
    let world = World::new(Backend::Memory).await;
    let put = world.external("PUT", "/v1/user/scan_cache").json("{}");
    let part = put.header("content-range", b"bytes 0-1/9");
    let (status, code) = part.send().await.outcome();
    assert_eq!((status, code.as_str()), (400, "malformed"));
}

/// A caller whose body trickles in is not waited for.
#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_in_is_given_up() {
    let world = World::new(Backend::Memory).await;
    let trickle = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, std::io::Error>(" "), ()))
    });
    let put = world.external("PUT", "/v1/user/scan_cache");
    let began = tokio::time::Instant::now();
    let (status, code) = put
        .json(axum::body::Body::from_stream(trickle))
        .send()
        .await
        .outcome();
    assert_eq!((status, code.as_str()), (408, "request_timeout"));
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}

/// The service reads this many bytes of a head. Unread bytes would turn its close into a reset.
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
