//! `cargo xtask bench`: builds what is measured as it is released, starts a MongoDB server, and runs the measuring
//! program.

use std::path::Path;
use std::process::Stdio;

use anyhow::ensure;
use tokio::process::Command;

use crate::mongod::{Mongod, Room};
use crate::python::environment;
use crate::release;

/// Measures on a server of its own, with `arguments` for the measuring program.
pub(crate) async fn run(root: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let packages = ["-p", "tierkeep", "-p", "tierkeep-bench"];
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked"])
        .args(packages)
        .current_dir(root)
        .kill_on_drop(true)
        .status()
        .await?;
    ensure!(built.success(), "the release build failed");
    let binary = release::asked_for(None, root)?;
    let mongod = Mongod::start(&binary, &release::cache(root)?, Room::Ample).await?;
    let target = root.join("target");
    let scratch = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(&target)?;
    let mut bench = Command::new(target.join("release/tierkeep-bench"));
    let requirements = root.join("crates/bench/requirements.txt");
    match environment(root, "bench", &requirements).await {
        Ok(python) => {
            bench.arg("--python").arg(python);
        }
        Err(error) => println!("requests are not compared with FastAPI: {error:#}"),
    }
    let mut ran = bench
        .args(["--url", &mongod.url()])
        .args(["--process", &mongod.process().to_string()])
        .arg("--binary")
        .arg(target.join("release/tierkeep"))
        .arg("--scratch")
        .arg(scratch.path())
        .arg("--out")
        .arg(root.join("docs"))
        // It holds processes of its own, which it ends when its input ends: with this process, however that ends.
        .arg("--tied")
        .args(arguments)
        .current_dir(root)
        .stdin(Stdio::piped())
        .spawn()?;
    let input = ran.stdin.take();
    let ended = ran.wait().await?;
    drop(input);
    ensure!(ended.success(), "the measurement failed");
    Ok(())
}
