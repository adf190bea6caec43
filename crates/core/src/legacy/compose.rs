//! The user document that a user's legacy documents become. The same documents always become the same bytes.

use bson::DateTime;
use bson::raw::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf};
use bson::spec::ElementType;

use super::kind::Derived;
use super::secrets;
use crate::digest;
use crate::document::{Edit, SCHEMA_VERSION, State, field};
use crate::user::UserId;

/// The predecessor's bookkeeping, which is no content. What starts with `backup_` is too.
const BOOKKEEPING: [&str; 11] = [
    field::ID,
    field::USER_ID,
    field::USER_TYPE,
    "storage_location",
    "data_location",
    "authenticated_user_id",
    "document_type",
    "is_latest_analysis",
    "migrated_from_temp",
    "migrated_at",
    "expires_at",
];
const BACKUP: &str = "backup_";

/// What the fabricated scores of the predecessor are, whatever their names.
const FABRICATED: [f64; 5] = [78.5, 82.0, 75.0, 80.0, 77.0];
/// Of which types.
const NUMBERS: [ElementType; 3] = [ElementType::Double, ElementType::Int32, ElementType::Int64];
/// How deep they are looked for.
const FABRICATED_DEPTH: usize = 3;

/// Says in `metadata` that scores were made up.
pub const SYNTHETIC_SCORES: &str = "synthetic_scores";

/// A user document without the version and the place that it gets.
#[derive(Clone, PartialEq, Debug)]
pub struct Composed {
    /// Whose.
    pub user: UserId,
    /// The document.
    pub document: RawDocumentBuf,
    /// When the user was first stored.
    pub created_at: DateTime,
    /// Changes when anything in the document does.
    pub fingerprint: String,
    /// How many secrets were left behind that are not counted where a document is first looked at.
    pub secrets: u64,
}

/// What a user's document is made from.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// What becomes `scan_cache`.
    pub scan: Option<&'a RawDocument>,
    /// What becomes `analysis_progress`.
    pub progress: Option<&'a RawDocument>,
    /// What goes into fields of `scan_cache`.
    pub derived: Vec<(Derived, &'a RawDocument)>,
    /// The first time of any of the user's documents.
    pub created_at: DateTime,
    /// The last.
    pub last_accessed: DateTime,
}

/// Puts a user's document together.
pub fn compose(user: &UserId, parts: &Parts<'_>) -> Composed {
    let mut secrets = 0;
    let mut content = |document: &RawDocument| {
        let (content, found) = content(document);
        secrets += found;
        content
    };
    let mut scan = parts.scan.map(&mut content);
    for (derived, document) in &parts.derived {
        let inner = content(document);
        let outer = scan.take().unwrap_or_default();
        scan = Some(Edit::new().set(derived.as_str(), inner).apply(&outer));
    }
    let progress = parts.progress.map(&mut content);
    let fabricated = scan
        .as_deref()
        .is_some_and(|scan| is_fabricated(scan, FABRICATED_DEPTH));

    let mut edit = Edit::new()
        .set(field::ID, user.as_str())
        .set(field::USER_ID, user.as_str())
        .set(field::USER_TYPE, user.user_type().as_str())
        .set(field::CREATED_AT, parts.created_at)
        .set(field::LAST_ACCESSED, parts.last_accessed);
    if let Some(scan) = scan {
        edit = edit.set("scan_cache", RawBson::Document(scan));
    }
    if let Some(progress) = progress {
        edit = edit.set("analysis_progress", RawBson::Document(progress));
    }
    edit = edit
        .set_meta(field::UPDATED_AT, parts.last_accessed)
        .set_meta(field::SCHEMA_VERSION, SCHEMA_VERSION)
        .set_meta(field::STATE, State::Live.as_str());
    if fabricated {
        edit = edit.set_meta(SYNTHETIC_SCORES, true);
    }
    let document = edit.apply(&RawDocumentBuf::new());
    Composed {
        user: user.clone(),
        created_at: parts.created_at,
        fingerprint: digest::fingerprint(&document),
        document,
        secrets,
    }
}

