//! What must be true of the databases after any test, as functions named as sentences over snapshots:
//! all documents of a collection, in any order. Reads nothing itself; the answer names the offender.
//!
//! The numbers are those of the protocol's invariants. Foreign documents, which have no version of
//! ours yet, break no invariant that is about versions.
#![expect(
    clippy::missing_errors_doc,
    reason = "each sentence names what the error says is broken"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::DateTime;
use bson::raw::{RawDocument, RawDocumentBuf};
use tierkeep_core::clock;
use tierkeep_core::digest::{Digest, fingerprint};
use tierkeep_core::document::{self, State};
use tierkeep_core::mover::Intent;
use tierkeep_core::version::Version;

/// Whether an invariant holds, or what breaks it.
pub type Verdict = Result<(), String>;

/// The copies of one database, by user; the highest version where a user has several.
type Copies<'a> = BTreeMap<&'a str, &'a RawDocumentBuf>;

fn by_user(documents: &[RawDocumentBuf]) -> Copies<'_> {
    let mut copies = Copies::new();
    for copy in documents {
        let Some(user) = document::user_id(copy) else {
            continue;
        };
        if document::version(copy).is_none() {
            continue;
        }
        let held = copies.entry(user).or_insert(copy);
        if document::version(held) < document::version(copy) {
            *held = copy;
        }
    }
    copies
}

fn is_live(copy: &RawDocument) -> bool {
    document::state(copy) == Some(State::Live)
}

fn holds_at_least(copies: &Copies<'_>, user: &str, version: Version) -> bool {
    copies
        .get(user)
        .filter(|copy| document::state(copy) != Some(State::Entering))
        .and_then(|copy| document::version(copy))
        .is_some_and(|held| held >= version)
}

fn live<'a>(copies: &Copies<'a>) -> impl Iterator<Item = (&'a str, Version, &'a RawDocumentBuf)> {
    copies
        .iter()
        .filter(|(_, copy)| is_live(copy))
        .filter_map(|(user, copy)| Some((*user, document::version(copy)?, *copy)))
}

fn check(holds: bool, broken: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(broken()) }
}

/// 1: what was acknowledged as live is in temp or main at that version or a higher one.
pub fn acknowledged_documents_are_in_temp_or_main(
    acknowledged: &[RawDocumentBuf],
    temp: &[RawDocumentBuf],
    main: &[RawDocumentBuf],
) -> Verdict {
    let (temp, main) = (by_user(temp), by_user(main));
    for (user, version, _) in live(&by_user(acknowledged)) {
        check(
            holds_at_least(&temp, user, version) || holds_at_least(&main, user, version),
            || format!("{user} was acknowledged at {version} and is in neither temp nor main"),
        )?;
    }
    Ok(())
}

/// 4: what was live in temp before and is not now is in main and srie, at that version or a higher one.
pub fn what_left_temp_is_in_main_and_srie(
    temp_before: &[RawDocumentBuf],
    temp: &[RawDocumentBuf],
    main: &[RawDocumentBuf],
    srie: &[RawDocumentBuf],
) -> Verdict {
    let (temp, main, srie) = (by_user(temp), by_user(main), by_user(srie));
    for (user, version, _) in live(&by_user(temp_before)) {
        if holds_at_least(&temp, user, version) {
            continue;
        }
        for (name, copies) in [("main", &main), ("srie", &srie)] {
            check(holds_at_least(copies, user, version), || {
                format!("{user} left temp at {version} and {name} holds nothing as new")
            })?;
        }
    }
    Ok(())
}

/// 4: what another program wrote into temp and is gone from there as it was, is in main and srie as it would be adopted, or in
/// temp: adopted, or changed by that program.
pub fn what_another_program_wrote_left_temp_for_main_and_srie(
    temp_before: &[RawDocumentBuf],
    temp: &[RawDocumentBuf],
    main: &[RawDocumentBuf],
    srie: &[RawDocumentBuf],
) -> Verdict {
    let foreign = |it: &&RawDocumentBuf| document::version(it).is_none() && is_live(it);
    for gone in temp_before.iter().filter(foreign) {
        let id = document::id(gone);
        if temp.iter().any(|it| document::id(it) == id) {
            continue;
        }
        let became = |it: &RawDocumentBuf| {
            is_live(it) && document::adopted_from(it) == Some(fingerprint(gone).as_str())
        };
        let is_moved = main.iter().any(became) && srie.iter().any(became);
        check(is_moved || temp.iter().any(became), || {
            format!("what another program wrote as {id} left temp and is nowhere")
        })?;
    }
    Ok(())
}

