//! What is done to a trail is found, and named by its place.

use bson::raw::RawDocumentBuf;
use bson::{DateTime, Document, doc};
use proptest::prelude::*;

use super::*;
use crate::user::UserId;

fn key() -> AuditKey {
    AuditKey::new(b"the key of the tests")
}

fn draft(n: i64) -> Draft {
    let user = UserId::external("reader").unwrap();
    Draft::new(
        format!("id {n}"),
        AuditKind::Decision,
        DateTime::from_millis(n),
    )
    .about((n % 2 == 0).then_some(&user))
    .by(Some("somebody"))
    .decided("external")
    .because("the request names a public user")
    .within((n % 3 == 0).then_some("r-1"))
}

fn trail(length: i64) -> Vec<RawDocumentBuf> {
    let mut head = Head::EMPTY;
    (1..=length).map(|n| push(&mut head, draft(n))).collect()
}

fn push(head: &mut Head, draft: Draft) -> RawDocumentBuf {
    let entry = head.then(draft, &key());
    *head = Head::from(&entry);
    entry.to_document().unwrap()
}

fn head_of(trail: &[RawDocumentBuf]) -> Head {
    trail
        .last()
        .map_or(Head::EMPTY, |last| Head::from(&Entry::read(last).unwrap()))
}

/// As a database would hand it out: by `_id`.
fn walk(trail: &[RawDocumentBuf], noted: Option<Head>) -> Found {
    let mut ordered = trail.to_vec();
    ordered.sort_by_key(|document| crate::store::id_order(&document::id(document)));
    let mut walk = Verifier::new(key(), noted);
    for document in &ordered {
        walk.next(document);
    }
    walk.finish()
}

fn with(document: &RawDocumentBuf, change: impl FnOnce(&mut Document)) -> RawDocumentBuf {
    let mut changed = Document::try_from(document).unwrap();
    change(&mut changed);
    RawDocumentBuf::try_from(&changed).unwrap()
}

#[test]
fn an_unchanged_trail_is_intact() {
    for length in [0, 1, 2, 50] {
        let trail = trail(length);
        let found = walk(&trail, Some(head_of(&trail)));
        assert_eq!(found.violations, []);
        assert_eq!(
            (found.verdict, found.head),
            (Verdict::Whole, head_of(&trail))
        );
        assert!(found.compared);
    }
}

#[test]
fn a_tail_that_was_cut_off_is_found_against_a_noted_head_alone() {
    let mut trail = trail(10);
    let noted = head_of(&trail);
    trail.truncate(7);
    assert_eq!(walk(&trail, None).violations, []);
    let cut = Violation::CutOff {
        ends_at: 7,
        noted: 10,
    };
    assert_eq!(walk(&trail, Some(noted)).violations, [cut]);
}

#[test]
fn a_tail_that_was_written_anew_is_found_against_a_noted_head() {
    let mut trail = trail(10);
    let noted = head_of(&trail);
    trail.truncate(9);
    let mut head = head_of(&trail);
    trail.push(push(&mut head, draft(11)));
    trail.push(push(&mut head, draft(12)));
    assert_eq!(walk(&trail, None).violations, []);
    let rewritten = Violation::Rewritten { seq: 10 };
    assert_eq!(walk(&trail, Some(noted)).violations, [rewritten]);
}

#[test]
fn another_key_makes_every_entry_an_altered_one() {
    let mut walk = Verifier::new(AuditKey::new(b"another"), None);
    for document in &trail(3) {
        walk.next(document);
    }
    let altered = |seq| Violation::Altered { seq };
    assert_eq!(walk.finish().violations, [1, 2, 3].map(altered));
}

#[test]
fn entries_that_change_places_are_named() {
    let mut swapped = trail(6);
    let (third, fourth) = (swapped[2].clone(), swapped[3].clone());
    swapped[2] = with(&fourth, |it| _ = it.insert("_id", 3_i64));
    swapped[3] = with(&third, |it| _ = it.insert("_id", 4_i64));
    let displaced = |id: i64, seq| Violation::Displaced {
        id: id.to_string(),
        seq: Some(seq),
    };
    let said = walk(&swapped, None).violations;
    assert_eq!(said, [displaced(4, 3), displaced(3, 4)]);
}

#[test]
fn an_entry_that_is_there_twice_is_named() {
    let mut doubled = trail(4);
    doubled.push(with(&doubled[1], |it| _ = it.insert("_id", "2")));
    let again = Violation::Displaced {
        id: "\"2\"".into(),
        seq: Some(2),
    };
    assert_eq!(walk(&doubled, None).violations, [again]);
}

