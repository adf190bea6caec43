//! A mongod process that a test can kill and start again.
//!
//! It hangs on a shell that waits for the end of its input: however the tests end, the shell kills the server by its
//! process id and deletes the data.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Where the test command keeps the server that it fetched.
const FETCHED: &str = "../../target/mongod/6.0.5/mongod";

/// Keeps the process of `"$@"` until its input ends, then kills it; deletes the data unless told to keep it.
const KEEPER: &str = r#"data=$1; shift
"$@" > /dev/null 2>&1 < /dev/null & child=$!
echo $child
read -r word
kill -9 $child
wait $child
[ "$word" = keep ] || rm -rf "$data""#;

/// What every server of a test is started with: little memory, no statistics, commands for tests.
const OPTIONS: [&str; 10] = [
    "--bind_ip",
    "127.0.0.1",
    "--nounixsocket",
    "--wiredTigerCacheSizeGB",
    "0.25",
    "--oplogSize",
    "64",
    "--setParameter",
    "enableTestCommands=1",
    "--setParameter=diagnosticDataCollectionEnabled=false",
];

/// The server's binary: the one that the environment names, else the one that the test command fetched.
///
/// # Errors
/// Where there is none.
#[expect(
    clippy::disallowed_methods,
    reason = "the test command hands the server's binary over this way"
)]
pub fn binary() -> io::Result<PathBuf> {
    let named = std::env::var_os("MONGOD_BIN").map(PathBuf::from);
    let binary = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(FETCHED));
    if binary.is_file() {
        return Ok(binary);
    }
    let binary = binary.display();
    Err(io::Error::other(format!(
        "{binary} is not there: `cargo xtask mongod` fetches it, or set MONGOD_BIN"
    )))
}

/// A port that no process listens on now.
///
/// # Errors
/// Where the system gives none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// One mongod.
#[derive(Debug)]
pub struct Mongod {
    port: u16,
    data: PathBuf,
    arguments: Vec<String>,
    keeper: Option<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    shell: Child,
    input: ChildStdin,
    process: Pid,
}

impl Mongod {
    /// Starts one without data, on a port of its own, with these arguments.
    ///
    /// # Errors
    /// If it cannot be started; whether it keeps running is not checked.
    pub fn start(arguments: &[&str]) -> io::Result<Self> {
        let data = tempfile::Builder::new().prefix("sharded-").tempdir()?;
        let mut mongod = Self {
            port: free_port()?,
            data: data.keep(),
            arguments: arguments.iter().map(|&one| one.to_owned()).collect(),
            keeper: None,
        };
        mongod.start_again()?;
        Ok(mongod)
    }

    /// Starts it with the data it has, if it does not run.
    ///
    /// # Errors
    /// As [`Mongod::start`].
    pub fn start_again(&mut self) -> io::Result<()> {
        if self.keeper.is_some() {
            return Ok(());
        }
        let mut shell = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.data)
            .arg(binary()?)
            .args(["--port", &self.port.to_string()])
            .args(OPTIONS)
            .args(&self.arguments)
            .arg("--dbpath")
            .arg(&self.data)
            .arg("--logpath")
            .arg(self.data.join("mongod.log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It tells of the child that it killed.
            .stderr(Stdio::null())
            .spawn()?;
        let gone = || io::Error::other("the shell that keeps the server ended");
        let mut process = String::new();
        let said = shell.stdout.take().ok_or_else(gone)?;
        BufReader::new(said).read_line(&mut process)?;
        let process = process.trim().parse().ok().and_then(Pid::from_raw);
        self.keeper = Some(Keeper {
            input: shell.stdin.take().ok_or_else(gone)?,
            process: process.ok_or_else(gone)?,
            shell,
        });
        Ok(())
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `kill -9`; the data stays.
    ///
    /// # Errors
    /// Where the shell that keeps it has gone.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut keeper) = self.keeper.take() {
            keeper.input.write_all(b"keep\n")?;
            keeper.shell.wait()?;
        }
        Ok(())
    }

    /// Suspends the process, with all its connections open, or resumes it.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn freeze(&self, is_frozen: bool) -> io::Result<()> {
        let signal = if is_frozen {
            Signal::STOP
        } else {
            Signal::CONT
        };
        match &self.keeper {
            Some(keeper) => Ok(kill_process(keeper.process, signal)?),
            None => Err(io::Error::other("the server does not run")),
        }
    }
}
