//! What must be true after every step: the test kit's invariants over the contents of the databases and the
//! answers to clients. The numbers are those of the protocol's invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::DateTime;
use bson::raw::{RawBsonRef, RawDocument, RawDocumentBuf};
use tierkeep_core::bson;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::digest::Digest;
use tierkeep_core::document::{self, State};
use tierkeep_core::erasure::Erasure;
use tierkeep_core::user::UserId;
use tierkeep_core::version::Version;
use tierkeep_testkit::invariants as kit;

use crate::actor::{Ack, LIST, MERGED, listed, user};
use crate::databases::Databases;

/// The names of the invariants, by their place in [`Broken::which`].
pub const NAMES: [&str; 21] = [
    "1: what was acknowledged is in temp or main",
    "2: a reader never misses what was acknowledged",
    "3: every acknowledged write is contained once in the copy that counts",
    "4: what left temp is in main and srie",
    "5: temp is never behind main",
    "6: equal versions are equal",
    "6: digests are true",
    "8: versions never fall",
    "9: one record for a user and version",
    "9: what is recorded as moved is there",
    "9: what moved is recorded",
    "10: users stay where they belong",
    "11: backups that are called completed exist",
    "12: nothing moves before its time",
    "quarantine: nobody is quarantined without a cause",
    "at rest: temp drains, and main equals srie",
    "7: what was erased does not come back",
    "erasures: no request erases twice",
    "rolled back: what srie alone holds is in every later copy",
    "4: what another program wrote and left temp is in main and srie",
    "9: what was recorded stays recorded",
];

/// An invariant that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The place of its name in [`NAMES`].
    pub which: usize,
    /// The offender.
    pub why: String,
}

/// What is known besides what the databases hold.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The writes that were acknowledged.
    pub acks: &'a BTreeSet<Ack>,
    /// Below which version nothing of a user counts.
    pub fences: &'a BTreeMap<u32, i64>,
    /// The time.
    pub now: DateTime,
    /// How long documents stay in temp.
    pub retention: Duration,
    /// Whether documents may be quarantined.
    pub quarantine: bool,
    /// Whether tombstones may go while an actor still writes.
    pub graceless: bool,
    /// How often a user can have been erased at most.
    pub most_erasures: i64,
    /// The section that srie alone holds at first, and that every later copy contains.
    pub kept: Option<&'static str>,
}

/// Looks at one step.
pub fn after_a_step(before: &Databases, after: &Databases, known: Known<'_>) -> Option<Broken> {
    let snapshot = Snapshot::of(after);
    let temp_before = before.users(Role::RaseenTempUser);
    let Snapshot {
        temp, main, srie, ..
    } = &snapshot;
    let records = after.records();
    let standing = standing(&records, known.fences);
    let quarantined = quarantined(after);
    let names: Vec<&str> = quarantined.iter().map(String::as_str).collect();
    let verdicts = [
        (0, snapshot.acknowledged(known.acks)),
        (2, snapshot.contains(known.acks)),
        (
            3,
            kit::what_left_temp_is_in_main_and_srie(&temp_before, temp, main, srie),
        ),
        (
            19,
            kit::what_another_program_wrote_left_temp_for_main_and_srie(
                &unerased(&temp_before, known.fences),
                temp,
                main,
                srie,
            ),
        ),
        (
            4,
            kit::temp_never_holds_a_lower_live_version_than_main(temp, main, &names),
        ),
        (
            5,
            kit::equal_versions_have_equal_digests(&[temp, main, srie]),
        ),
        (
            6,
            kit::claimed_digests_are_true(main).and(kit::claimed_digests_are_true(srie)),
        ),
        (7, versions_never_fall(before, after)),
        (
            8,
            kit::each_user_and_version_has_at_most_one_record(&records),
        ),
        (
            9,
            kit::completed_records_are_in_main_and_srie(&standing, main, srie),
        ),
        (
            10,
            kit::what_left_temp_has_a_record(&temp_before, temp, &records),
        ),
        (
            20,
            kit::what_was_recorded_stays_recorded(&before.records(), &records),
        ),
        (
            11,
            kit::external_ids_stay_in_external_users(temp)
                .and(kit::external_ids_stay_in_external_users(main))
                .and(kit::external_ids_stay_in_external_users(srie))
                .and(kit::internal_ids_stay_out_of_external_users(
                    &after.users(Role::ExternalUsers),
                )),
        ),
        (
            12,
            if known.graceless {
                kit::completed_backups_exist(&counting(main, known.fences), srie)
            } else {
                kit::completed_backups_exist(main, srie)
            },
        ),
        (
            13,
            kit::nothing_moves_before_its_retention(&temp_before, temp, known.now, known.retention),
        ),
        (
            14,
            match quarantined.first() {
                Some(who) if !known.quarantine => Err(format!("{who} is quarantined")),
                Some(_) | None => Ok(()),
            },
        ),
        (
            16,
            if known.graceless {
                Ok(())
            } else {
                snapshot.keeps_buried(after)
            },
        ),
    ];
    broken(verdicts).or_else(|| beyond_the_kit(&snapshot, known))
}

