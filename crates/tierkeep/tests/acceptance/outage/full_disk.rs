//! A full disk: what is stored can be read, writes are refused, and nothing is lost.

use std::process::{Command, Stdio};

use reqwest::{Client, StatusCode};
use serde_json::json;

use super::super::program::{Backend, Deployment, SERVE};

/// The largest file in the shell's blocks of 512 or 1024 bytes.
const BLOCKS: u32 = 3_000;
const DOCUMENT_BYTES: usize = 200_000;
const SECTION: &str = "/v1/user/scan_cache";

/// The command, without room for files beyond [`BLOCKS`]: the system refuses to write, as a full disk does.
fn cramped(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            &format!("trap '' XFSZ; ulimit -f {BLOCKS}; exec \"$@\""),
            "cramped",
        ])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("PATH", "/usr/bin:/bin")
        .current_dir(command.get_current_dir().unwrap())
        .stdin(Stdio::null());
    shell
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_writes_are_put_off_and_what_is_stored_is_read() {
    let deployment = Deployment::new(Backend::Sqlite);
    let mut service = Deployment::serve_by(cramped(&deployment.command(SERVE)));
    let client = Client::new();
    let body = json!({ "filler": "x".repeat(DOCUMENT_BYTES) }).to_string();
    let write = async |base: &str, n: usize| {
        let url = format!("{base}{SECTION}?username=user{n}");
        let asked = client.put(url).header("content-type", "application/json");
        asked.body(body.clone()).send().await.unwrap()
    };
    let mut stored = 0;
    let refused = loop {
        let answer = write(&service.base, stored).await;
        if answer.status() != StatusCode::CREATED {
            break answer;
        }
        stored += 1;
        assert!(stored < 100, "there is room for everything");
    };
    assert!(stored > 0);
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "database_unavailable", "{problem}");
    let read = async |base: &str, n: usize| {
        let url = format!("{base}{SECTION}?username=user{n}");
        client.get(url).send().await.unwrap().status()
    };
    for n in 0..stored {
        assert_eq!(read(&service.base, n).await, StatusCode::OK, "{n}");
    }
    let row = client.get(service.url("/health/databases/external_users"));
    let row: serde_json::Value = row.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&row["status"], &row["breaker"]),
        (&"up".into(), &"closed".into())
    );
    let ready = client.get(service.url("/health/ready")).send().await;
    let ready = ready.unwrap();
    assert_eq!(ready.status(), StatusCode::OK);
    let ready: serde_json::Value = ready.json().await.unwrap();
    assert_eq!(ready["status"], "degraded", "{ready}");
    assert_eq!(
        ready["reasons"][0],
        "external_users refuses writes (disk_full)"
    );

    // With free space again: everything acknowledged is there, and writes succeed.
    service.kill();
    let service = deployment.serve();
    for n in 0..stored {
        assert_eq!(read(&service.base, n).await, StatusCode::OK, "{n}");
    }
    assert_eq!(
        write(&service.base, stored).await.status(),
        StatusCode::CREATED
    );
}
