//! `audit list`: owns how entries are shown.

use clap::Args;
use serde::Serialize;
use tierkeep_core::audit::AuditKind;
use tierkeep_core::user::UserId;
use tierkeep_engine::{AuditFilter, AuditPage, Listed, Purpose};

use super::super::{Context, table};
use crate::exit::Exit;

/// Arguments of `audit list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Only entries of this kind; an unknown kind is refused with the list of kinds
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub kind: Option<AuditKind>,
    /// Only entries about this user
    #[arg(long, value_name = "ID", value_parser = UserId::parse)]
    pub user: Option<UserId>,
    /// Show at most this many entries
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub limit: usize,
    /// Start after this entry: the cursor that the previous page ended with
    #[arg(long, value_name = "SEQ")]
    pub cursor: Option<i64>,
}

fn kind(text: &str) -> Result<AuditKind, String> {
    AuditKind::parse(text).ok_or_else(|| {
        let kinds: Vec<&str> = AuditKind::ALL.into_iter().map(AuditKind::as_str).collect();
        format!("expected one of {}", kinds.join(", "))
    })
}

#[derive(Serialize)]
struct AuditListing {
    items: Vec<Listed>,
    next_cursor: Option<String>,
}

/// Shows a page of the trail.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub(super) async fn run(args: &ListArgs, context: &Context) -> anyhow::Result<Exit> {
    let (engine, _) = context.open(&context.settings()?, Purpose::Look).await?;
    let filter = AuditFilter {
        kind: args.kind,
        user: args.user.clone(),
    };
    let trail = engine.audit_trail();
    let AuditPage { items, next } = trail.page(&filter, args.cursor, args.limit).await?;
    let page = AuditListing {
        items,
        next_cursor: next.map(|place| place.to_string()),
    };
    context.output().result(&page, text)?;
    Ok(Exit::Done)
}

const COLUMNS: [&str; 7] = [
    "seq", "at", "kind", "user_id", "actor", "decision", "reason",
];

fn text(page: &AuditListing) -> String {
    if page.items.is_empty() {
        return "no entries".to_owned();
    }
    let mut rows = table(&COLUMNS);
    for entry in &page.items {
        let entry = serde_json::to_value(entry).unwrap_or_default();
        rows.add_row(COLUMNS.map(|column| {
            let value = &entry[column];
            let text = value.as_str().map(str::to_owned);
            let number = value.as_i64().map(|number| number.to_string());
            text.or(number).unwrap_or_else(|| "-".to_owned())
        }));
    }
    let mut text = rows.to_string();
    if let Some(next) = &page.next_cursor {
        text.push_str("\nnext page: --cursor ");
        text.push_str(next);
    }
    text
}
