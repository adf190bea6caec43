//! Walking the chain: every entry once, in the order of its place, in bounded memory.

use std::collections::BTreeMap;
use std::fmt;

use bson::raw::RawDocument;
use serde::Serialize;

use super::entry::{AuditKey, AuditKind, Draft, Entry, Mac, audit_field};
use crate::document;

/// The most violations that are reported; the rest is counted.
const TOLD: usize = 100;

/// Where a trail ends: how many entries were ever written, and the hash of the last. As a text it is the
/// count, a colon, and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The place of the last entry; 0 before the first.
    pub count: i64,
    /// Its hash.
    pub hash: Mac,
}

impl Head {
    /// Where an empty trail ends.
    pub const EMPTY: Self = Self {
        count: 0,
        hash: Mac::NONE,
    };

    /// The head with this text.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, hash) = text.trim().split_once(':')?;
        let count = count.parse().ok().filter(|count| *count >= 0)?;
        Some(Self {
            count,
            hash: Mac::parse(hash)?,
        })
    }

    /// The entry for `draft` behind it.
    pub fn then(self, draft: Draft, key: &AuditKey) -> Entry {
        draft.chained(self.count.saturating_add(1), self.hash, key)
    }

    /// What a checkpoint says that pruned everything up to here.
    pub fn checkpoint(self) -> String {
        format!("pruned through {self}")
    }

    fn of_checkpoint(entry: &Entry) -> Option<Self> {
        if entry.kind() != AuditKind::Checkpoint {
            return None;
        }
        Self::parse(entry.reason()?.strip_prefix("pruned through ")?)
    }
}

impl From<&Entry> for Head {
    fn from(entry: &Entry) -> Self {
        Self {
            count: entry.seq,
            hash: entry.hash,
        }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.count, self.hash)
    }
}

/// What is wrong with a trail, and at which places.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Violation {
    /// There are no entries at these places.
    Missing {
        /// The first place without an entry.
        from: i64,
        /// The last.
        to: i64,
    },
    /// It is not what was written, or was written with another key.
    Altered {
        /// Its place.
        seq: i64,
    },
    /// It does not follow from the one before it: one of the two was moved or put there.
    Unlinked {
        /// Its place.
        seq: i64,
    },
    /// A document that claims a place which is not its own.
    Displaced {
        /// Its `_id`.
        id: String,
        /// The place that it claims, where it claims one.
        seq: Option<i64>,
    },
    /// The trail ends before the head that was noted.
    CutOff {
        /// Where it ends.
        ends_at: i64,
        /// Where it ended once.
        noted: i64,
    },
    /// The entry at the head that was noted has another hash.
    Rewritten {
        /// Its place.
        seq: i64,
    },
}

impl Violation {
    fn place(&self) -> i64 {
        match self {
            Self::Missing { from, .. } => *from,
            Self::Altered { seq } | Self::Unlinked { seq } | Self::Rewritten { seq } => *seq,
            Self::Displaced { seq, .. } => seq.unwrap_or(i64::MAX),
            Self::CutOff { ends_at, .. } => *ends_at,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { from, to } if from == to => write!(f, "entry {from} is missing"),
            Self::Missing { from, to } => write!(f, "entries {from} to {to} are missing"),
            Self::Altered { seq } => {
                write!(
                    f,
                    "entry {seq} was changed, or written with a different key"
                )
            }
            Self::Unlinked { seq } => {
                write!(f, "entry {seq} does not follow the previous entry")
            }
            Self::Displaced { id, seq: Some(seq) } => {
                write!(
                    f,
                    "the document {id} has the sequence number of entry {seq}"
                )
            }
            Self::Displaced { id, seq: None } => write!(f, "the document {id} is not an entry"),
            Self::CutOff { ends_at, noted } => write!(
                f,
                "the trail ends at entry {ends_at}, but the recorded head is entry {noted}"
            ),
            Self::Rewritten { seq } => {
                write!(f, "entry {seq} does not have the recorded hash")
            }
        }
    }
}

/// How a walk judges a trail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is wrong.
    Whole,
    /// Something is.
    Broken,
}

/// What a walk found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Found {
    /// Whether anything is wrong.
    pub verdict: Verdict,
    /// How many entries there are.
    pub entries: u64,
    /// Where the trail ends; see [`Head`].
    #[serde(serialize_with = "as_text")]
    pub head: Head,
    /// The last place that was pruned; 0 where none was.
    pub pruned_through: i64,
    /// Whether a noted head was compared. One that was pruned since cannot be.
    pub compared: bool,
    /// What is wrong, by place; at most a hundred.
    pub violations: Vec<Violation>,
    /// How many more.
    pub more: u64,
}

fn as_text<S: serde::Serializer>(head: &Head, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(head)
}

