//! The release binary, run as users run it. Ended by its process id when dropped.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::measure::peak_of;

/// Signs the tokens of the callers.
pub const SECRET: &str = "a-secret-of-the-benchmark-of-enough-bytes";

/// How often it is asked whether it is ready.
const INTERVAL: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// `binary` with `arguments` in this environment and no other, away from any user's settings.
pub fn command(
    binary: &Path,
    environment: &[(String, String)],
    arguments: &[&str],
) -> Result<Command> {
    let folder = binary.parent().context("the binary lies in a folder")?;
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("SECRET_KEY", SECRET)
        .env("TIERKEEP_LOG", "json")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

/// Runs `binary` to its end; answers what it printed as JSON, and the most bytes of memory that it had.
pub async fn outcome(
    binary: &Path,
    environment: &[(String, String)],
    arguments: &[&str],
) -> Result<(Value, u64)> {
    let child = command(binary, environment, arguments)?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("the release binary cannot be started")?;
    let watch = peak_of(child.id().context("it has not been waited for")?);
    let output = child.wait_with_output().await?;
    ensure!(
        output.status.success(),
        "{}: {}: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok((serde_json::from_slice(&output.stdout)?, watch.await?))
}

/// Waits until the service at `url` says that it is ready.
pub async fn ready(url: &str) -> Result<()> {
    let client = reqwest::Client::new();
    let url = format!("{url}/health/ready");
    let begun = Instant::now();
    while !client
        .get(&url)
        .send()
        .await
        .is_ok_and(|answer| answer.status().is_success())
    {
        ensure!(begun.elapsed() < PATIENCE, "not ready after {PATIENCE:?}");
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(())
}
