//! The README is true: every command of its trial is run as printed and says what is printed. `…` stands
//! for what differs from run to run.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::acceptance::program::{Backend, Deployment};

/// The command that starts the service; the test starts the built binary in its place.
const SERVE: &str =
    "TIERKEEP_GITHUB_VERIFY=off cargo run --release --locked -- serve --data-dir ./data";
/// The command that runs this test.
const TEST: &str = "cargo xtask test";
/// How the README calls the command line.
const TIERKEEP: &str = "cargo run --release --quiet --";

/// The commands of the README's console blocks, each with what it prints.
fn commands(readme: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            line if inside => match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command.to_owned(), String::new())),
                (None, Some((_, printed))) => {
                    printed.push_str(line);
                    printed.push('\n');
                }
                (None, None) => {}
            },
            _ => {}
        }
    }
    commands
}

/// Whether `actual` is `expected`, where `…` stands for anything within a line and runs of spaces are one.
fn says(actual: &str, expected: &str) -> bool {
    let squeezed = |text: &str| {
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    };
    let (actual, expected) = (squeezed(actual), squeezed(expected));
    let (mut actual, mut expected) = (actual.lines(), expected.lines());
    loop {
        match (actual.next(), expected.next()) {
            (None, None) => return true,
            (Some(actual), Some(expected)) if line_says(actual, expected) => {}
            _ => return false,
        }
    }
}

fn line_says(actual: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| actual.strip_prefix(first)) else {
        return false;
    };
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
        open = part.is_empty();
    }
    rest.is_empty() || open
}

#[test]
fn every_command_of_the_trial_says_what_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let commands = commands(&readme);
    assert_eq!(commands[0], (SERVE.to_owned(), String::new()));
    assert_eq!(commands.last(), Some(&(TEST.to_owned(), String::new())));
    let mut deployment = Deployment::new(Backend::Sqlite);
    deployment.environment.remove("SECRET_KEY");
    let service = deployment.serve();
    let data = &deployment.environment["TIERKEEP_DATA_DIR"];
    let mut script = String::from("set -u\n");
    let trial = &commands[1..commands.len() - 1];
    assert!(trial.len() >= 9, "the README lost its commands");
    for (command, _) in trial {
        let command = command
            .replace(TIERKEEP, env!("CARGO_BIN_EXE_tierkeep"))
            .replace("http://127.0.0.1:8080", &service.base)
            .replace("./data", data)
            .replace("curl ", "curl --silent --show-error ");
        script.push_str(&command);
        script.push_str("\nprintf '\\036'\n");
    }
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(deployment.dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<&str> = said.split('\u{1e}').collect();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.len(), trial.len() + 1, "{complaints}");
    for ((command, expected), actual) in trial.iter().zip(said) {
        assert!(
            says(actual, expected),
            "$ {command}\n{actual}\n--- expected\n{expected}{complaints}"
        );
    }
}

#[test]
fn dots_stand_for_anything_within_a_line() {
    assert!(says("a 12 b\n", "a … b"));
    assert!(says("a   b", "a b"));
    assert!(!says("a 12 c", "a … b"));
    assert!(!says("a\nb", "a"));
    assert!(!says("ab c", "a"));
}
