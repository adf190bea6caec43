//! `status --watch` keeps refreshing.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::program::{Backend, Deployment};

/// How long it may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends the interrupt; it must end by itself.
fn interrupt(watch: &mut Child) -> ExitStatus {
    let interrupted = Command::new("kill")
        .args(["-INT", &watch.id().to_string()])
        .status();
    assert!(interrupted.unwrap().success());
    let began = Instant::now();
    loop {
        if let Some(status) = watch.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > PATIENCE {
            watch.kill().unwrap();
            watch.wait().unwrap();
            panic!("it goes on after an interrupt");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn watching(deployment: &Deployment) -> (Child, impl Iterator<Item = Value>) {
    let mut watch = deployment
        .command(&["status", "--watch", "--every", "100ms", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let shown = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap());
    (watch, shown)
}

#[test]
fn a_watch_tells_what_changes_and_ends_with_an_interrupt() {
    let deployment = Deployment::new(Backend::Sqlite);
    assert!(deployment.run(&["init"]).status.success());
    let (mut watch, mut shown) = watching(&deployment);
    let first = shown.next().unwrap();
    assert_eq!(
        (&first["paused"], &first["open_alerts"]),
        (&false.into(), &0.into())
    );
    deployment.json(&["migrate", "pause", "--json"]);
    assert!(shown.any(|shown| shown["paused"] == true));
    assert_eq!(interrupt(&mut watch).code(), Some(0));
    // What was on its way is read to its end.
    assert!(shown.all(|shown| shown["paused"] == true));
}

#[test]
fn an_interrupt_ends_a_watch_at_whatever_moment_it_comes() {
    let deployment = Deployment::new(Backend::Sqlite);
    assert!(deployment.run(&["init"]).status.success());
    // From when it waits for the next look until after that look.
    for moment in 0..20 {
        let (mut watch, mut shown) = watching(&deployment);
        assert!(shown.by_ref().take(2).count() == 2);
        std::thread::sleep(Duration::from_micros(98_000 + moment * 500));
        assert_eq!(interrupt(&mut watch).code(), Some(0), "{moment}");
    }
}

#[test]
fn a_pipe_is_given_one_snapshot_after_the_other_and_may_close() {
    let deployment = Deployment::new(Backend::Sqlite);
    assert!(deployment.run(&["init"]).status.success());
    let mut watch = deployment
        .command(&["status", "--watch", "--every", "100ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut heads = 0;
    while heads < 2 {
        let line = lines.next().unwrap().unwrap();
        assert!(!line.contains('\u{1b}'), "{line}");
        heads += usize::from(line.trim_start().starts_with("database "));
    }
    drop(lines);
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}
