//! One entry of the trail, before and after it has its place.

use std::fmt;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, DateTime, doc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::brief::brief;
use crate::content::rfc3339;
use crate::db::Role;
use crate::user::UserId;

/// Sets the hashes of the trail apart from everything else under the same key.
const DOMAIN: &[u8] = b"tierkeep audit trail 1";

/// The names of an entry's fields, in the order in which they are stored.
pub mod audit_field {
    /// Its place, from 1; also its `_id`.
    pub const SEQ: &str = "seq";
    /// The id under which it was written down first; no two entries have the same.
    pub const ENTRY_ID: &str = "entry_id";
    /// When it happened.
    pub const AT: &str = "at";
    /// See [`super::AuditKind`].
    pub const KIND: &str = "kind";
    /// The user that it concerns.
    pub const USER_ID: &str = "user_id";
    /// Who did it.
    pub const ACTOR: &str = "actor";
    /// What was decided or done.
    pub const DECISION: &str = "decision";
    /// Why.
    pub const REASON: &str = "reason";
    /// The request that it came with.
    pub const REQUEST_ID: &str = "request_id";
    /// The database that it is about.
    pub const DATABASE: &str = "database";
    /// The hash of the entry before.
    pub const PREV: &str = "prev";
    /// Its own hash.
    pub const HASH: &str = "hash";
}

/// What an entry is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// Which user a caller was taken for.
    Decision,
    /// A user was erased.
    Erasure,
    /// An administrator told the mover something.
    AdminAction,
    /// An HR record was changed.
    HrAction,
    /// Documents were restored from the backup.
    Restore,
    /// Documents from elsewhere were imported.
    Import,
    /// A move was given up.
    FailedMove,
    /// What came before was pruned.
    Checkpoint,
}

impl AuditKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Decision,
        Self::Erasure,
        Self::AdminAction,
        Self::HrAction,
        Self::Restore,
        Self::Import,
        Self::FailedMove,
        Self::Checkpoint,
    ];

    /// The text as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Erasure => "erasure",
            Self::AdminAction => "admin_action",
            Self::HrAction => "hr_action",
            Self::Restore => "restore",
            Self::Import => "import",
            Self::FailedMove => "failed_move",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// The kind with this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The key of the chain.
#[derive(Clone)]
pub struct AuditKey(Hmac<Sha256>);

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey")
    }
}

impl AuditKey {
    /// A key of these secret bytes.
    pub fn new(secret: &[u8]) -> Self {
        match Hmac::new_from_slice(secret) {
            Ok(key) => Self(key),
            // HMAC takes keys of any length.
            Err(_) => Self(Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default())),
        }
    }
}

/// A hash of the chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mac([u8; 32]);

impl Mac {
    /// What the first entry carries as the hash of the one before it.
    pub const NONE: Self = Self([0; 32]);

    /// The hash with these 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let hash = blake3::Hash::from_hex(text).ok().filter(|_| lower)?;
        Some(Self(*hash.as_bytes()))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

/// An entry that has no place in the trail yet. As JSON it is a line of a spool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// No two entries have the same, so that one that is written twice is kept once.
    pub entry_id: String,
    /// When it happened, in milliseconds since 1970.
    at: i64,
    kind: AuditKind,
    user_id: Option<String>,
    actor: Option<String>,
    decision: Option<String>,
    reason: Option<String>,
    request_id: Option<String>,
    database: Option<String>,
}

impl Draft {
    /// Something of this kind that happened at this time.
    pub fn new(entry_id: String, kind: AuditKind, at: DateTime) -> Self {
        Self {
            entry_id,
            at: at.timestamp_millis(),
            kind,
            user_id: None,
            actor: None,
            decision: None,
            reason: None,
            request_id: None,
            database: None,
        }
    }

    /// An id that two who draft the same thing agree on.
    pub fn id_of(parts: &[&str]) -> String {
        let mut hash = blake3::Hasher::new();
        for part in parts {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            hash.update(&length.to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().to_hex().as_str().to_owned()
    }

    /// It concerns this user.
    #[must_use]
    pub fn about(mut self, user: Option<&UserId>) -> Self {
        self.user_id = user.map(|user| user.as_str().to_owned());
        self
    }

    /// This is who did it.
    #[must_use]
    pub fn by(mut self, actor: Option<&str>) -> Self {
        self.actor = actor.map(brief);
        self
    }

    /// This was decided or done.
    #[must_use]
    pub fn decided(mut self, decision: &str) -> Self {
        self.decision = Some(brief(decision));
        self
    }

    /// This is why.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.reason = Some(brief(reason));
        self
    }

    /// It came with this request.
    #[must_use]
    pub fn within(mut self, request_id: Option<&str>) -> Self {
        self.request_id = request_id.map(brief);
        self
    }

    /// It is about this database.
    #[must_use]
    pub fn in_database(mut self, database: Option<Role>) -> Self {
        self.database = database.map(|role| role.name().to_owned());
        self
    }

    /// The entry after `head`.
    pub fn chained(self, seq: i64, prev: Mac, key: &AuditKey) -> Entry {
        let hash = mac(&self, seq, prev, key);
        Entry {
            seq,
            draft: self,
            prev,
            hash,
        }
    }
}

/// An entry of the trail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place, from 1.
    pub seq: i64,
    draft: Draft,
    /// The hash of the entry before it.
    pub prev: Mac,
    /// Its own hash.
    pub hash: Mac,
}

