//! The order of the rooms of a crate: which of its modules may import which.
//!
//! A room is a module directly below a root, a folder or one file. An import goes from a room to one that stands before
//! it in the table, never the other way; so no circle of rooms can arise. Tests at the end of a file may import anything.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tidy::rust_files_in;

/// A module whose children have an order.
pub(crate) struct House {
    /// Its folder.
    folder: &'static str,
    /// How its children are named in the crate.
    path: &'static str,
    /// The rooms, from the lowest to the highest.
    order: &'static [&'static str],
}

/// Every module whose children have an order.
pub(crate) const HOUSES: [House; 3] = [
    House {
        folder: "crates/core/src",
        path: "crate::",
        order: &[
            "brief", "clock", "repeats", "user", "version", "db", "document", "identity", "digest",
            "erasure", "route", "store", "adopt", "breaker", "content", "mover", "audit", "hr",
            "compare", "legacy",
        ],
    },
    House {
        folder: "crates/engine/src",
        path: "crate::",
        order: &[
            "databases",
            "mutant",
            "held_alerts",
            "requests",
            "ledger",
            "audit",
            "context",
            "intents",
            "claims",
            "github_binding",
            "alerts",
            "erasure",
            "copies",
            "users",
            "hr",
            "backup",
            "mover",
            "inspect",
            "upkeep",
            "transfer",
        ],
    },
    House {
        folder: "crates/tierkeep/src/http",
        path: "crate::http::",
        order: &[
            "response", "openapi", "limits", "state", "request", "routes", "ui", "server",
        ],
    },
];

/// The imports against the order of a house, and rooms that the order does not name.
pub(crate) fn against(root: &Path, house: &House) -> Result<Vec<String>> {
    let source = root.join(house.folder);
    let mut findings = Vec::new();
    for file in rust_files_in(&source)? {
        let name = file.strip_prefix(&source).unwrap_or(&file);
        let modules = modules(name);
        if modules.is_empty() {
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        for finding in in_file(&modules, &text, house) {
            findings.push(format!("{}/{}: {finding}", house.folder, name.display()));
        }
    }
    Ok(findings)
}

/// The modules from the house to a file; none for the root of the house.
fn modules(name: &Path) -> Vec<String> {
    let parts = name
        .components()
        .filter_map(|part| part.as_os_str().to_str());
    let mut modules: Vec<String> = parts
        .map(|part| part.strip_suffix(".rs").unwrap_or(part).to_owned())
        .collect();
    if matches!(
        modules.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        modules.pop();
    }
    modules
}

/// What is wrong with the imports of one file.
fn in_file(modules: &[String], text: &str, house: &House) -> Vec<String> {
    let place = |room: &str| house.order.iter().position(|known| *known == room);
    let Some(room) = modules.first() else {
        return Vec::new();
    };
    let Some(own) = place(room) else {
        return vec![format!("the order of rooms does not name {room}")];
    };
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    let mut findings = Vec::new();
    for (index, line) in code.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        let imported = by_path(line, house.path).chain(by_super(line, modules.len()));
        for other in imported.filter(|other| place(other).is_some_and(|other| other > own)) {
            findings.push(format!(
                "line {} imports {other}, which stands above {room}",
                index + 1
            ));
        }
    }
    findings
}

/// The rooms that a line names by their path in the crate.
fn by_path<'a>(line: &'a str, path: &'a str) -> impl Iterator<Item = &'a str> {
    line.split(path).skip(1).map(first_name)
}

/// The rooms that a line names by as many `super::` as lead out of a file this many modules deep.
fn by_super(line: &str, depth: usize) -> impl Iterator<Item = &str> {
    let out = "super::".repeat(depth);
    line.match_indices("super::")
        .filter(|(at, _)| {
            !line
                .get(..*at)
                .is_some_and(|before| before.ends_with("super::"))
        })
        .filter_map(move |(at, _)| line.get(at..)?.strip_prefix(out.as_str()))
        .map(first_name)
        .collect::<Vec<_>>()
        .into_iter()
}

fn first_name(path: &str) -> &str {
    let end = path
        .find(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'))
        .unwrap_or(path.len());
    path.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUSE: House = House {
        folder: "src",
        path: "crate::",
        order: &["low", "middle", "high"],
    };

    fn found(file: &str, text: &str) -> Vec<String> {
        in_file(&modules(Path::new(file)), text, &HOUSE)
    }

    #[test]
    fn an_import_of_a_room_above_is_found() {
        let text = "//! See crate::high.\nuse crate::low::A;\nuse crate::high::B;\n";
        let finding = "line 3 imports high, which stands above middle";
        assert_eq!(found("middle.rs", text), [finding]);
        let text =
            "fn f() { crate::high::g() }\n#[cfg(test)]\nmod tests {\n    use crate::high::B;\n}\n";
        assert_eq!(found("low/deep.rs", text).len(), 1);
        assert!(found("high/mod.rs", text).is_empty());
    }

    #[test]
    fn an_import_that_leads_out_of_the_room_is_found() {
        let text = "use super::super::high::B;\n";
        assert_eq!(found("low/deep.rs", text).len(), 1);
        assert!(found("low/mod.rs", text).is_empty(), "not out of the house");
        assert!(found("low/deep/deeper.rs", text).is_empty(), "low::high");
        assert_eq!(found("low.rs", "use super::high::B;\n").len(), 1);
    }

    #[test]
    fn a_room_without_a_place_is_found() {
        let found = found("cellar.rs", "");
        assert_eq!(found, ["the order of rooms does not name cellar"]);
    }

    #[test]
    fn the_root_of_a_house_may_import_anything() {
        assert!(modules(Path::new("lib.rs")).is_empty());
        assert!(modules(Path::new("mod.rs")).is_empty());
        assert_eq!(modules(Path::new("low/deep.rs")), ["low", "deep"]);
    }
}
