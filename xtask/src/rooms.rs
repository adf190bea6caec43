//! The order of the rooms of a crate: which top-level module may import which.
//!
//! A room is a module at the top of a crate, a folder or one file. An import goes from a room to one that stands before it
//! in the table, never the other way; so there is no circle of rooms. Tests inside a file may import anything.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The rooms of each crate that has them, from the lowest to the highest.
pub(crate) const ORDERS: [(&str, &[&str]); 2] = [
    (
        "crates/core/src",
        &[
            "clock", "user", "version", "db", "document", "identity", "digest", "erasure", "route",
            "store", "adopt", "breaker", "content", "mover", "audit", "hr", "compare", "legacy",
        ],
    ),
    (
        "crates/engine/src",
        &[
            "databases",
            "mutant",
            "ledger",
            "audit",
            "context",
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
    ),
];

/// The imports of a crate that go against the order of its rooms, and rooms that the order does not name.
pub(crate) fn against(root: &Path, crate_root: &str, order: &[&str]) -> Result<Vec<String>> {
    let source = root.join(crate_root);
    let mut findings = Vec::new();
    for file in super::tidy::rust_files_in(&source)? {
        let name = file.strip_prefix(&source).unwrap_or(&file);
        let Some(room) = room_of(name) else {
            continue;
        };
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        for finding in in_file(&room, &text, order) {
            findings.push(format!("{crate_root}/{}: {finding}", name.display()));
        }
    }
    Ok(findings)
}

/// The room that a file of the crate belongs to; none for the crate's root.
fn room_of(name: &Path) -> Option<String> {
    let first = name.components().next()?.as_os_str().to_str()?;
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (!["lib", "main"].contains(&room)).then(|| room.to_owned())
}

/// What is wrong with the imports of one file of `room`.
fn in_file(room: &str, text: &str, order: &[&str]) -> Vec<String> {
    let Some(own) = place(room, order) else {
        return vec![format!("the order of rooms does not name {room}")];
    };
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let mut findings = Vec::new();
    for (index, line) in code.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for imported in imports(line) {
            if place(imported, order).is_some_and(|other| other > own) {
                findings.push(format!(
                    "line {} imports {imported}, which stands above {room}",
                    index + 1
                ));
            }
        }
    }
    findings
}

fn place(room: &str, order: &[&str]) -> Option<usize> {
    order.iter().position(|known| *known == room)
}

/// The top-level modules that a line names by `crate::`.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).filter_map(|rest| {
        let end = rest
            .find(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'))
            .unwrap_or(rest.len());
        rest.get(..end).filter(|name| !name.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: [&str; 3] = ["low", "middle", "high"];

    #[test]
    fn an_import_of_a_room_above_is_found() {
        let text = "//! See crate::high.\nuse crate::low::A;\nuse crate::high::B;\n";
        assert_eq!(
            in_file("middle", text, &ORDER),
            ["line 3 imports high, which stands above middle"]
        );
        let text =
            "fn f() { crate::high::g() }\n#[cfg(test)]\nmod tests {\n    use crate::high::B;\n}\n";
        assert_eq!(in_file("low", text, &ORDER).len(), 1);
        assert!(in_file("high", text, &ORDER).is_empty());
    }

    #[test]
    fn a_room_without_a_place_is_found() {
        let found = in_file("cellar", "", &ORDER);
        assert_eq!(found, ["the order of rooms does not name cellar"]);
    }

    #[test]
    fn a_room_is_a_folder_or_a_file_at_the_top() {
        assert_eq!(room_of(Path::new("low/deep/a.rs")).as_deref(), Some("low"));
        assert_eq!(room_of(Path::new("context.rs")).as_deref(), Some("context"));
        assert_eq!(room_of(Path::new("lib.rs")), None);
    }
}
