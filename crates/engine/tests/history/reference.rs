//! The reference model: what one user's document may be, given the answers to clients. Knows nothing of the
//! databases, of moves, or of how anything is stored.
//!
//! It is a set of possible states. A write that is under way may have happened or not; the answer to its client, and
//! every read, narrows the set. When the set is empty, an answer was wrong.

use std::collections::{BTreeMap, BTreeSet};

use tierkeep_core::version::Version;
use tierkeep_engine::{Condition, Receipt, UsersError};

/// Names a write; its mark in the content.
pub type Token = u32;

/// The marks in each section.
pub type Sections = BTreeMap<&'static str, BTreeSet<Token>>;

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// The section holds the mark alone.
    Put,
    /// The mark joins the section.
    Patch,
    /// The section goes.
    Remove,
}

/// One write of one client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    pub token: Token,
    pub section: &'static str,
    pub deed: Deed,
    pub condition: Condition,
}

/// What a document may be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct State {
    /// The last version that was assigned; a user who is not stored continues from it.
    version: i64,
    stored: bool,
    sections: Sections,
    /// The writes under way that have happened, and the versions they got.
    happened: BTreeMap<Token, i64>,
}

impl State {
    fn current(&self) -> Option<Version> {
        Version::new(self.version).filter(|_| self.stored)
    }

    fn allows(&self, condition: Condition) -> bool {
        match condition {
            Condition::None => true,
            Condition::Exists => self.stored,
            Condition::Absent => !self.stored,
            Condition::Version(version) => self.current() == Some(version),
        }
    }

    fn after(&self, write: &Write) -> Option<Self> {
        let pointless = write.deed == Deed::Remove && !self.stored;
        if self.happened.contains_key(&write.token) || pointless || !self.allows(write.condition) {
            return None;
        }
        let mut after = self.clone();
        after.version += 1;
        after.stored = true;
        after.happened.insert(write.token, after.version);
        match write.deed {
            Deed::Put => {
                let marks = BTreeSet::from([write.token]);
                after.sections.insert(write.section, marks);
            }
            Deed::Patch => {
                let marks = after.sections.entry(write.section).or_default();
                marks.insert(write.token);
            }
            Deed::Remove => {
                after.sections.remove(write.section);
            }
        }
        Some(after)
    }

    fn erased(fence: i64, before: &Self) -> Self {
        Self {
            version: fence,
            stored: false,
            sections: Sections::new(),
            happened: before.happened.clone(),
        }
    }
}

/// What is known of one user.
#[derive(Clone, Debug)]
pub struct Reference {
    states: BTreeSet<State>,
    under_way: BTreeMap<Token, Write>,
    /// Of these, those beside which something else happened.
    overlapped: BTreeSet<Token>,
    /// The version below which nothing counts once the last erasure has come through.
    fence: Option<i64>,
}

/// What cannot be true.
pub type Contradiction = String;

impl Reference {
    /// A user of whom nothing was ever stored.
    pub fn unknown() -> Self {
        let nothing = State {
            version: 0,
            stored: false,
            sections: Sections::new(),
            happened: BTreeMap::new(),
        };
        Self {
            states: BTreeSet::from([nothing]),
            under_way: BTreeMap::new(),
            overlapped: BTreeSet::new(),
            fence: None,
        }
    }

    /// A client sends `write`.
    pub fn begin(&mut self, write: Write) {
        self.under_way.insert(write.token, write);
        if self.under_way.len() > 1 {
            self.overlapped.extend(self.under_way.keys());
        }
        self.spread();
    }

    /// Applies the answer to the client. Returns whether the outcome remains unknown.
    pub fn told(
        &mut self,
        token: Token,
        told: Result<Receipt, UsersError>,
    ) -> Result<bool, Contradiction> {
        match told {
            Ok(receipt) => self.acknowledged(token, receipt.version).map(|()| false),
            Err(UsersError::Mismatch { current }) => self.refused(token, current).map(|()| false),
            Err(UsersError::NotFound | UsersError::SectionNotFound) => {
                self.not_found(token).map(|()| false)
            }
            Err(
                UsersError::Unavailable(_) | UsersError::OutcomeUnknown(_) | UsersError::Contended,
            ) => {
                self.unknown_outcome(token);
                Ok(true)
            }
            Err(
                error @ (UsersError::TooLarge
                | UsersError::Rejected(_)
                | UsersError::Quarantined(_)
                | UsersError::Corrupt(_)),
            ) => Err(format!("write {token}: {error}")),
        }
    }

