//! Users that several documents of one file claim: nothing determines which of them counts, so none is imported.
//!
//! Of every document a few bytes are kept while a file is read, and only if a user occurs twice, the file is read once
//! more.

use std::collections::{BTreeMap, HashMap, HashSet};

use tierkeep_core::bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::digest;
use tierkeep_core::document::{self, State};

/// The most documents that a refusal names.
const NAMED_MAX: usize = 5;

type UserHash = [u8; 16];

/// The user that a document claims; none where it is an entry or a tombstone, beside which another may stand.
fn claimed(document: &RawDocument) -> Option<&str> {
    let counts = document::state(document).is_none_or(|state| state == State::Live);
    document::user_id(document).filter(|_| counts)
}

fn hash(user: &str) -> UserHash {
    let mut short = UserHash::default();
    let hash = blake3::hash(user.as_bytes());
    for (byte, whole) in short.iter_mut().zip(hash.as_bytes()) {
        *byte = *whole;
    }
    short
}

/// The users of a file, while it is read for the first time.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    once: HashSet<UserHash>,
    again: HashSet<UserHash>,
}

impl Seen {
    pub(crate) fn note(&mut self, document: &RawDocument) {
        if let Some(user) = claimed(document).map(hash)
            && !self.once.insert(user)
        {
            self.again.insert(user);
        }
    }

    /// Whether the file must be read once more.
    pub(crate) fn is_twice(&self) -> bool {
        !self.again.is_empty()
    }
}

/// A claim on a user who occurs twice.
#[derive(Debug)]
struct Claim {
    id: String,
    fingerprint: String,
    adopted_from: Option<String>,
}

/// The claims on users who occur twice, while a file is read for the second time.
#[derive(Debug)]
pub(crate) struct Claims {
    seen: Seen,
    claims: BTreeMap<String, Vec<Claim>>,
}

/// What is not to be imported of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Contested {
    /// Users that several documents claim, and why none of these is imported.
    pub(crate) users: HashMap<String, String>,
    /// The fingerprints of documents that another one of the file was adopted from.
    pub(crate) adopted: HashSet<String>,
}

impl Claims {
    pub(crate) fn of(seen: Seen) -> Self {
        Self {
            seen,
            claims: BTreeMap::new(),
        }
    }

    pub(crate) fn note(&mut self, document: &RawDocumentBuf) {
        let Some(user) = claimed(document).filter(|user| self.seen.again.contains(&hash(user)))
        else {
            return;
        };
        let claims = self.claims.entry(user.to_owned()).or_default();
        claims.push(Claim {
            id: tierkeep_core::content::show(document::id(document)).to_string(),
            fingerprint: digest::fingerprint(document),
            adopted_from: document::adopted_from(document).map(ToOwned::to_owned),
        });
    }

    /// A document and the one it was adopted from are one claim: an adoption was at work during the dump.
    pub(crate) fn settled(self) -> Contested {
        let mut contested = Contested::default();
        for (user, claims) in self.claims {
            let (origins, others): (Vec<&Claim>, Vec<&Claim>) = claims.iter().partition(|claim| {
                let is_from =
                    |other: &Claim| other.adopted_from.as_ref() == Some(&claim.fingerprint);
                claims.iter().any(is_from)
            });
            contested
                .adopted
                .extend(origins.into_iter().map(|claim| claim.fingerprint.clone()));
            if others.len() > 1 {
                let ids = others.iter().take(NAMED_MAX).map(|claim| claim.id.as_str());
                let ids: Vec<&str> = ids.collect();
                let reason = format!(
                    "{} documents of the dump claim this user, with the _ids {}; none of them is imported",
                    others.len(),
                    ids.join(", "),
                );
                contested.users.insert(user, reason);
            }
        }
        contested
    }
}