/// 5: a live document in temp is never older than main's live one, unless it is quarantined.
pub fn temp_never_holds_a_lower_live_version_than_main(
    temp: &[RawDocumentBuf],
    main: &[RawDocumentBuf],
    quarantined: &[&str],
) -> Verdict {
    let main: BTreeMap<_, _> = live(&by_user(main))
        .map(|(user, version, _)| (user, version))
        .collect();
    for (user, version, _) in live(&by_user(temp)) {
        let newer = main.get(user).filter(|main| **main > version);
        check(newer.is_none() || quarantined.contains(&user), || {
            format!("{user} is live in temp at {version} and in main at a higher version")
        })?;
    }
    Ok(())
}

/// 6: copies of one user at one version have one state and, where they are live, one digest.
pub fn equal_versions_have_equal_digests(databases: &[&[RawDocumentBuf]]) -> Verdict {
    let mut seen: BTreeMap<(&str, Version), (Option<State>, Digest)> = BTreeMap::new();
    for copy in databases.iter().copied().flatten() {
        let (Some(user), Some(version)) = (document::user_id(copy), document::version(copy)) else {
            continue;
        };
        let state = document::state(copy);
        if state == Some(State::Entering) {
            continue;
        }
        let this = (state, Digest::of(copy));
        let other = seen.entry((user, version)).or_insert_with(|| this.clone());
        check(other.0 == this.0, || {
            format!("{user} is live in one database and erased in another, both at {version}")
        })?;
        check(state != Some(State::Live) || other.1 == this.1, || {
            format!("{user} has two contents at {version}")
        })?;
    }
    Ok(())
}

/// 6: the digest that a copy in main or srie says it has is the digest of its content.
pub fn claimed_digests_are_true(copies: &[RawDocumentBuf]) -> Verdict {
    for copy in copies.iter().filter(|copy| is_live(copy)) {
        if let Some(claimed) = Digest::claimed_by(copy) {
            check(claimed == Digest::of(copy), || {
                format!("{} is not what its digest says", document::id(copy))
            })?;
        }
    }
    Ok(())
}

/// 7: of an erased user no copy from before the erasure can become visible again. `erased` names users
/// with the version of their tombstones.
pub fn erased_content_never_comes_back(
    erased: &[(&str, Version)],
    databases: &[&[RawDocumentBuf]],
) -> Verdict {
    for copy in databases.iter().copied().flatten() {
        for (user, tombstone) in erased {
            let theirs = document::user_id(copy) == Some(*user);
            let older = document::version(copy).is_none_or(|version| version < *tombstone);
            let content = document::state(copy) != Some(State::Erased);
            check(!(theirs && older && content), || {
                format!("{user} was erased at {tombstone}, and an older copy is there again")
            })?;
        }
    }
    Ok(())
}

/// 8: what is in a database now is not older than what was there before.
pub fn versions_never_fall(before: &[RawDocumentBuf], after: &[RawDocumentBuf]) -> Verdict {
    let after = by_user(after);
    for (user, earlier) in by_user(before) {
        if let (Some(was), Some(is)) = (
            document::version(earlier),
            after.get(user).and_then(|later| document::version(later)),
        ) {
            check(is >= was, || format!("{user} fell from {was} to {is}"))?;
        }
    }
    Ok(())
}

/// The records, and a pending one for each move that an intent names and that has none yet.
pub fn with_announced(
    mut records: Vec<RawDocumentBuf>,
    intents: &[RawDocumentBuf],
) -> Vec<RawDocumentBuf> {
    for intent in intents {
        let intent = Intent::read(intent).expect("an intent");
        for announced in intent.records() {
            let id = |record: &RawDocumentBuf| record.get_object_id("_id").ok();
            if !records.iter().any(|record| id(record) == id(&announced)) {
                records.push(announced);
            }
        }
    }
    records
}

/// 9: there is at most one migration record of each user and version.
pub fn each_user_and_version_has_at_most_one_record(records: &[RawDocumentBuf]) -> Verdict {
    let mut seen = BTreeSet::new();
    for record in records {
        if let (Ok(user), Ok(version)) = (record.get_str("user_id"), record.get_i64("version")) {
            check(seen.insert((user, version)), || {
                format!("{user} has two records of {version}")
            })?;
        }
    }
    Ok(())
}

