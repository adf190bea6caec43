//! Comparing a document in main with its backup in srie: what each side holds, what the two mean together,
//! and what would repair them. Performs nothing; reading and writing is the engine's.
//!
//! Rule source: the contract's section 8 (`verify`) and the protocol's sections 5 and 8.

use bson::raw::{RawDocument, RawDocumentBuf};
use serde::Serialize;

use crate::adopt::{self, Quarantine};
use crate::digest::Digest;
use crate::document::{self, Edit, Location, State, field};
use crate::hr;
use crate::mover::main_form;
use crate::store::id_order;
use crate::user::UserType;
use crate::version::Version;

/// One of the two that are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// `raseen_main_user` or `raseen_main_hr`.
    Main,
    /// Its backup.
    Srie,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Main => Self::Srie,
            Self::Srie => Self::Main,
        }
    }
}

/// What kind of documents a collection holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyKind {
    /// User documents; those of other programs are read as they would be adopted.
    Users,
    /// HR records.
    Hr,
}

impl CopyKind {
    /// What names a document on both sides; `None` where nothing does.
    pub fn key(self, document: &RawDocument) -> Option<&str> {
        match self {
            Self::Users => document::user_id(document),
            Self::Hr => document.get_str(field::ID).ok(),
        }
    }

    /// The digest of a document's content.
    fn digest(self, document: &RawDocument) -> Digest {
        match self {
            Self::Users => Digest::of(document),
            Self::Hr => Digest::of_hr_record(document),
        }
    }
}

/// What the digest that a copy claims says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// It claims none.
    None,
    /// It is the digest of its content.
    True,
    /// It is not: something changed the content, or the claim.
    False,
}

/// What one side holds of a document, without its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Its version; that of a document which another program wrote is the first.
    pub version: Version,
    /// Live or erased.
    pub state: State,
    /// The digest of its content as it is now.
    pub digest: Digest,
    /// The digest of its content without the note what it was adopted from.
    essence: Digest,
    /// What it claims.
    pub claim: Claim,
    /// Another program wrote it, and it was never adopted.
    pub foreign: bool,
    /// It says that it waits for its backup.
    pub pending: bool,
}

/// Why a document cannot be compared.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Odd {
    /// It is no document that could be adopted.
    #[error(transparent)]
    Unadoptable(#[from] Quarantine),
    /// It has no version or no state that can be read.
    #[error("its metadata has no valid version or state")]
    Metadata,
    /// Several documents of one side have its name.
    #[error("several documents claim it")]
    SeveralClaims,
}

impl Held {
    /// What `document` is.
    ///
    /// # Errors
    /// [`Odd`] for what is no document of this kind.
    pub fn of(document: &RawDocument, kind: CopyKind) -> Result<Self, Odd> {
        let native = match kind {
            CopyKind::Users => document::is_native(document),
            CopyKind::Hr => document::version(document).is_some() && kind.key(document).is_some(),
        };
        if native {
            return Self::native(document, kind);
        }
        match kind {
            CopyKind::Users => {
                let foreign = adopt::foreign(document, UserType::Internal)?;
                let adopted = adopt::final_form(document, &foreign, Location::Main, Version::FIRST);
                Ok(Self {
                    claim: Claim::None,
                    foreign: true,
                    ..Self::native(&adopted, kind)?
                })
            }
            CopyKind::Hr => Err(Odd::Metadata),
        }
    }

    fn native(document: &RawDocument, kind: CopyKind) -> Result<Self, Odd> {
        let version = document::version(document).ok_or(Odd::Metadata)?;
        let state = match document::state(document) {
            Some(state @ (State::Live | State::Erased)) => state,
            Some(State::Entering) | None => return Err(Odd::Metadata),
        };
        let digest = kind.digest(document);
        let claim = match Digest::claimed_by(document) {
            None => Claim::None,
            Some(claimed) if claimed == digest => Claim::True,
            Some(_) => Claim::False,
        };
        let essence = if document::adopted_from(document).is_some() {
            let note = Edit::new().unset_meta(field::ADOPTED_FROM);
            Digest::of(&note.apply(document))
        } else {
            digest.clone()
        };
        Ok(Self {
            version,
            state,
            digest,
            essence,
            claim,
            foreign: false,
            pending: document::backup_status(document) == Some("pending"),
        })
    }

    /// Whether it is live.
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// Whether the two have the same content. What a copy was adopted from is not part of it.
    fn has_content_of(&self, other: &Self) -> bool {
        self.digest == other.digest || self.essence == other.essence
    }
}

/// What was found of a document on one side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its place in the order of `_id`s; of several, the first.
    pub place: Vec<u8>,
    /// What it is.
    pub held: Result<Held, Odd>,
}

