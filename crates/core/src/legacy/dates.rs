//! The predecessor's dates: BSON dates, texts without a zone in UTC, texts without a zone in the local time of
//! the machine that wrote them, texts with a zone; all in one collection. Owns which fields of a document are
//! times of its own: a scan document's `created_at` is that of the GitHub account and never is.

use bson::raw::RawBsonRef;
use bson::{Bson, DateTime};
use jiff::tz::TimeZone;

use super::entry::Part;
use super::fields::Fields;
use crate::document::field;

/// How texts without a zone are read.
#[derive(Clone, Debug, Default)]
pub struct Dates {
    /// The zone of the machine that wrote local times; where nobody names it they count only where a document
    /// has no other time at all, and then as UTC.
    pub local: Option<TimeZone>,
}

/// The times of one document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// Decides which document is newer.
    pub moment: DateTime,
    /// The first.
    pub earliest: DateTime,
    /// The last.
    pub latest: DateTime,
}

/// The fields of local times in scan documents.
pub(super) const LOCAL: [&str; 2] = ["scanDate", "analyzedAt"];

/// The fields of a document's own times, the one that decides which is newer first.
pub(super) fn own(part: Part) -> &'static [&'static str] {
    match part {
        Part::Scan { .. } => &["scan_date"],
        Part::Progress => &["updated_at", "created_at"],
        Part::Derived(_) => &["scan_date", "updated_at", "created_at"],
    }
}

impl Dates {
    /// The times of a document with these fields; `None` where it has none.
    pub fn of(&self, fields: &Fields<'_>, part: Part) -> Option<Times> {
        let mut times = Vec::new();
        for name in own(part) {
            times.extend(read(fields, name, &TimeZone::UTC));
        }
        let local = |zone: &TimeZone| -> Vec<DateTime> {
            let names = LOCAL.iter();
            names.filter_map(|name| read(fields, name, zone)).collect()
        };
        if let (Some(zone), Part::Scan { .. }) = (&self.local, part) {
            let moment = times.is_empty();
            times.extend(local(zone));
            // The scan's own time decides; local ones do where it is missing.
            if moment {
                times.sort_by(|one, other| other.cmp(one));
            }
        }
        if times.is_empty() {
            times.extend(made_at(fields.get(field::ID)));
        }
        if times.is_empty() {
            times = local(&TimeZone::UTC);
            times.sort_by(|one, other| other.cmp(one));
        }
        Some(Times {
            moment: *times.first()?,
            earliest: *times.iter().min()?,
            latest: *times.iter().max()?,
        })
    }
}

/// When an `_id` was made, where it is an object id.
pub fn made_at(id: Option<RawBsonRef<'_>>) -> Option<DateTime> {
    Some(id?.as_object_id()?.timestamp())
}

fn read(fields: &Fields<'_>, name: &str, zone: &TimeZone) -> Option<DateTime> {
    let value = fields.get(name)?;
    date(&Bson::try_from(value).ok()?, zone)
}

/// Reads a date: a BSON date, or a text in ISO 8601; one without a zone is in `zone`.
pub fn date(value: &Bson, zone: &TimeZone) -> Option<DateTime> {
    if let Bson::DateTime(at) = value {
        return Some(*at);
    }
    let text = value.as_str()?.trim();
    let at = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let naive: jiff::civil::DateTime = text.parse().ok()?;
        zone.to_timestamp(naive).ok()
    })?;
    Some(DateTime::from_millis(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::raw::RawDocument;
    use bson::rawdoc;

    use super::*;

    const SCAN: Part = Part::Scan { deep: false };

    fn millis(dates: &Dates, document: &RawDocument, part: Part) -> Option<[i64; 3]> {
        let times = dates.of(&Fields::of(document), part);
        times.map(|it| [it.moment, it.earliest, it.latest].map(DateTime::timestamp_millis))
    }

    fn kolkata() -> Dates {
        let zone = TimeZone::fixed(jiff::tz::Offset::from_seconds(19_800).unwrap());
        Dates { local: Some(zone) }
    }

    #[test]
    fn githubs_created_at_is_never_a_scan_s_time() {
        let scan = rawdoc! {
            "_id": ObjectId::from_bytes([0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            "created_at": "2009-01-01T00:00:00Z", "updated_at": "2030-01-01T00:00:00Z",
            "scan_date": "2025-12-11T23:27:02.123456",
        };
        let at = 1_765_495_622_123;
        assert_eq!(millis(&Dates::default(), &scan, SCAN), Some([at; 3]));
    }

    #[test]
    fn every_form_of_one_instant_is_that_instant() {
        let at = DateTime::from_millis(1_765_495_622_000);
        let forms: [Bson; 4] = [
            at.into(),
            "2025-12-11T23:27:02".into(),
            "2025-12-11 23:27:02Z".into(),
            "2025-12-12T04:57:02+05:30".into(),
        ];
        for form in forms {
            assert_eq!(date(&form, &TimeZone::UTC), Some(at), "{form}");
        }
    }

    #[test]
    fn local_times_are_instants_only_in_a_named_zone() {
        let scan = rawdoc! {
            "_id": 1, "scan_date": "2025-12-11T23:27:02", "scanDate": "2025-12-12T05:57:02",
        };
        let (utc, local) = (1_765_495_622_000, 1_765_499_222_000);
        assert_eq!(millis(&Dates::default(), &scan, SCAN), Some([utc; 3]));
        assert_eq!(millis(&kolkata(), &scan, SCAN), Some([utc, utc, local]));
    }

    #[test]
    fn the_object_id_s_time_stands_in_for_missing_dates_and_local_times_come_last() {
        let id = ObjectId::from_bytes([0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let both = rawdoc! { "_id": id, "analyzedAt": "2025-12-12T05:57:02" };
        let made = i64::from(0x6500_0000) * 1_000;
        assert_eq!(millis(&Dates::default(), &both, SCAN), Some([made; 3]));
        let local = rawdoc! { "_id": 1, "analyzedAt": "2025-12-11T23:27:02" };
        let at = 1_765_495_622_000;
        assert_eq!(millis(&Dates::default(), &local, SCAN), Some([at; 3]));
        assert_eq!(millis(&Dates::default(), &rawdoc! { "_id": 1 }, SCAN), None);
    }

    #[test]
    fn progress_is_as_new_as_its_last_update() {
        let progress = rawdoc! {
            "_id": 1, "created_at": DateTime::from_millis(5), "updated_at": DateTime::from_millis(9),
        };
        let times = millis(&Dates::default(), &progress, Part::Progress);
        assert_eq!(times, Some([9, 5, 9]));
    }
}
