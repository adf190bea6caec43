//! Requests that are cut off in the middle do not affect other callers, whatever they contain.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::program::{Backend, Deployment, Service, github, token_of};

const CALLERS: usize = 64;
const FIRST: usize = 32;
/// How long the callers ask before they are cut off.
const ASKING: Duration = Duration::from_secs(1);
/// Longer than the list of pending erasures may be old, and than any wait of the service itself.
const SILENCE: Duration = Duration::from_secs(4);
/// A request that waits for a call that was given up waits for a second at least, and so do all that come with it.
const LONGEST: Duration = Duration::from_millis(700);

/// What the callers do who are cut off.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Asked {
    Get,
    Put,
    Patch,
    Erase,
    Probe,
}

impl Asked {
    const ALL: [Self; 5] = [Self::Get, Self::Put, Self::Patch, Self::Erase, Self::Probe];

    fn request(self, user: usize) -> String {
        match self {
            Self::Get => request("GET", "/v1/user/scan_cache", user, ""),
            Self::Put => request("PUT", "/v1/user/scan_cache", user, "{\"score\": 1}"),
            Self::Patch => request("PATCH", "/v1/user/scan_cache", user, "{\"score\": 2}"),
            Self::Erase => request("DELETE", "/v1/user", user, ""),
            Self::Probe => {
                let paths = ["/health/ready", "/health/databases"];
                request("GET", paths[user % paths.len()], user, "")
            }
        }
    }
}

fn request(method: &str, path: &str, user: usize, body: &str) -> String {
    let token = token_of(&format!("{user:024x}"), None);
    let content_type = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nX-GitHub-Token: gho_any\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn connect(service: &Service) -> TcpStream {
    let url = service.url("");
    let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    TcpStream::connect(address).await.unwrap()
}

/// Sends a request, and reads the beginning of the answer to it.
async fn answered(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1 << 16];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// Asks again and again, and leaves with a request half sent or not yet answered.
async fn ask_until_cut_off(service: &Service, asked: Asked, caller: usize) {
    let until = Instant::now() + ASKING;
    let mut stream = connect(service).await;
    let mut user = caller;
    while Instant::now() < until {
        let answer = answered(&mut stream, &asked.request(user)).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        user += CALLERS;
    }
    let last = asked.request(user);
    let sent = match caller % 2 {
        0 => last.as_bytes(),
        _ => &last.as_bytes()[..last.len() - 1],
    };
    stream.write_all(sent).await.unwrap();
}

/// How long half of the callers who come at once after a silence waited at most for their first answers: on a busy machine single
/// ones wait longer.
async fn half_of(service: &Service, request: impl Fn(usize) -> String) -> Duration {
    let first = (0..FIRST).map(async |caller| {
        let mut stream = connect(service).await;
        let began = Instant::now();
        let answer = answered(&mut stream, &request(caller)).await;
        let took = began.elapsed();
        let status = answer.get(9..12).unwrap_or_default();
        assert!(["200", "404"].contains(&status), "{answer}");
        took
    });
    let mut took = join_all(first).await;
    took.sort_unstable();
    took[FIRST / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_waits_for_one_that_was_cut_off() {
    let github = github().await;
    let deployment = Deployment::new(Backend::Mongo).with("GITHUB_API_URL", &github.uri());
    let service = deployment.serve();
    // What a busy machine costs shows at a service that has nothing to do.
    let other = Deployment::new(Backend::Sqlite);
    let idle = other.serve();
    for asked in Asked::ALL {
        let callers = (0..CALLERS).map(|caller| ask_until_cut_off(&service, asked, caller));
        join_all(callers).await;
        tokio::time::sleep(SILENCE).await;
        let get = |user| Asked::Get.request(user);
        let live = |user| request("GET", "/health/live", user, "");
        let (half, idle) = tokio::join!(half_of(&service, get), half_of(&idle, live));
        println!(
            "{asked:?}: half of the first answers took {half:?} at most, of an idle service {idle:?}"
        );
        assert!(
            half < LONGEST + 2 * idle,
            "{asked:?}: {half:?}, idle {idle:?}"
        );
    }
}