impl Found {
    /// What `document` is.
    pub fn of(document: &RawDocument, kind: CopyKind) -> Self {
        Self {
            place: id_order(&document::id(document)),
            held: Held::of(document, kind),
        }
    }

    /// Takes in another that has the same name.
    #[must_use]
    pub fn beside(self, other: Self) -> Self {
        Self {
            place: self.place.min(other.place),
            held: Err(Odd::SeveralClaims),
        }
    }
}

/// The version of a document that is sound: native and live, and its content what it claims. `None` for every other.
pub fn sound_version(document: &RawDocument, kind: CopyKind) -> Option<Version> {
    let metadata = document::metadata(document)?;
    let version = document::version_in(metadata)?;
    let is_native = match kind {
        CopyKind::Users => document::user_id(document)
            .is_some_and(|user| document.get_str(field::ID).is_ok_and(|id| id == user)),
        CopyKind::Hr => true,
    };
    let claim = Digest::claim_in(metadata)?;
    let is_sound = is_native
        && document::state_in(metadata) == Some(State::Live)
        && kind.digest(document).as_str() == claim;
    is_sound.then_some(version)
}

/// Whether two documents under one `_id`, of which main's is sound, are equal beyond doubt, so that nothing else needs to be
/// looked at: both sound, of one version, with equal content.
pub fn equals_sound(main: &RawDocument, srie: &RawDocument, kind: CopyKind) -> bool {
    main.as_bytes() == srie.as_bytes()
        || (Digest::claim(main) == Digest::claim(srie)
            && sound_version(srie, kind).is_some_and(|it| document::version(main) == Some(it)))
}

/// The version that two copies under one `_id`, or their [`Fields::Claims`](crate::store::Fields::Claims), both claim with
/// one digest, live as far as they say. `None` where they do not claim to be equal. Of the content nothing is looked at.
pub fn claimed_version(main: &RawDocument, srie: &RawDocument) -> Option<Version> {
    let claimed = |document| {
        let metadata = document::metadata(document)?;
        let is_live = document::state_in(metadata) == Some(State::Live);
        let claim = (document::version_in(metadata)?, Digest::claim_in(metadata)?);
        is_live.then_some(claim)
    };
    let (version, digest) = claimed(main)?;
    (claimed(srie)? == (version, digest)).then_some(version)
}

/// Everything that says whether a document and its backup are as they should be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sight {
    /// What main holds.
    pub main: Option<Found>,
    /// What srie holds.
    pub srie: Option<Found>,
    /// The version that temp holds, live or entering.
    pub temp: Option<Version>,
    /// What is below counts as nothing.
    pub fence: Option<Version>,
    /// The erasure that set the fence has not reached every database yet.
    pub erasing: bool,
}

/// How a document and its backup differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Main holds it, srie does not.
    MissingInSrie,
    /// srie holds an older version.
    StaleInSrie,
    /// srie holds a newer version, and nothing that moves explains it.
    SrieAhead,
    /// Main's copy is not what its own digest says, srie's is.
    CorruptMain,
    /// srie's copy is not what its own digest says, main's is.
    CorruptSrie,
    /// Of one version with different content, or with content that neither digest vouches for.
    Undecided,
    /// srie holds it, main does not.
    Orphan,
    /// The user was erased, and content from before the erasure is there.
    ErasedButPresent,
    /// A copy cannot be read as what it should be.
    Unreadable,
}

impl Class {
    /// The text as it is reported.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingInSrie => "missing_in_srie",
            Self::StaleInSrie => "stale_in_srie",
            Self::SrieAhead => "srie_ahead",
            Self::CorruptMain => "corrupt_main",
            Self::CorruptSrie => "corrupt_srie",
            Self::Undecided => "undecided",
            Self::Orphan => "orphan",
            Self::ErasedButPresent => "erased_but_present",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What a sight means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Neither side holds content.
    Nothing,
    /// Both hold the same.
    Matched,
    /// Something moves, is delivered or is being erased; it will match when that is done.
    InFlight,
    /// They differ.
    Differs(Class),
}

impl Sight {
    /// The place of the document that counts for both: main's where there is one.
    pub fn place(&self) -> Option<&[u8]> {
        let found = self.main.as_ref().or(self.srie.as_ref());
        found.map(|found| found.place.as_slice())
    }

    /// What `side` holds, where that can be read.
    pub fn held(&self, side: Side) -> Option<&Held> {
        let found = match side {
            Side::Main => &self.main,
            Side::Srie => &self.srie,
        };
        found.as_ref().and_then(|found| found.held.as_ref().ok())
    }

    /// Why one of them cannot be compared.
    pub fn odd(&self) -> Option<&Odd> {
        [&self.main, &self.srie]
            .into_iter()
            .flatten()
            .find_map(|found| found.held.as_ref().err())
    }

