//! Times, numbers and sizes as pages show them.

use std::borrow::Borrow;
use std::fmt;

use askama::filters::HtmlSafe;
use indicatif::HumanBytes;
use jiff::Timestamp;
use tierkeep_core::bson::DateTime;

/// Puts times into words, as seen from now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    now: Timestamp,
}

/// A time, or none: the date in UTC, and how far away that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    at: Option<Timestamp>,
    now: Timestamp,
}

impl Words {
    pub(super) fn new(now: DateTime) -> Self {
        let now = Timestamp::from_millisecond(now.timestamp_millis());
        Self {
            now: now.unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }

    /// Of an RFC 3339 date.
    pub(super) fn when(self, rfc3339: Option<&str>) -> When {
        When {
            at: rfc3339.and_then(|text| text.parse().ok()),
            now: self.now,
        }
    }

    /// Of an RFC 3339 date that is always there.
    pub(super) fn on(self, rfc3339: &str) -> When {
        self.when(Some(rfc3339))
    }

    pub(super) fn at(self, at: DateTime) -> When {
        When {
            at: Timestamp::from_millisecond(at.timestamp_millis()).ok(),
            now: self.now,
        }
    }

    pub(super) fn now(self) -> When {
        When {
            at: Some(self.now),
            now: self.now,
        }
    }
}

impl When {
    /// How far away it is.
    pub(super) fn ago(&self) -> String {
        let Some(at) = self.at else {
            return "unknown".into();
        };
        let seconds = self.now.as_second().saturating_sub(at.as_second());
        let span = span(seconds.unsigned_abs());
        match seconds {
            0 => "now".into(),
            1.. => format!("{span} ago"),
            _ => format!("in {span}"),
        }
    }
}

/// Every character of it comes from a date.
impl HtmlSafe for When {}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(at) = self.at else {
            return f.write_str(r#"<span class="none">none</span>"#);
        };
        let shown = at.strftime("%Y-%m-%d %H:%M:%S");
        let exact = at.strftime("%Y-%m-%dT%H:%M:%SZ");
        let ago = self.ago();
        write!(
            f,
            r#"<time datetime="{exact}">{shown}</time> <span class="ago">({ago})</span>"#
        )
    }
}

/// A length of time in its largest unit.
pub(super) fn span(seconds: impl Borrow<u64>) -> String {
    let seconds = *seconds.borrow();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A number with its thousands apart.
pub(super) fn number(number: impl Borrow<u64>) -> String {
    let digits = number.borrow().to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// This count with its noun in the singular or plural.
pub(super) fn many(count: u64, one: &str, more: &str) -> String {
    let noun = if count == 1 { one } else { more };
    format!("{} {noun}", number(count))
}

/// A size for people.
pub(super) fn bytes(bytes: impl Borrow<u64>) -> String {
    HumanBytes(*bytes.borrow()).to_string()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "2026-01-01T00:00:10.123Z",
        "<time datetime=\"2026-01-01T00:00:10Z\">2026-01-01 00:00:10</time> <span class=\"ago\">(50 s ago)</span>"
    )]
    #[case(
        "2026-01-02T12:00:00Z",
        "<time datetime=\"2026-01-02T12:00:00Z\">2026-01-02 12:00:00</time> <span class=\"ago\">(in 35 h)</span>"
    )]
    #[case("<b>", "<span class=\"none\">none</span>")]
    fn a_time_says_how_far_away_it_is(#[case] text: &str, #[case] shown: &str) {
        let now = DateTime::parse_rfc3339_str("2026-01-01T00:01:00Z").unwrap();
        assert_eq!(Words::new(now).when(Some(text)).to_string(), shown);
    }

    #[rstest]
    #[case(0, "0")]
    #[case(999, "999")]
    #[case(1_000, "1,000")]
    #[case(12_345_678, "12,345,678")]
    fn thousands_stand_apart(#[case] count: u64, #[case] shown: &str) {
        assert_eq!(number(count), shown);
    }
}
