//! Keys and secrets that change on disk under a running service: at SIGHUP, by themselves, and under load.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tierkeep::clock::SystemClock;
use tierkeep_core::clock::Clock as _;
use tokio::time::{Instant, sleep};

use super::program::{Backend, Deployment, SERVE, Service};
use crate::tokens::{ED25519, P256, Signer, header_of, hs256};

/// The subject of one caller.
fn subject(caller: usize) -> String {
    format!("507f1f77bcf86cd7994390{caller:02}")
}

const FIRST: &str = "the first secret, of 32 bytes or more";
const SECOND: &str = "the second secret, of 32 bytes or more";
const PATIENCE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(20);
/// How many callers ask at once, and how many answers each has between two changes.
const CALLERS: usize = 4;
const ANSWERS: usize = 40;

fn claims(caller: usize) -> Value {
    let now = SystemClock.now().timestamp_millis() / 1000;
    json!({ "sub": subject(caller), "type": "access", "iat": now - 5, "exp": now + 3600 })
}

fn by_secret(secret: &str, caller: usize) -> String {
    hs256(header_of("HS256"), claims(caller), secret)
}

fn by_key(signer: &Signer, kid: &str, caller: usize) -> String {
    let mut header = header_of(signer.algorithm());
    header["kid"] = kid.into();
    signer.sign(header, claims(caller))
}

/// Puts a file in place of another at once, as rotations should.
fn replace(file: &Path, text: &str) {
    let draft = file.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, file).unwrap();
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// A service whose log is kept.
struct Logged {
    service: Service,
    log: Arc<Mutex<Vec<String>>>,
}

impl Logged {
    fn start(deployment: &Deployment) -> Self {
        let mut child = deployment
            .command(SERVE)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let line: Value = serde_json::from_str(&line).ok()?;
            let listens = line["message"] == "listening";
            listens.then(|| line["address"].as_str().unwrap().to_owned())
        });
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| kept.lock().unwrap().push(line));
        });
        let base = format!("http://{}", address.expect("it listens"));
        Self {
            service: Service::of(child, base),
            log,
        }
    }

    /// How many lines of the log hold this text.
    fn told(&self, text: &str) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains(text)).count()
    }

    async fn until_told(&self, text: &str, times: usize) {
        let began = Instant::now();
        while self.told(text) < times {
            let log = self.log.lock().unwrap().clone();
            assert!(began.elapsed() < PATIENCE, "{text:?} is not in {log:#?}");
            sleep(INTERVAL).await;
        }
    }

    fn hang_up(&self) {
        let process = Pid::from_raw(self.service.id().try_into().unwrap()).unwrap();
        kill_process(process, Signal::HUP).unwrap();
    }

    async fn status(&self, token: &str) -> StatusCode {
        let get = Client::new().get(self.service.url("/v1/route"));
        let get = get
            .bearer_auth(token)
            .header("x-github-token", "gho_something");
        get.send().await.unwrap().status()
    }
}

fn deployment() -> Deployment {
    let mut deployment = Deployment::new(Backend::Sqlite);
    deployment.environment.remove("SECRET_KEY");
    deployment
}

/// Callers, each a different user, that keep sending requests with the current token; none may be refused.
struct Load {
    tokens: Arc<RwLock<Vec<String>>>,
    answers: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<Vec<(StatusCode, String)>>>,
}

impl Load {
    fn start(service: &Service, token: impl FnMut(usize) -> String) -> Self {
        let mut load = Self {
            tokens: Arc::new(RwLock::new((0..CALLERS).map(token).collect())),
            answers: Arc::default(),
            stop: Arc::default(),
            callers: Vec::new(),
        };
        for caller in 0..CALLERS {
            let url = service.url("/v1/user/scan_cache");
            let (tokens, answers, stop) = (
                Arc::clone(&load.tokens),
                Arc::clone(&load.answers),
                Arc::clone(&load.stop),
            );
            load.callers.push(tokio::spawn(async move {
                let client = Client::new();
                let mut refused = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let token = tokens.read().unwrap()[caller].clone();
                    let put = client.put(&url).bearer_auth(token);
                    let put = put.header("x-github-token", "gho_something");
                    let answer = put.json(&json!({ "caller": caller })).send().await.unwrap();
                    let status = answer.status();
                    if !status.is_success() {
                        refused.push((status, answer.text().await.unwrap()));
                    }
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                refused
            }));
        }
        load
    }

    /// Waits until each caller has had its answers since now.
    async fn goes_on(&self) {
        let until = self.answers.load(Ordering::Relaxed) + CALLERS * ANSWERS;
        let began = Instant::now();
        while self.answers.load(Ordering::Relaxed) < until {
            assert!(began.elapsed() < PATIENCE, "the callers stand still");
            sleep(INTERVAL).await;
        }
    }