    /// Whether the copies of both are those of `other`.
    pub fn has_copies_of(&self, other: &Self) -> bool {
        self.main == other.main && self.srie == other.srie
    }

    /// Whether what `side` holds was erased.
    pub fn is_erased(&self, side: Side) -> bool {
        self.held(side).is_some_and(|held| {
            held.is_live() && self.fence.is_some_and(|fence| held.version <= fence)
        })
    }

    /// What it means.
    pub fn verdict(&self) -> Verdict {
        if self.odd().is_some() {
            return Verdict::Differs(Class::Unreadable);
        }
        if self.is_erased(Side::Main) || self.is_erased(Side::Srie) {
            return if self.erasing {
                Verdict::InFlight
            } else {
                Verdict::Differs(Class::ErasedButPresent)
            };
        }
        let (main, srie) = (self.held(Side::Main), self.held(Side::Srie));
        let live = |held: Option<&Held>| held.is_some_and(Held::is_live);
        if !live(main) && !live(srie) {
            return Verdict::Nothing;
        }
        match (main, srie) {
            (Some(main), Some(srie)) if main.version == srie.version => same_version(main, srie),
            (Some(main), _) if srie.is_none_or(|srie| srie.version < main.version) => {
                if main.pending {
                    return Verdict::InFlight;
                }
                Verdict::Differs(if main.is_live() && !live(srie) {
                    Class::MissingInSrie
                } else {
                    Class::StaleInSrie
                })
            }
            (_, Some(srie)) => {
                // A move writes srie first and empties temp last.
                if self.temp.is_some_and(|temp| temp >= srie.version) {
                    return Verdict::InFlight;
                }
                Verdict::Differs(if srie.is_live() && !live(main) {
                    Class::Orphan
                } else {
                    Class::SrieAhead
                })
            }
            (Some(_) | None, None) => Verdict::Nothing,
        }
    }

    /// What would repair a difference; `prefer` is the side that the operator names where digests do not decide.
    /// `None`: nothing that can be known to be right.
    pub fn remedy(&self, prefer: Option<Side>) -> Option<Remedy> {
        let Verdict::Differs(class) = self.verdict() else {
            return None;
        };
        let believed = |side: Side| {
            self.held(side)
                .is_some_and(|held| held.claim != Claim::False || prefer == Some(side))
        };
        let copy = |from: Side| believed(from).then_some(Remedy::Copy { from });
        match class {
            Class::MissingInSrie | Class::StaleInSrie => copy(Side::Main),
            Class::SrieAhead | Class::Orphan => copy(Side::Srie),
            Class::CorruptSrie => Some(Remedy::Replace { from: Side::Main }),
            Class::CorruptMain => Some(Remedy::Replace { from: Side::Srie }),
            Class::Undecided => prefer.map(|from| Remedy::Replace { from }),
            Class::ErasedButPresent => Some(Remedy::Bury),
            Class::Unreadable => None,
        }
    }
}

fn same_version(main: &Held, srie: &Held) -> Verdict {
    let same = main.state == srie.state && main.has_content_of(srie);
    match (main.claim, srie.claim) {
        (Claim::True | Claim::None, Claim::True | Claim::None) if same => Verdict::Matched,
        (Claim::True, Claim::False) => Verdict::Differs(Class::CorruptSrie),
        (Claim::False, Claim::True) => Verdict::Differs(Class::CorruptMain),
        (Claim::True | Claim::None | Claim::False, Claim::True | Claim::None | Claim::False) => {
            Verdict::Differs(Class::Undecided)
        }
    }
}

/// What would repair a difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Put it on the other side, where that holds nothing or something older.
    Copy {
        /// From where.
        from: Side,
    },
    /// Put it in the place of a copy of the same version.
    Replace {
        /// Which copy is right.
        from: Side,
    },
    /// Put the tombstones again.
    Bury,
}

/// A user's `document` with a claim that is true; unchanged where it is.
pub fn vouched(document: &RawDocument) -> RawDocumentBuf {
    vouched_as(document, CopyKind::Users)
}

/// As [`vouched`], for any kind.
pub fn vouched_as(document: &RawDocument, kind: CopyKind) -> RawDocumentBuf {
    let digest = kind.digest(document);
    if Digest::claimed_by(document).as_ref() == Some(&digest) {
        return document.to_owned();
    }
    Edit::new()
        .set_meta(field::DIGEST, digest.as_str())
        .apply(document)
}

/// `document` as main and srie hold it once its backup is complete; unchanged where it says so.
pub fn backed_up(document: &RawDocument, kind: CopyKind) -> RawDocumentBuf {
    match kind {
        CopyKind::Users => main_form(document, &Digest::of(document)),
        CopyKind::Hr => hr::as_backup(&vouched_as(document, kind)),
    }
}

#[cfg(test)]
mod tests;
