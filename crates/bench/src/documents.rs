//! The documents that are moved: users in the shape of the mission's data structure, 4.4 kB on average with a
//! tail to 93 kB, the same on every machine and in every run.

use std::fmt::Write as _;

use bson::oid::ObjectId;
use bson::raw::{RawArrayBuf, RawDocumentBuf, cstr};
use bson::{DateTime, rawdoc};
use tierkeep_core::bson;
use tierkeep_core::document::{self, Edit, field};
use tierkeep_core::user::{Section, UserId};
use tierkeep_core::version::Version;

/// How many versions there are: users who wrote often have higher ones.
const VERSIONS: u64 = 7;
const WORDS: [&str; 24] = [
    "repository",
    "complexity",
    "maintains",
    "coverage",
    "dependency",
    "async",
    "handler",
    "documented",
    "tests",
    "refactor",
    "module",
    "service",
    "latency",
    "interface",
    "commit",
    "review",
    "pipeline",
    "deploy",
    "metric",
    "schema",
    "index",
    "query",
    "session",
    "parser",
];

/// A stream of numbers that follow from where it starts.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// The size that user number `n` aims at, in bytes: most have little, some have much.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a size to aim at"
)]
fn size_bytes(n: u64) -> usize {
    let rank = (Numbers(n ^ 0x51ce).next() >> 11) as f64 / (1_u64 << 53) as f64;
    let size = 1_820.0 * (1.0 - rank).powf(-0.62);
    size.min(92_500.0) as usize
}

