//! What a batch does with each answer.

use bson::doc;

use bson::oid::ObjectId;

use super::super::item::Original;
use super::*;
use crate::digest::Digest;
use crate::user::UserId;

fn planned(n: u8, version: i64) -> Planned {
    let copy = RawDocumentBuf::try_from(&doc! { "n": i32::from(n), "v": version }).unwrap();
    Planned {
        item: Item {
            user: UserId::internal(&format!("{n:024x}")).unwrap(),
            version: Version::new(version).unwrap(),
            digest: Digest::of(&copy),
            size: 1,
            record: ObjectId::from_bytes([n; 12]),
            original: None,
        },
        copy,
    }
}

/// As [`planned`], of another program, not adopted.
fn foreign(n: u8, version: i64) -> Planned {
    let mut planned = planned(n, version);
    planned.item.original = Some(Original {
        document: planned.copy.clone(),
        fingerprint: String::new(),
    });
    planned
}

fn seen(planned: &Planned, version: i64) -> Seen {
    Seen {
        version: Version::new(version).unwrap(),
        digest: planned.item.digest.clone(),
        is_as_claimed: true,
    }
}

fn copies(planned: &[Planned]) -> Copies<'_> {
    Copies {
        items: planned.iter().map(|plan| &plan.item).collect(),
        documents: planned.iter().map(|plan| plan.copy.clone()).collect(),
    }
}

fn recorded(planned: &[Planned]) -> Batch {
    Batch::new(planned.to_vec())
        .observe(Observation::Claims(vec![true; planned.len()]))
        .and_then(|b| {
            b.observe(Observation::Recorded(vec![
                Recorded::Announced;
                planned.len()
            ]))
        })
        .unwrap()
}

fn at_check(planned: &[Planned]) -> Batch {
    let settled = || Observation::Copied(vec![Copied::Settled; planned.len()]);
    recorded(planned)
        .observe(settled())
        .and_then(|b| b.observe(settled()))
        .unwrap()
}

/// What other programs wrote needs no second look at the claims.
fn recorded_foreign(planned: &[Planned]) -> Batch {
    Batch::new(planned.to_vec())
        .observe(Observation::Recorded(vec![
            Recorded::Announced;
            planned.len()
        ]))
        .unwrap()
}

fn standing(planned: &[Planned]) -> Batch {
    recorded_foreign(planned)
        .observe(Observation::Temp(vec![SeenInTemp::Same; planned.len()]))
        .unwrap()
}

fn foreign_at_check(planned: &[Planned]) -> Batch {
    let settled = || Observation::Copied(vec![Copied::Settled; planned.len()]);
    standing(planned)
        .observe(settled())
        .and_then(|b| b.observe(settled()))
        .unwrap()
}

#[test]
fn temp_is_removed_only_after_both_copies_are_verified() {
    let good = planned(1, 5);
    let missing = planned(2, 5);
    let stale = planned(3, 5);
    let batch = at_check(&[good.clone(), missing.clone(), stale.clone()]);
    let batch = batch
        .observe(Observation::ReadBack(vec![
            (Some(seen(&good, 5)), Some(seen(&good, 5))),
            (None, Some(seen(&missing, 5))),
            (Some(seen(&stale, 5)), Some(seen(&stale, 4))),
        ]))
        .unwrap();
    assert_eq!(batch.action(), Action::Erasures(vec![&good.item]));
    let batch = batch.observe(Observation::Erasures(vec![false])).unwrap();
    assert_eq!(batch.action(), Action::Delete(vec![&good.item]));
    let batch = batch
        .observe(Observation::Deleted)
        .and_then(|b| b.observe(Observation::Temp(vec![SeenInTemp::Gone])))
        .and_then(|b| b.observe(Observation::Completed))
        .unwrap();
    assert_eq!(batch.action(), Action::Done);
    let fates: Vec<Fate> = batch.fates().map(|(_, fate)| fate).collect();
    assert_eq!(fates, [Fate::Moved, Fate::Deferred, Fate::Deferred]);
}

#[test]
fn equal_versions_with_other_content_are_a_conflict() {
    let (one, other) = (planned(1, 5), planned(2, 5));
    let batch = at_check(std::slice::from_ref(&one));
    let lie = Seen {
        version: one.item.version,
        digest: other.item.digest,
        is_as_claimed: true,
    };
    let batch = batch
        .observe(Observation::ReadBack(vec![(
            Some(seen(&one, 5)),
            Some(lie),
        )]))
        .unwrap();
    assert_eq!(batch.action(), Action::Done);
    assert!(matches!(batch.fates().next(), Some((_, Fate::Conflict(_)))));
}

#[test]
fn a_newer_copy_is_a_conflict_only_while_temp_holds_what_moves() {
    let one = planned(1, 5);
    for (temp, conflict) in [
        (SeenInTemp::Same, true),
        (SeenInTemp::Gone, false),
        (SeenInTemp::Other, false),
    ] {
        let batch = at_check(std::slice::from_ref(&one))
            .observe(Observation::ReadBack(vec![(
                Some(seen(&one, 7)),
                Some(seen(&one, 7)),
            )]))
            .and_then(|b| b.observe(Observation::Erasures(vec![false])))
            .and_then(|b| b.observe(Observation::Temp(vec![temp])))
            .unwrap();
        assert_eq!(batch.phase(), Phase::Done);
        let (_, fate) = batch.fates().next().unwrap();
        assert_eq!(
            matches!(fate, Fate::Conflict(_)),
            conflict,
            "{temp:?}: {fate:?}"
        );
    }
}