/// Of each database, looked at before and after a step.
fn versions_never_fall(before: &Databases, after: &Databases) -> kit::Verdict {
    for role in [
        Role::RaseenTempUser,
        Role::RaseenMainUser,
        Role::SrieMainUser,
    ] {
        let mut seen = before.users(role);
        // An entry is nothing yet: taken out, it leaves what it stood over.
        seen.retain(|copy| document::state(copy) != Some(State::Entering));
        kit::versions_never_fall(&seen, &after.users(role))?;
    }
    Ok(())
}

/// What only scenarios know: how often users were erased at most, and what must be kept.
fn beyond_the_kit(snapshot: &Snapshot, known: Known<'_>) -> Option<Broken> {
    let highest = known.fences.values().max().copied().unwrap_or_default();
    let erasures = Version::new(highest).map_or(0, Version::epoch);
    let twice = if erasures > known.most_erasures {
        Err(format!(
            "{erasures} erasures, {} at most",
            known.most_erasures
        ))
    } else {
        Ok(())
    };
    broken([(17, twice), (18, snapshot.keeps(known.kept))])
}

/// Whether what a user had at the beginning is gone, once the user was told so.
pub fn first_life_is_gone(
    databases: &Databases,
    who: u32,
    planted: &[(Role, RawDocumentBuf)],
) -> Option<Broken> {
    let who = user(who);
    let is_left = |(role, document): &&(Role, RawDocumentBuf)| {
        document::user_id(document) == Some(who.as_str())
            && databases.users(*role).iter().any(|copy| {
                document::state(copy) == Some(State::Live)
                    && Digest::of(copy) == Digest::of(document)
            })
    };
    let left = planted.iter().find(is_left);
    let gone = left.map_or(Ok(()), |(role, _)| {
        Err(format!(
            "{who} was told to be erased, and {role} holds it still"
        ))
    });
    broken([(16, gone)])
}

/// Looks at what a mover left that no other actor disturbed.
pub fn at_rest(rest: &Databases, known: Known<'_>) -> Option<Broken> {
    let snapshot = Snapshot::of(rest);
    let rested = kit::temp_drains(&snapshot.temp, known.now, known.retention)
        .and(kit::main_equals_srie(&snapshot.main, &snapshot.srie))
        .and(snapshot.contains(known.acks));
    let rested = if known.kept.is_some() || known.quarantine && !quarantined(rest).is_empty() {
        Ok(())
    } else {
        rested
    };
    let fences: Vec<(String, Version)> = known
        .fences
        .iter()
        .filter_map(|(who, fence)| Some((user(*who).to_string(), Version::new(*fence)?)))
        .collect();
    let fences: Vec<(&str, Version)> = fences
        .iter()
        .map(|(who, fence)| (who.as_str(), *fence))
        .collect();
    let all: [&[RawDocumentBuf]; 3] = [&snapshot.temp, &snapshot.main, &snapshot.srie];
    let buried = kit::erased_content_never_comes_back(&fences, &all);
    broken([(16, buried), (15, rested)])
}

