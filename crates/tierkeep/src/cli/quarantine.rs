//! `quarantine`: owns the grammar of quarantined documents and how they are shown.
//!
//! What a document holds is other people's: every text that goes to a terminal is escaped.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::Value;
use tierkeep_engine::{
    Keep, Purpose, QuarantineExported, QuarantineReleased, QuarantineService, QuarantineShown,
    Quarantined,
};

use super::audit::COMMAND_LINE;
use super::{Context, table};
use crate::exit::Exit;
use crate::telemetry::harmless;

/// What to do about quarantined documents.
#[derive(Subcommand, Clone, Debug)]
pub enum QuarantineCommand {
    /// Show every quarantined document and its reason, newest first
    List,
    /// Show one quarantined document, and the copies of its user in every database
    Show(ShowArgs),
    /// Write every quarantined document, with the copies of its user, to a new file, one JSON value per line
    Export(ExportArgs),
    /// Release a document; the next run checks it again
    ///
    /// If copies conflict, --keep chooses the current one. All copies are written to a new file first. The kept copy
    /// then gets a version above all others, and the next move overwrites the others with it.
    Release(ReleaseArgs),
}

/// Arguments of `quarantine show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// The user's id, in any letter case, or the document's _id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Arguments of `quarantine export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// The file to write; it must not exist
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `quarantine release`.
#[derive(Args, Clone, Debug)]
pub struct ReleaseArgs {
    /// The user's id, in any letter case, or the document's _id
    #[arg(value_name = "ID")]
    pub id: String,
    /// The copy to keep, if copies conflict
    #[arg(
        long,
        value_name = "temp|main|srie",
        value_enum,
        hide_possible_values = true
    )]
    pub keep: Option<KeepArg>,
    /// The directory for the file with the copies
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
}

/// A database whose copy can be kept.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeepArg {
    /// `raseen_temp_user`.
    Temp,
    /// `raseen_main_user`.
    Main,
    /// `srie_main_user`.
    Srie,
}

impl From<KeepArg> for Keep {
    fn from(keep: KeepArg) -> Self {
        match keep {
            KeepArg::Temp => Self::Temp,
            KeepArg::Main => Self::Main,
            KeepArg::Srie => Self::Srie,
        }
    }
}

#[derive(Serialize)]
struct Listing {
    items: Vec<Quarantined>,
}

/// Does what the command says.
///
/// # Errors
/// Wrong configuration, a name under which no quarantined documents, a file that cannot be written, or databases that
/// cannot be reached.
pub async fn run(command: &QuarantineCommand, context: &Context) -> anyhow::Result<Exit> {
    let purpose = match command {
        QuarantineCommand::List | QuarantineCommand::Show(_) | QuarantineCommand::Export(_) => {
            Purpose::Look
        }
        QuarantineCommand::Release(_) => Purpose::Work,
    };
    let (engine, _) = context.open(&context.settings()?, purpose).await?;
    let quarantine = QuarantineService::new(engine);
    let mut is_complete = true;
    match command {
        QuarantineCommand::List => {
            let items = quarantine.list().await?;
            context.output().result(&Listing { items }, listing)?;
        }
        QuarantineCommand::Show(args) => {
            let shown = quarantine.show(&args.id).await?;
            is_complete = shown.unreachable.is_empty();
            context.output().result(&shown, one)?;
        }
        QuarantineCommand::Export(args) => {
            let exported = quarantine.export(&args.file).await?;
            is_complete = exported.unreachable.is_empty();
            context.output().result(&exported, all_exported)?;
        }
        QuarantineCommand::Release(args) => {
            let keep = args.keep.map(Keep::from);
            let released = quarantine.release(&args.id, keep, &args.directory, COMMAND_LINE);
            let released = released.await?;
            context.output().result(&released, let_go)?;
        }
    }
    Ok(if is_complete {
        Exit::Done
    } else {
        Exit::Unreachable
    })
}

fn listing(listing: &Listing) -> String {
    if listing.items.is_empty() {
        return "no quarantined documents".to_owned();
    }
    let mut rows = table(&["_id", "user", "since", "conflict", "reason"]);
    for entry in &listing.items {
        rows.add_row([
            id(&entry.document_id),
            harmless(entry.user_id.as_deref().unwrap_or("-")),
            entry.marked_at.clone().unwrap_or_else(|| "-".to_owned()),
            if entry.conflict { "yes" } else { "no" }.to_owned(),
            harmless(&entry.reason),
        ]);
    }
    rows.to_string()
}

/// An `_id` as `show` and `release` take it.
fn id(id: &Value) -> String {
    let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    harmless(&text)
}

fn one(shown: &QuarantineShown) -> String {
    let entry = &shown.entry;
    let mut lines = vec![
        format!("_id {}", id(&entry.document_id)),
        format!("user {}", harmless(entry.user_id.as_deref().unwrap_or("-"))),
        format!("since {}", entry.marked_at.as_deref().unwrap_or("-")),
        format!("because {}", harmless(&entry.reason)),
    ];
    if entry.conflict {
        lines.push(
            "resolve it with: tierkeep quarantine release ID --keep temp|main|srie".to_owned(),
        );
    }
    for copy in &shown.copies {
        let version = copy.version.map(|version| format!(", version {version}"));
        lines.push(format!(
            "\n{}{}",
            copy.database,
            version.unwrap_or_default()
        ));
        let document = serde_json::to_string_pretty(&copy.document).unwrap_or_default();
        lines.extend(document.lines().map(harmless));
    }
    lines.extend(away(&shown.unreachable));
    lines.join("\n")
}

fn away(roles: &[tierkeep_core::db::Role]) -> impl Iterator<Item = String> {
    let line = |role: &_| format!("unavailable, and may hold another copy: {role}");
    roles.iter().map(line)
}

fn all_exported(exported: &QuarantineExported) -> String {
    let mut lines = vec![format!(
        "wrote {} quarantined documents with {} copies to {}",
        exported.documents,
        exported.copies,
        exported.file.display()
    )];
    lines.extend(away(&exported.unreachable));
    lines.join("\n")
}

fn let_go(released: &QuarantineReleased) -> String {
    let name = id(&released.entry.document_id);
    let (Some(kept), Some(version), Some(file)) = (released.kept, released.version, &released.file)
    else {
        return format!("released {name}; the next run checks it again");
    };
    format!(
        "released {name}: the copy in {kept} is kept, as version {version}; the next move overwrites the others with \
         it\n\
         the copies as they were before are in {}",
        file.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_a_document_steers_the_terminal() {
        let entry = Quarantined {
            document_id: Value::from("a\u{1b}[2Jb"),
            user_id: Some("x\u{202e}y".to_owned()),
            conflict: true,
            reason: "z\u{9b}31m".to_owned(),
            marked_at: None,
        };
        let shown = QuarantineShown {
            entry: entry.clone(),
            copies: vec![tierkeep_engine::QuarantinedCopy {
                database: tierkeep_core::db::Role::RaseenTempUser,
                version: Some(1),
                document: serde_json::json!({ "k": "\u{9b}31m\u{7f}" }),
            }],
            unreachable: Vec::new(),
        };
        let listed = listing(&Listing { items: vec![entry] });
        for text in [listed, one(&shown)] {
            let steers = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
            assert!(!text.chars().any(steers), "{text:?}");
        }
    }
}