    /// The issuer signs with another key from now on.
    fn signs(&self, token: impl FnMut(usize) -> String) {
        *self.tokens.write().unwrap() = (0..CALLERS).map(token).collect();
    }

    async fn ends(self) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            assert_eq!(caller.await.unwrap(), []);
        }
    }
}

/// As issuers rotate: both keys are published, the new one signs, the old one goes. The issuer waits for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_set_is_rotated_under_load_and_no_request_fails() {
    let deployment = deployment();
    let file = deployment.dir.path().join("jwks.json");
    let (old, new) = (ED25519.jwk("old"), P256.jwk("new"));
    replace(&file, &set(std::slice::from_ref(&old)));
    let deployment = deployment.with("TIERKEEP_JWKS_FILE", file.to_str().unwrap());
    let logged = Logged::start(&deployment);
    let load = Load::start(&logged.service, |caller| by_key(&ED25519, "old", caller));
    load.goes_on().await;
    replace(&file, &set(&[old, new.clone()]));
    load.signs(|caller| by_key(&P256, "new", caller));
    load.goes_on().await;
    replace(&file, &set(&[new]));
    load.goes_on().await;
    // The old key is refused once the file was read without it.
    logged
        .until_told("keys that verify JWTs were read again", 2)
        .await;
    assert_eq!(
        logged.status(&by_key(&ED25519, "old", 0)).await,
        StatusCode::UNAUTHORIZED
    );
    load.goes_on().await;
    load.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_rotated_under_load_and_no_request_fails() {
    let deployment = deployment();
    let path = |name: &str| deployment.dir.path().join(name);
    let (current, previous): (PathBuf, PathBuf) = (path("current"), path("previous"));
    replace(&current, FIRST);
    replace(&previous, FIRST);
    let deployment = deployment
        .with("SECRET_KEY_FILE", current.to_str().unwrap())
        .with("SECRET_KEY_PREVIOUS_FILE", previous.to_str().unwrap());
    let logged = Logged::start(&deployment);
    let load = Load::start(&logged.service, |caller| by_secret(FIRST, caller));
    load.goes_on().await;
    replace(&current, SECOND);
    load.signs(|caller| by_secret(SECOND, caller));
    load.goes_on().await;
    // Tokens of before stay valid until the operator takes their secret away.
    assert!(logged.status(&by_secret(FIRST, 0)).await.is_success());
    replace(&previous, SECOND);
    logged
        .until_told("keys that verify JWTs were read again", 2)
        .await;
    assert_eq!(
        logged.status(&by_secret(FIRST, 0)).await,
        StatusCode::UNAUTHORIZED
    );
    load.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_is_reported_and_the_keys_of_before_stay() {
    const KEPT: &str = "cannot be used; the previous ones stay in use";
    let deployment = deployment();
    let file = deployment.dir.path().join("jwks.json");
    replace(&file, &set(&[ED25519.jwk("old")]));
    let deployment = deployment.with("TIERKEEP_JWKS_FILE", file.to_str().unwrap());
    let logged = Logged::start(&deployment);
    let token = by_key(&ED25519, "old", 0);
    assert!(logged.status(&token).await.is_success());
    replace(&file, "{\"keys\": [");
    logged.until_told(KEPT, 1).await;
    assert!(logged.status(&token).await.is_success());
    fs::remove_file(&file).unwrap();
    logged.until_told(KEPT, 2).await;
    assert!(logged.status(&token).await.is_success());
    // By the signal, whether or not anything has changed; it ends nothing.
    for times in 3..6 {
        logged.hang_up();
        logged.until_told("SIGHUP", times - 2).await;
        logged.until_told(KEPT, times).await;
        assert!(logged.status(&token).await.is_success());
    }
    replace(&file, &set(&[P256.jwk("new")]));
    assert!(logged.status(&by_key(&P256, "new", 0)).await.is_success());
    assert_eq!(logged.status(&token).await, StatusCode::UNAUTHORIZED);
    let log = logged.log.lock().unwrap().join("\n");
    assert!(
        log.contains(file.to_str().unwrap()) && !log.contains("\"crv\""),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directorys_own_secret_is_read_again_and_never_made_again() {
    let deployment = deployment();
    let logged = Logged::start(&deployment);
    let file = deployment.dir.path().join("data").join("secret.key");
    let first = fs::read_to_string(&file).unwrap();
    let token = by_secret(first.trim(), 0);
    assert!(logged.status(&token).await.is_success());
    fs::remove_file(&file).unwrap();
    logged.hang_up();
    logged.until_told("the previous ones stay in use", 1).await;
    assert!(!file.exists());
    assert!(logged.status(&token).await.is_success());
    replace(&file, SECOND);
    assert!(logged.status(&by_secret(SECOND, 0)).await.is_success());
    assert_eq!(logged.status(&token).await, StatusCode::UNAUTHORIZED);
}