/// A legacy document without bookkeeping and secrets, and how many of these its first look does not count.
pub fn content(document: &RawDocument) -> (RawDocumentBuf, u64) {
    let (mut edit, found) = secrets::left_out(document);
    for element in document.iter_elements().map_while(Result::ok) {
        let name = element.key().as_str();
        if BOOKKEEPING.contains(&name) || name.starts_with(BACKUP) {
            edit = edit.unset(name);
        }
    }
    let on_top = secrets::at_the_top(document);
    (edit.apply(document), found.saturating_sub(on_top))
}

/// Whether all of the fabricated scores stand in one object.
fn is_fabricated(document: &RawDocument, depth: usize) -> bool {
    let values = |types: &'static [ElementType]| {
        document
            .iter_elements()
            .map_while(Result::ok)
            .filter(|element| types.contains(&element.element_type()))
            .filter_map(|element| element.value().ok())
    };
    let numbers: Vec<f64> = values(&NUMBERS).filter_map(number).collect();
    let all = FABRICATED
        .iter()
        .all(|score| numbers.iter().any(|number| (number - score).abs() < 1e-9));
    all || depth > 1
        && values(&[ElementType::EmbeddedDocument])
            .filter_map(RawBsonRef::as_document)
            .any(|inner| is_fabricated(inner, depth - 1))
}

fn number(value: RawBsonRef<'_>) -> Option<f64> {
    value
        .as_f64()
        .or_else(|| value.as_i32().map(f64::from))
        .or_else(|| {
            value
                .as_i64()
                .and_then(|n| i32::try_from(n).ok())
                .map(f64::from)
        })
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn user() -> UserId {
        UserId::external("srie06").unwrap()
    }

    fn parts(scan: &RawDocument) -> Parts<'_> {
        Parts {
            scan: Some(scan),
            progress: None,
            derived: Vec::new(),
            created_at: DateTime::from_millis(5),
            last_accessed: DateTime::from_millis(9),
        }
    }

    #[test]
    fn a_scan_is_kept_without_bookkeeping_and_secrets() {
        let scan = rawdoc! {
            "_id": 1, "scan_id": "s", "username": "Srie06", "user_id": "srie06", "user_type": "external",
            "storage_location": "EXTERNAL_DATABASE", "created_at": "2009-01-01T00:00:00Z", "z": 1,
            "document_type": "deep_analysis_results", "is_latest_analysis": true, "backup_at": 1,
            "backup_of": { "token": "z" },
            "github_token": "x", "a": { "refresh_token": "y", "b": 2.0 },
        };
        let composed = compose(&user(), &parts(&scan));
        let expected = rawdoc! {
            "scan_id": "s", "username": "Srie06", "created_at": "2009-01-01T00:00:00Z", "z": 1, "a": { "b": 2.0 },
        };
        let stored = composed.document.get_document("scan_cache").unwrap();
        assert_eq!(stored, &*expected);
        assert_eq!(composed.secrets, 2);
        assert_eq!(
            composed.document.get_datetime("created_at").unwrap(),
            DateTime::from_millis(5)
        );
        assert_eq!(compose(&user(), &parts(&scan)), composed);
    }

    #[test]
    fn fabricated_scores_are_kept_and_marked() {
        let scan = rawdoc! { "scores": { "overallScore": 78.5, "a": 82, "b": 75.0, "c": 80_i64, "d": 77 } };
        let composed = compose(&user(), &parts(&scan));
        let marked = |composed: &Composed| {
            let metadata = composed.document.get_document("metadata").unwrap();
            metadata.get_bool(SYNTHETIC_SCORES).ok()
        };
        assert_eq!(marked(&composed), Some(true));
        let honest = rawdoc! { "overallScore": 78.5, "a": 82, "b": 75.0, "c": 80_i64 };
        assert_eq!(marked(&compose(&user(), &parts(&honest))), None);
    }

    #[test]
    fn what_was_asked_for_stands_in_the_scan() {
        let profile = rawdoc! { "_id": 2, "github_username": "srie06", "bio": "x" };
        let scan = rawdoc! { "z": 1 };
        let mut with = parts(&scan);
        with.derived = vec![(Derived::Profile, &profile)];
        let composed = compose(&user(), &with);
        let expected = rawdoc! { "z": 1, "profile": { "github_username": "srie06", "bio": "x" } };
        let stored = composed.document.get_document("scan_cache").unwrap();
        assert_eq!(stored, &*expected);
    }
}
