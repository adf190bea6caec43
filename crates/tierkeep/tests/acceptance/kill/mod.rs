//! `kill -9` of the real binary at every call that changes a database: before it, half of it done, after it.
//!
//! A first run records its calls; then one run is killed at each of them. Another program checks what is on disk,
//! and a run without crashes must complete everything. `TIERKEEP_TEST_FULL` adds
//! the moments just before and during each call, and those around every read.

mod entering;
mod erasing;
mod moving;
mod on_shards;
mod opening;
mod records;
mod restoring;
mod scene;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use super::program::{Deployment, Service};
pub use crate::common::full;

/// One call that a process made to a database.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which database, which operation, which collection.
    pub name: String,
    nth: u64,
    many: usize,
}

impl Call {
    fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let [database, operation, collection, nth, many] = words[..] else {
            panic!("no call: {line}");
        };
        Self {
            name: format!("{database} {operation} {collection}"),
            nth: nth.parse().unwrap(),
            many: many.parse().unwrap(),
        }
    }

    /// Whether it may change the database.
    pub fn writes(&self) -> bool {
        ["find", "count", "hello", "indexes"]
            .iter()
            .all(|reads| !self.name.contains(&format!(" {reads} ")))
    }

    /// The points at which a process that makes this call is ended.
    pub fn points(&self) -> Vec<String> {
        let point = |moment: &str| format!("{} {} {moment}", self.name, self.nth);
        let mut points = Vec::new();
        if full() {
            points.push(point("before"));
        }
        if self.writes() {
            if full() {
                points.push(point("during"));
            }
            if self.many > 1 {
                points.push(point("midway"));
            }
            points.push(point("after"));
        }
        points
    }
}

/// The calls that a process makes.
pub struct Trace(PathBuf);

impl Trace {
    /// Every process that `deployment` starts from now on writes down its calls.
    pub fn begin(deployment: &mut Deployment) -> Self {
        let path = deployment.dir.path().join("calls");
        let name = path.display().to_string();
        deployment.environment.insert("CRASH_TRACE".into(), name);
        Self(path)
    }

    /// The calls so far; no process writes down any more.
    pub fn end(self, deployment: &mut Deployment) -> Vec<Call> {
        deployment.environment.remove("CRASH_TRACE");
        let calls = std::fs::read_to_string(self.0).unwrap();
        calls.lines().map(Call::parse).collect()
    }
}

/// Every process that `deployment` starts ends itself at `point`, until [`spare`].
pub fn doom(deployment: &mut Deployment, point: &str) {
    deployment
        .environment
        .insert("CRASH_AT".into(), point.into());
}

/// Undoes [`doom`].
pub fn spare(deployment: &mut Deployment) {
    deployment.environment.remove("CRASH_AT");
}

/// Runs a command that must not come further than its point.
pub fn killed(mut command: Command, point: &str) {
    let output = command.output().unwrap();
    assert!(was_killed(output.status), "{point}: {output:?}");
}

/// Waits until a service has come to its point.
pub async fn service_killed(service: &mut Service, point: &str) {
    let status = service.ended().await;
    assert!(was_killed(status), "{point}: {status}");
}

/// Whether it was `kill -9` that ended a process.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}
