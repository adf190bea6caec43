//! A database of the predecessor: every collection, id form, date form, duplicate, malformed document and secret
//! that is known of it, and what an import makes of each document.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use tierkeep_core::bson;

/// Starts every secret in these documents and nothing else.
pub const SECRET: &str = "gho_legacy_secret";

/// How many people come before the forms repeat.
pub const FORMS: u32 = 40;

/// What becomes of a document.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Becomes {
    /// Its content is stored.
    Imported,
    /// A newer one of the same user is.
    Merged,
    /// A rule leaves it out.
    Skipped,
    /// It is imported as nothing.
    Refused,
}

/// One document.
#[derive(Clone, PartialEq, Debug)]
pub struct LegacyDocument {
    /// Its collection.
    pub collection: &'static str,
    /// The document.
    pub document: Document,
    /// What becomes of it.
    pub becomes: Becomes,
}

/// What the documents of one person are made of.
#[derive(Clone, Copy, Debug)]
struct Person {
    n: u32,
    now: DateTime,
    /// About the size of a scan, in bytes.
    size: usize,
}

/// The documents of person `n`, the scans of about `size` bytes; some are younger than a day at `now`.
pub fn person(n: u32, size: usize, now: DateTime) -> Vec<LegacyDocument> {
    let person = Person { n, now, size };
    match n % 10 {
        0 => person.external_by_id(),
        1 => person.external_by_name(),
        2 => person.analysed(),
        3 => person.internal_by_id(),
        4 => person.internal_by_login(),
        5 => person.joined("internal_users", "username"),
        6 => person.joined("internal_scan_cache", "email"),
        7 => person.young(),
        8 => person.malformed(),
        _ => person.hr(),
    }
}

impl Person {
    fn login(self) -> String {
        format!("User-{}", self.n)
    }

    fn subject(self) -> String {
        format!("{:024x}", 0x5000_0000 + self.n)
    }

    fn id(self, nth: u8) -> ObjectId {
        let [a, b, c, d] = self.n.to_be_bytes();
        ObjectId::from_bytes([0x66, 1, a, b, c, d, nth, 0, 0, 0, 0, 1])
    }

    /// A time of long ago, an hour after another for each `hours`.
    fn at(self, hours: i64) -> DateTime {
        DateTime::from_millis(1_735_700_000_000 + i64::from(self.n) * 1_000 + hours * 3_600_000)
    }

    /// The same, in each form in use.
    fn written(self, hours: i64) -> Bson {
        let at = self.at(hours);
        let text = at.try_to_rfc3339_string().unwrap_or_default();
        match self.n / 10 % 4 {
            0 => at.into(),
            1 => text.trim_end_matches('Z').into(),
            2 => text.into(),
            _ => {
                let later = DateTime::from_millis(at.timestamp_millis() + 19_800_000);
                let later = later.try_to_rfc3339_string().unwrap_or_default();
                format!("{}+05:30", later.trim_end_matches('Z')).into()
            }
        }
    }

    fn scan(self, nth: u8, more: Document) -> Document {
        let mut scan = doc! {
            "_id": self.id(nth), "scan_id": format!("scan-{}", self.n), "username": self.login(),
            "scan_date": self.written(i64::from(nth)), "scanDate": "2025-01-01T08:00:00",
            "created_at": "2009-01-01T00:00:00Z", "updated_at": "2030-01-01T00:00:00Z",
            "userId": self.login(), "bio": "😀", "languages": { "Rust": 7_i64, "Token": 1 },
            "overallScore": 61.5, "github_token": format!("{SECRET}_{}", self.n),
            "session": { "refresh_token": format!("{SECRET}_{}_deep", self.n) },
        };
        let text = "0123456789abcdef".repeat(16);
        let repositories = (0..self.size / 300).map(|n| {
            Bson::from(doc! { "name": format!("r{n}"), "readme": text.as_str(), "stars": 3_i64 })
        });
        scan.insert("repositories", repositories.collect::<Vec<_>>());
        scan.extend(more);
        scan
    }

    fn progress(self, nth: u8, more: Document) -> Document {
        let mut progress = doc! {
            "_id": self.id(nth), "analysis_id": format!("a{}", self.n), "username": self.login(),
            "status": "complete", "current_phase": "done", "progress": { "percentage": 100 },
            "created_at": self.at(0), "updated_at": self.at(i64::from(nth)),
        };
        progress.extend(more);
        progress
    }

    fn account(self) -> LegacyDocument {
        skipped(
            "users",
            doc! {
                "_id": ObjectId::parse_str(self.subject()).unwrap_or_default(),
                "email": format!("Person{}@Example.org", self.n), "github_username": self.login(),
                "github_token": format!("{SECRET}_{}_account", self.n), "user_type": "internal",
            },
        )
    }

    fn external_by_id(self) -> Vec<LegacyDocument> {
        let id = format!("external_{}", self.login());
        let scan = self.scan(1, doc! { "user_id": id.as_str(), "user_type": "internal" });
        let progress = self.progress(2, doc! { "user_id": id });
        vec![
            imported("fast_scan_cache", scan),
            imported("external_analysis_progress", progress),
        ]
    }

