//! What two sides mean together, case by case.

use bson::{Bson, rawdoc};
use rstest::rstest;

use super::*;

const ID: &str = "internal_507f1f77bcf86cd799439011";

fn copy(version: i64, content: RawDocumentBuf) -> RawDocumentBuf {
    vouched(&rawdoc! {
        "_id": ID, "user_id": ID, "scan_cache": content,
        "metadata": { "version": version, "state": "live" },
    })
}

fn are_equal(main: &RawDocument, srie: &RawDocument) -> bool {
    let kind = CopyKind::Users;
    sound_version(main, kind).is_some() && equals_sound(main, srie, kind)
}

fn stone(version: i64) -> RawDocumentBuf {
    rawdoc! { "_id": ID, "user_id": ID, "metadata": { "version": version, "state": "erased" } }
}

/// Another content under the claim of before.
fn corrupted(document: &RawDocument) -> RawDocumentBuf {
    Edit::new()
        .set("scan_cache", rawdoc! { "n": 9 })
        .apply(document)
}

fn sight(main: Option<RawDocumentBuf>, srie: Option<RawDocumentBuf>) -> Sight {
    let found = |document: RawDocumentBuf| Found::of(&document, CopyKind::Users);
    Sight {
        main: main.map(found),
        srie: srie.map(found),
        ..Sight::default()
    }
}

fn n(number: i32) -> RawDocumentBuf {
    rawdoc! { "n": number }
}

#[rstest]
#[case(None, None, Verdict::Nothing)]
#[case(Some(copy(2, n(1))), Some(copy(2, n(1))), Verdict::Matched)]
#[case(Some(copy(2, n(1))), None, Verdict::Differs(Class::MissingInSrie))]
#[case(None, Some(copy(2, n(1))), Verdict::Differs(Class::Orphan))]
#[case(
    Some(copy(2, n(1))),
    Some(copy(1, n(1))),
    Verdict::Differs(Class::StaleInSrie)
)]
#[case(
    Some(copy(1, n(1))),
    Some(copy(2, n(1))),
    Verdict::Differs(Class::SrieAhead)
)]
#[case(
    Some(copy(2, n(1))),
    Some(copy(2, n(3))),
    Verdict::Differs(Class::Undecided)
)]
#[case(Some(copy(2, n(1))), Some(corrupted(&copy(2, n(1)))), Verdict::Differs(Class::CorruptSrie))]
#[case(Some(corrupted(&copy(2, n(1)))), Some(copy(2, n(1))), Verdict::Differs(Class::CorruptMain))]
#[case(Some(corrupted(&copy(2, n(1)))), Some(corrupted(&copy(2, n(1)))), Verdict::Differs(Class::Undecided))]
#[case(Some(stone(5)), None, Verdict::Nothing)]
#[case(None, Some(stone(5)), Verdict::Nothing)]
#[case(Some(stone(5)), Some(stone(5)), Verdict::Nothing)]
#[case(
    Some(copy(6, n(1))),
    Some(stone(5)),
    Verdict::Differs(Class::MissingInSrie)
)]
#[case(
    Some(stone(5)),
    Some(copy(4, n(1))),
    Verdict::Differs(Class::StaleInSrie)
)]
fn what_two_sides_mean(
    #[case] main: Option<RawDocumentBuf>,
    #[case] srie: Option<RawDocumentBuf>,
    #[case] verdict: Verdict,
) {
    assert_eq!(sight(main, srie).verdict(), verdict);
}

#[test]
fn a_type_or_an_order_of_keys_makes_a_difference() {
    let one = copy(2, rawdoc! { "a": 1, "b": 2 });
    for other in [rawdoc! { "a": 1_i64, "b": 2 }, rawdoc! { "b": 2, "a": 1 }] {
        let other = copy(2, other);
        assert!(!are_equal(&one, &other));
        let verdict = sight(Some(one.clone()), Some(other)).verdict();
        assert_eq!(verdict, Verdict::Differs(Class::Undecided));
    }
    assert!(are_equal(&one, &one));
    assert!(!are_equal(&corrupted(&one), &corrupted(&one)));
    assert!(!are_equal(&one, &corrupted(&one)));
    assert!(!are_equal(&stone(2), &stone(2)));
    let moved = Edit::new().set("data_location", "elsewhere").apply(&one);
    assert!(are_equal(&one, &moved), "where a copy stands is no content");
}