/// What a reader was told, who began when `floor` had been acknowledged, and everything below `erased` had been
/// said to be erased.
pub fn read(
    who: u32,
    floor: Option<i64>,
    erased: Option<i64>,
    seen: Option<Version>,
) -> Option<Broken> {
    let who = user(who);
    let missed = floor.filter(|floor| seen.is_none_or(|seen| seen.get() < *floor));
    let missed = missed.map_or(Ok(()), |floor| {
        Err(format!("{who} was read at {seen:?}, and {floor} was there"))
    });
    let back = erased.filter(|fence| seen.is_some_and(|seen| seen.get() < *fence));
    let back = back.map_or(Ok(()), |fence| {
        Err(format!("{who} was read at {seen:?}, and erased at {fence}"))
    });
    broken([(1, missed), (16, back)])
}

/// Raises the fences to what the ledger says.
pub fn raise(fences: &mut BTreeMap<u32, i64>, databases: &Databases) {
    for entry in erasures(databases) {
        let who = entry.user.as_ref().and_then(number);
        if let (Some(who), Some(fence)) = (who, entry.fence()) {
            let known = fences.entry(who).or_default();
            *known = fence.get().max(*known);
        }
    }
}

fn erasures(databases: &Databases) -> Vec<Erasure> {
    databases
        .all(Role::EvaluationAudit, collection::ERASURES)
        .iter()
        .filter_map(|entry| Erasure::read(entry))
        .collect()
}

/// The number of a user of a scenario.
fn number(user: &UserId) -> Option<u32> {
    let digits = user.as_str().strip_prefix("internal_")?;
    u32::from_str_radix(digits, 16).ok()
}

/// The records of what was not erased since.
fn standing(records: &[RawDocumentBuf], fences: &BTreeMap<u32, i64>) -> Vec<RawDocumentBuf> {
    let stands = |record: &&RawDocumentBuf| {
        let user = record.get_str("user_id").ok();
        let user = user.and_then(|user| UserId::parse(user).ok());
        let fence = user.as_ref().and_then(number).and_then(|n| fences.get(&n));
        let version = record.get_i64("version").unwrap_or_default();
        fence.is_none_or(|fence| version > *fence)
    };
    records.iter().filter(stands).cloned().collect()
}

/// The documents of users who were never erased.
fn unerased(documents: &[RawDocumentBuf], fences: &BTreeMap<u32, i64>) -> Vec<RawDocumentBuf> {
    let was_erased = |document: &RawDocumentBuf| {
        let user = document::user_id(document).and_then(|user| UserId::parse(user).ok());
        let n = user.as_ref().and_then(number);
        n.is_some_and(|n| fences.contains_key(&n))
    };
    let kept = documents.iter().filter(|it| !was_erased(it));
    kept.cloned().collect()
}

/// The copies that no erasure has made into nothing.
fn counting(copies: &[RawDocumentBuf], fences: &BTreeMap<u32, i64>) -> Vec<RawDocumentBuf> {
    let counts = |copy: &&RawDocumentBuf| {
        let user = document::user_id(copy).and_then(|user| UserId::parse(user).ok());
        let fence = user.as_ref().and_then(number).and_then(|n| fences.get(&n));
        let fence = fence.and_then(|fence| Version::new(*fence));
        fence.is_none() || document::version(copy) > fence
    };
    copies.iter().filter(counts).cloned().collect()
}

fn broken(verdicts: impl IntoIterator<Item = (usize, kit::Verdict)>) -> Option<Broken> {
    verdicts
        .into_iter()
        .find_map(|(which, verdict)| verdict.err().map(|why| Broken { which, why }))
}

struct Snapshot {
    temp: Vec<RawDocumentBuf>,
    main: Vec<RawDocumentBuf>,
    srie: Vec<RawDocumentBuf>,
}

impl Snapshot {
    fn of(databases: &Databases) -> Self {
        Self {
            temp: databases.users(Role::RaseenTempUser),
            main: databases.users(Role::RaseenMainUser),
            srie: databases.users(Role::SrieMainUser),
        }
    }