/// 9: what was live in temp before and is gone now has a record. Erased users aside, a document leaves temp
/// only by moving.
pub fn what_left_temp_has_a_record(
    temp_before: &[RawDocumentBuf],
    temp: &[RawDocumentBuf],
    records: &[RawDocumentBuf],
) -> Verdict {
    let temp = by_user(temp);
    for (user, version, _) in live(&by_user(temp_before)) {
        let recorded = records.iter().any(|record| {
            record.get_str("user_id").ok() == Some(user)
                && record.get_i64("version").ok() == Some(version.get())
        });
        check(temp.contains_key(user) || recorded, || {
            format!("{user} left temp at {version} and no record says so")
        })?;
    }
    Ok(())
}

/// 9: a move that has a record, or is named by an intent, keeps it. That of a document of another program aside, which may be
/// withdrawn before anything is copied.
pub fn what_was_recorded_stays_recorded(
    before: &[RawDocumentBuf],
    after: &[RawDocumentBuf],
) -> Verdict {
    let id = |record: &RawDocumentBuf| record.get_object_id("_id").ok();
    let left: BTreeSet<_> = after.iter().filter_map(id).collect();
    let is_own = |record: &&RawDocumentBuf| record.get_str("adopted_from").is_err();
    for record in before.iter().filter(is_own) {
        check(id(record).is_none_or(|id| left.contains(&id)), || {
            let user = record.get_str("user_id").unwrap_or_default();
            format!("the record of a move of {user} is gone")
        })?;
    }
    Ok(())
}

/// 9: what a completed record says was moved is in main and srie.
pub fn completed_records_are_in_main_and_srie(
    records: &[RawDocumentBuf],
    main: &[RawDocumentBuf],
    srie: &[RawDocumentBuf],
) -> Verdict {
    let (main, srie) = (by_user(main), by_user(srie));
    for record in records {
        if record.get_str("status").ok() != Some("completed") {
            continue;
        }
        let version = record.get_i64("version").ok().and_then(Version::new);
        if let (Ok(user), Some(version)) = (record.get_str("user_id"), version) {
            for (name, copies) in [("main", &main), ("srie", &srie)] {
                check(holds_at_least(copies, user, version), || {
                    format!("the record of {user} at {version} is completed without {name}")
                })?;
            }
        }
    }
    Ok(())
}

/// 10: every document of `external_users` belongs to an external user.
pub fn internal_ids_stay_out_of_external_users(external: &[RawDocumentBuf]) -> Verdict {
    only_users_with("external_", "external_users", external)
}

/// 10: every document of temp, main or srie belongs to an internal user.
pub fn external_ids_stay_in_external_users(internal: &[RawDocumentBuf]) -> Verdict {
    only_users_with("internal_", "an internal database", internal)
}

fn only_users_with(prefix: &str, database: &str, documents: &[RawDocumentBuf]) -> Verdict {
    for stored in documents {
        let user = document::user_id(stored).unwrap_or("nobody");
        check(user.starts_with(prefix), || {
            format!("{database} holds a document of {user}")
        })?;
    }
    Ok(())
}

/// 11: a live document in main whose backup is completed has one in srie, the same or a newer one.
pub fn completed_backups_exist(main: &[RawDocumentBuf], srie: &[RawDocumentBuf]) -> Verdict {
    let srie = by_user(srie);
    for (user, version, copy) in live(&by_user(main)) {
        if document::backup_status(copy) != Some("completed") {
            continue;
        }
        check(holds_at_least(&srie, user, version), || {
            format!("{user} has a completed backup at {version}, and srie holds none as new")
        })?;
    }
    Ok(())
}

/// 12: nothing has left temp that was staged later than `retention` before `now`. Erased users aside,
/// a document leaves temp only by moving.
pub fn nothing_moves_before_its_retention(
    temp_before: &[RawDocumentBuf],
    temp: &[RawDocumentBuf],
    now: DateTime,
    retention: Duration,
) -> Verdict {
    let temp = by_user(temp);
    for (user, version, copy) in live(&by_user(temp_before)) {
        let due = document::staged_at(copy).is_some_and(|at| clock::after(at, retention) <= now);
        check(due || temp.contains_key(user), || {
            format!("{user} at {version} left temp before its time")
        })?;
    }
    Ok(())
}

/// When faults have stopped: nothing that is due is left in temp.
pub fn temp_drains(temp: &[RawDocumentBuf], now: DateTime, retention: Duration) -> Verdict {
    for (user, version, copy) in live(&by_user(temp)) {
        let due = document::staged_at(copy).is_some_and(|at| clock::after(at, retention) <= now);
        check(!due, || {
            format!("{user} at {version} is due and still in temp")
        })?;
    }
    Ok(())
}