    fn external_by_name(self) -> Vec<LegacyDocument> {
        let fields = doc! {
            "user_id": self.login(), "storage_location": "EXTERNAL_DATABASE", "overallScore": 78.5,
            "activityScore": 82, "a": 75, "b": 80, "c": 77,
        };
        let older = self.scan(1, fields.clone());
        let rankings = doc! { "_id": self.id(9), "github_username": self.login(), "rank": 1 };
        vec![
            merged("external_users", older),
            imported("external_scan_cache", self.scan(2, fields)),
            skipped("user_rankings", rankings),
        ]
    }

    fn analysed(self) -> Vec<LegacyDocument> {
        let deep = doc! {
            "username": "", "github_username": self.login(), "document_type": "deep_analysis_results",
            "is_latest_analysis": true, "analysis_id": "a",
        };
        vec![
            imported("fast_scan_cache", self.scan(1, deep)),
            merged("fast_scan_cache", self.scan(2, doc! {})),
        ]
    }

    fn internal_by_id(self) -> Vec<LegacyDocument> {
        let id = format!("internal_{}", self.subject());
        let fields = doc! { "user_id": id.as_str(), "user_type": "external" };
        let details =
            doc! { "_id": self.id(9), "github_username": self.login(), "email": "x@example.org" };
        vec![
            imported("internal_scan_cache", self.scan(1, fields)),
            merged(
                "analysis_progress",
                self.progress(1, doc! { "user_id": id.as_str() }),
            ),
            imported("analysis_states", self.progress(2, doc! { "user_id": id })),
            skipped("user_details", details),
        ]
    }

    fn internal_by_login(self) -> Vec<LegacyDocument> {
        let fields = doc! {
            "user_id": format!("person{}", self.n), "email": format!("person{}@example.org", self.n),
            "authenticated_user_id": self.subject(), "storage_location": "INTERNAL_DB",
        };
        vec![
            merged("internal_scan_cache", self.scan(1, fields.clone())),
            imported("internal_scan_cache", self.scan(3, fields.clone())),
            merged("internal_scan_cache", self.scan(2, fields.clone())),
            imported("internal_analysis_progress", self.progress(4, fields)),
        ]
    }

    fn joined(self, collection: &'static str, by: &str) -> Vec<LegacyDocument> {
        let mut fields = doc! { "user_id": format!("person{}", self.n), "user_type": "internal" };
        if by == "email" {
            fields.extend(doc! {
                "username": "", "userId": "", "email": format!("person{}@example.org", self.n),
            });
        }
        vec![
            self.account(),
            imported(collection, self.scan(1, fields.clone())),
            imported(collection, self.progress(2, fields)),
        ]
    }

    fn young(self) -> Vec<LegacyDocument> {
        let since = DateTime::from_millis(self.now.timestamp_millis() - 3_600_000);
        let fields = doc! { "user_id": format!("internal_{}", self.subject()), "scan_date": since };
        vec![imported("internal_users", self.scan(1, fields))]
    }

    fn malformed(self) -> Vec<LegacyDocument> {
        let (collection, fields) = match self.n / 10 % 4 {
            0 => (
                "fast_scan_cache",
                doc! { "user_id": format!("external_no.body{}", self.n) },
            ),
            1 => (
                "internal_users",
                doc! { "user_id": format!("lost{}", self.n) },
            ),
            2 => (
                "external_users",
                doc! { "storage_location": "HR_COLLECTION" },
            ),
            _ => (
                "fast_scan_cache",
                doc! {
                    "_id": format!("undated{}", self.n), "scan_date": "soon", "scanDate": Bson::Null,
                },
            ),
        };
        vec![refused(collection, self.scan(1, fields))]
    }

    fn hr(self) -> Vec<LegacyDocument> {
        const COLLECTIONS: [&str; 4] =
            ["hr_candidates", "hr_evaluations", "hr_reports", "hr_users"];
        let collection = COLLECTIONS[self.n as usize / 10 % 4];
        let record = doc! {
            "_id": self.id(1), "name": self.login(), "created_at": self.written(1), "metadata": { "a": 1 },
            "password": format!("{SECRET}_{}_hr", self.n),
        };
        let wrong = doc! { "_id": format!("not a record {}", self.n), "name": "x" };
        vec![
            imported(collection, record),
            refused(collection, wrong),
            skipped("hr_view", doc! { "_id": self.id(2) }),
            skipped("notes_of_somebody", doc! { "_id": self.id(3), "x": 1 }),
        ]
    }
}

fn imported(collection: &'static str, document: Document) -> LegacyDocument {
    LegacyDocument {
        collection,
        document,
        becomes: Becomes::Imported,
    }
}

fn merged(collection: &'static str, document: Document) -> LegacyDocument {
    LegacyDocument {
        becomes: Becomes::Merged,
        ..imported(collection, document)
    }
}

fn skipped(collection: &'static str, document: Document) -> LegacyDocument {
    LegacyDocument {
        becomes: Becomes::Skipped,
        ..imported(collection, document)
    }
}

fn refused(collection: &'static str, document: Document) -> LegacyDocument {
    LegacyDocument {
        becomes: Becomes::Refused,
        ..imported(collection, document)
    }
}