#[test]
fn where_everything_went_temp_is_not_asked_for_survivors() {
    let moving = planned(1, 5);
    let both = (Some(seen(&moving, 5)), Some(seen(&moving, 5)));
    let batch = at_check(std::slice::from_ref(&moving))
        .observe(Observation::ReadBack(vec![both]))
        .and_then(|b| b.observe(Observation::Erasures(vec![false])))
        .and_then(|b| b.observe(Observation::DeletedAll))
        .unwrap();
    assert_eq!(batch.action(), Action::Complete(vec![&moving.item]));
}

#[test]
fn only_a_user_s_one_document_moves_and_only_with_its_record() {
    let (shared, unrecorded, good) = (planned(1, 1), planned(2, 1), planned(3, 1));
    let all = vec![shared.clone(), unrecorded.clone(), good.clone()];
    for batch in [Batch::new(all.clone()), Batch::to_clean_up(all)] {
        assert!(matches!(batch.action(), Action::Claims(_)));
        let batch = batch
            .observe(Observation::Claims(vec![false, true, true]))
            .unwrap();
        let moving: Vec<&Item> = if let Action::ReadBack(moving) = batch.action() {
            moving.items
        } else if let Action::Record(moving) = batch.action() {
            moving
        } else {
            panic!("{batch:?}")
        };
        assert_eq!(moving, [&unrecorded.item, &good.item]);
    }
    let batch = Batch::new(vec![shared, unrecorded, good.clone()])
        .observe(Observation::Claims(vec![false, true, true]))
        .and_then(|b| {
            b.observe(Observation::Recorded(vec![
                Recorded::Stays(Copied::Rejected("code 121".into())),
                Recorded::Announced,
            ]))
        })
        .unwrap();
    assert_eq!(
        batch.action(),
        Action::Copy(Target::Backup, copies(std::slice::from_ref(&good)))
    );
    let fates: Vec<Fate> = batch.fates().map(|(_, fate)| fate).collect();
    assert!(matches!(
        fates[0],
        Fate::Conflict(Quarantine::SeveralClaims(_))
    ));
    assert!(matches!(fates[1], Fate::Failed(_)));
}

#[test]
fn a_rejected_backup_never_reaches_main() {
    let (bad, good) = (planned(1, 1), planned(2, 1));
    let batch = recorded(&[bad, good.clone()])
        .observe(Observation::Copied(vec![
            Copied::Rejected("code 121".into()),
            Copied::Settled,
        ]))
        .unwrap();
    assert_eq!(
        batch.action(),
        Action::Copy(Target::Main, copies(std::slice::from_ref(&good)))
    );
}

#[test]
fn a_survivor_of_the_same_version_is_deleted_again_a_newer_one_waits() {
    let (same, newer) = (planned(1, 3), planned(2, 3));
    let batch = at_check(&[same.clone(), newer.clone()])
        .observe(Observation::ReadBack(vec![
            (Some(seen(&same, 3)), Some(seen(&same, 3))),
            (Some(seen(&newer, 3)), Some(seen(&newer, 3))),
        ]))
        .and_then(|b| b.observe(Observation::Erasures(vec![false, false])))
        .and_then(|b| b.observe(Observation::Deleted))
        .and_then(|b| b.observe(Observation::Temp(vec![SeenInTemp::Same, SeenInTemp::Other])))
        .unwrap();
    assert_eq!(batch.action(), Action::Delete(vec![&same.item]));
    let batch = batch
        .observe(Observation::Deleted)
        .and_then(|b| b.observe(Observation::Temp(vec![SeenInTemp::Gone])))
        .unwrap();
    assert_eq!(
        batch.action(),
        Action::Complete(vec![&same.item, &newer.item])
    );
    let fates: Vec<Fate> = batch
        .observe(Observation::Completed)
        .unwrap()
        .fates()
        .map(|(_, f)| f)
        .collect();
    assert_eq!(fates, [Fate::Moved, Fate::Superseded]);
}

#[test]
fn a_newer_copy_that_is_a_tombstone_is_no_conflict() {
    let one = planned(1, 3);
    let batch = at_check(std::slice::from_ref(&one))
        .observe(Observation::ReadBack(vec![(
            Some(seen(&one, 3)),
            Some(seen(&one, 1 << 40)),
        )]))
        .unwrap();
    assert_eq!(batch.action(), Action::Erasures(vec![&one.item]));
    let batch = batch.observe(Observation::Erasures(vec![true])).unwrap();
    assert_eq!(batch.action(), Action::Done);
    let fates: Vec<Fate> = batch.fates().map(|(_, fate)| fate).collect();
    assert_eq!(fates, [Fate::Erased]);
}