/// The subject of user number `n`, as JWTs name it.
pub fn subject(n: u64) -> String {
    format!("{:024x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// User number `n`.
///
/// # Panics
/// Never: the subject is made of 24 hexadecimal digits.
pub fn user(n: u64) -> UserId {
    #[expect(clippy::unwrap_used, reason = "24 hexadecimal digits")]
    UserId::internal(&subject(n)).unwrap()
}

/// The live document of user number `n` in temp, staged at `staged_at`.
pub fn staged(n: u64, staged_at: DateTime) -> RawDocumentBuf {
    let mut numbers = Numbers(n);
    let version = 1 + numbers.below(VERSIONS) * numbers.below(2);
    sized(n, size_bytes(n), version, staged_at)
}

/// The same user as another program writes it in the mission's shape: with an `_id` of its own, dates as texts, and without a version.
pub fn foreign(n: u64, created_at: DateTime) -> RawDocumentBuf {
    let mut unique = [0x5f; 12];
    unique[4..].copy_from_slice(&n.to_be_bytes());
    let date = created_at.try_to_rfc3339_string().unwrap_or_default();
    Edit::new()
        .set(field::ID, ObjectId::from_bytes(unique))
        .set(field::CREATED_AT, date.as_str())
        .set(field::LAST_ACCESSED, date.as_str())
        .set(
            field::METADATA,
            rawdoc! { "storage_location": "RASEEN_TEMP", "backup_status": "pending" },
        )
        .apply(&staged(n, created_at))
}

/// As [`staged`], of about `size` bytes.
pub fn sized(n: u64, size: usize, version: u64, staged_at: DateTime) -> RawDocumentBuf {
    let mut numbers = Numbers(n ^ 0xd0c5);
    #[expect(clippy::unwrap_used, reason = "a section's name and a number above 0")]
    let (section, version) = (
        Section::parse("scan_cache").unwrap(),
        i64::try_from(version).ok().and_then(Version::new).unwrap(),
    );
    let scan = scan_cache(&mut numbers, size.saturating_sub(900), staged_at);
    let first = document::first(&user(n), &section, &scan, version, staged_at);
    let ops: RawArrayBuf = (0..version.get().min(8))
        .map(|v| rawdoc! { "id": format!("{:032x}", numbers.next()), "v": v + 1 })
        .collect();
    Edit::new()
        .set(
            "analysis_progress",
            rawdoc! {
                "status": "complete", "current_phase": "evaluated",
                "progress": { "total_repos": 9, "scored": 9, "percentage": 100.0 },
                "updated_at": staged_at,
            },
        )
        .set_meta(field::STAGED_AT, staged_at)
        .set_meta(field::OPS, ops)
        .apply(&first)
}

/// The predecessor's scan document of user number `n`, of about `size` bytes on average, written long ago.
pub fn legacy(n: u64, size: usize, internal: bool) -> RawDocumentBuf {
    let mut numbers = Numbers(n ^ 0x1e9a);
    let half = size / 2;
    let size = half + half * usize::try_from(numbers.below(3)).unwrap_or(1);
    let seconds = i64::try_from(n).unwrap_or(0);
    let at = DateTime::from_millis(1_600_000_000_000 + seconds * 1_000);
    let login = format!("user{n}");
    let (id, user_type) = if internal {
        (user(n).to_string(), "internal")
    } else {
        (format!("external_{login}"), "external")
    };
    let mut unique = [0x5f; 12];
    unique[4..].copy_from_slice(&n.to_be_bytes());
    Edit::new()
        .set(field::ID, ObjectId::from_bytes(unique))
        .set("scan_id", format!("scan-{n}"))
        .set("username", login.as_str())
        .set(field::USER_ID, id.as_str())
        .set(field::USER_TYPE, user_type)
        .set("created_at", "2015-01-01T00:00:00Z")
        .set("github_token", "a secret that is left behind")
        .apply(&scan_cache(&mut numbers, size.saturating_sub(400), at))
}

/// About `size` bytes of what a scan finds.
fn scan_cache(numbers: &mut Numbers, size: usize, at: DateTime) -> RawDocumentBuf {
    let mut scan = rawdoc! { "scan_date": at, "overallScore": 71.5, "activityScore": 40 };
    let mut repositories = RawArrayBuf::new();
    let mut bytes = scan.as_bytes().len();
    while bytes < size {
        let left = size - bytes;
        let repository = rawdoc! {
            "name": format!("{}-{}", word(numbers), numbers.below(1_000)),
            "stars": i64::try_from(numbers.below(5_000)).unwrap_or(0),
            "score": f64::from(u32::try_from(numbers.below(400)).unwrap_or(0)) / 4.0,
            "languages": { "Python": 5_120, "Rust": 812_i64 },
            "summary": text(numbers, left.min(700)),
        };
        bytes += repository.as_bytes().len() + 8;
        repositories.push(repository);
    }
    scan.append(cstr!("repositories"), repositories);
    scan
}

fn word(numbers: &mut Numbers) -> &'static str {
    let place = usize::try_from(numbers.below(WORDS.len() as u64)).unwrap_or(0);
    WORDS.get(place).copied().unwrap_or("word")
}

/// About `size` bytes of words and numbers, which compress about as well as people's sentences.
fn text(numbers: &mut Numbers, size: usize) -> String {
    let mut text = String::with_capacity(size + 16);
    while text.len() < size.saturating_sub(120) {
        text.push_str(word(numbers));
        let _ = write!(text, " {:x} ", numbers.below(1 << 20));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_4_4_kb_on_average_with_a_tail_to_93_kb() {
        let at = DateTime::from_millis(1_700_000_000_000);
        let sizes: Vec<usize> = (0..20_000)
            .map(|n| staged(n, at).as_bytes().len())
            .collect();
        let average = sizes.iter().sum::<usize>() / sizes.len();
        assert!((4_200..=4_600).contains(&average), "{average}");
        let largest = sizes.iter().max().copied().unwrap_or_default();
        assert!((88_000..=95_000).contains(&largest), "{largest}");
        assert!(sizes.iter().all(|size| *size > 800));
    }

    #[test]
    fn documents_are_the_same_in_every_run_and_natively_tierkeeps() {
        let at = DateTime::from_millis(1_700_000_000_000);
        assert_eq!(staged(7, at), staged(7, at));
        assert_ne!(staged(7, at), staged(8, at));
        assert!(document::is_native(&staged(7, at)));
        assert_eq!(document::staged_at(&staged(7, at)), Some(at));
    }
}
