//! The memory of a service under hostile bodies, seen from outside.

use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder, StatusCode};

use super::program::{Backend, Deployment, Service, token};

const SECTION: &str = "/v1/user/scan_cache";
const MEGABYTE: u64 = 1_000_000;
const DEEP: usize = 90;

/// The resident memory of the process now (`VmRSS`) or at its highest (`VmHWM`), in bytes.
fn memory(service: &Service, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.id())).unwrap();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    let kilobytes = found.unwrap().trim_start_matches(':').trim();
    let kilobytes: u64 = kilobytes.trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1024
}

/// An object of at most this many bytes, of small arrays 90 deep.
fn deep(bytes: usize) -> String {
    let one = format!("{}{}", "[".repeat(DEEP - 2), "]".repeat(DEEP - 2));
    let count = (bytes - 8) / (one.len() + 1);
    format!("{{\"a\":[{}]}}", vec![one; count].join(","))
}

fn put(client: &Client, service: &Service, user: usize, body: &str) -> RequestBuilder {
    let url = service.url(&format!("{SECTION}?username=deep{user}"));
    let put = client.put(url).header("content-type", "application/json");
    put.body(body.to_owned())
}

fn put_internal(client: &Client, service: &Service, user: usize, body: &str) -> RequestBuilder {
    let subject = format!("{user:024x}");
    let put = client
        .put(service.url(SECTION))
        .header("content-type", "application/json")
        .bearer_auth(token(&subject))
        .header("x-github-token", "gho_any");
    put.body(body.to_owned())
}

/// Asks for the health until it is aborted; the longest wait for an answer.
fn health(client: &Client, service: &Service) -> tokio::sync::watch::Receiver<Duration> {
    let (longest, watched) = tokio::sync::watch::channel(Duration::ZERO);
    let (client, url) = (client.clone(), service.url("/health/live"));
    tokio::spawn(async move {
        while !longest.is_closed() {
            let began = Instant::now();
            let answer = client.get(&url).send().await;
            assert_eq!(answer.unwrap().status(), StatusCode::OK);
            longest.send_modify(|longest| *longest = began.elapsed().max(*longest));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    watched
}

/// Whether the health answered within a second, on a machine where an idle service answered within `idle`.
fn is_within_a_second(waited: Duration, idle: Duration) -> bool {
    waited < Duration::from_secs(1) + 2 * idle
}

/// Sends all of these at once; the statuses of the answers, each read to its end.
async fn all(requests: Vec<RequestBuilder>) -> Vec<StatusCode> {
    let asked = requests.into_iter().map(|request| async {
        let answer = request.send().await.unwrap();
        let status = answer.status();
        answer.bytes().await.unwrap();
        status
    });
    futures_util::future::join_all(asked).await
}

/// Waits until the process has given back all but 60 MB of what it took.
async fn gives_back(service: &Service, before: u64) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let now = memory(service, "VmRSS");
        if now <= before + 60 * MEGABYTE {
            return;
        }
        assert!(Instant::now() < until, "{before} bytes before, {now} after");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_and_writers_of_deep_bodies_take_less_than_300_mb() {
    let deployment = Deployment::new(Backend::Sqlite);
    let service = deployment.serve();
    let client = Client::new();
    let before = memory(&service, "VmRSS");
    let body = deep(1 << 20);
    let stored = put(&client, &service, 0, &body).send().await.unwrap();
    assert_eq!(stored.status(), StatusCode::CREATED);
    let url = service.url(&format!("{SECTION}?username=deep0"));
    let shown = client.get(&url).send().await.unwrap();
    assert_eq!(shown.content_length(), Some(body.len() as u64));
    assert!(shown.text().await.unwrap() == body);

    // What a busy machine costs shows at a service that has nothing to do.
    let other = Deployment::new(Backend::Sqlite);
    let idle = other.serve();
    let idle_waited = health(&client, &idle);
    let waited = health(&client, &service);
    let mut requests: Vec<_> = (0..40).map(|_| client.get(&url)).collect();
    requests.extend((0..16).map(|user| put(&client, &service, user, &body)));
    let statuses = all(requests).await;
    let peak = memory(&service, "VmHWM");
    let (waited, idle) = (*waited.borrow(), *idle_waited.borrow());
    println!(
        "{before} bytes before, {peak} at most; health after {waited:?}, of an idle service {idle:?}"
    );
    assert!(peak < 300 * MEGABYTE, "{peak}");
    assert!(
        is_within_a_second(waited, idle),
        "{waited:?}, idle {idle:?}"
    );
    // On a machine that is slow enough, what waited for five seconds is put off.
    let put_off = [
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    let served = |status: &StatusCode| status.is_success() || put_off.contains(status);
    assert!(statuses.iter().all(served), "{statuses:?}");
    assert!(statuses.contains(&StatusCode::OK), "{statuses:?}");
    gives_back(&service, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_bodies_of_8_mib_take_less_than_500_mb() {
    let deployment = Deployment::new(Backend::Sqlite);
    let service = deployment.serve();
    let client = Client::new();
    let before = memory(&service, "VmRSS");
    // What a busy machine costs shows at a service that has nothing to do.
    let other = Deployment::new(Backend::Sqlite);
    let idle = other.serve();
    let idle_waited = health(&client, &idle);
    let waited = health(&client, &service);
    let text = format!("{{\"a\":\"{}\"}}", "x".repeat((8 << 20) - 8));
    for (body, expected) in [
        (deep(8 << 20), StatusCode::PAYLOAD_TOO_LARGE),
        (text, StatusCode::CREATED),
    ] {
        let requests = (0..12).map(|user| put_internal(&client, &service, user, &body));
        let statuses = all(requests.collect()).await;
        let put_off = StatusCode::SERVICE_UNAVAILABLE;
        let are_expected = |status: &StatusCode| [expected, put_off].contains(status);
        assert!(statuses.iter().all(are_expected), "{statuses:?}");
        assert!(statuses.contains(&expected), "{statuses:?}");
    }
    let peak = memory(&service, "VmHWM");
    let (waited, idle) = (*waited.borrow(), *idle_waited.borrow());
    println!(
        "{before} bytes before, {peak} at most; health after {waited:?}, of an idle service {idle:?}"
    );
    assert!(peak < 500 * MEGABYTE, "{peak}");
    assert!(
        is_within_a_second(waited, idle),
        "{waited:?}, idle {idle:?}"
    );
    gives_back(&service, before).await;
}