    /// The copy of a user that counts: temp's live one; the higher of temp's tombstone and main; main's.
    fn counting(&self, who: &str) -> Option<&RawDocument> {
        let of = |copies: &'_ [RawDocumentBuf], state| {
            copies.iter().position(|copy| {
                document::user_id(copy) == Some(who) && document::state(copy) == Some(state)
            })
        };
        if let Some(live) = of(&self.temp, State::Live) {
            return Some(&self.temp[live]);
        }
        let fence = of(&self.temp, State::Erased).and_then(|at| document::version(&self.temp[at]));
        of(&self.main, State::Live)
            .map(|at| &self.main[at])
            .filter(|copy| fence.is_none() || document::version(copy) > fence)
            .map(AsRef::as_ref)
    }

    /// While tombstones are known to stand, nothing older stands beside them.
    fn keeps_buried(&self, databases: &Databases) -> kit::Verdict {
        for entry in erasures(databases) {
            let (Some(user), Some(fence)) = (&entry.user, entry.fence()) else {
                continue;
            };
            let tiers = [
                (Role::RaseenTempUser, &self.temp),
                (Role::RaseenMainUser, &self.main),
                (Role::SrieMainUser, &self.srie),
            ];
            for (role, copies) in tiers {
                if !entry.pending.contains(&role) {
                    let erased = [(user.as_str(), fence)];
                    kit::erased_content_never_comes_back(&erased, &[copies])?;
                }
            }
        }
        Ok(())
    }

    /// Every live copy newer than main's old one holds this section.
    fn keeps(&self, section: Option<&str>) -> kit::Verdict {
        let Some(section) = section else {
            return Ok(());
        };
        let all = [&self.temp, &self.main, &self.srie].into_iter().flatten();
        let newer = all.filter(|copy| {
            document::version(copy) > Some(Version::FIRST)
                && document::state(copy) == Some(State::Live)
        });
        for copy in newer {
            if !matches!(copy.get(section), Ok(Some(_))) {
                return Err(format!("{:?} lacks {section}", document::id(copy)));
            }
        }
        Ok(())
    }

    fn acknowledged(&self, acks: &BTreeSet<Ack>) -> kit::Verdict {
        for ack in acks {
            let who = user(ack.user);
            if self.counting(who.as_str()).is_none() {
                return Err(format!(
                    "{who} was acknowledged and is in neither temp nor main"
                ));
            }
        }
        Ok(())
    }

    fn contains(&self, acks: &BTreeSet<Ack>) -> kit::Verdict {
        for ack in acks {
            let who = user(ack.user);
            let Some(copy) = self.counting(who.as_str()) else {
                return Err(format!("no copy of {who} counts"));
            };
            let times = times(copy, ack);
            if times != 1 {
                return Err(format!(
                    "what counts of {who} contains {} of {} {times} times",
                    ack.mark, ack.section
                ));
            }
        }
        for copy in &self.temp {
            no_operation_twice(copy)?;
        }
        Ok(())
    }
}

/// How often `copy` contains what was acknowledged.
fn times(copy: &RawDocument, ack: &Ack) -> usize {
    if ack.section == LIST {
        return listed(copy)
            .iter()
            .filter(|mark| **mark == ack.mark)
            .count();
    }
    let Ok(section) = copy.get_document(ack.section) else {
        return 0;
    };
    let there = if ack.section == MERGED {
        section.get(&ack.mark).is_ok_and(|mark| mark.is_some())
    } else {
        section.get_str("mark").ok() == Some(ack.mark.as_str())
    };
    usize::from(there)
}

/// The ring of operations names each once.
fn no_operation_twice(copy: &RawDocument) -> kit::Verdict {
    let ring = document::metadata(copy).and_then(|meta| meta.get_array(document::field::OPS).ok());
    let mut seen = BTreeSet::new();
    for entry in ring.into_iter().flatten().flatten() {
        let op = entry
            .as_document()
            .and_then(|entry| entry.get_str("id").ok());
        if !seen.insert(op) {
            return Err(format!(
                "an operation was applied twice to {}",
                document::id(copy)
            ));
        }
    }
    Ok(())
}

fn quarantined(databases: &Databases) -> Vec<String> {
    databases
        .all(Role::EvaluationAudit, collection::CONTROL)
        .iter()
        .filter(|mark| mark.get_str("kind").ok() == Some("quarantine"))
        .map(|mark| {
            let user = mark.get("user_id").ok().flatten();
            user.and_then(RawBsonRef::as_str)
                .unwrap_or("nobody")
                .to_owned()
        })
        .collect()
}
