//! Conditions: owns the reading of `If-Match` and `If-None-Match` (RFC 9110, section 13.1).
//!
//! An ETag is the quoted version of the user's document.

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use tierkeep_core::hr::{HrCollection, HrId};
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_engine::{Condition, Found, HrRecords, Users};

use crate::http::response::problem::causes::{
    RecordConditionError, RecordReadError, UserConditionError, UserReadError,
};

/// What a conditional header says.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Tags {
    /// `*`.
    Any,
    /// A list of ETags.
    Listed(Vec<Tag>),
}

/// One ETag. One that is no version of ours is kept, because it matches nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tag {
    version: Option<Version>,
    weak: bool,
}

/// What a conditional read answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum ConditionalRead {
    /// The document.
    Send,
    /// 304: the caller has this version.
    NotModified,
}

/// Why a condition does not let a request go on, before it is said of a user or of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failed {
    Malformed(&'static str),
    Mismatch(Option<Version>),
}

impl From<Failed> for UserConditionError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Malformed(why) => Self::Malformed(why),
            Failed::Mismatch(current) => Self::Mismatch(current),
        }
    }
}

impl From<Failed> for RecordConditionError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Malformed(why) => Self::Malformed(why),
            Failed::Mismatch(current) => Self::Mismatch(current),
        }
    }
}

/// Evaluates the conditions of a read of a user's document at this version.
///
/// # Errors
/// [`UserConditionError::Mismatch`] where `If-Match` fails; [`UserConditionError::Malformed`].
pub(in crate::http) fn of_read(
    headers: &HeaderMap,
    current: Option<Version>,
) -> Result<ConditionalRead, UserConditionError> {
    Ok(evaluate(headers, current)?)
}

/// Evaluates the conditions of a read of an HR record at this version.
///
/// # Errors
/// [`RecordConditionError::Mismatch`] where `If-Match` fails; [`RecordConditionError::Malformed`].
pub(in crate::http) fn of_hr_read(
    headers: &HeaderMap,
    current: Option<Version>,
) -> Result<ConditionalRead, RecordConditionError> {
    Ok(evaluate(headers, current)?)
}

fn evaluate(headers: &HeaderMap, current: Option<Version>) -> Result<ConditionalRead, Failed> {
    let if_match = read(headers, &IF_MATCH)?;
    let if_none_match = read(headers, &IF_NONE_MATCH)?;
    let is_current = |tag: &Tag| tag.version.is_some() && tag.version == current;
    if let Some(tags) = if_match
        && !tags.any(|tag| !tag.weak && is_current(tag))
    {
        return Err(Failed::Mismatch(current));
    }
    Ok(if if_none_match.is_some_and(|tags| tags.any(is_current)) {
        ConditionalRead::NotModified
    } else {
        ConditionalRead::Send
    })
}

/// The condition of a write of a user's document.
///
/// # Errors
/// [`UserConditionError::Mismatch`] where no version can fulfil it; [`UserConditionError::Malformed`];
/// [`UserConditionError::Read`] where several versions are named.
pub(in crate::http) async fn of_write(
    headers: &HeaderMap,
    users: &Users,
    user: &UserId,
) -> Result<Condition, UserConditionError> {
    match required(headers)? {
        Required::Condition(condition) => Ok(condition),
        Required::OneOf(versions) => {
            let found = users.read(user).await.map_err(UserReadError::from)?;
            Ok(one_of(&versions, found.and_then(|found| found.version()))?)
        }
    }
}

/// Whether the condition of a write holds for what is stored now, so that nothing is done for one that must fail.
///
/// # Errors
/// [`UserConditionError::Mismatch`] where it does not; [`UserConditionError::Read`].
pub(in crate::http) async fn holds_now(
    condition: Condition,
    users: &Users,
    user: &UserId,
) -> Result<(), UserConditionError> {
    if condition == Condition::None {
        return Ok(());
    }
    let found = users.read(user).await.map_err(UserReadError::from)?;
    let current = found.as_ref().and_then(Found::version);
    if condition.holds(found.is_some(), current) {
        Ok(())
    } else {
        Err(UserConditionError::Mismatch(current))
    }
}

