//! The predecessor's dates: BSON dates, texts without a zone in UTC, texts without a zone in the local time of
//! the machine that wrote them, texts with a zone; all in one collection. Owns which fields of a document are
//! times of its own: a scan document's `created_at` is that of the GitHub account and never is.

use std::ops::RangeInclusive;

use bson::raw::RawBsonRef;
use bson::{Bson, DateTime};
use jiff::tz::TimeZone;

use super::entry::Part;
use super::fields::Fields;
use crate::content::show;
use crate::document::field;

/// How texts without a zone are read.
#[derive(Clone, Debug, Default)]
pub struct Dates {
    /// The zone of the machine that wrote local times; where none is given, they count only where a document
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

/// A date that decides which document is newer, and cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// Its field.
    pub field: &'static str,
    /// What it holds, in Extended JSON, cut off where it is long.
    pub value: String,
}

/// The most characters that are quoted of what cannot be read.
const QUOTED_MAX: usize = 64;

impl Dates {
    /// The times of a document with these fields; `None` where it has none.
    ///
    /// # Errors
    /// [`Unreadable`] where the field that decides which document is newer holds no date: the substitute for a missing
    /// date would make an older document the newest.
    pub fn of(&self, fields: &Fields<'_>, part: Part) -> Result<Option<Times>, Unreadable> {
        let names = own(part);
        if let Some(name) = names.iter().find(|name| says(fields, name)) {
            readable(fields, name, &TimeZone::UTC)?;
        }
        let own = names
            .iter()
            .filter_map(|name| read(fields, name, &TimeZone::UTC));
        let mut times: Vec<DateTime> = own.collect();
        let local = |zone: &TimeZone| -> Result<Vec<DateTime>, Unreadable> {
            let names = LOCAL.iter().filter(|name| says(fields, name));
            let dates: Vec<_> = names.map(|name| readable(fields, name, zone)).collect();
            let known = dates.iter().filter_map(|date| date.as_ref().ok().copied());
            let known: Vec<DateTime> = known.collect();
            match dates.into_iter().find_map(Result::err) {
                Some(unreadable) if known.is_empty() => Err(unreadable),
                Some(_) | None => Ok(known),
            }
        };
        if let (Some(zone), Part::Scan { .. }) = (&self.local, part) {
            if times.is_empty() {
                // The scan's own time decides; local ones do where it is missing.
                times.extend(local(zone)?);
                times.sort_by(|one, other| other.cmp(one));
            } else {
                times.extend(local(zone).unwrap_or_default());
            }
        }
        if times.is_empty() {
            times.extend(made_at(fields.get(field::ID)));
        }
        if times.is_empty() {
            times = local(&TimeZone::UTC)?;
            times.sort_by(|one, other| other.cmp(one));
        }
        let ends = times
            .first()
            .zip(times.iter().min().zip(times.iter().max()));
        Ok(ends.map(|(moment, (earliest, latest))| Times {
            moment: *moment,
            earliest: *earliest,
            latest: *latest,
        }))
    }
}

/// Whether the field says anything: null and empty texts are as good as none.
fn says(fields: &Fields<'_>, name: &str) -> bool {
    fields.element(name).is_some_and(|field| {
        let value = field.value();
        let is_blank = |value: &RawBsonRef<'_>| {
            *value == RawBsonRef::Null || value.as_str().is_some_and(|text| text.trim().is_empty())
        };
        !value.as_ref().is_ok_and(is_blank)
    })
}

fn readable(
    fields: &Fields<'_>,
    name: &'static str,
    zone: &TimeZone,
) -> Result<DateTime, Unreadable> {
    read(fields, name, zone).ok_or_else(|| {
        let element = fields.element(name);
        let value = element.and_then(|field| field.value_utf8_lossy().ok());
        let value = value.and_then(|value| Bson::try_from(value).ok());
        let value = value.map_or_else(String::new, |value| show(value).to_string());
        Unreadable {
            field: name,
            value: value.chars().take(QUOTED_MAX).collect(),
        }
    })
}

/// When an `_id` was made, where it is an object id.
pub fn made_at(id: Option<RawBsonRef<'_>>) -> Option<DateTime> {
    Some(id?.as_object_id()?.timestamp())
}

fn read(fields: &Fields<'_>, name: &str, zone: &TimeZone) -> Option<DateTime> {
    let value = fields.get(name)?;
    date(&Bson::try_from(value).ok()?, zone)
}

/// Reads a date in any form in which programs around the predecessor wrote them: a BSON date or timestamp; a text in ISO
/// 8601, where one without a zone is in `zone`, and a `Z` behind an offset says nothing; a text after RFC 2822, as HTTP
/// has it; seconds or milliseconds since 1970 as a number or its digits; `{"$date": …}` stored as an object.
pub fn date(value: &Bson, zone: &TimeZone) -> Option<DateTime> {
    if let Bson::DateTime(at) = value {
        return Some(*at);
    }
    if let Bson::Timestamp(at) = value {
        return Some(DateTime::from_millis(i64::from(at.time) * 1_000));
    }
    if let Bson::Document(object) = value {
        return match object.iter().next() {
            Some((key, inner)) if key == "$date" && object.len() == 1 => extended(inner),
            Some(_) | None => None,
        };
    }
    match value.as_str() {
        Some(text) => written(text.trim(), zone),
        None => since_1970(number(value)?),
    }
}

