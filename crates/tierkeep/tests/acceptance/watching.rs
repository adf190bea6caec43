//! The status goes on being shown.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::program::{Backend, Deployment};

#[test]
fn a_watch_tells_what_changes_and_ends_with_an_interrupt() {
    let deployment = Deployment::new(Backend::Sqlite);
    assert!(deployment.run(&["init"]).status.success());
    let mut watch = deployment
        .command(&["status", "--watch", "--every", "100ms", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut shown = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let first = shown.next().unwrap();
    assert_eq!(
        (&first["paused"], &first["open_alerts"]),
        (&false.into(), &0.into())
    );
    deployment.json(&["migrate", "pause", "--json"]);
    assert!(shown.any(|shown| shown["paused"] == true));
    let interrupted = Command::new("kill")
        .args(["-INT", &watch.id().to_string()])
        .status();
    assert!(interrupted.unwrap().success());
    // What was on its way is read to its end.
    assert!(shown.all(|shown| shown["paused"] == true));
    assert_eq!(watch.wait().unwrap().code(), Some(0));
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
