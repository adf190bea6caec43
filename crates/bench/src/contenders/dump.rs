//! Moving with the MongoDB database tools, where they are installed: a dump piped into a restore, for each of
//! the two copies, both at once.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tierkeep_core::db::Role;
use tokio::process::{Child, Command as Spawn};

use super::{due_before, server};
use crate::place::{Place, USERS, with_database};

const DUMP: &str = "mongodump";
const RESTORE: &str = "mongorestore";

/// Which of the tools is not installed.
pub fn tools_missing() -> Option<&'static str> {
    [DUMP, RESTORE].into_iter().find(|tool| {
        let asked = Command::new(tool)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        !asked.is_ok_and(|status| status.success())
    })
}

/// Copies what is due to srie and to main, then deletes it from temp by age.
pub(super) async fn dump_and_restore(place: &Place, url: &str) -> Result<()> {
    let from = place.database(Role::RaseenTempUser)?;
    let srie = place.database(Role::SrieMainUser)?;
    let main = place.database(Role::RaseenMainUser)?;
    let (one, other) = tokio::join!(
        copy(url, from.name(), srie.name()),
        copy(url, from.name(), main.name()),
    );
    one?;
    other?;
    server::delete_by_age(place).await
}

async fn copy(url: &str, from: &str, to: &str) -> Result<()> {
    let before = due_before().timestamp_millis();
    let query = format!(
        r#"{{"metadata.staged_at": {{"$lte": {{"$date": {{"$numberLong": "{before}"}}}}}}}}"#
    );
    let mut dump = Spawn::new(DUMP)
        .args(["--quiet", "--archive", "--uri", &with_database(url, from)])
        .args(["--collection", USERS, "--query", &query])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context(DUMP)?;
    let archive: Stdio = dump
        .stdout
        .take()
        .context("the dump goes to its output")?
        .try_into()?;
    let restore = Spawn::new(RESTORE)
        .args(["--quiet", "--archive", "--uri", &with_database(url, "")])
        .args(["--nsInclude", &format!("{from}.{USERS}")])
        .args(["--nsFrom", &format!("{from}.{USERS}")])
        .args(["--nsTo", &format!("{to}.{USERS}")])
        .args(["--writeConcern", r#"{"w": "majority", "j": true}"#])
        .args(["--numInsertionWorkersPerCollection", "4"])
        .args(["--noIndexRestore", "--noOptionsRestore"])
        .stdin(archive)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context(RESTORE)?;
    let (dumped, restored) = tokio::join!(ended(dump, DUMP), ended(restore, RESTORE));
    restored?;
    dumped
}

async fn ended(mut tool: Child, name: &str) -> Result<()> {
    let status = tool.wait().await?;
    ensure!(status.success(), "{name} ended with {status}");
    Ok(())
}
