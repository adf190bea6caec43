//! The notifications to a service manager: ready, alive, stopping; and what callers see in the meantime.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rstest::rstest;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::program::{Backend, Deployment, Service};

const PATIENCE: Duration = Duration::from_secs(30);

/// The notifications to the service manager, up to this line.
fn told(socket: &UnixDatagram, wanted: &str) -> Vec<String> {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let Ok(length) = socket.recv(&mut buffer) else {
            panic!("{wanted} was not said: {heard:?}");
        };
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        heard.extend(said.lines().map(str::to_owned));
        if heard.iter().any(|line| line == wanted) {
            return heard;
        }
    }
}

/// Where it listens, as it says on stderr.
fn address(stderr: impl Read + Send + 'static) -> String {
    let mut lines = BufReader::new(stderr).lines();
    let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let line: Value = serde_json::from_str(&line).ok()?;
        let listens = line["message"] == "listening";
        listens.then(|| line["address"].as_str().unwrap().to_owned())
    });
    std::thread::spawn(move || lines.for_each(drop));
    address.expect("it listens")
}

#[test]
fn a_signal_lets_a_request_in_flight_end_and_takes_no_other() {
    let deployment = Deployment::new(Backend::Sqlite);
    let path = deployment.dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut child = deployment
        .command(&["serve", "--listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let address = address(child.stderr.take().unwrap());
    assert!(!told(&socket, "READY=1").contains(&"STOPPING=1".to_owned()));
    told(&socket, "WATCHDOG=1");

    let mut caller = TcpStream::connect(&address).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "PUT /v1/user/scan_cache?username=reader HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n\
                Content-Length: 8\r\nExpect: 100-continue\r\n\r\n";
    caller.write_all(head.as_bytes()).unwrap();
    // The route waits for the body once it has asked for it.
    let mut asked = [0; 25];
    caller.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    let signalled = Command::new("kill").arg(child.id().to_string()).status();
    assert!(signalled.unwrap().success());
    told(&socket, "STOPPING=1");
    // While it drains, the watchdog is still notified, and no new connection is accepted.
    told(&socket, "WATCHDOG=1");
    let began = Instant::now();
    while TcpStream::connect(&address).is_ok() {
        assert!(began.elapsed() < PATIENCE, "it goes on accepting");
    }
    caller.write_all(br#"{"a": 1}"#).unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_connections_wait_for_a_service_that_does_not_accept_for_a_moment() {
    use rustix::process::{Pid, Signal, kill_process};
    let deployment = Deployment::new(Backend::Sqlite);
    let service = deployment.serve();
    let url = service.url("");
    let address = url
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .parse()
        .unwrap();
    let process = Pid::from_raw(i32::try_from(service.id()).unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    // One that is not queued would be tried again after a second.
    let queued = Duration::from_millis(900);
    let connect = |_| TcpStream::connect_timeout(&address, queued);
    let connected: Vec<_> = (0..1_000).map(connect).collect();
    kill_process(process, Signal::CONT).unwrap();
    let refused = connected.iter().filter(|it| it.is_err()).count();
    assert_eq!(refused, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_socket_of_the_service_manager_is_told_too() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;
    let deployment = Deployment::new(Backend::Sqlite);
    let name = format!("tierkeep-test-{}", std::process::id());
    let socket = SocketAddr::from_abstract_name(&name).and_then(|it| UnixDatagram::bind_addr(&it));
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut child = deployment
        .command(&["serve", "--listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    told(&socket, "READY=1");
    let signalled = Command::new("kill").arg(child.id().to_string()).status();
    assert!(signalled.unwrap().success());
    told(&socket, "STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The settings of the process's allocator.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn told_the_allocator(service: &Service) -> Vec<String> {
    let environment = std::fs::read(format!("/proc/{}/environ", service.id())).unwrap();
    let settings = environment.split(|byte| *byte == 0);
    let settings = settings.map(|one| String::from_utf8_lossy(one).into_owned());
    let mut told: Vec<String> = settings.filter(|one| one.starts_with("MALLOC_")).collect();
    told.sort();
    told
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn the_allocator_gives_back_unless_it_was_told_otherwise() {
    const OTHERS: [&str; 3] = [
        "MALLOC_MMAP_THRESHOLD_=2097152",
        "MALLOC_TOP_PAD_=1048576",
        "MALLOC_TRIM_THRESHOLD_=16777216",
    ];
    let usual = Deployment::new(Backend::Sqlite);
    let told = told_the_allocator(&usual.serve());
    assert_eq!(told, [["MALLOC_ARENA_MAX=2"].as_slice(), &OTHERS].concat());
    let set = Deployment::new(Backend::Sqlite).with("MALLOC_ARENA_MAX", "7");
    let told = told_the_allocator(&set.serve());
    assert_eq!(told, [["MALLOC_ARENA_MAX=7"].as_slice(), &OTHERS].concat());
}

/// The beginning of the answer to a request of caller number `n`, of which a proxy says where it came from.
async fn answer_to(address: &str, method: &str, n: usize, body: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} /v1/user/scan_cache?username=caller_{} HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 10.1.{}.{}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        n % WRITERS,
        n / 250,
        n % 250,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).await.unwrap();
    String::from_utf8_lossy(&begun).into_owned()
}

const WRITERS: usize = 100;
const READERS: usize = 1_000;

/// All connections come from one address, the proxy's, whose share they would exceed. The limits of an address are the
/// usual ones; that of all public requests together is not what this is about.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callers_at_once_behind_a_trusted_proxy_are_all_served(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut deployment = Deployment::new(backend)
        .with("TIERKEEP_TRUSTED_PROXIES", "127.0.0.1/32")
        .with("TIERKEEP_PUBLIC_CONCURRENCY", "1000");
    for limit in ["RATE", "BURST", "NEW_USERS"] {
        let name = format!("TIERKEEP_PUBLIC_{limit}");
        deployment.environment.remove(&name);
    }
    // Two descriptors for each caller, in this process and in the service, which raises its own limit.
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    setrlimit(Resource::Nofile, limits).unwrap();
    let service = deployment.serve();
    let url = service.url("");
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    for (callers, method, body, status) in [
        (WRITERS, "PUT", "{}", "HTTP/1.1 201"),
        (READERS, "GET", "", "HTTP/1.1 200"),
    ] {
        let answers = join_all((0..callers).map(|n| answer_to(address, method, n, body))).await;
        let other = answers.iter().find(|answer| *answer != status);
        assert_eq!(other, None, "{method}");
    }
}