/// The condition of a write of an HR record.
///
/// # Errors
/// [`RecordConditionError::Mismatch`] where no version can fulfil it; [`RecordConditionError::Malformed`];
/// [`RecordConditionError::Read`] where several versions are named.
pub(in crate::http) async fn of_hr_write(
    headers: &HeaderMap,
    records: &HrRecords,
    collection: &HrCollection,
    id: &HrId,
) -> Result<Condition, RecordConditionError> {
    match required(headers)? {
        Required::Condition(condition) => Ok(condition),
        Required::OneOf(versions) => {
            let found = records.read(collection, id).await;
            let found = found.map_err(RecordReadError::from)?;
            Ok(one_of(&versions, found.and_then(|found| found.version()))?)
        }
    }
}

/// What the headers of a write require.
enum Required {
    Condition(Condition),
    /// The document is at one of these versions.
    OneOf(Vec<Version>),
}

fn required(headers: &HeaderMap) -> Result<Required, Failed> {
    let absent = match read(headers, &IF_NONE_MATCH)? {
        None => false,
        Some(Tags::Any) => true,
        Some(Tags::Listed(_)) => {
            return Err(Failed::Malformed("on a write, If-None-Match must be *"));
        }
    };
    let tags = match (read(headers, &IF_MATCH)?, absent) {
        (None, true) => return Ok(Required::Condition(Condition::Absent)),
        (None, false) => return Ok(Required::Condition(Condition::None)),
        (Some(_), true) => return Err(Failed::Mismatch(None)),
        (Some(Tags::Any), false) => return Ok(Required::Condition(Condition::Exists)),
        (Some(Tags::Listed(tags)), false) => tags,
    };
    let strong: Vec<Version> = tags
        .into_iter()
        .filter(|tag| !tag.weak)
        .filter_map(|tag| tag.version)
        .collect();
    Ok(match strong.as_slice() {
        [only] => Required::Condition(Condition::Version(*only)),
        _ => Required::OneOf(strong),
    })
}

/// Checks the condition of a write against the stored document.
///
/// # Errors
/// [`UserConditionError::Mismatch`].
pub(in crate::http) fn check(
    condition: Condition,
    stored: Option<&Found>,
) -> Result<(), UserConditionError> {
    let current = stored.and_then(Found::version);
    let holds = match condition {
        Condition::None => true,
        Condition::Version(version) => current == Some(version),
        Condition::Exists => stored.is_some(),
        Condition::Absent => stored.is_none(),
    };
    holds
        .then_some(())
        .ok_or(UserConditionError::Mismatch(current))
}

/// The one of several versions that the document is at; the write is guarded by it.
fn one_of(versions: &[Version], current: Option<Version>) -> Result<Condition, Failed> {
    match current {
        Some(version) if versions.contains(&version) => Ok(Condition::Version(version)),
        Some(_) | None => Err(Failed::Mismatch(current)),
    }
}

impl Tags {
    fn any(&self, matches: impl Fn(&Tag) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(matches),
        }
    }
}

/// The header as one list, over all its lines; `None` where it is not sent.
fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Failed> {
    let malformed = || Failed::Malformed("If-Match and If-None-Match must be * or quoted ETags");
    let mut tags = Vec::new();
    let mut any = false;
    let mut sent = false;
    for line in headers.get_all(name) {
        sent = true;
        let mut rest = line.to_str().map_err(|_| malformed())?.trim();
        while !rest.is_empty() {
            // Empty elements of a list are ignored (RFC 9110, section 5.6.1.2).
            if let Some(after) = rest.strip_prefix(',') {
                rest = after.trim_start();
                continue;
            }
            if let Some(after) = rest.strip_prefix('*') {
                any = true;
                rest = after;
            } else {
                let (tag, after) = tag(rest).ok_or_else(malformed)?;
                tags.push(tag);
                rest = after;
            }
            rest = match rest.trim_start().strip_prefix(',') {
                Some(after) => after.trim_start(),
                None if rest.trim().is_empty() => "",
                None => return Err(malformed()),
            };
        }
    }
    match (sent, any, tags.is_empty()) {
        (false, _, _) => Ok(None),
        (true, true, true) => Ok(Some(Tags::Any)),
        (true, false, false) => Ok(Some(Tags::Listed(tags))),
        (true, true, false) | (true, false, true) => Err(malformed()),
    }
}

