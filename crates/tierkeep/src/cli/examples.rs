//! Examples under the help of every command. Owns the table of them; the tests read each as a command line.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use super::Cli;

/// A command line, and what it does.
type Example = (&'static str, &'static str);

/// The examples of each command that does something, by its words.
const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "serve",
        &[
            (
                "tierkeep serve --data-dir ./data",
                "for a trial: seven SQLite files, no server",
            ),
            (
                "tierkeep serve --env-file /etc/tierkeep/tierkeep.env --listen 0.0.0.0:8080",
                "on MongoDB",
            ),
        ],
    ),
    (
        "init",
        &[(
            "tierkeep init --env-file /etc/tierkeep/tierkeep.env",
            "before the first start",
        )],
    ),
    (
        "migrate run",
        &[
            (
                "tierkeep migrate run --dry-run",
                "counts what a run would move",
            ),
            (
                "tierkeep migrate run --max-rate 500",
                "move due documents, at most 500 per second",
            ),
            (
                "tierkeep migrate run --user internal_507f1f77bcf86cd799439011 --older-than 1h",
                "move one user's document earlier",
            ),
        ],
    ),
    (
        "migrate status",
        &[("tierkeep migrate status --json", "for a script")],
    ),
    (
        "migrate retry",
        &[
            ("tierkeep migrate retry --all", "after the cause is fixed"),
            (
                "tierkeep migrate retry --user internal_507f1f77bcf86cd799439011",
                "one user's move",
            ),
        ],
    ),
    (
        "migrate pause",
        &[("tierkeep migrate pause", "before maintenance of a database")],
    ),
    ("migrate resume", &[("tierkeep migrate resume", "after it")]),
    (
        "simulate",
        &[
            ("tierkeep simulate", "the next 24 hours"),
            ("tierkeep simulate --for 7d --json", "a week, for a script"),
        ],
    ),
    (
        "status",
        &[
            ("tierkeep status", "once"),
            ("tierkeep status --watch --every 5s", "until Ctrl-C"),
        ],
    ),
    (
        "doctor",
        &[(
            "tierkeep doctor && echo all is well",
            "in a check before a release",
        )],
    ),
    (
        "explain",
        &[
            (
                "tierkeep explain internal_507f1f77bcf86cd799439011",
                "an internal user",
            ),
            ("tierkeep explain Octocat", "a public user"),
        ],
    ),
    (
        "erase",
        &[
            (
                "tierkeep erase external_octocat --dry-run",
                "lists the copies and the exports",
            ),
            (
                "tierkeep erase external_octocat --yes",
                "without confirmation, for a script",
            ),
        ],
    ),
    (
        "export",
        &[
            (
                "tierkeep export /var/backups/tierkeep",
                "every database, for mongorestore or import-dump",
            ),
            (
                "tierkeep export ./octocat --user external_octocat",
                "one user's data as JSON",
            ),
        ],
    ),
    (
        "import-dump",
        &[(
            "tierkeep import-dump /var/backups/tierkeep",
            "keeps newer documents and erasures",
        )],
    ),
    (
        "verify",
        &[
            ("tierkeep verify", "compare every pair of copies"),
            (
                "tierkeep verify --repair --prefer main",
                "and repair differences",
            ),
        ],
    ),
    (
        "restore",
        &[
            ("tierkeep restore --all --dry-run", "after a loss of main"),
            (
                "tierkeep restore --user internal_507f1f77bcf86cd799439011",
                "one user",
            ),
        ],
    ),
    (
        "backup",
        &[("tierkeep backup", "after a long outage of srie")],
    ),
    (
        "import-legacy",
        &[
            (
                "tierkeep import-legacy --dry-run",
                "what would be imported, merged and refused",
            ),
            ("tierkeep import-legacy", "continues after an interruption"),
        ],
    ),
    (
        "verify-import",
        &[("tierkeep verify-import", "after import-legacy")],
    ),
    (
        "audit list",
        &[("tierkeep audit list --json", "for a script")],
    ),
    (
        "audit verify",
        &[("tierkeep audit verify", "the whole chain")],
    ),
    (
        "audit prune",
        &[(
            "tierkeep audit prune --older-than 730d --dry-run",
            "leaves a chained checkpoint",
        )],
    ),
    (
        "identity show",
        &[(
            "tierkeep identity show internal_507f1f77bcf86cd799439011 --github-id 583231",
            "",
        )],
    ),
    (
        "identity unbind",
        &[(
            "tierkeep identity unbind internal_507f1f77bcf86cd799439011",
            "",
        )],
    ),
    (
        "alerts list",
        &[("tierkeep alerts list", "by kind and subject")],
    ),
    (
        "alerts test",
        &[(
            "tierkeep alerts test",
            "sends a message through each channel",
        )],
    ),
    ("quarantine list", &[("tierkeep quarantine list", "")]),
    (
        "quarantine show",
        &[(
            "tierkeep quarantine show internal_507f1f77bcf86cd799439011",
            "",
        )],
    ),
    (
        "quarantine export",
        &[("tierkeep quarantine export ./quarantined.json", "")],
    ),
    (
        "quarantine release",
        &[
            (
                "tierkeep quarantine release internal_507f1f77bcf86cd799439011",
                "after it was repaired",
            ),
            (
                "tierkeep quarantine release internal_507f1f77bcf86cd799439011 --keep main",
                "resolve a conflict in favour of main",
            ),
        ],
    ),
    (
        "config show",
        &[("tierkeep config show --data-dir ./data", "")],
    ),
    (
        "config check",
        &[(
            "tierkeep config check --env-file /etc/tierkeep/tierkeep.env",
            "before a restart",
        )],
    ),
    (
        "config template",
        &[("tierkeep config template > tierkeep.toml", "")],
    ),
    (
        "token",
        &[
            (
                "tierkeep token --sub 507f1f77bcf86cd799439011 --role admin --data-dir ./data",
                "for the dashboard in a trial",
            ),
            (
                "tierkeep token --sub 507f1f77bcf86cd799439011 --role hr --ttl 8h",
                "if SECRET_KEY is set",
            ),
        ],
    ),
    (
        "completions",
        &[(
            "tierkeep completions bash > /etc/bash_completion.d/tierkeep",
            "",
        )],
    ),
    ("man", &[("tierkeep man | man -l -", "")]),
];

