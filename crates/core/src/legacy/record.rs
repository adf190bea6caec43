//! The HR record that a document of the predecessor's HR collections becomes: one record for each document.

use bson::raw::{RawBsonRef, RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime};
use jiff::tz::TimeZone;

use super::fields::Fields;
use super::owner::{Refusal, quoted};
use super::{dates, secrets};
use crate::digest;
use crate::document::{Edit, field};
use crate::hr::{Arrival, Content, HrId};

/// What a field that a record keeps for itself is called where the predecessor's value cannot stand in its place.
const LEGACY: &str = "legacy_";

/// A record that a document becomes.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// The record, without a version.
    pub arrival: Arrival,
    /// How many secrets were left behind.
    pub secrets: u64,
}

/// The record that a document becomes.
///
/// Its id is the document's `_id` as a text. `created_at` and `updated_at` are the document's where they are dates;
/// where they are not, they are kept as `legacy_created_at` and `legacy_updated_at`, as `metadata` is as
/// `legacy_metadata`, and the time in the object id counts. Without that they are the epoch, never a guess.
///
/// # Errors
/// Why it is imported as nothing.
pub fn record(document: &RawDocument) -> Result<Record, Refusal> {
    let id = id(document)?;
    if is_of_user(document) {
        return Err(Refusal::UserAmongHr(quoted(id.as_str())));
    }
    let (document, secrets) =
        secrets::without(document).unwrap_or_else(|| (document.to_owned(), 0));
    let mut content = Edit::new().unset(field::ID);
    let mut kept = |name: &str| -> Result<(), Refusal> {
        let Some(value) = document.get(name).ok().flatten() else {
            return Ok(());
        };
        let legacy = format!("{LEGACY}{name}");
        if !matches!(document.get(&legacy), Ok(None)) {
            return Err(Refusal::KeptTwice {
                id: quoted(id.as_str()),
                key: legacy,
            });
        }
        let edit = std::mem::take(&mut content);
        content = edit.unset(name).set(&legacy, value);
        Ok(())
    };
    kept(field::METADATA)?;
    let mut date = |name: &str| -> Result<Option<DateTime>, Refusal> {
        let value = document.get(name).ok().flatten();
        let value = value.and_then(|value| Bson::try_from(value).ok());
        let at = value.and_then(|value| dates::date(&value, &TimeZone::UTC));
        if at.is_none() {
            kept(name)?;
        }
        Ok(at)
    };
    let (created_at, updated_at) = (date(field::CREATED_AT)?, date(field::UPDATED_AT)?);
    let made_at =
        dates::made_at(document.get(field::ID).ok().flatten()).unwrap_or(DateTime::from_millis(0));
    let created_at = created_at.or(updated_at).unwrap_or(made_at);
    let updated_at = updated_at.unwrap_or(created_at);
    let content = content
        .unset(field::CREATED_AT)
        .unset(field::UPDATED_AT)
        .apply(&document);
    let dated = bson::rawdoc! { "created_at": created_at, "updated_at": updated_at };
    let fingerprint = fingerprint(&[&content, &dated]);
    let content = Content::new(content).map_err(|reserved| Refusal::KeptTwice {
        id: quoted(id.as_str()),
        key: reserved.0.to_owned(),
    })?;
    let arrival = Arrival {
        id,
        content,
        created_at,
        updated_at,
        fingerprint,
    };
    Ok(Record { arrival, secrets })
}

/// The fields that [`moment`] and the id are read from.
pub const FIELDS: [&str; 3] = [field::ID, field::CREATED_AT, field::UPDATED_AT];

/// The id that a document's record has, and when the document was changed last; `None` where it has no such id.
pub fn moment(document: &RawDocument) -> Option<(HrId, DateTime)> {
    let fields = Fields::of(document);
    let date = |name: &str| {
        let value = fields.get(name)?;
        dates::date(&Bson::try_from(value).ok()?, &TimeZone::UTC)
    };
    let at = date(field::UPDATED_AT).or_else(|| date(field::CREATED_AT));
    let at = at.or_else(|| dates::made_at(fields.get(field::ID)));
    Some((id(document).ok()?, at.unwrap_or(DateTime::from_millis(0))))
}