#[test]
fn what_was_erased_meanwhile_is_not_deleted_as_moved() {
    let (kept, erased) = (planned(1, 3), planned(2, 3));
    let batch = at_check(&[kept.clone(), erased.clone()])
        .observe(Observation::ReadBack(vec![
            (Some(seen(&kept, 3)), Some(seen(&kept, 3))),
            (Some(seen(&erased, 3)), Some(seen(&erased, 3))),
        ]))
        .and_then(|b| b.observe(Observation::Erasures(vec![false, true])))
        .unwrap();
    assert_eq!(batch.action(), Action::Delete(vec![&kept.item]));
    let fates: Vec<Fate> = batch.fates().map(|(_, fate)| fate).collect();
    assert_eq!(fates, [Fate::Deferred, Fate::Erased]);
}

#[test]
fn what_another_program_wrote_is_planned_again_where_copies_or_claims_contradict_it() {
    let one = foreign(1, 3);
    let another = || Quarantine::SeveralClaims(one.item.user.clone());
    let under_its_version = Seen {
        version: one.item.version,
        digest: planned(2, 3).item.digest,
        is_as_claimed: true,
    };
    let one_of = std::slice::from_ref(&one);
    let batches = [
        recorded_foreign(one_of).observe(Observation::Temp(vec![SeenInTemp::Gone])),
        recorded_foreign(one_of).observe(Observation::Temp(vec![SeenInTemp::Other])),
        standing(one_of).observe(Observation::Copied(vec![Copied::Contradicted(another())])),
        foreign_at_check(one_of)
            .observe(Observation::ReadBack(vec![(
                Some(seen(&one, 3)),
                Some(seen(&one, 4)),
            )]))
            .and_then(|b| b.observe(Observation::Erasures(vec![false])))
            .and_then(|b| b.observe(Observation::Temp(vec![SeenInTemp::Same]))),
        foreign_at_check(one_of).observe(Observation::ReadBack(vec![(
            Some(seen(&one, 3)),
            Some(under_its_version),
        )])),
    ];
    for batch in batches {
        let batch = batch.unwrap();
        assert_eq!(batch.action(), Action::Done);
        let fates: Vec<Fate> = batch.fates().map(|(_, fate)| fate).collect();
        assert_eq!(fates, [Fate::Deferred]);
    }
}

#[test]
fn a_copy_that_rotted_under_what_another_program_wrote_is_a_conflict() {
    let (one, other) = (foreign(1, 3), planned(2, 3));
    let rotten = Seen {
        version: one.item.version,
        digest: other.item.digest,
        is_as_claimed: false,
    };
    let batch = foreign_at_check(std::slice::from_ref(&one))
        .observe(Observation::ReadBack(vec![(
            Some(seen(&one, 3)),
            Some(rotten),
        )]))
        .unwrap();
    assert!(matches!(batch.fates().next(), Some((_, Fate::Conflict(_)))));
}

#[test]
fn answers_that_do_not_fit_are_refused() {
    let batch = Batch::new(vec![planned(1, 1)]);
    assert!(batch.observe(Observation::Deleted).is_err());
    let batch = recorded(&[planned(1, 1)]);
    assert!(batch.observe(Observation::Copied(Vec::new())).is_err());
}

#[test]
fn an_empty_batch_is_done() {
    assert_eq!(Batch::new(Vec::new()).action(), Action::Done);
}

#[test]
fn what_was_announced_and_did_not_move_needs_a_record() {
    let [good, refused, elsewhere] = [planned(1, 5), planned(2, 5), planned(3, 5)];
    let batch = Batch::new(vec![good.clone(), refused.clone(), elsewhere])
        .observe(Observation::Claims(vec![true; 3]))
        .unwrap();
    assert_eq!(batch.unfinished().count(), 0, "nothing was announced");
    let batch = batch
        .observe(Observation::Recorded(vec![
            Recorded::Announced,
            Recorded::Stays(Copied::Refused("an erasure is pending".into())),
            Recorded::Elsewhere,
        ]))
        .unwrap();
    let unfinished: Vec<&Item> = batch.unfinished().collect();
    assert_eq!(unfinished, [&good.item, &refused.item]);
    let settled = || Observation::Copied(vec![Copied::Settled]);
    let batch = batch
        .observe(settled())
        .and_then(|b| b.observe(settled()))
        .and_then(|b| {
            let copies = (Some(seen(&good, 5)), Some(seen(&good, 5)));
            b.observe(Observation::ReadBack(vec![copies]))
        })
        .and_then(|b| b.observe(Observation::Erasures(vec![false])))
        .and_then(|b| b.observe(Observation::DeletedAll))
        .and_then(|b| b.observe(Observation::Completed))
        .unwrap();
    let unfinished: Vec<&Item> = batch.unfinished().collect();
    assert_eq!(unfinished, [&refused.item]);
    let fates: Vec<Fate> = batch.fates().map(|(_, fate)| fate).collect();
    assert!(matches!(
        fates.as_slice(),
        [Fate::Moved, Fate::Held(_), Fate::Deferred]
    ));
}
