//! The steps of one batch.

use std::borrow::Cow;
use std::fmt;

use bson::raw::RawDocumentBuf;

use super::action::{Action, Copied, Copies, Observation, Recorded, Seen, SeenInTemp, Target};
use super::item::Item;
use super::plan::Planned;
use crate::adopt::Quarantine;
use crate::db::Role;
use crate::version::Version;

/// How often the deletion of what temp still holds at the same version is repeated within one batch.
const DELETE_ROUNDS: u8 = 3;

/// What became of one document.
#[derive(Clone, PartialEq, Debug)]
pub enum Fate {
    /// Main and srie hold it, temp no longer does, its record is complete.
    Moved,
    /// Main and srie hold it; temp holds a newer version, which waits for its own time.
    Superseded,
    /// The user was erased meanwhile; tombstones stand where the copies were.
    Erased,
    /// It is left for a later run, through no fault of its own.
    Deferred,
    /// A database refuses it for this reason, which says nothing about the document: it costs no retry, and waits longer each
    /// time.
    Held(String),
    /// A database refuses it; the reason goes into its record.
    Failed(String),
    /// Copies contradict each other: nothing was deleted or overwritten.
    Conflict(Quarantine),
}

/// Where a batch is. Each phase names what is already on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Nothing is written; whether each is its user's only document in temp is not known.
    Claims,
    /// Nothing is written.
    Record,
    /// Every document has a pending record or is named by the batch's intent; whether those of other programs still stand as
    /// they were read is not known.
    Standing,
    /// Every document has a pending record or is named by the batch's intent.
    Backup,
    /// srie holds what it accepted.
    Promote,
    /// main holds what srie holds.
    Check,
    /// What is still in the batch is proven equal in main and srie, or a newer copy was found there.
    Erasures,
    /// None of it was erased meanwhile; some copies are newer than what moves: temp is asked again.
    Recheck,
    /// What is still in the batch is proven equal, and was not erased.
    Delete,
    /// Temp was asked to delete exactly those.
    Survivors,
    /// Temp no longer holds them at that version.
    Complete,
    /// The records say so.
    Done,
}

/// An answer came that does not fit the phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the answer does not fit a batch in phase {phase:?}")]
pub struct OutOfOrder {
    /// Where the batch was.
    pub phase: Phase,
}

#[derive(Clone, PartialEq, Debug)]
enum Progress {
    /// Goes through the current phase.
    In,
    /// A copy is newer than what moves: (where, which version).
    Overtaken(Role, Version),
    /// Verified, deleted, and temp holds a newer version.
    Superseded,
    /// Out of the batch.
    Out(Fate),
}

#[derive(Clone, PartialEq, Debug)]
struct Entry {
    item: Item,
    standing: Progress,
    /// Its move was announced: by its record, or by the intent of the batch.
    announced: bool,
}

/// A batch of documents on their way, between two actions.
#[derive(Clone, PartialEq)]
pub struct Batch {
    entries: Vec<Entry>,
    /// Of each entry, in their order: what all of them go on with is handed out without another copy.
    copies: Vec<RawDocumentBuf>,
    phase: Phase,
    /// The first phase after the claims are known.
    from: Phase,
    delete_rounds: u8,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("phase", &self.phase)
            .field("documents", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl Batch {
    /// A batch of which nothing is written yet.
    pub fn new(planned: Vec<Planned>) -> Self {
        Self::starting_at(Phase::Record, planned)
    }

    /// A batch of documents that may have been copied earlier: it checks, and deletes what proves equal.
    #[doc(alias = "cleanup_temp_data")]
    pub fn to_clean_up(planned: Vec<Planned>) -> Self {
        Self::starting_at(Phase::Check, planned)
    }

    fn starting_at(from: Phase, planned: Vec<Planned>) -> Self {
        let (entries, copies) = planned
            .into_iter()
            .map(|Planned { item, copy }| {
                let entry = Entry {
                    item,
                    standing: Progress::In,
                    announced: false,
                };
                (entry, copy)
            })
            .unzip();
        Self {
            entries,
            copies,
            phase: Phase::Claims,
            from,
            delete_rounds: 0,
        }
        .skip_empty_phases(Phase::Claims)
    }

    /// Where the batch is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What to do next.
    pub fn action(&self) -> Action<'_> {
        let items = || self.of_phase().map(|entry| &entry.item).collect();
        let copies = || self.copies_of_phase();
        match self.phase {
            Phase::Claims => Action::Claims(items()),
            Phase::Record => Action::Record(items()),
            Phase::Backup => Action::Copy(Target::Backup, copies()),
            Phase::Promote => Action::Copy(Target::Main, copies()),
            Phase::Check => Action::ReadBack(copies()),
            Phase::Standing | Phase::Recheck | Phase::Survivors => Action::ReadTemp(items()),
            Phase::Erasures => Action::Erasures(items()),
            Phase::Delete => Action::Delete(items()),
            Phase::Complete => Action::Complete(items()),
            Phase::Done => Action::Done,
        }
    }

    fn copies_of_phase(&self) -> Copies<'_> {
        let items: Vec<&Item> = self.of_phase().map(|entry| &entry.item).collect();
        let documents = if items.len() == self.entries.len() {
            Cow::Borrowed(self.copies.as_slice())
        } else {
            let all = self.entries.iter().zip(&self.copies);
            all.filter(|(entry, _)| entry.belongs(self.phase))
                .map(|(_, copy)| copy.clone())
                .collect()
        };
        Copies { items, documents }
    }

