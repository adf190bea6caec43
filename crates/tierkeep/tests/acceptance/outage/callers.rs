//! Users of a running service that write until they are stopped.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::program::{Service, token};
use super::{INTERVAL, PATIENCE};

const SECTION: &str = "/v1/user/scan_cache";
/// How long after one write the next follows.
const PACE: Duration = Duration::from_millis(20);
/// How many writes of each writer a phase takes.
const SOME: usize = 15;
/// How many writes of each writer a median takes.
const MANY: usize = 60;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum User {
    Internal(u8),
    External(u8),
}

/// What a user sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// It was done, and survives.
    Done,
    /// 503 with `Retry-After`; whether it was done may be unknown.
    Later,
}

/// The way to a running service.
#[derive(Clone)]
pub struct Callers {
    client: Client,
    base: String,
}

impl Callers {
    pub fn of(service: &Service) -> Self {
        Self {
            client: Client::new(),
            base: service.base.clone(),
        }
    }

    /// Asks something that answers with JSON.
    pub async fn look(&self, path: &str) -> (u16, Value) {
        let answer = self
            .client
            .get(format!("{}{path}", self.base))
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap())
    }

    fn by(&self, user: User, asked: impl Fn(String) -> RequestBuilder) -> RequestBuilder {
        let path = format!("{}{SECTION}", self.base);
        match user {
            User::Internal(n) => asked(path)
                .bearer_auth(token(&format!("507f1f77bcf86cd7994390{n:02x}")))
                .header("x-github-token", "gho_something"),
            User::External(n) => asked(format!("{path}?username=writer{n}")),
        }
    }

    /// Sets one field of a user's section; any other answer than done or later is none that a user may see.
    pub async fn write(&self, user: User, field: &str) -> Seen {
        let patch = json!({ field: field }).to_string();
        let asked = self.by(user, |url| self.client.patch(url));
        let asked = asked
            .header("content-type", "application/merge-patch+json")
            .body(patch);
        let answer = asked.send().await.unwrap();
        match answer.status() {
            StatusCode::OK | StatusCode::CREATED => Seen::Done,
            StatusCode::SERVICE_UNAVAILABLE if answer.headers().contains_key("retry-after") => {
                Seen::Later
            }
            other => panic!("{user:?} sees {other}: {:?}", answer.text().await),
        }
    }

    pub async fn read(&self, user: User) -> Value {
        let answer = self
            .by(user, |url| self.client.get(url))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{user:?}");
        answer.json().await.unwrap()
    }

    /// Writers with these numbers of each type, that run until they are stopped.
    pub fn writers(&self, numbers: RangeInclusive<u8>) -> Writers {
        let writers = Writers {
            callers: self.clone(),
            book: Arc::default(),
            over: Arc::default(),
            tasks: Mutex::default(),
        };
        for n in numbers {
            for user in [User::Internal(n), User::External(n)] {
                writers.book().insert(user, Vec::new());
                let (callers, book) = (self.clone(), Arc::clone(&writers.book));
                let over = Arc::clone(&writers.over);
                writers.tasks.lock().unwrap().spawn(async move {
                    for n in 0.. {
                        if over.load(Ordering::Acquire) {
                            return;
                        }
                        let began = Instant::now();
                        let seen = callers.write(user, &format!("w{n}")).await;
                        let took = began.elapsed();
                        book.lock()
                            .unwrap()
                            .get_mut(&user)
                            .unwrap()
                            .push((seen, took));
                        sleep(PACE).await;
                    }
                });
            }
        }
        writers
    }
}

type Book = BTreeMap<User, Vec<(Seen, Duration)>>;

/// Users who write all the time; the nth write of each sets the field `w`n.
pub struct Writers {
    callers: Callers,
    book: Arc<Mutex<Book>>,
    over: Arc<AtomicBool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Writers {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    fn written(&self) -> BTreeMap<User, usize> {
        let done = |writes: &Vec<(Seen, Duration)>| {
            writes
                .iter()
                .filter(|(seen, _)| *seen == Seen::Done)
                .count()
        };
        self.book()
            .iter()
            .map(|(user, writes)| (*user, done(writes)))
            .collect()
    }

    /// How many writes were put off so far.
    pub fn refused(&self) -> usize {
        let book = self.book();
        let all = book.values().flatten();
        all.filter(|(seen, _)| *seen == Seen::Later).count()
    }

    /// Waits until each of them has written some more.
    pub async fn more(&self, at: &str) {
        self.until(SOME, at).await;
    }

    async fn until(&self, more: usize, at: &str) {
        let (before, began) = (self.written(), Instant::now());
        while self
            .written()
            .iter()
            .any(|(user, done)| done - before[user] < more)
        {
            assert!(
                began.elapsed() < PATIENCE,
                "{at}: {:?} after {before:?}",
                self.written()
            );
            sleep(INTERVAL).await;
        }
    }

    /// The median of how long internal users' writes take from now on.
    pub async fn median(&self, at: &str) -> Duration {
        let before: BTreeMap<User, usize> = self
            .book()
            .iter()
            .map(|(user, writes)| (*user, writes.len()))
            .collect();
        self.until(MANY, at).await;
        let book = self.book();
        let internal = book
            .iter()
            .filter(|(user, _)| matches!(user, User::Internal(_)));
        let mut took: Vec<Duration> = internal
            .flat_map(|(user, writes)| writes[before[user]..].iter().map(|(_, took)| *took))
            .collect();
        took.sort();
        took[took.len() / 2]
    }

    /// Stops them; each acknowledged write is there.
    pub async fn lost_nothing(self) {
        self.over.store(true, Ordering::Release);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        tasks.join_all().await;
        let book = std::mem::take(&mut *self.book());
        for (user, writes) in book {
            let stored = self.callers.read(user).await;
            for (n, (seen, _)) in writes.iter().enumerate() {
                let field = format!("w{n}");
                let there = stored[&field] == field.as_str();
                assert!(there || *seen == Seen::Later, "{user:?} lost write {n}");
            }
        }
    }
}