impl Entry {
    /// Reads a stored entry; `None` for what this crate would not have stored so, to the byte.
    pub fn read(document: &RawDocument) -> Option<Self> {
        let text = |name: &str| document.get_str(name).ok().map(str::to_owned);
        let entry = Self {
            seq: document.get_i64(audit_field::SEQ).ok()?,
            draft: Draft {
                entry_id: text(audit_field::ENTRY_ID)?,
                at: document
                    .get_datetime(audit_field::AT)
                    .ok()?
                    .timestamp_millis(),
                kind: AuditKind::parse(document.get_str(audit_field::KIND).ok()?)?,
                user_id: text(audit_field::USER_ID),
                actor: text(audit_field::ACTOR),
                decision: text(audit_field::DECISION),
                reason: text(audit_field::REASON),
                request_id: text(audit_field::REQUEST_ID),
                database: text(audit_field::DATABASE),
            },
            prev: Mac::parse(document.get_str(audit_field::PREV).ok()?)?,
            hash: Mac::parse(document.get_str(audit_field::HASH).ok()?)?,
        };
        let stored = entry.to_document()?;
        (stored.as_bytes() == document.as_bytes()).then_some(entry)
    }

    /// The entry as it is stored.
    pub fn to_document(&self) -> Option<RawDocumentBuf> {
        let Draft {
            entry_id,
            at,
            kind,
            user_id,
            actor,
            decision,
            reason,
            request_id,
            database,
        } = &self.draft;
        let text = |text: &Option<String>| text.clone().map_or(Bson::Null, Bson::String);
        let document = doc! {
            "_id": self.seq,
            audit_field::SEQ: self.seq,
            audit_field::ENTRY_ID: entry_id,
            audit_field::AT: DateTime::from_millis(*at),
            audit_field::KIND: kind.as_str(),
            audit_field::USER_ID: text(user_id),
            audit_field::ACTOR: text(actor),
            audit_field::DECISION: text(decision),
            audit_field::REASON: text(reason),
            audit_field::REQUEST_ID: text(request_id),
            audit_field::DATABASE: text(database),
            audit_field::PREV: self.prev.to_string(),
            audit_field::HASH: self.hash.to_string(),
        };
        RawDocumentBuf::try_from(&document).ok()
    }

    /// What it is about.
    pub fn kind(&self) -> AuditKind {
        self.draft.kind
    }

    /// The user that it is about.
    pub fn user_id(&self) -> Option<&str> {
        self.draft.user_id.as_deref()
    }

    /// What was decided or done.
    pub fn decision(&self) -> Option<&str> {
        self.draft.decision.as_deref()
    }

    /// Why, or with what.
    pub fn reason(&self) -> Option<&str> {
        self.draft.reason.as_deref()
    }

    /// When it happened.
    pub fn at(&self) -> DateTime {
        DateTime::from_millis(self.draft.at)
    }

    /// The hash that it has if it was not changed.
    pub fn expected_hash(&self, key: &AuditKey) -> Mac {
        mac(&self.draft, self.seq, self.prev, key)
    }
}

impl Serialize for Entry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            seq: i64,
            at: String,
            kind: AuditKind,
            user_id: &'a Option<String>,
            actor: &'a Option<String>,
            decision: &'a Option<String>,
            reason: &'a Option<String>,
            request_id: &'a Option<String>,
            database: &'a Option<String>,
            prev: Mac,
            hash: Mac,
        }
        let draft = &self.draft;
        Shown {
            seq: self.seq,
            at: rfc3339(self.at()),
            kind: draft.kind,
            user_id: &draft.user_id,
            actor: &draft.actor,
            decision: &draft.decision,
            reason: &draft.reason,
            request_id: &draft.request_id,
            database: &draft.database,
            prev: self.prev,
            hash: self.hash,
        }
        .serialize(serializer)
    }
}

/// Every field with its length, absent ones distinguished from empty ones, so that no two entries look alike.
fn mac(draft: &Draft, seq: i64, prev: Mac, key: &AuditKey) -> Mac {
    let mut mac = key.0.clone();
    mac.update(DOMAIN);
    mac.update(&seq.to_be_bytes());
    mac.update(&draft.at.to_be_bytes());
    update(&mut mac, draft.entry_id.as_bytes());
    update(&mut mac, draft.kind.as_str().as_bytes());
    for text in [
        &draft.user_id,
        &draft.actor,
        &draft.decision,
        &draft.reason,
        &draft.request_id,
        &draft.database,
    ] {
        match text {
            None => mac.update(&[0]),
            Some(text) => {
                mac.update(&[1]);
                update(&mut mac, text.as_bytes());
            }
        }
    }
    mac.update(&prev.0);
    Mac(mac.finalize().into_bytes().into())
}

fn update(mac: &mut Hmac<Sha256>, bytes: &[u8]) {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    mac.update(&length.to_be_bytes());
    mac.update(bytes);
}