/// The ETag at the front, and what follows it.
fn tag(text: &str) -> Option<(Tag, &str)> {
    let strong = text.strip_prefix("W/");
    let opaque = strong.unwrap_or(text).strip_prefix('"')?;
    let (opaque, after) = opaque.split_once('"')?;
    let digits = opaque.bytes().all(|b| b.is_ascii_digit()) && !opaque.starts_with('0');
    let version = opaque
        .parse()
        .ok()
        .filter(|_| digits)
        .and_then(Version::new);
    let weak = strong.is_some();
    Some((Tag { version, weak }, after))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use rstest::rstest;

    use super::*;

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    fn numbers(lines: &[&str]) -> Option<Vec<(i64, bool)>> {
        match read(&headers(&IF_MATCH, lines), &IF_MATCH) {
            Ok(Some(Tags::Listed(tags))) => Some(
                tags.into_iter()
                    .map(|tag| (tag.version.map_or(0, Version::get), tag.weak))
                    .collect(),
            ),
            Ok(_) | Err(_) => None,
        }
    }

    #[rstest]
    #[case(&["\"7\""], &[(7, false)])]
    #[case(&["W/\"7\""], &[(7, true)])]
    #[case(&["\"7\", \"8\"", " \"9\" "], &[(7, false), (8, false), (9, false)])]
    #[case(&["\"7\",,"], &[(7, false)])]
    #[case(&[", ,\"7\" , ,W/\"8\","], &[(7, false), (8, true)])]
    #[case(&["", "\"7\""], &[(7, false)])]
    #[case(&[","], &[])]
    #[case(&["\"\""], &[(0, false)])]
    #[case(&["\"abc\""], &[(0, false)])]
    #[case(&["\"07\""], &[(0, false)])]
    #[case(&["\"+7\""], &[(0, false)])]
    #[case(&["\"99999999999999999999\""], &[(0, false)])]
    #[case(&["7"], &[])]
    #[case(&["\"7"], &[])]
    #[case(&["\"7\" \"8\""], &[])]
    #[case(&["w/\"7\""], &[])]
    #[case(&["*, \"7\""], &[])]
    #[case(&[""], &[])]
    fn lists_of_etags_are_read_as_the_rfc_says(
        #[case] lines: &[&str],
        #[case] expected: &[(i64, bool)],
    ) {
        let expected = (!expected.is_empty()).then(|| expected.to_vec());
        assert_eq!(numbers(lines), expected);
    }

    #[rstest]
    #[case(IF_NONE_MATCH, "\"7\"", Ok(ConditionalRead::NotModified))]
    #[case(IF_NONE_MATCH, "W/\"7\"", Ok(ConditionalRead::NotModified))]
    #[case(IF_NONE_MATCH, "*", Ok(ConditionalRead::NotModified))]
    #[case(IF_NONE_MATCH, "\"8\"", Ok(ConditionalRead::Send))]
    #[case(IF_MATCH, "\"7\"", Ok(ConditionalRead::Send))]
    #[case(IF_MATCH, "*", Ok(ConditionalRead::Send))]
    #[case(IF_MATCH, "W/\"7\"", Err(()))]
    #[case(IF_MATCH, "\"8\"", Err(()))]
    fn reads_are_conditional(
        #[case] name: HeaderName,
        #[case] value: &str,
        #[case] expected: Result<ConditionalRead, ()>,
    ) {
        let read = of_read(&headers(&name, &[value]), Version::new(7));
        assert_eq!(read.map_err(|_| ()), expected);
    }

    #[test]
    fn a_document_without_a_version_matches_no_etag() {
        let headers = headers(&IF_NONE_MATCH, &["\"abc\""]);
        assert_eq!(of_read(&headers, None), Ok(ConditionalRead::Send));
    }
}