#[test]
fn copies_claim_to_be_equal_by_version_and_digest_and_live() {
    let one = copy(2, n(1));
    let claims = |document: &RawDocumentBuf| crate::store::Fields::Claims.of(document.clone());
    let claim_to_be_equal =
        |main: &RawDocument, srie: &RawDocument| claimed_version(main, srie).is_some();
    assert_eq!(claimed_version(&one, &one), Version::new(2));
    assert!(claim_to_be_equal(&claims(&one), &claims(&corrupted(&one))));
    for other in [copy(3, n(1)), copy(2, n(2)), stone(2)] {
        assert!(!claim_to_be_equal(&one, &other));
        assert!(!claim_to_be_equal(&claims(&one), &claims(&other)));
    }
    let erased = Edit::new().set_meta("state", "erased").apply(&one);
    assert!(
        !claim_to_be_equal(&erased, &erased),
        "where the state is read"
    );
    for claim in ["version", "digest"] {
        let none = document::without(&one, &[], &[claim]);
        assert!(!claim_to_be_equal(&none, &none), "without {claim}");
        let null = Edit::new()
            .set_meta(claim, bson::raw::RawBson::Null)
            .apply(&one);
        assert!(!claim_to_be_equal(&null, &null), "{claim} is null");
    }
    let int32 = Edit::new().set_meta("version", 2_i32).apply(&one);
    assert!(!claim_to_be_equal(&int32, &int32));
}

#[test]
fn what_temp_still_holds_is_in_flight_and_what_it_does_not_is_not() {
    let mut ahead = sight(Some(copy(1, n(1))), Some(copy(3, n(1))));
    for (temp, verdict) in [
        (3, Verdict::InFlight),
        (2, Verdict::Differs(Class::SrieAhead)),
    ] {
        ahead.temp = Version::new(temp);
        assert_eq!(ahead.verdict(), verdict);
    }
    // srie comes first, so that temp explains nothing that srie lacks.
    let mut missing = sight(Some(copy(3, n(1))), None);
    missing.temp = Version::new(3);
    assert_eq!(missing.verdict(), Verdict::Differs(Class::MissingInSrie));
}

#[test]
fn content_below_the_fence_belongs_to_no_user() {
    let mut below = sight(Some(copy(3, n(1))), Some(copy(3, n(1))));
    below.fence = Version::of_erasure(1);
    assert_eq!(below.verdict(), Verdict::Differs(Class::ErasedButPresent));
    assert_eq!(below.remedy(Some(Side::Main)), Some(Remedy::Bury));
    below.erasing = true;
    assert_eq!(below.verdict(), Verdict::InFlight);
}

#[test]
fn a_copy_of_another_program_is_what_it_would_be_adopted_as() {
    let seed = |id: i32| {
        rawdoc! {
            "_id": id, "user_id": ID, "created_at": bson::DateTime::from_millis(0),
            "scan_cache": n(1),
        }
    };
    let (one, other) = (seed(1), seed(2));
    assert_eq!(
        sight(Some(one.clone()), Some(other)).verdict(),
        Verdict::Matched
    );
    let read = adopt::foreign(&one, UserType::Internal).unwrap();
    let adopted = adopt::final_form(&one, &read, Location::Main, Version::FIRST);
    let adopted = vouched(&adopted);
    assert_eq!(
        sight(Some(adopted), Some(one.clone())).verdict(),
        Verdict::Matched
    );
    assert_eq!(
        sight(Some(copy(4, n(1))), Some(one)).verdict(),
        Verdict::Differs(Class::StaleInSrie)
    );
    let unreadable = rawdoc! { "_id": 1, "user_id": ID };
    assert_eq!(
        sight(Some(unreadable), None).verdict(),
        Verdict::Differs(Class::Unreadable)
    );
}

#[test]
fn nothing_is_copied_from_who_contradicts_himself_unless_he_is_preferred() {
    let newer = corrupted(&copy(2, n(1)));
    let stale = sight(Some(newer.clone()), Some(copy(1, n(1))));
    assert_eq!(stale.remedy(None), None);
    assert_eq!(stale.remedy(Some(Side::Srie)), None);
    let from = Side::Main;
    assert_eq!(stale.remedy(Some(from)), Some(Remedy::Copy { from }));
    let undecided = sight(Some(copy(2, n(1))), Some(copy(2, n(2))));
    assert_eq!(undecided.remedy(None), None);
    assert_eq!(undecided.remedy(Some(from)), Some(Remedy::Replace { from }));
    let corrupt = sight(Some(newer), Some(copy(2, n(1))));
    for prefer in [None, Some(Side::Main)] {
        let from = Side::Srie;
        assert_eq!(corrupt.remedy(prefer), Some(Remedy::Replace { from }));
    }
}

#[test]
fn names_are_those_of_the_kind() {
    let document = rawdoc! { "_id": "r1", "user_id": ID };
    assert_eq!(CopyKind::Users.key(&document), Some(ID));
    assert_eq!(CopyKind::Hr.key(&document), Some("r1"));
    assert_eq!(document::id(&document), Bson::String("r1".into()));
}
