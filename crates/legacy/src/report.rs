//! What became of every document of the source: imported, merged, skipped or refused. The four add up.

use std::collections::BTreeMap;

use serde::Serialize;

/// The rule that leaves out who is being written, in tierkeep or by the predecessor.
pub(crate) const BUSY: &str = "the user is being changed: repeat the command";

/// The result of an import.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Report {
    /// Documents of the source.
    pub source_documents: u64,
    /// Their content is in tierkeep.
    pub imported: u64,
    /// A newer one of the same user was imported; their dates count.
    pub merged: u64,
    /// Left out by a rule: see `skips`.
    pub skipped: u64,
    /// Imported as nothing: see `refusals`.
    pub refused: u64,
    /// Tokens and passwords that were left behind.
    pub secrets_dropped: u64,
    /// Refused documents, as many as a report lists.
    pub refusals: Vec<RefusedLine>,
    /// How many more there are.
    pub refusals_not_listed: u64,
    /// What was skipped by which rule.
    pub skips: Vec<Skipped>,
    /// Users whose documents are in tierkeep.
    pub users: u64,
    /// Nothing was written.
    pub dry_run: bool,
    /// The run was told to stop before it was through.
    pub stopped: bool,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// A document that is imported as nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct RefusedLine {
    /// Its collection, with the database in front where there are several.
    pub collection: String,
    /// Its `_id`.
    pub id: String,
    /// Why, with the id or user name that was found.
    pub reason: String,
}

/// Documents that a rule leaves out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Skipped {
    /// Their collection.
    pub collection: String,
    /// The rule.
    pub rule: String,
    /// How many.
    pub documents: u64,
}

/// What is accounted for so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) source_documents: u64,
    pub(crate) imported: u64,
    pub(crate) merged: u64,
    pub(crate) refused: u64,
    pub(crate) secrets: u64,
    pub(crate) users: u64,
    skips: BTreeMap<(String, &'static str), u64>,
}

impl Tally {
    /// Documents that belong to the source and that a rule leaves out.
    pub(crate) fn skipped(&mut self, collection: &str, rule: &'static str, documents: u64) {
        self.source_documents += documents;
        self.left_out(collection, rule, documents);
    }

    /// As [`Tally::skipped`], of documents that were counted already.
    pub(crate) fn left_out(&mut self, collection: &str, rule: &'static str, documents: u64) {
        if documents > 0 {
            *self.skips.entry((collection.to_owned(), rule)).or_default() += documents;
        }
    }

    /// Whether any user is being written.
    pub(crate) fn is_busy(&self) -> bool {
        self.skips.keys().any(|(_, rule)| *rule == BUSY)
    }

    /// The report, which lists these refusals.
    pub(crate) fn report(self, refusals: Vec<RefusedLine>) -> Report {
        let listed = u64::try_from(refusals.len()).unwrap_or_default();
        Report {
            source_documents: self.source_documents,
            imported: self.imported,
            merged: self.merged,
            skipped: self.skips.values().sum(),
            refused: self.refused,
            secrets_dropped: self.secrets,
            refusals,
            refusals_not_listed: self.refused.saturating_sub(listed),
            skips: self
                .skips
                .into_iter()
                .map(|((collection, rule), documents)| Skipped {
                    collection,
                    rule: rule.to_owned(),
                    documents,
                })
                .collect(),
            users: self.users,
            ..Report::default()
        }
    }
}
