//! The operators' page about topologies is true: its commands are run as printed, on other ports. Instead of `mongosh`,
//! the test sends the commands that `mongosh` would send. The sharded cluster's are run by `outage::of_a_shard`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use serde_json::Value;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_sharded::process::{binary, free_port};
use tokio::time::{Instant, sleep};

use super::program::{Backend, Deployment};

const PAGE: &str = include_str!("../../../../docs/operations/topologies.md");
const PATIENCE: Duration = Duration::from_mins(1);
const INTERVAL: Duration = Duration::from_millis(50);
/// The port that the page names.
const PORT: &str = "27017";

/// The lines of the page in a section that begin like this, without it.
fn lines<'a>(section: &str, begin: &'a str) -> impl Iterator<Item = &'static str> + use<'a> {
    let (_, section) = PAGE.split_once(&format!("\n## {section}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(move |line| line.strip_prefix(begin))
}

fn line(section: &str, begin: &str) -> &'static str {
    let mut found = lines(section, begin);
    let one = found
        .next()
        .unwrap_or_else(|| panic!("no {begin} in {section}"));
    assert_eq!(found.next(), None);
    one
}

/// A server that the page's command started.
struct Mongod(Child);

impl Drop for Mongod {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts a replica set by the page's two commands, under this name and on this port, in a folder of its own.
async fn replica_set(dir: &Path, name: &str, port: u16) -> Mongod {
    const SECTION: &str = "A replica set";
    let folder = line(SECTION, "mkdir -p ");
    let arguments = line(SECTION, "mongod ").split(' ');
    let own = |argument: &str| match argument {
        "rs0" => name.to_owned(),
        PORT => port.to_string(),
        _ => argument.to_owned(),
    };
    std::fs::create_dir_all(dir.join(folder)).unwrap();
    let server = Command::new(binary().unwrap())
        .args(arguments.map(own))
        .args(["--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let server = Mongod(server);
    assert_eq!(line(SECTION, "mongosh "), "--quiet --eval 'rs.initiate()'");
    let url = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
    let admin = Client::with_uri_str(url).await.unwrap().database("admin");
    let initiated = admin.run_command(doc! { "replSetInitiate": {} }).await;
    initiated.unwrap();
    let began = Instant::now();
    let is_primary = |hello: Document| hello.get_bool("isWritablePrimary").unwrap();
    while !is_primary(admin.run_command(doc! { "hello": 1 }).await.unwrap()) {
        assert!(began.elapsed() < PATIENCE, "{name} has no primary");
        sleep(INTERVAL).await;
    }
    server
}

/// Whether init prepares the databases, and doctor has nothing to complain of.
fn assert_runs(deployment: &Deployment) {
    let prepared = deployment.run(&["init"]);
    assert!(prepared.status.success(), "{prepared:?}");
    let doctor = deployment.run(&["doctor", "--json"]);
    let found: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let findings = found["findings"].as_array().unwrap();
    let is_grave = |it: &Value| it["severity"] == "error";
    assert!(!findings.iter().any(is_grave), "{found:#}");
    let _service = deployment.serve();
}

#[test]
fn one_machine_runs_by_the_commands_of_the_page() {
    let commands: Vec<_> = lines("One machine", "$ tierkeep ").collect();
    assert_eq!(
        commands,
        ["init --data-dir ./data", "serve --data-dir ./data"]
    );
    let mut deployment = Deployment::new(Backend::Sqlite);
    deployment.environment.remove("TIERKEEP_DATA_DIR");
    let prepared = deployment.run(&["init", "--data-dir", "./data"]);
    assert!(prepared.status.success(), "{prepared:?}");
    let mut served = deployment.command(&["serve", "--data-dir", "./data"]);
    served.args(["--listen", "127.0.0.1:0"]);
    let _service = Deployment::serve_by(served);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_and_another_for_the_backup_run_by_the_commands_of_the_page() {
    let mut deployment = Deployment::new(Backend::Mongo);
    for role in Role::ALL {
        deployment.environment.remove(role.url_variable());
    }
    let (first, second) = (free_port().unwrap(), free_port().unwrap());
    let dir = deployment.dir.path().to_owned();
    let _main = replica_set(&dir.join("main"), "rs0", first).await;
    let (name, url) = line("A replica set", "export TIERKEEP")
        .split_once('=')
        .unwrap();
    assert_eq!(name, "_CLUSTER_URL");
    let url = url.trim_matches('\'').replace(PORT, &first.to_string());
    let deployment = deployment.with("TIERKEEP_CLUSTER_URL", &url);
    assert_runs(&deployment);

    let _backup = replica_set(&dir.join("backup"), "backup", second).await;
    let place = format!("127.0.0.1:{second}");
    let mut deployment = deployment;
    let of_backup = lines("The backup on another cluster", "export ");
    for (variable, url) in of_backup.map(|it| it.split_once('=').unwrap()) {
        let url = url.trim_matches('\'');
        let url = url.replace(&format!("backup.example.org:{PORT}"), &place);
        deployment = deployment.with(variable, &url);
    }
    for role in [Role::SrieMainUser, Role::SrieMainHr] {
        assert!(deployment.environment[role.url_variable()].contains(&place));
    }
    assert_runs(&deployment);
}