#[test]
fn what_was_pruned_is_vouched_for_by_a_checkpoint() {
    let mut trail = trail(10);
    let through = Head::from(&Entry::read(&trail[5]).unwrap());
    let mut head = head_of(&trail);
    let checkpoint = Draft::new("c".into(), AuditKind::Checkpoint, DateTime::from_millis(11));
    trail.push(push(&mut head, checkpoint.because(&through.checkpoint())));
    trail.push(push(&mut head, draft(12)));
    assert_eq!(
        walk(&trail, Some(through)).violations,
        [],
        "before its deletion"
    );
    let halfway = [&trail[..1], &trail[4..]].concat();
    assert_eq!(walk(&halfway, None).violations, [], "amidst its deletion");
    let pruned = trail.split_off(6);
    let found = walk(&pruned, Some(through));
    assert_eq!((found.violations, found.pruned_through), (vec![], 6));
    assert!(found.compared);
    let older = Head {
        count: 3,
        ..through
    };
    assert!(!walk(&pruned, Some(older)).compared);

    let more = walk(&pruned[1..], None).violations;
    assert_eq!(more, [Violation::Missing { from: 7, to: 7 }]);
    let forged = [&pruned[..4], &pruned[5..]].concat();
    let more = walk(&forged, None).violations;
    assert_eq!(
        more,
        [
            Violation::Missing { from: 1, to: 6 },
            Violation::Missing { from: 11, to: 11 }
        ],
        "without the checkpoint"
    );
}

#[test]
fn a_head_is_read_as_it_is_written_and_nothing_else_is() {
    let head = head_of(&trail(3));
    assert_eq!(Head::parse(&head.to_string()), Some(head));
    for wrong in ["", "3", ":", "3:", "-1:00", "x:y", &format!("{head}0")] {
        assert_eq!(Head::parse(wrong), None, "{wrong}");
    }
    let upper = head.to_string().to_uppercase();
    assert_eq!(Head::parse(&upper), None);
}

#[test]
fn a_line_of_a_spool_is_read_as_it_was_written() {
    let draft = draft(6);
    let line = serde_json::to_string(&draft).unwrap();
    assert_eq!(serde_json::from_str::<Draft>(&line).unwrap(), draft);
}

#[derive(Clone, Debug)]
enum Deed {
    Delete,
    Swap,
    Double,
    Set(&'static str, String),
    Null(&'static str),
    Add(String),
    Renumber(i64),
}

fn arb_deed() -> impl Strategy<Value = Deed> {
    let text = prop::sample::select(vec![
        "entry_id",
        "kind",
        "user_id",
        "actor",
        "decision",
        "reason",
        "request_id",
        "database",
        "prev",
        "hash",
    ]);
    let nullable = prop::sample::select(vec!["actor", "decision", "reason", "at", "prev"]);
    prop_oneof![
        Just(Deed::Delete),
        Just(Deed::Swap),
        Just(Deed::Double),
        (text, "[a-z0-9 ]{0,8}").prop_map(|(name, value)| Deed::Set(name, value)),
        nullable.prop_map(Deed::Null),
        "[a-z]{1,6}x".prop_map(Deed::Add),
        (50_i64..90).prop_map(Deed::Renumber),
    ]
}

/// Does it to the entry at `seq`; the places that must be named: one of them.
fn perform(trail: &mut Vec<RawDocumentBuf>, seq: i64, deed: &Deed) -> Vec<i64> {
    let at = usize::try_from(seq).unwrap() - 1;
    let entry = trail[at].clone();
    match deed {
        Deed::Delete => {
            trail.remove(at);
        }
        Deed::Swap => {
            let next = trail[at + 1].clone();
            let renumbered = |document, seq: i64| {
                with(document, |it| {
                    it.insert("_id", seq);
                    it.insert("seq", seq);
                })
            };
            trail[at] = renumbered(&next, seq);
            trail[at + 1] = renumbered(&entry, seq + 1);
        }
        Deed::Double => trail.push(with(&entry, |it| _ = it.insert("_id", 99_i64))),
        Deed::Set(name, value) => trail[at] = with(&entry, |it| _ = it.insert(*name, value)),
        Deed::Null(name) => trail[at] = with(&entry, |it| _ = it.insert(*name, bson::Bson::Null)),
        Deed::Add(name) => trail[at] = with(&entry, |it| _ = it.insert(name, 1)),
        Deed::Renumber(to) => {
            trail[at] = with(&entry, |it| {
                it.extend(doc! { "_id": *to, "seq": *to });
            });
        }
    }
    match deed {
        Deed::Swap => vec![seq, seq + 1],
        Deed::Delete
        | Deed::Double
        | Deed::Set(..)
        | Deed::Null(_)
        | Deed::Add(_)
        | Deed::Renumber(_) => vec![seq],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_to_an_entry_is_found_and_named(
        length in 4_i64..40, at in any::<prop::sample::Index>(), deed in arb_deed(),
    ) {
        let mut trail = trail(length);
        let before = trail.clone();
        // The last entry is only found missing against a noted head, which has a test of its own.
        let seq = 1 + i64::try_from(at.index(usize::try_from(length).unwrap() - 1)).unwrap();
        let places = perform(&mut trail, seq, &deed);
        prop_assume!(trail != before);
        let found = walk(&trail, None);
        prop_assert_eq!(found.verdict, Verdict::Broken);
        let named = found.violations.iter().any(|violation| match violation {
            Violation::Missing { from, to } => places.iter().any(|it| (from..=to).contains(&it)),
            Violation::Altered { seq } | Violation::Unlinked { seq }
            | Violation::Rewritten { seq } => places.contains(seq),
            Violation::Displaced { seq, .. } => seq.is_some_and(|seq| places.contains(&seq)),
            Violation::CutOff { .. } => false,
        });
        prop_assert!(named, "{:?} of {}: {:?}", deed, seq, found.violations);
        prop_assert!(found.violations.len() <= 5, "{:?}", found.violations);
    }
}
