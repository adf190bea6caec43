//! Planning: what is to be done with one document of temp.

use std::time::Duration;

use bson::DateTime;
use bson::raw::{RawDocument, RawDocumentBuf};

use super::item::{Item, Original};
use super::record::{Record, Status};
use crate::adopt::{self, Foreign, Quarantine};
use crate::clock;
use crate::digest::Digest;
use crate::document::{self, Edit, Location, State, field};
use crate::user::{UserId, UserType};
use crate::version::Version;

/// What one document of temp is, as far as the mover is concerned.
#[derive(Clone, PartialEq, Debug)]
pub enum Candidate {
    /// Its retention has passed: it moves.
    Due(Planned),
    /// Another program wrote it and its retention has passed: it moves as it would be adopted, or is adopted first.
    Adopt(Foreign),
    /// Its time has not come.
    Young,
    /// It is entering or erased: invisible to the mover.
    Hidden,
    /// It cannot be moved and must not be touched.
    Quarantine(Quarantine),
}

/// A document that is due, in the form in which main and srie will hold it.
#[derive(Clone, PartialEq, Debug)]
pub struct Planned {
    /// What the batch knows about it.
    pub item: Item,
    /// The copy, byte for byte.
    pub copy: RawDocumentBuf,
}

impl Planned {
    /// A document in its final form.
    fn of(document: &RawDocument, user: UserId, version: Version, staged_at: DateTime) -> Self {
        let digest = Digest::of(document);
        let copy = main_form(document, &digest);
        let record = Record::id_of(&user, version, staged_at);
        Self {
            item: Item {
                user,
                version,
                digest,
                size: u64::try_from(document.as_bytes().len()).unwrap_or(u64::MAX),
                record,
                original: None,
            },
            copy,
        }
    }

    /// A document of another program that moves under `version` without being adopted first: its copies are what they would
    /// be had it been adopted under that version.
    pub fn of_foreign(original: RawDocumentBuf, foreign: &Foreign, version: Version) -> Self {
        let adopted = adopt::final_form(&original, foreign, Location::Temp, version);
        let user = foreign.user.clone();
        let mut planned = Self::of(&adopted, user, version, foreign.created_at);
        planned.item.original = Some(Original {
            document: original,
            fingerprint: foreign.fingerprint.clone(),
        });
        planned
    }

    /// How many bytes it holds.
    pub fn bytes(&self) -> usize {
        let original = self.item.original.as_ref();
        self.copy.as_bytes().len() + original.map_or(0, |it| it.document.as_bytes().len())
    }
}

/// What is compared before a document leaves temp.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verify {
    /// Both copies are read back whole and their digests computed: what is stored is what was there.
    #[default]
    Full,
    /// The version and the digest that each copy claims are read back. Finds a copy that is missing, older
    /// or of other content; does not find bytes that changed in storage.
    Version,
}

/// Why a due document is not tried now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Park {
    /// Its next attempt is later.
    Waiting,
    /// Its retries are used up.
    Failed,
}

impl Park {
    /// Whether `record` parks its document at `now`.
    pub fn of(record: &Record, now: DateTime) -> Option<Self> {
        match record.status {
            Status::Failed => Some(Self::Failed),
            Status::Pending if record.next_attempt_at.is_some_and(|at| at > now) => {
                Some(Self::Waiting)
            }
            Status::Pending | Status::Completed => None,
        }
    }
}

/// Says what `document`, found in temp, is at `now` by temp's own clock.
pub fn classify(document: &RawDocument, now: DateTime, retention: Duration) -> Candidate {
    let cutoff = clock::before(now, retention);
    if document::is_native(document) {
        return classify_native(document, cutoff);
    }
    match adopt::foreign(document, UserType::Internal) {
        Err(reason) => Candidate::Quarantine(reason),
        Ok(_) if document::state(document) != Some(State::Live) => Candidate::Hidden,
        Ok(foreign) if foreign.created_at <= cutoff => Candidate::Adopt(foreign),
        Ok(_) => Candidate::Young,
    }
}

fn classify_native(document: &RawDocument, cutoff: DateTime) -> Candidate {
    match document::state(document) {
        None => return Candidate::Quarantine(Quarantine::of_state(document)),
        Some(State::Entering | State::Erased) => return Candidate::Hidden,
        Some(State::Live) => {}
    }
    let user_id = document::user_id(document).unwrap_or_default();
    let (Ok(user), Some(version)) = (UserId::parse(user_id), document::version(document)) else {
        return Candidate::Quarantine(Quarantine::NotOfType(
            UserType::Internal,
            user_id.chars().take(64).collect(),
        ));
    };
    if user.user_type() != UserType::Internal || user.as_str() != user_id {
        return Candidate::Quarantine(Quarantine::NotOfType(UserType::Internal, user.to_string()));
    }
    let Some(staged_at) = document::staged_at(document) else {
        return match adopt::foreign(document, UserType::Internal) {
            Err(reason) => Candidate::Quarantine(reason),
            Ok(foreign) if foreign.created_at <= cutoff => Candidate::Adopt(foreign),
            Ok(_) => Candidate::Young,
        };
    };
    if staged_at > cutoff {
        return Candidate::Young;
    }
    Candidate::Due(Planned::of(document, user, version, staged_at))
}

/// The form in which main and srie hold `document`.
pub fn main_form(document: &RawDocument, digest: &Digest) -> RawDocumentBuf {
    Edit::new()
        .locate(Location::Main)
        .set_meta(field::DIGEST, digest.as_str())
        .unset_meta(field::NONCE)
        .unset_meta(field::ENTERED_AT)
        .apply(document)
}
