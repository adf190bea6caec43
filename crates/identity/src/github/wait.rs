//! How long GitHub wants to be left alone, as the headers of a 403 or 429 say ("Rate limits for the REST API", "Exceeding the
//! rate limit"; RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The longest wait: limits are by the hour.
const LONGEST: Duration = Duration::from_hours(1);
const REMAINING: &str = "x-ratelimit-remaining";
const RESET: &str = "x-ratelimit-reset";

/// The wait; `None` where the headers name none. A reset counts only where nothing remains until then.
pub(super) fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim());
    let now = text(DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok());
    let until = |at: SystemTime| at.duration_since(now?).ok();
    let asked = text(RETRY_AFTER.as_str()).and_then(|wait| match wait.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => until(httpdate::parse_http_date(wait).ok()?),
    });
    let reset = || {
        let used_up = text(REMAINING).is_none_or(|remaining| remaining == "0");
        let seconds = text(RESET).filter(|_| used_up)?.parse::<u64>().ok()?;
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
        until(at)
    };
    let wait = asked.or_else(reset)?;
    (!wait.is_zero()).then(|| wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;
    use rstest::rstest;

    use super::*;

    /// 2026-11-30T00:00:00Z.
    const NOW: (&str, &str) = ("date", "Mon, 30 Nov 2026 00:00:00 GMT");
    const SOON: (&str, &str) = (RESET, "1796000430");

    #[rstest]
    #[case(&[("retry-after", "120")], Some(120))]
    #[case(&[("retry-after", " 7 "), NOW, SOON], Some(7))]
    #[case(&[("retry-after", "Mon, 30 Nov 2026 00:02:00 GMT"), NOW], Some(120))]
    #[case(&[("retry-after", "Mon, 30 Nov 2026 00:02:00 GMT")], None)]
    #[case(&[("retry-after", "Sun, 29 Nov 2026 00:02:00 GMT"), NOW], None)]
    #[case(&[("retry-after", "9999999")], Some(3_600))]
    #[case(&[("retry-after", "99999999999999999999")], None)]
    #[case(&[("retry-after", "0")], None)]
    #[case(&[("retry-after", "soon")], None)]
    #[case(&[(RESET, "1796083230"), NOW], Some(3_600))]
    #[case(&[(RESET, "1796083230")], None)]
    #[case(&[(RESET, "0"), NOW], None)]
    #[case(&[(RESET, "x"), NOW], None)]
    #[case(&[], None)]
    fn the_headers_say_how_long(
        #[case] sent: &[(&'static str, &'static str)],
        #[case] seconds: Option<u64>,
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        assert_eq!(of(&headers), seconds.map(Duration::from_secs));
    }

    #[rstest]
    #[case(None, Some(90))]
    #[case(Some("0"), Some(90))]
    #[case(Some("4999"), None)]
    fn a_reset_counts_where_nothing_remains(
        #[case] remaining: Option<&'static str>,
        #[case] seconds: Option<u64>,
    ) {
        let mut headers = HeaderMap::new();
        let now = httpdate::parse_http_date(NOW.1).unwrap();
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        headers.insert("date", HeaderValue::from_static(NOW.1));
        let reset = HeaderValue::try_from((now + 90).to_string());
        headers.insert(RESET, reset.unwrap());
        if let Some(remaining) = remaining {
            headers.insert(REMAINING, HeaderValue::from_static(remaining));
        }
        assert_eq!(of(&headers), seconds.map(Duration::from_secs));
    }
}