/// The grammar with the examples under each command's help.
pub fn command() -> Command {
    with_examples(Cli::command(), "")
}

fn with_examples(mut command: Command, path: &str) -> Command {
    let inner: Vec<String> = command
        .get_subcommands()
        .map(|inner| inner.get_name().to_owned())
        .collect();
    for name in inner {
        let path = format!("{path} {name}");
        command = command.mut_subcommand(name, |inner| with_examples(inner, path.trim()));
    }
    match EXAMPLES.iter().find(|(of, _)| *of == path) {
        Some((_, examples)) => command.after_help(text(examples)),
        None => command,
    }
}

fn text(examples: &[Example]) -> String {
    let mut text = "Examples:".to_owned();
    for (line, what) in examples {
        if !what.is_empty() {
            let _ = write!(text, "\n  # {what}");
        }
        let _ = write!(text, "\n  $ {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(command: &Command, path: &str, all: &mut Vec<String>) {
        let mut inner = command.get_subcommands().peekable();
        if inner.peek().is_none() {
            all.push(path.to_owned());
        }
        for inner in inner {
            let path = format!("{path} {}", inner.get_name());
            leaves(inner, path.trim(), all);
        }
    }

    #[test]
    fn every_command_has_an_example_that_it_understands() {
        let mut all = Vec::new();
        leaves(&Cli::command(), "", &mut all);
        let known: Vec<&str> = EXAMPLES.iter().map(|(of, _)| *of).collect();
        assert_eq!(all, known);
        for (of, examples) in EXAMPLES {
            assert!(!examples.is_empty(), "{of} has no example");
            for (line, _) in *examples {
                let words = line.split_whitespace();
                let ours = words.take_while(|word| !["&&", ">", "|"].contains(word));
                let parsed = command().try_get_matches_from(ours);
                assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
                assert!(line.starts_with(&format!("tierkeep {of}")), "{line}");
            }
        }
    }
}
