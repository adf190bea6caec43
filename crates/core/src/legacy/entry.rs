//! What is kept of one legacy document until its user is put together: read from a few fields, so that whole
//! documents are read only where they count.

use bson::raw::{RawBsonRef, RawDocument};

use super::dates::{Dates, LOCAL, Times, Unreadable, own};
use super::fields::Fields;
use super::kind::{Derived, SourceKind};
use super::owner::{self, Claim, Refusal};
use super::secrets;
use crate::document::field;

/// What part of a user document a legacy document is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Part {
    /// `scan_cache`.
    Scan {
        /// It was written after a deep analysis.
        deep: bool,
    },
    /// `analysis_progress`.
    Progress,
    /// A field of `scan_cache`, on demand.
    Derived(Derived),
}

/// What is kept of one legacy document.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Whose it is, or why it has no known owner.
    pub claim: Result<Claim, Refusal>,
    /// What part of the user it is.
    pub part: Part,
    /// Which scan it belongs to.
    pub scan: Option<String>,
    /// Its times; `None` only where `claim` is refused.
    pub times: Option<Times>,
    /// How many secrets stand at its top.
    pub secrets: u64,
}

/// The fields that an [`Entry`] is read from. A document that holds no others says the same.
pub fn fields() -> Vec<&'static str> {
    let mut fields = vec![
        field::ID,
        "scan_id",
        "document_type",
        "analysis_id",
        "is_latest_analysis",
        "status",
        "current_phase",
    ];
    fields.extend(owner::FIELDS);
    fields.extend(LOCAL);
    fields.extend(own(Part::Progress));
    fields.extend(own(Part::Scan { deep: false }));
    fields.extend(secrets::FIELDS);
    fields
}

/// Reads a document of a collection of this kind; `None` where the kind has no users' documents.
pub fn read(
    collection: &str,
    kind: SourceKind,
    document: &RawDocument,
    dates: &Dates,
) -> Option<Entry> {
    let fields = Fields::of(document);
    let part = match kind {
        SourceKind::Scans if is_progress(&fields) => Part::Progress,
        SourceKind::Scans => Part::Scan {
            deep: is_deep(&fields),
        },
        SourceKind::Progress => Part::Progress,
        SourceKind::Derived(derived) => Part::Derived(derived),
        SourceKind::Accounts
        | SourceKind::Hr
        | SourceKind::DerivedHr
        | SourceKind::System
        | SourceKind::Unknown => return None,
    };
    let times = dates.of(&fields, part);
    let claim = match owner::claim(collection, &fields) {
        Ok(_) if let Err(Unreadable { field, value }) = &times => Err(Refusal::UnreadableDate {
            user: found(&fields),
            field,
            value: value.clone(),
        }),
        Ok(_) if times == Ok(None) => Err(Refusal::NoDate(found(&fields))),
        claim => claim,
    };
    Some(Entry {
        claim,
        part,
        scan: fields.text("scan_id"),
        times: times.unwrap_or_default(),
        secrets: secrets::at_the_top(document),
    })
}

fn found(fields: &Fields<'_>) -> String {
    [field::USER_ID, "username", "github_username", "userId"]
        .into_iter()
        .find_map(|name| fields.text(name))
        .unwrap_or_default()
}

/// Progress documents stand among scans at times. They have a status and a phase, and no scan.
fn is_progress(fields: &Fields<'_>) -> bool {
    let has = |name: &str| fields.get(name).is_some();
    has("status") && has("current_phase") && !has("scan_date") && !has("scan_id")
}

fn is_deep(fields: &Fields<'_>) -> bool {
    let document_type = fields.text("document_type").unwrap_or_default();
    ["updated_with_deep_analysis", "deep_analysis_results"].contains(&document_type.as_str())
        || fields.get("is_latest_analysis") == Some(RawBsonRef::Boolean(true))
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn progress_among_scans_is_known_by_its_shape() {
        let progress = rawdoc! {
            "_id": 1, "username": "a", "analysis_id": "x", "status": "complete", "current_phase": "done",
            "updated_at": bson::DateTime::from_millis(5),
        };
        let read = |kind, document: &RawDocument| {
            super::read("fast_scan_cache", kind, document, &Dates::default()).unwrap()
        };
        assert_eq!(read(SourceKind::Scans, &progress).part, Part::Progress);
        let scan = rawdoc! { "_id": 1, "username": "a", "scan_date": "2025-01-01T00:00:00", "status": "x" };
        assert_eq!(
            read(SourceKind::Scans, &scan).part,
            Part::Scan { deep: false }
        );
        let deep = rawdoc! { "_id": 1, "username": "a", "scan_date": "2025-01-01T00:00:00", "document_type": "deep_analysis_results" };
        assert_eq!(
            read(SourceKind::Scans, &deep).part,
            Part::Scan { deep: true }
        );
        let undated = rawdoc! { "_id": 1, "username": "somebody" };
        let refusal = read(SourceKind::Scans, &undated).claim.unwrap_err();
        assert!(refusal.to_string().contains("somebody"));
    }

    #[test]
    fn a_scan_whose_date_cannot_be_read_is_refused_by_name_and_value() {
        let scan = rawdoc! {
            "_id": bson::oid::ObjectId::from_bytes([0x65; 12]), "username": "somebody", "scan_date": "soon",
        };
        let read = read(
            "fast_scan_cache",
            SourceKind::Scans,
            &scan,
            &Dates::default(),
        )
        .unwrap();
        let refusal = read.claim.unwrap_err().to_string();
        for part in ["scan_date", "somebody", "soon"] {
            assert!(refusal.contains(part), "{refusal}");
        }
    }

    #[test]
    fn every_field_that_is_read_is_asked_for() {
        let asked = fields();
        for part in [
            Part::Scan { deep: true },
            Part::Progress,
            Part::Derived(Derived::Scores),
        ] {
            assert!(own(part).iter().all(|name| asked.contains(name)));
        }
    }
}