    /// The answer to the client: its write got `version`.
    pub fn acknowledged(&mut self, token: Token, version: Version) -> Result<(), Contradiction> {
        let told = format!("write {token} was acknowledged at {version}");
        self.keep(&told, |state| {
            state.happened.get(&token) == Some(&version.get())
        })?;
        self.over(token);
        Ok(())
    }

    /// The answer to the client: its write did not happen because its condition did not hold, the user being at
    /// `current`.
    pub fn refused(&mut self, token: Token, current: Option<Version>) -> Result<(), Contradiction> {
        let told = format!("write {token} was refused at {current:?}");
        self.without(token, &told, |state, write| {
            !state.allows(write.condition) && state.current() == current
        })
    }

    /// The answer to the client: there is nothing to remove.
    pub fn not_found(&mut self, token: Token) -> Result<(), Contradiction> {
        let told = format!("write {token} found nothing to remove");
        self.without(token, &told, |state, write| {
            write.deed == Deed::Remove && !state.sections.contains_key(write.section)
        })
    }

    /// The write did not happen, for a reason. What happened beside it may have made the reason and unmade it.
    fn without(
        &mut self,
        token: Token,
        told: &str,
        reason: impl Fn(&State, &Write) -> bool,
    ) -> Result<(), Contradiction> {
        let alone = !self.overlapped.contains(&token);
        let write = self.under_way.get(&token).cloned();
        self.keep(told, |state| {
            let reason = write.as_ref().is_some_and(|write| reason(state, write));
            !state.happened.contains_key(&token) && (!alone || reason)
        })?;
        self.over(token);
        Ok(())
    }

    /// The answer to the client: the outcome is unknown.
    pub fn unknown_outcome(&mut self, token: Token) {
        self.over(token);
    }

    /// The document was read: its version and marks, or that it does not exist.
    pub fn seen(&mut self, found: Option<(Version, &Sections)>) -> Result<(), Contradiction> {
        let told = match found {
            Some((version, sections)) => format!("{sections:?} was seen at {version}"),
            None => "nothing was seen".to_owned(),
        };
        self.keep(&told, |state| match found {
            Some((version, sections)) => {
                state.current() == Some(version) && state.sections == *sections
            }
            None => !state.stored,
        })
    }

    /// From now on an erasure may come through, at any time: nothing below `fence` counts then.
    pub fn erasing(&mut self, fence: Version) {
        if self.fence < Some(fence.get()) {
            self.fence = Some(fence.get());
            self.overlapped.extend(self.under_way.keys());
            self.spread();
        }
    }

    /// Everything below `fence` is gone for good.
    pub fn erased(&mut self, fence: Version) -> Result<(), Contradiction> {
        let told = format!("the user was erased at {fence}");
        self.keep(&told, |state| state.version >= fence.get())
    }

    /// The last version that a client can know of; what it would name in a condition.
    pub fn newest(&self) -> Option<Version> {
        self.states.iter().filter_map(State::current).max()
    }

    fn keep(&mut self, told: &str, holds: impl Fn(&State) -> bool) -> Result<(), Contradiction> {
        let kept: BTreeSet<State> = self.states.iter().filter(|it| holds(it)).cloned().collect();
        if kept.is_empty() {
            return Err(format!(
                "{told}, and only this is possible: {:#?}",
                self.states
            ));
        }
        self.states = kept;
        self.spread();
        Ok(())
    }

    /// The write is no longer under way: it has happened or never will.
    fn over(&mut self, token: Token) {
        self.under_way.remove(&token);
        self.overlapped.remove(&token);
        let states = std::mem::take(&mut self.states);
        self.states = states
            .into_iter()
            .map(|mut state| {
                state.happened.remove(&token);
                state
            })
            .collect();
    }

