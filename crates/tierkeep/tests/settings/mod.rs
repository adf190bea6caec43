//! Settings and the command line, as a user of the built binary sees them.

mod config;
mod help;
mod start;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// A secret that must never be seen again.
const PASSWORD: &str = "hunter2hunter2hunter2hunter2hunter2";

/// An empty directory to run in, and an environment with nothing in it.
struct Place {
    directory: TempDir,
    environment: Vec<(String, String)>,
}

/// What a run left behind.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
        }
    }

    /// A place where all seven databases have an address with no listener.
    fn with_databases() -> Self {
        let mut place = Self::new();
        place.set("TIERKEEP_CLUSTER_URL", "mongodb://127.0.0.1:9");
        place.set("SECRET_KEY", PASSWORD);
        place
    }

    fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn directory(&self, name: &str) {
        fs::create_dir(self.path(name)).unwrap();
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tierkeep"));
        command.env_clear().envs(self.environment.iter().cloned());
        let output = command
            .current_dir(self.directory.path())
            .args(arguments)
            .output()
            .unwrap();
        Ran::of(&output)
    }

    /// The effective value and the source of a setting.
    fn shown(&self, arguments: &[&str], name: &str) -> (Value, String) {
        let ran = self.run(&[&["config", "show", "--json"], arguments].concat());
        let shown = ran.json();
        let all = shown["settings"].as_array().unwrap();
        let row = all.iter().find(|row| row["name"] == name).unwrap();
        (
            row["value"].clone(),
            row["source"].as_str().unwrap().to_owned(),
        )
    }
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {}", self.both()))
    }

    fn both(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Refused for its configuration, and the complaint holds each of these.
    #[track_caller]
    fn assert_refused(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(2), "{}", self.both());
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{part:?} is not in: {}",
                self.stderr
            );
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