    /// The entries that the current phase works on.
    fn of_phase(&self) -> impl Iterator<Item = &Entry> {
        let phase = self.phase;
        self.entries
            .iter()
            .filter(move |entry| entry.belongs(phase))
    }

    /// Takes the answer to [`Batch::action`].
    ///
    /// # Errors
    /// [`OutOfOrder`] for an answer of another kind or length; the batch is lost, which is harmless.
    pub fn observe(mut self, observation: Observation) -> Result<Self, OutOfOrder> {
        let phase = self.phase;
        let next = match (phase, observation) {
            (Phase::Claims, Observation::Claims(alone)) => {
                self.each(alone, Entry::claimed)?;
                self.from
            }
            (Phase::Record, Observation::Recorded(recorded)) => {
                self.each(recorded, Entry::recorded)?;
                Phase::Standing
            }
            (Phase::Standing, Observation::Temp(seen)) => {
                self.each(seen, Entry::looked_at_again)?;
                Phase::Backup
            }
            (Phase::Backup, Observation::Copied(copied)) => {
                self.each(copied, Entry::copied)?;
                Phase::Promote
            }
            (Phase::Promote, Observation::Copied(copied)) => {
                self.each(copied, Entry::copied)?;
                Phase::Check
            }
            (Phase::Check, Observation::ReadBack(seen)) => {
                self.each(seen, |entry, (srie, main)| {
                    entry.checked(srie.as_ref(), main.as_ref());
                })?;
                Phase::Erasures
            }
            (Phase::Recheck, Observation::Temp(seen)) => {
                self.each(seen, Entry::rechecked)?;
                Phase::Delete
            }
            (Phase::Erasures, Observation::Erasures(erased)) => {
                self.each(erased, Entry::looked_up)?;
                Phase::Recheck
            }
            (Phase::Delete, Observation::Deleted) => {
                self.delete_rounds += 1;
                Phase::Survivors
            }
            // Each was deleted at exactly its version: what temp holds since then is another's business.
            (Phase::Delete, Observation::DeletedAll) => Phase::Complete,
            (Phase::Survivors, Observation::Temp(seen)) => {
                let last = self.delete_rounds >= DELETE_ROUNDS;
                let mut again = false;
                self.each(seen, |entry, seen| again |= entry.survived(seen, last))?;
                if again {
                    Phase::Delete
                } else {
                    Phase::Complete
                }
            }
            (Phase::Complete, Observation::Completed) => {
                for entry in &mut self.entries {
                    entry.completed();
                }
                Phase::Done
            }
            _ => return Err(OutOfOrder { phase }),
        };
        Ok(self.skip_empty_phases(next))
    }

    /// Enters `next`, skipping phases in which nothing is left to do.
    fn skip_empty_phases(mut self, next: Phase) -> Self {
        self.phase = next;
        while self.phase != Phase::Done && self.of_phase().next().is_none() {
            self.phase = match self.phase {
                Phase::Claims => self.from,
                Phase::Record => Phase::Standing,
                Phase::Standing => Phase::Backup,
                Phase::Backup => Phase::Promote,
                Phase::Promote => Phase::Check,
                Phase::Check => Phase::Erasures,
                Phase::Erasures => Phase::Recheck,
                Phase::Recheck => Phase::Delete,
                Phase::Delete => Phase::Survivors,
                Phase::Survivors => Phase::Complete,
                Phase::Complete | Phase::Done => Phase::Done,
            };
        }
        self
    }

    fn each<T>(
        &mut self,
        answers: Vec<T>,
        mut apply: impl FnMut(&mut Entry, T),
    ) -> Result<(), OutOfOrder> {
        let phase = self.phase;
        let entries = self.entries.iter_mut().filter(|entry| entry.belongs(phase));
        let entries: Vec<&mut Entry> = entries.collect();
        if entries.len() != answers.len() {
            return Err(OutOfOrder { phase });
        }
        for (entry, answer) in entries.into_iter().zip(answers) {
            apply(entry, answer);
        }
        Ok(())
    }

    /// The documents whose move was announced and is not known to be complete: each needs a record that says so.
    pub fn unfinished(&self) -> impl Iterator<Item = &Item> {
        let is_finished =
            |it: &Entry| matches!(it.standing, Progress::Out(Fate::Moved | Fate::Superseded));
        let entries = self.entries.iter();
        entries
            .filter(move |it| it.announced && !is_finished(it))
            .map(|it| &it.item)
    }

    /// What became of each document; [`Fate::Deferred`] for those the batch did not finish.
    pub fn fates(self) -> impl Iterator<Item = (Item, Fate)> {
        self.entries.into_iter().map(|entry| {
            let fate = match entry.standing {
                Progress::In | Progress::Overtaken(..) | Progress::Superseded => Fate::Deferred,
                Progress::Out(fate) => fate,
            };
            (entry.item, fate)
        })
    }
}

