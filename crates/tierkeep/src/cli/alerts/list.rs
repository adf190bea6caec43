//! `alerts list`: owns how alerts are shown.

use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use tierkeep_engine::{Alert, AlertCursor, AlertFilter, AlertPage, Alerts};

use super::super::{Context, table};
use crate::exit::{self, Exit};

/// Arguments of `alerts list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Show resolved alerts too
    #[arg(long)]
    pub all: bool,
    /// Show at most this many alerts
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub limit: usize,
    /// Start after this alert: the cursor that the previous page ended with
    #[arg(long, value_name = "CURSOR", value_parser = cursor)]
    pub cursor: Option<AlertCursor>,
}

#[derive(Serialize)]
struct AlertListing {
    /// None while `evaluation_audit` is away.
    items: Option<Vec<Alert>>,
    next_cursor: Option<String>,
}

fn cursor(text: &str) -> Result<AlertCursor, String> {
    AlertCursor::parse(text)
        .ok_or_else(|| "not a cursor that `tierkeep alerts list` printed".to_owned())
}

/// Shows a page of alerts.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub(super) async fn run(args: &ListArgs, context: &Context) -> anyhow::Result<Exit> {
    let look = context.look(&context.settings()?).await?;
    let filter = if args.all {
        AlertFilter::All
    } else {
        AlertFilter::Open
    };
    let alerts = Alerts::new(Arc::clone(&look.engine));
    let page = alerts.page(filter, args.cursor.as_ref(), args.limit);
    let page = match page.await {
        Ok(AlertPage { items, next }) => AlertListing {
            items: Some(items),
            next_cursor: next.map(|next| next.to_string()),
        },
        Err(error) if exit::of_store(&error) == Exit::Unreachable => AlertListing {
            items: None,
            next_cursor: None,
        },
        Err(error) => return Err(error.into()),
    };
    context
        .output()
        .result(&page, |page| text(page, args.all))?;
    look.ends()
}

fn text(page: &AlertListing, all: bool) -> String {
    let Some(items) = &page.items else {
        return "unknown: alerts are stored in evaluation_audit, which is unavailable".to_owned();
    };
    if items.is_empty() {
        let what = if all { "no alerts" } else { "no open alerts" };
        return what.to_owned();
    }
    let mut rows = table(&[
        "kind", "subject", "first", "last", "count", "resolved", "message",
    ]);
    for alert in items {
        rows.add_row([
            alert.kind.as_str(),
            &alert.subject,
            &alert.first_at,
            &alert.last_at,
            &alert.count.to_string(),
            alert.resolved_at.as_deref().unwrap_or("-"),
            &alert.message,
        ]);
    }
    let mut text = rows.to_string();
    if let Some(next) = &page.next_cursor {
        text.push_str("\nnext page: --cursor ");
        text.push_str(next);
    }
    text
}
