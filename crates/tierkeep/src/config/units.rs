//! Durations and sizes as people write them. Owns both notations; must never guess: a number without a
//! unit is no duration.

use std::time::Duration;

/// What a duration looks like, for error messages.
pub const DURATION_FORM: &str = "a duration such as 24h, 60s, 500ms, 30d or 1h30m";
/// What a size looks like, for error messages.
pub const SIZE_FORM: &str = "a size such as 8MiB, 64KiB, 1GiB or a number of bytes";

/// A hundred years: longer than anything that is meant, short enough for every date.
const LONGEST: Duration = Duration::from_secs(100 * 365 * DAY_SECONDS);
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Reads a duration: whole numbers with the units `d`, `h`, `m`, `s` and `ms`, largest first, each once.
///
/// A day is exactly 24 hours, an hour exactly 3,600 seconds.
///
/// # Errors
/// [`DURATION_FORM`] for any other text.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    const UNITS: [(&str, u64); 5] = [
        ("d", DAY_SECONDS * 1000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    let mut units = UNITS.iter();
    if rest.is_empty() {
        return Err(DURATION_FORM);
    }
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit());
        let (unit, after) = split(after, |c| c.is_ascii_alphabetic());
        let (_, unit_ms) = units.find(|(name, _)| *name == unit).ok_or(DURATION_FORM)?;
        let part = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(*unit_ms));
        total_ms = part
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or(DURATION_FORM)?;
        rest = after;
    }
    let duration = Duration::from_millis(total_ms);
    if duration > LONGEST {
        Err("a duration of 100 years at most")
    } else {
        Ok(duration)
    }
}

/// Reads a size in bytes: a whole number, alone or with `B`, `KiB`, `MiB` or `GiB`.
///
/// # Errors
/// [`SIZE_FORM`] for any other text.
pub fn size(text: &str) -> Result<u64, &'static str> {
    let (number, unit) = split(text.trim(), |c| c.is_ascii_digit());
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(SIZE_FORM),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .ok_or(SIZE_FORM)
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("24h", 86_400_000)]
    #[case("60s", 60_000)]
    #[case("500ms", 500)]
    #[case("0s", 0)]
    #[case("30d", 2_592_000_000)]
    #[case("1h30m", 5_400_000)]
    #[case(" 1m5ms ", 60_005)]
    fn durations_are_exact(#[case] text: &str, #[case] ms: u64) {
        assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
    }

    #[rstest]
    #[case("")]
    #[case("24")]
    #[case("h")]
    #[case("-1h")]
    #[case("1.5h")]
    #[case("1 h")]
    #[case("24hours")]
    #[case("30m1h")]
    #[case("1h1h")]
    #[case("99999999999999999999s")]
    #[case("36501d")]
    fn anything_else_is_no_duration(#[case] text: &str) {
        assert!(duration(text).is_err());
    }

    #[rstest]
    #[case("8MiB", Some(8_388_608))]
    #[case("64KiB", Some(65_536))]
    #[case("1GiB", Some(1_073_741_824))]
    #[case("512", Some(512))]
    #[case("512 B", Some(512))]
    #[case("8MB", None)]
    #[case("MiB", None)]
    #[case("-1", None)]
    #[case("1.5MiB", None)]
    #[case("99999999999GiB", None)]
    fn sizes_are_binary_multiples(#[case] text: &str, #[case] bytes: Option<u64>) {
        assert_eq!(size(text).ok(), bytes);
    }
}
