//! `cargo xtask bench`: what can be told of the release binary from outside: its size, and how long the
//! embedded service takes until it is ready.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, ensure};

use crate::mongod::Mongod;

const STARTS: usize = 11;
const SIZE_GOAL_BYTES: u64 = 40 * 1024 * 1024;
const READY_GOAL: Duration = Duration::from_millis(300);

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Measures the mover on a server of its own, with `arguments` for the measuring program.
pub(crate) async fn moves(root: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let mongod = Mongod::start(root).await?;
    let ran = tokio::process::Command::new(env!("CARGO"))
        .args(["run", "--release", "--locked", "-p", "tierkeep-bench", "--"])
        .args(["--url", &mongod.url()])
        .args(["--process", &mongod.process().to_string()])
        .arg("--out")
        .arg(root.join("docs"))
        .args(arguments)
        .current_dir(root)
        .kill_on_drop(true)
        .status()
        .await?;
    ensure!(ran.success(), "the measurement failed");
    Ok(())
}

/// Builds the release binary, starts it on fresh and on existing data directories in turn, and prints the
/// medians beside the goals.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "-p", "tierkeep"])
        .current_dir(root)
        .status()?;
    ensure!(built.success(), "the release build failed");
    let binary = root.join("target/release/tierkeep");
    let size = fs::metadata(&binary)?.len();
    let home = root
        .join("target")
        .join(format!("bench.{}", std::process::id()));
    let (mut fresh, mut existing) = (Vec::new(), Vec::new());
    for start in 0..STARTS {
        let data = home.join(start.to_string());
        fresh.push(ready_after(&binary, &data)?);
        existing.push(ready_after(&binary, &data)?);
    }
    fs::remove_dir_all(&home).ok();
    let size_ratio = ratio(u128::from(size), u128::from(SIZE_GOAL_BYTES));
    println!("| what | measured | goal | of the goal |");
    println!("|---|---|---|---|");
    println!(
        "| binary | {:.1} MiB | 40 MiB | {size_ratio:.2} |",
        mebibytes(size)
    );
    for (name, mut times) in [("fresh", fresh), ("existing", existing)] {
        times.sort();
        let (least, median, most) = (times.first(), times.get(times.len() / 2), times.last());
        let (Some(least), Some(median), Some(most)) = (least, median, most) else {
            continue;
        };
        println!(
            "| start to ready, {name} data directory | {} ms ({} to {}) | 300 ms | {:.2} |",
            median.as_millis(),
            least.as_millis(),
            most.as_millis(),
            ratio(median.as_micros(), READY_GOAL.as_micros()),
        );
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn ratio(one: u128, other: u128) -> f64 {
    one as f64 / other as f64
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// Starts the service and asks until it says that it is ready.
fn ready_after(binary: &Path, data: &Path) -> anyhow::Result<Duration> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let started = Instant::now();
    let child = Command::new(binary)
        .args(["serve", "--listen", &address.to_string(), "--data-dir"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("the release binary cannot be started")?;
    let _service = Service(child);
    while !is_ready(address) {
        ensure!(
            started.elapsed() < Duration::from_secs(30),
            "not ready after 30 seconds"
        );
        thread::sleep(Duration::from_millis(2));
    }
    Ok(started.elapsed())
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(
            b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