/// The value of `$date`: a text, or milliseconds.
fn extended(value: &Bson) -> Option<DateTime> {
    if let Bson::Document(object) = value {
        let millis = object.get_str("$numberLong").ok()?;
        return Some(DateTime::from_millis(millis.parse().ok()?));
    }
    match value.as_str() {
        Some(text) => written(text.trim(), &TimeZone::UTC),
        None => whole(number(value)?).map(DateTime::from_millis),
    }
}

fn written(text: &str, zone: &TimeZone) -> Option<DateTime> {
    let instant = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let at = instant(text)
        .or_else(|| instant(text.strip_suffix(['Z', 'z'])?))
        .or_else(|| {
            let naive: jiff::civil::DateTime = text.parse().ok()?;
            zone.to_timestamp(naive).ok()
        })
        .or_else(|| Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp()));
    match at {
        Some(at) => Some(DateTime::from_millis(at.as_millisecond())),
        None => since_1970(text.parse().ok()?),
    }
}

fn number(value: &Bson) -> Option<f64> {
    /// Beyond it a double does not hold every whole number.
    const EXACT: RangeInclusive<i64> = -9_007_199_254_740_992..=9_007_199_254_740_992;
    let long = value.as_i64().filter(|number| EXACT.contains(number));
    #[expect(clippy::cast_precision_loss, reason = "a double holds it exactly")]
    let long = long.map(|number| number as f64);
    let double = value.as_f64().or(long);
    double.or_else(|| value.as_i32().map(f64::from))
}

/// Seconds or milliseconds since 1970, which their size tells apart. Other numbers, such as days or `20251211`, are no
/// dates.
fn since_1970(number: f64) -> Option<DateTime> {
    /// From 2001 to 2286.
    const SECONDS: RangeInclusive<f64> = 1e9..=1e10;
    const MILLISECONDS: RangeInclusive<f64> = 1e12..=1e13;
    let millis = if SECONDS.contains(&number) {
        number * 1_000.0
    } else if MILLISECONDS.contains(&number) {
        number
    } else {
        return None;
    };
    whole(millis).map(DateTime::from_millis)
}

/// The whole number before the point.
fn whole(number: f64) -> Option<i64> {
    /// Beyond it a double does not hold every whole number.
    const EXACT: RangeInclusive<f64> = -9_007_199_254_740_992.0..=9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "an i64 holds it")]
    EXACT.contains(&number).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::raw::RawDocument;
    use bson::rawdoc;

    use super::*;

    const SCAN: Part = Part::Scan { deep: false };

    fn millis(dates: &Dates, document: &RawDocument, part: Part) -> Option<[i64; 3]> {
        let times = dates.of(&Fields::of(document), part).unwrap();
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
        let forms: Vec<Bson> = vec![
            at.into(),
            "2025-12-11T23:27:02".into(),
            "2025-12-11 23:27:02Z".into(),
            "2025-12-12T04:57:02+05:30".into(),
            "2025-12-11T23:27:02+00:00Z".into(),
            "2025-12-12T04:57:02.000000+05:30Z".into(),
            "Thu, 11 Dec 2025 23:27:02 GMT".into(),
            "Thu, 11 Dec 2025 23:27:02 +0000".into(),
            "11 Dec 2025 23:27:02 GMT".into(),
            1_765_495_622_i32.into(),
            1_765_495_622_i64.into(),
            1_765_495_622.0.into(),
            1_765_495_622_000_i64.into(),
            1_765_495_622_000.0.into(),
            "1765495622".into(),
            "1765495622.0".into(),
            "1765495622000".into(),
            Bson::Timestamp(bson::Timestamp {
                time: 1_765_495_622,
                increment: 3,
            }),
            bson::doc! { "$date": "2025-12-11T23:27:02Z" }.into(),
            bson::doc! { "$date": 1_765_495_622_000_i64 }.into(),
            bson::doc! { "$date": { "$numberLong": "1765495622000" } }.into(),
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

    #[rstest::rstest]
    #[case(rawdoc! { "scan_date": "yesterday" }, SCAN, r#""yesterday""#)]
    #[case(rawdoc! { "scan_date": 20_251_211 }, SCAN, "20251211")]
    #[case(rawdoc! { "scan_date": true }, SCAN, "true")]
    #[case(rawdoc! { "scan_date": f64::NAN }, SCAN, r#"{"$numberDouble":"NaN"}"#)]
    #[case(rawdoc! { "scan_date": { "$date": "soon" } }, SCAN, r#"{"$date":"soon"}"#)]
    #[case(rawdoc! { "updated_at": "soon", "created_at": DateTime::from_millis(5) }, Part::Progress, r#""soon""#)]
    #[case(rawdoc! { "created_at": "soon" }, Part::Progress, r#""soon""#)]
    fn a_deciding_date_that_cannot_be_read_is_told(
        #[case] fields: bson::raw::RawDocumentBuf,
        #[case] part: Part,
        #[case] value: &str,
    ) {
        let mut document = rawdoc! { "_id": ObjectId::from_bytes([0x65; 12]) };
        for field in fields.iter().flatten() {
            document.append(field.0, field.1);
        }
        let unreadable = Dates::default().of(&Fields::of(&document), part);
        assert_eq!(unreadable.unwrap_err().value, value);
    }

    #[test]
    fn a_date_that_is_null_or_blank_is_missing() {
        let id = ObjectId::from_bytes([0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let made = i64::from(0x6500_0000) * 1_000;
        for blank in [RawBsonRef::Null, RawBsonRef::String(" ")] {
            let mut scan = rawdoc! { "_id": id };
            scan.append(bson::raw::cstr!("scan_date"), blank);
            assert_eq!(millis(&Dates::default(), &scan, SCAN), Some([made; 3]));
        }
    }
}