/// A walk along a trail. Give it every document in the order of `_id`.
#[derive(Debug)]
pub struct Verifier {
    key: AuditKey,
    noted: Option<Head>,
    last: Last,
    /// Runs of places without an entry: the last of each, the first, and what the next entry takes for the hash
    /// of the one before it, where it can be believed.
    gaps: BTreeMap<i64, (i64, Option<Mac>)>,
    /// Up to where checkpoints say that everything was pruned, and the hash of the last that was.
    checkpoints: BTreeMap<i64, Mac>,
    noted_is: Option<Mac>,
    entries: u64,
    violations: Vec<Violation>,
    more: u64,
}

/// The place before, and the hashes that the next entry may name: the one it claims, and the one it should
/// have. `None` where the entry there is unknown.
#[derive(Clone, Copy, Debug)]
struct Last {
    seq: i64,
    hashes: Option<(Mac, Mac)>,
}

impl Verifier {
    /// A walk under this key, to be compared with a head that was noted once.
    pub fn new(key: AuditKey, noted: Option<Head>) -> Self {
        Self {
            key,
            noted,
            last: Last {
                seq: 0,
                hashes: Some((Mac::NONE, Mac::NONE)),
            },
            gaps: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            noted_is: None,
            entries: 0,
            violations: Vec::new(),
            more: 0,
        }
    }

    /// Looks at the next document.
    pub fn next(&mut self, document: &RawDocument) {
        self.entries += 1;
        let id = document::id(document);
        // Two `_id`s of different types may stand for one place.
        let place = id.as_i64().filter(|place| *place > self.last.seq);
        let Some(seq) = place else {
            return self.tell(displaced(document));
        };
        let entry = Entry::read(document);
        let from = self.last.seq + 1;
        if from < seq {
            let prev = entry.as_ref().map(|entry| entry.prev);
            self.gaps.insert(seq - 1, (from, prev));
        }
        let before = std::mem::replace(&mut self.last, Last { seq, hashes: None });
        let Some(entry) = entry else {
            let claimed = document.get_i64(audit_field::SEQ).ok();
            return self.tell(match claimed {
                Some(claimed) if claimed != seq => displaced(document),
                Some(_) | None => Violation::Altered { seq },
            });
        };
        let own = entry.expected_hash(&self.key);
        self.last.hashes = Some((entry.hash, own));
        if self.noted.is_some_and(|noted| noted.count == seq) {
            self.noted_is = Some(entry.hash);
        }
        if own != entry.hash {
            return self.tell(Violation::Altered { seq });
        }
        if from == seq
            && let Some((claimed, should)) = before.hashes
            && entry.prev != claimed
            && entry.prev != should
        {
            self.tell(Violation::Unlinked { seq });
        }
        if let Some(pruned) = Head::of_checkpoint(&entry) {
            self.checkpoints.insert(pruned.count, pruned.hash);
        }
    }

    /// What the walk found.
    pub fn finish(mut self) -> Found {
        let head = Head {
            count: self.last.seq,
            hash: self.last.hashes.map_or(Mac::NONE, |(claimed, _)| claimed),
        };
        let pruned_through = self.checkpoints.keys().last().copied().unwrap_or(0);
        for (to, (from, prev)) in std::mem::take(&mut self.gaps) {
            if to > pruned_through {
                let from = from.max(pruned_through + 1);
                self.tell(Violation::Missing { from, to });
            } else if let Some(prev) = prev
                && self.checkpoints.get(&to).is_some_and(|hash| *hash != prev)
            {
                self.tell(Violation::Unlinked { seq: to + 1 });
            }
        }
        let mut compared = false;
        if let Some(noted) = self.noted {
            let is = match self.noted_is {
                _ if noted == Head::EMPTY => Some(Mac::NONE),
                Some(hash) => Some(hash),
                None => self.checkpoints.get(&noted.count).copied(),
            };
            compared = is.is_some() || noted.count > head.count;
            if is.is_some_and(|is| is != noted.hash) {
                self.tell(Violation::Rewritten { seq: noted.count });
            } else if is.is_none() && noted.count > head.count {
                self.tell(Violation::CutOff {
                    ends_at: head.count,
                    noted: noted.count,
                });
            }
        }
        self.violations.sort_by_key(Violation::place);
        Found {
            verdict: if self.violations.is_empty() {
                Verdict::Whole
            } else {
                Verdict::Broken
            },
            entries: self.entries,
            head,
            pruned_through,
            compared,
            violations: self.violations,
            more: self.more,
        }
    }

    fn tell(&mut self, violation: Violation) {
        if self.violations.len() < TOLD {
            self.violations.push(violation);
        } else {
            self.more += 1;
        }
    }
}

fn displaced(document: &RawDocument) -> Violation {
    Violation::Displaced {
        id: document::id(document).into_relaxed_extjson().to_string(),
        seq: document.get_i64(audit_field::SEQ).ok(),
    }
}

#[cfg(test)]
mod tests;