fn fingerprint(parts: &[&RawDocumentBuf]) -> String {
    let mut all = RawDocumentBuf::new();
    for part in parts {
        all.append(bson::raw::cstr!("part"), (*part).clone());
    }
    digest::fingerprint(&all)
}

fn id(document: &RawDocument) -> Result<HrId, Refusal> {
    let value = document.get(field::ID).ok().flatten();
    let text = match value {
        Some(RawBsonRef::String(text)) => text.to_owned(),
        Some(RawBsonRef::ObjectId(id)) => id.to_hex(),
        Some(RawBsonRef::Int32(number)) => number.to_string(),
        Some(RawBsonRef::Int64(number)) => number.to_string(),
        Some(other) => Bson::try_from(other)
            .map(|id| id.into_relaxed_extjson().to_string())
            .unwrap_or_default(),
        None => String::new(),
    };
    Ok(HrId::parse(&text)?)
}

/// A scan, or any other document about a user, is not an HR record, in whichever collection it is.
fn is_of_user(document: &RawDocument) -> bool {
    let fields = Fields::of(document);
    let starts = |name: &str| {
        let word = fields.text(name).unwrap_or_default().to_ascii_lowercase();
        word.starts_with("internal") || word.starts_with("external")
    };
    let has = |name: &str| !matches!(document.get(name), Ok(None));
    starts("storage_location")
        || (starts(field::USER_TYPE)
            && (has("scan_id") || has("scan_date") || has("repositories") || has("current_phase")))
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::rawdoc;
    use rstest::rstest;

    use super::*;

    fn made(document: &RawDocument) -> Record {
        record(document).unwrap()
    }

    #[rstest]
    #[case(rawdoc! { "_id": ObjectId::from_bytes([0x65; 12]) }, "656565656565656565656565")]
    #[case(rawdoc! { "_id": "ada@example.org" }, "ada@example.org")]
    #[case(rawdoc! { "_id": 7 }, "7")]
    fn the_source_s_id_is_the_record_s(#[case] document: RawDocumentBuf, #[case] id: &str) {
        assert_eq!(made(&document).arrival.id.as_str(), id);
    }

    #[test]
    fn dates_are_the_record_s_and_everything_else_stays() {
        let at = DateTime::from_millis(1_765_495_622_000);
        let document = rawdoc! {
            "_id": 1, "name": "Ada", "created_at": "2025-12-11T23:27:02", "updated_at": "soon",
            "metadata": { "version": 9 }, "github_token": "gho_x",
        };
        let record = made(&document);
        let kept = rawdoc! {
            "name": "Ada", "legacy_metadata": { "version": 9 }, "legacy_updated_at": "soon",
        };
        assert_eq!(record.arrival.content.as_raw(), &*kept);
        let dates = (record.arrival.created_at, record.arrival.updated_at);
        assert_eq!((dates, record.secrets), ((at, at), 1));
        assert_eq!(made(&document), record);
    }

    #[test]
    fn the_object_id_s_time_stands_in_for_missing_dates() {
        let id = ObjectId::from_bytes([0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let record = made(&rawdoc! { "_id": id });
        assert_eq!(
            record.arrival.created_at.timestamp_millis(),
            i64::from(0x6500_0000) * 1_000
        );
    }

    #[rstest]
    #[case(rawdoc! { "_id": "a b" }, "a b")]
    #[case(rawdoc! { "_id": { "a": 1 } }, "a")]
    #[case(rawdoc! { "_id": "x1", "user_type": "internal", "scan_id": "s" }, "x1")]
    #[case(rawdoc! { "_id": "x2", "storage_location": "EXTERNAL_DATABASE" }, "x2")]
    #[case(rawdoc! { "_id": "x3", "metadata": 1, "legacy_metadata": 2 }, "x3")]
    fn what_is_no_record_is_refused_and_quoted(
        #[case] document: RawDocumentBuf,
        #[case] quoted: &str,
    ) {
        let refusal = record(&document).unwrap_err().to_string();
        assert!(refusal.contains(quoted), "{refusal}");
    }
}