/// When faults have stopped: main and srie hold the same users at the same versions.
pub fn main_equals_srie(main: &[RawDocumentBuf], srie: &[RawDocumentBuf]) -> Verdict {
    let (in_main, in_srie) = (by_user(main), by_user(srie));
    for (user, version, _) in live(&in_main) {
        let backup = in_srie.get(user).and_then(|copy| document::version(copy));
        check(backup == Some(version), || {
            format!("{user} is in main at {version} and not so in srie")
        })?;
    }
    for (user, version, _) in live(&in_srie) {
        let original = in_main.get(user).and_then(|copy| document::version(copy));
        check(original == Some(version), || {
            format!("{user} is in srie at {version} and not so in main")
        })?;
    }
    equal_versions_have_equal_digests(&[main, srie])
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::raw::cstr;
    use bson::rawdoc;
    use tierkeep_core::document::Location;

    use super::*;
    use crate::documents::{NativeUser, native_user, seed_user};

    const HOUR: Duration = Duration::from_hours(1);

    fn user(n: u32, version: i64) -> RawDocumentBuf {
        native_user(n, version).build()
    }

    fn moved(n: u32, version: i64) -> RawDocumentBuf {
        native_user(n, version).at(Location::Main).build()
    }

    fn erased(n: u32, version: i64) -> RawDocumentBuf {
        native_user(n, version).state(State::Erased).build()
    }

    fn other(n: u32, version: i64) -> RawDocumentBuf {
        let other = native_user(n, version).content(rawdoc! { "other": 1 });
        other.build()
    }

    #[test]
    fn a_moved_document_breaks_nothing_and_a_lost_one_does() {
        let before = [user(1, 3), seed_user(2, DateTime::from_millis(0))];
        let there = [moved(1, 3)];
        let all = what_left_temp_is_in_main_and_srie;
        assert_eq!(all(&before, &[], &there, &there), Ok(()));
        assert_eq!(all(&before, &[], &[moved(1, 9)], &there), Ok(()));
        assert_eq!(all(&before, &[erased(1, 4)], &[], &[]), Ok(()));
        assert!(all(&before, &[], &there, &[]).unwrap_err().contains("srie"));
        assert!(
            all(&before, &[], &[moved(1, 2)], &there)
                .unwrap_err()
                .contains("main")
        );

        let acknowledged = acknowledged_documents_are_in_temp_or_main;
        assert_eq!(acknowledged(&before, &[], &there), Ok(()));
        assert_eq!(acknowledged(&before, &[user(1, 4)], &[]), Ok(()));
        assert!(acknowledged(&before, &[user(1, 2)], &[]).is_err());
        let entering = native_user(1, 3)
            .entering("n", DateTime::from_millis(0))
            .build();
        assert!(acknowledged(&before, &[entering], &[]).is_err());
    }

    #[test]
    fn one_version_with_two_contents_is_found() {
        let equal = equal_versions_have_equal_digests;
        assert_eq!(
            equal(&[&[user(1, 3)], &[moved(1, 3)], &[moved(1, 3)]]),
            Ok(())
        );
        assert_eq!(equal(&[&[user(1, 3)], &[other(1, 2)]]), Ok(()));
        assert!(equal(&[&[user(1, 3)], &[other(1, 3)]]).is_err());
        assert!(equal(&[&[user(1, 3)], &[erased(1, 3)]]).is_err());

        let digest = Digest::of(&moved(1, 3));
        let claims = native_user(1, 3).at(Location::Main);
        let claims = |text: &str| claims.clone().set_meta("digest", text).build();
        assert_eq!(claimed_digests_are_true(&[claims(digest.as_str())]), Ok(()));
        assert!(claimed_digests_are_true(&[claims("00")]).is_err());
    }

    #[test]
    fn a_stale_document_in_temp_is_found_unless_it_is_quarantined() {
        let lower = temp_never_holds_a_lower_live_version_than_main;
        assert_eq!(lower(&[user(1, 3)], &[moved(1, 3)], &[]), Ok(()));
        assert_eq!(lower(&[erased(1, 2)], &[moved(1, 3)], &[]), Ok(()));
        assert!(lower(&[user(1, 2)], &[moved(1, 3)], &[]).is_err());
        let quarantined = [native_user(1, 1).id().to_owned()];
        assert_eq!(
            lower(&[user(1, 2)], &[moved(1, 3)], &[&quarantined[0]]),
            Ok(())
        );
    }

    #[test]
    fn erased_content_that_comes_back_is_found() {
        let id = native_user(1, 1).id().to_owned();
        let tombstone = Version::new(1 << 40).unwrap();
        let comes_back = |copy| erased_content_never_comes_back(&[(&id, tombstone)], &[&[copy]]);
        assert_eq!(comes_back(erased(1, 1 << 40)), Ok(()));
        assert_eq!(comes_back(user(1, (1 << 40) + 1)), Ok(()));
        assert_eq!(comes_back(user(2, 1)), Ok(()));
        assert!(comes_back(user(1, 7)).is_err());
        assert!(
            comes_back(
                native_user(1, 7)
                    .entering("n", DateTime::from_millis(0))
                    .build()
            )
            .is_err()
        );
    }

    #[test]
    fn a_falling_version_is_found() {
        assert_eq!(versions_never_fall(&[user(1, 3)], &[user(1, 3)]), Ok(()));
        assert_eq!(versions_never_fall(&[user(1, 3)], &[]), Ok(()));
        assert!(versions_never_fall(&[user(1, 3)], &[user(1, 2)]).is_err());
    }

    #[test]
    fn records_are_held_against_the_databases() {
        let id = native_user(1, 1).id().to_owned();
        let record =
            |status| rawdoc! { "user_id": id.as_str(), "version": 3_i64, "status": status };
        let once = each_user_and_version_has_at_most_one_record;
        assert_eq!(once(&[record("failed")]), Ok(()));
        assert!(once(&[record("failed"), record("pending")]).is_err());
        let there = [moved(1, 3)];
        let stays = what_was_recorded_stays_recorded;
        let named = || {
            let mut named = record("pending");
            named.append(cstr!("_id"), ObjectId::from_bytes([1; 12]));
            named
        };
        assert_eq!(stays(&[named()], &[named()]), Ok(()));
        assert!(stays(&[named()], &[]).is_err());
        let mut foreign = named();
        foreign.append(cstr!("adopted_from"), "a fingerprint");
        assert_eq!(stays(&[foreign], &[]), Ok(()));

        let completed = completed_records_are_in_main_and_srie;
        assert_eq!(completed(&[record("completed")], &there, &there), Ok(()));
        assert_eq!(completed(&[record("pending")], &[], &[]), Ok(()));
        assert!(completed(&[record("completed")], &there, &[]).is_err());
        assert_eq!(completed_backups_exist(&there, &there), Ok(()));
        assert!(completed_backups_exist(&there, &[]).is_err());
    }

    #[test]
    fn a_user_in_the_wrong_database_is_found() {
        let outside = tierkeep_core::user::UserId::external("srie06").unwrap();
        let outside = [NativeUser::new(&outside, 1).build()];
        assert_eq!(internal_ids_stay_out_of_external_users(&outside), Ok(()));
        assert!(internal_ids_stay_out_of_external_users(&[user(1, 1)]).is_err());
        assert_eq!(external_ids_stay_in_external_users(&[user(1, 1)]), Ok(()));
        assert!(external_ids_stay_in_external_users(&outside).is_err());
    }

    #[test]
    fn time_is_held_against_the_retention() {
        let at = DateTime::from_millis(1_000_000);
        let before = [native_user(1, 1).dated(at).build()];
        let due = clock::after(at, HOUR);
        let early = clock::shifted(due, -1);
        assert!(nothing_moves_before_its_retention(&before, &[], early, HOUR).is_err());
        assert_eq!(
            nothing_moves_before_its_retention(&before, &[], due, HOUR),
            Ok(())
        );
        assert_eq!(temp_drains(&before, early, HOUR), Ok(()));
        assert!(temp_drains(&before, due, HOUR).is_err());
    }

    #[test]
    fn a_backup_that_differs_is_found() {
        assert_eq!(main_equals_srie(&[moved(1, 3)], &[moved(1, 3)]), Ok(()));
        assert!(main_equals_srie(&[moved(1, 3)], &[]).is_err());
        assert!(main_equals_srie(&[], &[moved(1, 3)]).is_err());
        assert!(main_equals_srie(&[moved(1, 3)], &[moved(1, 2)]).is_err());
        assert!(main_equals_srie(&[moved(1, 3)], &[other(1, 3)]).is_err());
    }
}
