//! An import's report for people.

use std::fmt::Write as _;

use tierkeep_legacy::{Report, Verification};

use super::super::table;

/// The most refusals and differences that are shown.
const SHOWN: usize = 20;

/// The report as tables.
pub(super) fn report(report: &Report) -> String {
    let verb = if report.dry_run {
        "would be imported"
    } else {
        "imported"
    };
    let mut counts = table(&["documents", "outcome"]);
    for (count, what) in [
        (report.imported, verb),
        (
            report.merged,
            "merged: a newer document of the same user was imported",
        ),
        (report.skipped, "skipped by a rule"),
        (report.refused, "refused"),
        (report.source_documents, "total"),
    ] {
        counts.add_row([count.to_string(), what.to_owned()]);
    }
    let mut text = format!("{counts}\n");
    let _ = writeln!(
        text,
        "\n{} users, {} secrets dropped, {} ms",
        report.users, report.secrets_dropped, report.elapsed_ms
    );
    if !report.skips.is_empty() {
        let mut skips = table(&["skipped", "collection", "rule"]);
        for skip in &report.skips {
            skips.add_row([
                skip.documents.to_string(),
                skip.collection.clone(),
                skip.rule.clone(),
            ]);
        }
        let _ = writeln!(text, "\n{skips}");
    }
    if !report.refusals.is_empty() {
        let mut refusals = table(&["refused in", "id", "reason"]);
        for line in report.refusals.iter().take(SHOWN) {
            refusals.add_row([&line.collection, &line.id, &line.reason]);
        }
        let _ = writeln!(text, "\n{refusals}");
        let shown = report.refusals.len().min(SHOWN);
        let shown = u64::try_from(shown).unwrap_or_default();
        if report.refused > shown {
            let (more, listed) = (report.refused - shown, report.refusals.len());
            let _ = writeln!(
                text,
                "and {more} more; --json lists {listed}, --refused FILE writes all of them"
            );
        }
    }
    if report.stopped {
        text.push_str("\nstopped before the end; repeat the command to continue\n");
    }
    text
}

/// The comparison.
pub(super) fn verification(found: &Verification) -> String {
    let mut text = format!(
        "{} users and HR records of the source: {} stored as expected, {} missing, {} different\n\
         no difference: {} changed in tierkeep since, {} in tierkeep without an import, {} erased; {} documents \
         refused",
        found.checked,
        found.matched,
        found.missing,
        found.different,
        found.changed,
        found.own,
        found.erased,
        found.refused
    );
    for difference in found.differences.iter().take(SHOWN) {
        let _ = write!(text, "\n{}: {}", difference.what, difference.subject);
    }
    let shown = found.differences.len().min(SHOWN);
    let shown = u64::try_from(shown).unwrap_or_default();
    let all = found.missing + found.different;
    if all > shown {
        let (more, listed) = (all - shown, found.differences.len());
        let _ = write!(text, "\nand {more} more; --json lists {listed}");
    }
    text
}
