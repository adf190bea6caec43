//! `verify`: owns the comparison of main with srie by hand.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use tierkeep_core::audit::AuditKind;
use tierkeep_core::compare::Side;
use tierkeep_core::db::Role;
use tierkeep_engine::{Difference, Purpose, Verification, Verified, VerifyOptions};
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::{Context, audit};
use crate::exit::Exit;
use crate::lifecycle;

/// Whose documents are compared with their backup.
const COMPARED: [Role; 2] = [Role::RaseenMainUser, Role::RaseenMainHr];
/// How many findings a person is shown.
const SHOWN: usize = 50;

/// Arguments of `verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Compare versions and stored digests only, by index, without reading content; pairs that differ are read whole
    #[arg(long, conflicts_with = "sample")]
    pub quick: bool,
    /// Repair differences: the newer version wins; at equal versions, the copy that matches its digest
    #[arg(long)]
    pub repair: bool,
    /// The copy to keep where versions and digests do not decide
    #[arg(long, value_name = "main|srie", value_enum, requires = "repair")]
    #[arg(hide_possible_values = true)]
    pub prefer: Option<Preferred>,
    /// Compare a random sample of about N documents instead of all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
}

/// Which copy to prefer.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preferred {
    /// The main databases.
    Main,
    /// Their backup.
    Srie,
}

impl From<Preferred> for Side {
    fn from(preferred: Preferred) -> Self {
        match preferred {
            Preferred::Main => Self::Main,
            Preferred::Srie => Self::Srie,
        }
    }
}

/// Compares main with srie.
///
/// # Errors
/// Wrong configuration, or databases that cannot be reached.
pub async fn run(args: &VerifyArgs, context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let purpose = if args.repair {
        Purpose::Work
    } else {
        Purpose::Look
    };
    let (engine, _) = context.open(&settings, purpose).await?;
    if args.repair {
        let trail = engine.audit_trail();
        audit::does(trail, AuditKind::AdminAction, "repair", None).await?;
    }
    let options = VerifyOptions {
        quick: args.quick,
        repair: args.repair,
        prefer: args.prefer.map(Side::from),
        sample: args.sample,
    };
    let stop = CancellationToken::new();
    lifecycle::cancel_on_signal(stop.clone());
    let progress = Progress::of(context, "compared");
    let progress = match args.sample {
        Some(_) => progress,
        None => progress.counting(&engine, &COMPARED).await,
    };
    let verification = Verification::new(engine);
    let told = |verified: &Verified| progress.at(verified.checked, "");
    let verified = verification.run(&options, &told, &stop).await;
    drop(progress);
    let verified = verified?;
    context
        .output()
        .result(&verified, |verified| text(verified, args.quick))?;
    Ok(if verified.left() > 0 || !verified.complete {
        Exit::Failed
    } else {
        Exit::Done
    })
}

fn text(verified: &Verified, quick: bool) -> String {
    let how = if quick {
        " by version and stored digest"
    } else {
        ""
    };
    let mut text = format!(
        "compared {} documents{how}, {} equal, in {} ms\n\
         missing in the backup: {}, missing in main: {}, different: {}, in flight: {}",
        verified.checked,
        verified.matched,
        verified.elapsed_ms,
        verified.missing_in_backup,
        verified.missing_in_main,
        verified.different,
        verified.in_flight,
    );
    if verified.repaired > 0 {
        let _ = write!(text, "\nrepaired: {}", verified.repaired);
    }
    if !verified.complete {
        text.push_str("\nstopped before the end");
    }
    let mut table = super::table(&["collection", "id", "difference", "main", "srie", ""]);
    for finding in verified.findings.iter().take(SHOWN) {
        table.add_row(row(finding));
    }
    if !verified.findings.is_empty() {
        let _ = write!(text, "\n\n{table}");
    }
    let left = verified.findings.iter().filter(|it| !it.repaired).count();
    if verified.findings.len() > SHOWN {
        let _ = write!(text, "\nand more; --json lists up to a thousand");
    }
    if left > 0 && verified.repaired == 0 {
        text.push_str("\nrepair what versions and digests decide: tierkeep verify --repair");
    } else if left > 0 {
        text.push_str(
            "\nchoose the copy to keep for the rest: tierkeep verify --repair --prefer main|srie",
        );
    }
    text
}

fn row(finding: &Difference) -> [String; 6] {
    let version = |version: Option<i64>| version.map(|it| it.to_string()).unwrap_or_default();
    [
        finding.collection.clone(),
        finding.id.clone(),
        finding.class.as_str().to_owned(),
        version(finding.main),
        version(finding.srie),
        match (&finding.reason, finding.repaired) {
            (_, true) => "repaired".to_owned(),
            (Some(reason), false) => reason.clone(),
            (None, false) => String::new(),
        },
    ]
}
