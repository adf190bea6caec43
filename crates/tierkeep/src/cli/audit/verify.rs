//! `audit verify`: owns how the result is shown.

use std::fmt::Write as _;

use clap::Args;
use tierkeep_core::audit::{Found, Head, Verdict};
use tierkeep_engine::Purpose;

use super::super::Context;
use crate::exit::Exit;

/// Arguments of `audit verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Compare with a head that was recorded earlier, COUNT:HASH as in the log; detects removed entries at the end
    #[arg(long, value_name = "H", value_parser = head)]
    pub head: Option<Head>,
}

fn head(text: &str) -> Result<Head, String> {
    Head::parse(text).ok_or_else(|| {
        "expected COUNT:HASH as in the log: a number, a colon and 64 hex digits".to_owned()
    })
}

/// Walks along the whole trail.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub(super) async fn run(args: &VerifyArgs, context: &Context) -> anyhow::Result<Exit> {
    let (engine, _) = context.open(&context.settings()?, Purpose::Look).await?;
    let found = engine.audit_trail().verify(args.head).await?;
    context.output().result(&found, |found| text(found, args))?;
    Ok(match found.verdict {
        Verdict::Whole => Exit::Done,
        Verdict::Broken => Exit::Failed,
    })
}

fn text(found: &Found, args: &VerifyArgs) -> String {
    let mut text = match found.verdict {
        Verdict::Whole => format!("the audit trail is intact: {} entries", found.entries),
        Verdict::Broken => "the audit trail is NOT intact:".to_owned(),
    };
    for violation in &found.violations {
        let _ = write!(text, "\n  {violation}");
    }
    if found.more > 0 {
        let _ = write!(text, "\n  and {} more", found.more);
    }
    if found.pruned_through > 0 {
        let _ = write!(text, "\npruned through entry {}", found.pruned_through);
    }
    if args.head.is_some() && !found.compared {
        text.push_str("\nthe recorded head was pruned, so it could not be compared");
    }
    let _ = write!(text, "\nhead: {}", found.head);
    text
}