    /// Adds what may happen at any time.
    fn spread(&mut self) {
        let mut fresh: Vec<State> = self.states.iter().cloned().collect();
        while let Some(state) = fresh.pop() {
            let written = self
                .under_way
                .values()
                .filter_map(|write| state.after(write));
            let fence = self.fence.filter(|fence| state.version < *fence);
            let erased = fence.map(|fence| State::erased(fence, &state));
            for next in written.chain(erased) {
                if self.states.insert(next.clone()) {
                    fresh.push(next);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(token: Token) -> Write {
        Write {
            token,
            section: "a",
            deed: Deed::Put,
            condition: Condition::None,
        }
    }

    fn at(version: i64) -> Version {
        Version::new(version).unwrap()
    }

    fn marks(tokens: &[Token]) -> Sections {
        Sections::from([("a", tokens.iter().copied().collect())])
    }

    #[test]
    fn what_was_acknowledged_must_be_seen_and_nothing_else() {
        let mut reference = Reference::unknown();
        reference.begin(put(1));
        assert!(reference.clone().acknowledged(1, at(2)).is_err());
        reference.acknowledged(1, at(1)).unwrap();
        assert!(reference.clone().seen(None).is_err());
        assert!(reference.clone().seen(Some((at(1), &marks(&[2])))).is_err());
        assert!(reference.clone().seen(Some((at(2), &marks(&[1])))).is_err());
        reference.seen(Some((at(1), &marks(&[1])))).unwrap();
    }

    #[test]
    fn an_unknown_outcome_is_settled_by_who_looks() {
        let mut reference = Reference::unknown();
        reference.begin(put(1));
        reference.acknowledged(1, at(1)).unwrap();
        reference.begin(put(2));
        reference.unknown_outcome(2);
        let mut happened = reference.clone();
        happened.seen(Some((at(2), &marks(&[2])))).unwrap();
        assert!(happened.seen(Some((at(1), &marks(&[1])))).is_err());
        reference.seen(Some((at(1), &marks(&[1])))).unwrap();
        assert!(reference.seen(Some((at(2), &marks(&[2])))).is_err());
    }

    #[test]
    fn a_write_under_way_happens_once_at_any_time() {
        let mut reference = Reference::unknown();
        let mut patch = put(1);
        patch.deed = Deed::Patch;
        reference.begin(patch);
        reference.begin(put(2));
        reference.acknowledged(2, at(1)).unwrap();
        reference.seen(Some((at(1), &marks(&[2])))).unwrap();
        reference.clone().acknowledged(1, at(2)).unwrap();
        assert!(reference.clone().acknowledged(1, at(3)).is_err());
        reference.seen(Some((at(2), &marks(&[1, 2])))).unwrap();
        assert!(reference.refused(1, Some(at(2))).is_err());
    }

    #[test]
    fn an_erasure_may_come_late_but_never_goes_again() {
        let fence = Version::of_erasure(1).unwrap();
        let mut reference = Reference::unknown();
        reference.begin(put(1));
        reference.acknowledged(1, at(1)).unwrap();
        reference.erasing(fence);
        reference.seen(Some((at(1), &marks(&[1])))).unwrap();
        reference.seen(None).unwrap();
        assert!(reference.clone().seen(Some((at(1), &marks(&[1])))).is_err());
        reference.begin(put(2));
        assert!(reference.clone().acknowledged(2, at(2)).is_err());
        reference.acknowledged(2, fence.next().unwrap()).unwrap();
        reference.erased(fence).unwrap();
    }

    #[test]
    fn a_refusal_must_have_had_its_reason() {
        let mut reference = Reference::unknown();
        let mut absent = put(1);
        absent.condition = Condition::Absent;
        reference.begin(absent.clone());
        assert!(reference.clone().refused(1, None).is_err());
        reference.acknowledged(1, at(1)).unwrap();
        absent.token = 2;
        reference.begin(absent);
        reference.refused(2, Some(at(1))).unwrap();
    }
}