impl Entry {
    fn belongs(&self, phase: Phase) -> bool {
        match self.standing {
            Progress::In => match phase {
                Phase::Recheck => false,
                // The claims on the users of other programs' documents were read when those were planned.
                Phase::Claims => !self.is_foreign(),
                Phase::Standing => self.is_foreign(),
                Phase::Record
                | Phase::Backup
                | Phase::Promote
                | Phase::Check
                | Phase::Erasures
                | Phase::Delete
                | Phase::Survivors
                | Phase::Complete
                | Phase::Done => true,
            },
            // A newer copy that is a tombstone is explained by the ledger, else temp is asked.
            Progress::Overtaken(..) => matches!(phase, Phase::Erasures | Phase::Recheck),
            Progress::Superseded => phase == Phase::Complete,
            Progress::Out(_) => false,
        }
    }

    /// Whether it moves without having been adopted: its version was chosen above all copies, so a newer one only means
    /// that another process works on the user.
    fn is_foreign(&self) -> bool {
        self.item.original.is_some()
    }

    fn out(&mut self, fate: Fate) {
        self.standing = Progress::Out(fate);
    }

    fn recorded(&mut self, recorded: Recorded) {
        self.announced = recorded != Recorded::Elsewhere;
        match recorded {
            Recorded::Announced => {}
            Recorded::Stays(why) => self.copied(why),
            Recorded::Elsewhere => self.out(Fate::Deferred),
        }
    }

    fn copied(&mut self, copied: Copied) {
        match copied {
            Copied::Settled => {}
            Copied::Rejected(reason) => self.out(Fate::Failed(reason)),
            // What another program wrote goes above whatever is found, in the next pass.
            Copied::Contradicted(_) if self.is_foreign() => self.out(Fate::Deferred),
            Copied::Contradicted(reason) => self.out(Fate::Conflict(reason)),
            Copied::Refused(reason) => self.out(Fate::Held(reason)),
            Copied::Unsettled => self.out(Fate::Deferred),
        }
    }

    /// Which of a user's documents counts is not the mover's to guess.
    fn claimed(&mut self, alone: bool) {
        if !alone {
            let user = self.item.user.clone();
            self.out(Fate::Conflict(Quarantine::SeveralClaims(user)));
        }
    }

    /// What another program wrote is copied only while it is unchanged since it was read, and alone: looked at after
    /// the record, which a writer that adopts it looks for after its own entry.
    fn looked_at_again(&mut self, seen: SeenInTemp) {
        if seen != SeenInTemp::Same {
            self.out(Fate::Deferred);
        }
    }

    /// Only equal version and equal digest in both may be deleted.
    fn checked(&mut self, srie: Option<&Seen>, main: Option<&Seen>) {
        for (role, seen) in [(Role::SrieMainUser, srie), (Role::RaseenMainUser, main)] {
            match seen {
                Some(seen) if seen.version > self.item.version => {
                    self.standing = Progress::Overtaken(role, seen.version);
                    return;
                }
                Some(seen) if seen.version == self.item.version => {
                    // Another document moved under this version: this one is planned again, above it.
                    if seen.digest != self.item.digest && self.is_foreign() && seen.is_as_claimed {
                        self.out(Fate::Deferred);
                        return;
                    }
                    if seen.digest != self.item.digest {
                        let version = seen.version;
                        self.out(Fate::Conflict(Quarantine::Conflict {
                            database: role.name(),
                            version,
                        }));
                        return;
                    }
                }
                Some(_) | None => {
                    self.out(Fate::Deferred);
                    return;
                }
            }
        }
    }

    /// A copy is newer: if temp still holds what moves, and not as another program left it, that copy violates the protocol.
    fn rechecked(&mut self, seen: SeenInTemp) {
        let Progress::Overtaken(role, found) = self.standing else {
            return;
        };
        if seen == SeenInTemp::Same && !self.is_foreign() {
            let version = self.item.version;
            self.out(Fate::Conflict(Quarantine::Above {
                database: role.name(),
                version,
                found,
            }));
        } else {
            self.out(Fate::Deferred);
        }
    }

    /// What was erased is not deleted as moved: a tombstone has replaced it.
    fn looked_up(&mut self, erased: bool) {
        if erased {
            self.out(Fate::Erased);
        }
    }

    /// Whether temp must be asked to delete it once more.
    fn survived(&mut self, seen: SeenInTemp, last: bool) -> bool {
        match seen {
            SeenInTemp::Gone => false,
            SeenInTemp::Same => {
                if last {
                    self.out(Fate::Deferred);
                }
                !last
            }
            SeenInTemp::Other => {
                self.standing = Progress::Superseded;
                false
            }
        }
    }

    fn completed(&mut self) {
        match self.standing {
            Progress::In => self.out(Fate::Moved),
            Progress::Superseded => self.out(Fate::Superseded),
            Progress::Overtaken(..) | Progress::Out(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
