//! A test for each row of the mapping of legacy documents.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use rstest::rstest;
use tierkeep::clock::SystemClock;
use tierkeep_core::bson;
use tierkeep_core::clock::Clock as _;
use tierkeep_core::db::Role;

use super::super::program::Backend;
use super::{
    LONG_AGO, LONG_AGO_TEXT, Predecessor, SUBJECT, at, import, outcomes, places, scan, stored,
};

const INTERNAL: &str = "internal_507f1f77bcf86cd799439011";
const MOVED: [(Role, &str); 2] = [(Role::RaseenMainUser, "main"), (Role::SrieMainUser, "main")];

fn is_at(places: &[(Role, String)], expected: &[(Role, &str)]) -> bool {
    let places = places.iter().map(|(role, place)| (*role, place.as_str()));
    places.eq(expected.iter().copied())
}

#[rstest]
#[case(doc! { "user_id": "external_SRIE06", "user_type": "internal" })]
#[case(doc! { "user_id": "srie06", "username": "SRIE06" })]
#[case(doc! { "user_id": "srie06", "username": "", "github_username": "Srie06" })]
#[case(doc! { "user_id": "", "username": "", "userId": "srie06" })]
#[tokio::test(flavor = "multi_thread")]
async fn external_ids_are_kept_or_named_by_the_user_name_in_lower_case(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[case] fields: Document,
) {
    let source = Predecessor::with(vec![("fast_scan_cache", scan(fields))]).await;
    let deployment = source.deployment(backend);
    assert_eq!(outcomes(&import(&deployment, &[])), [1, 0, 0, 0]);
    let places = places(&deployment, "external_srie06").await;
    assert!(
        is_at(&places, &[(Role::ExternalUsers, "external")]),
        "{places:?}"
    );
}

#[rstest]
#[case(doc! { "user_id": INTERNAL, "user_type": "external" })]
#[case(doc! { "user_id": "srie06", "authenticated_user_id": SUBJECT, "email": "someone@example.org" })]
#[case(doc! { "user_id": SUBJECT, "user_type": "internal", "username": "octocat" })]
#[case(doc! { "user_id": "octocat", "user_type": "internal", "username": "Octocat" })]
#[case(doc! { "user_id": "o.cat", "user_type": "internal", "username": "", "email": "O.Cat@Example.org" })]
#[tokio::test(flavor = "multi_thread")]
async fn internal_ids_are_kept_taken_from_the_login_or_joined_on_accounts(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[case] fields: Document,
) {
    let account = doc! {
        "_id": ObjectId::parse_str(SUBJECT).unwrap(), "email": "o.cat@example.org", "github_username": "octocat",
        "github_token": "gho_of_the_account", "user_type": "internal",
    };
    let source = Predecessor::with(vec![
        ("users", account),
        ("internal_scan_cache", scan(fields)),
    ])
    .await;
    let deployment = source.deployment(backend);
    let report = import(&deployment, &[]);
    assert_eq!(outcomes(&report), [1, 0, 1, 0], "{report}");
    assert_eq!(report["secrets_dropped"], 1);
    let places = places(&deployment, INTERNAL).await;
    assert!(is_at(&places, &MOVED), "{places:?}");
    let explained = deployment.json(&["explain", INTERNAL, "--json"]);
    assert_eq!(explained["copies"].as_array().unwrap().len(), 2);
    assert_eq!(
        deployment.json(&["verify", "--json"])["matched"],
        1,
        "{explained}"
    );
}

#[rstest]
#[case("internal_scan_cache", doc! { "user_id": "nobody1", "username": "nobody1" }, "nobody1")]
#[case("internal_scan_cache", doc! { "user_id": "twice1", "username": "twice1" }, "twice1")]
#[case("internal_users", doc! { "user_id": "ada", "username": "", "email": "ada@example.org" }, "ada")]
#[case("fast_scan_cache", doc! { "user_id": "external_no.body" }, "no.body")]
#[case("fast_scan_cache", doc! { "user_id": "hr1", "storage_location": "HR_COLLECTION" }, "hr1")]
#[case("fast_scan_cache", doc! { "_id": "x", "scan_date": "soon" }, "external_srie06")]
#[tokio::test(flavor = "multi_thread")]
async fn a_document_without_an_owner_is_refused_and_quoted_on_every_run(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[case] collection: &str,
    #[case] fields: Document,
    #[case] quoted: &str,
) {
    let twice = |n: u8| doc! { "_id": ObjectId::from_bytes([n; 12]), "github_username": "twice1" };
    let refused = doc! { "_id": ObjectId::new(), "github_token": "gho_refused" };
    let mut document = scan(fields);
    for (key, value) in refused {
        document.entry(key).or_insert(value);
    }
    let source = Predecessor::with(vec![
        ("users", twice(1)),
        ("users", twice(2)),
        (collection, document),
    ])
    .await;
    let deployment = source.deployment(backend);
    for _ in 0..2 {
        let report = import(&deployment, &["--refused", "refused.jsonl"]);
        assert_eq!(outcomes(&report), [0, 0, 2, 1], "{report}");
        let reason = report["refusals"][0]["reason"].as_str().unwrap();
        assert!(reason.contains(quoted), "{report}");
        assert_eq!(report["refusals"][0]["collection"], collection);
    }
    assert!(stored(&deployment).await.is_empty());
    let path = deployment.dir.path().join("refused.jsonl");
    let exported = std::fs::read_to_string(path).unwrap();
    assert_eq!(exported.lines().count(), 1);
    assert!(exported.contains(quoted), "{exported}");
    assert!(!exported.contains("gho_refused"), "{exported}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_scan_counts_by_parsed_time_and_its_deep_analysis_before_it(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let one = |scan_id: &str, date: bson::Bson, n: i64, more: Document| {
        let mut document = scan(doc! { "scan_id": scan_id, "scan_date": date, "n": n });
        document.extend(more);
        ("external_scan_cache", document)
    };
    let source = Predecessor::with(vec![
        // BSON order puts every text after every date, and one of these dates after both texts.
        one("s0", at(LONG_AGO + 30).into(), 1, doc! {}),
        one("s1", "2025-01-01T02:53:40.5".into(), 2, doc! {}),
        one("s2", "2025-01-01T08:24:05+05:30".into(), 3, doc! {}),
        one(
            "s2",
            "2025-01-01T02:54:04".into(),
            4,
            doc! { "document_type": "deep_analysis_results", "is_latest_analysis": true, "analysis_id": "a1" },
        ),
        one("s0", at(LONG_AGO + 25).into(), 5, doc! { "github_token": "gho_old" }),
    ])
    .await;
    let deployment = source.deployment(backend);
    let report = import(&deployment, &[]);
    assert_eq!(outcomes(&report), [1, 4, 0, 0], "{report}");
    let stored = stored(&deployment).await;
    let [document] = stored.values().collect::<Vec<_>>()[..] else {
        panic!("{stored:?}")
    };
    let cache = document.get_document("scan_cache").unwrap();
    assert_eq!(cache.get_i64("n").unwrap(), 4);
    for bookkeeping in [
        "_id",
        "user_id",
        "user_type",
        "storage_location",
        "document_type",
        "is_latest_analysis",
    ] {
        assert_eq!(cache.get(bookkeeping).unwrap(), None, "{bookkeeping}");
    }
    // GitHub's own dates are content, and never the user's.
    assert_eq!(cache.get_str("created_at").unwrap(), "2009-01-01T00:00:00Z");
    assert_eq!(
        document.get_datetime("created_at").unwrap(),
        DateTime::from_millis((LONG_AGO + 20) * 1_000 + 500)
    );
    assert_eq!(
        document.get_datetime("last_accessed").unwrap(),
        at(LONG_AGO + 45)
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_progress_counts_also_among_scans(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let progress = |seconds: i64, n: i64| {
        doc! {
            "analysis_id": "a1", "username": "Srie06", "user_id": "external_srie06", "user_type": "external",
            "status": "complete", "current_phase": "done", "progress": { "percentage": n },
            "created_at": at(LONG_AGO), "updated_at": at(LONG_AGO + seconds),
        }
    };
    let source = Predecessor::with(vec![
        ("external_analysis_progress", progress(5, 1)),
        ("fast_scan_cache", progress(9, 2)),
        ("analysis_states", progress(7, 3)),
    ])
    .await;
    let deployment = source.deployment(backend);
    assert_eq!(outcomes(&import(&deployment, &[])), [1, 2, 0, 0]);
    let stored = stored(&deployment).await;
    let document = &stored[&(Role::ExternalUsers, "external_srie06".to_owned())];
    let progress = document.get_document("analysis_progress").unwrap();
    assert_eq!(
        progress
            .get_document("progress")
            .unwrap()
            .get_i64("percentage")
            .unwrap(),
        2
    );
    assert_eq!(document.get("scan_cache").unwrap(), None);
    assert_eq!(document.get_datetime("created_at").unwrap(), at(LONG_AGO));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn young_internal_users_keep_their_clock_and_old_ones_are_moved_already(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let hour_ago = SystemClock.now().timestamp_millis() - 3_600_000;
    let young = "internal_0000000000000000000000aa";
    let source = Predecessor::with(vec![
        (
            "internal_users",
            scan(doc! { "user_id": young, "scan_date": DateTime::from_millis(hour_ago) }),
        ),
        ("internal_users", scan(doc! { "user_id": INTERNAL })),
    ])
    .await;
    let deployment = source.deployment(backend);
    assert_eq!(outcomes(&import(&deployment, &[])), [2, 0, 0, 0]);
    let there = places(&deployment, young).await;
    assert!(
        is_at(&there, &[(Role::RaseenTempUser, "temp")]),
        "{there:?}"
    );
    let there = places(&deployment, INTERNAL).await;
    assert!(is_at(&there, &MOVED), "{there:?}");
    let stored = stored(&deployment).await;
    let staged = &stored[&(Role::RaseenTempUser, young.to_owned())];
    let metadata = staged.get_document("metadata").unwrap();
    let dates = (
        metadata.get_datetime("staged_at").unwrap(),
        staged.get_datetime("created_at").unwrap(),
    );
    let since = DateTime::from_millis(hour_ago);
    assert_eq!(dates, (since, since));
    // It moves like any other.
    let moved = deployment.json(&["migrate", "run", "--older-than", "30m", "--json"]);
    assert_eq!(moved["moved"], 1, "{moved}");
    let there = places(&deployment, young).await;
    assert!(is_at(&there, &MOVED), "{there:?}");
    let report = import(&deployment, &[]);
    assert_eq!(outcomes(&report), [2, 0, 0, 0], "{report}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn profiles_rankings_and_scores_are_taken_only_when_asked_for(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let derived = |n: i64| doc! { "github_username": "Srie06", "n": n, "scan_date": at(LONG_AGO) };
    let source = Predecessor::with(vec![
        ("external_users", scan(doc! {})),
        ("user_profiles", derived(1)),
        ("user_rankings", derived(2)),
        ("scores_comparison", derived(3)),
        ("notes", doc! { "text": "nobody knows" }),
    ])
    .await;
    let deployment = source.deployment(backend);
    let report = import(&deployment, &[]);
    assert_eq!(outcomes(&report), [1, 0, 4, 0], "{report}");
    let skips = report["skips"].to_string();
    assert!(
        skips.contains("notes") && skips.contains("unknown collection"),
        "{skips}"
    );
    let report = import(&deployment, &["--include", "profile,rankings"]);
    assert_eq!(outcomes(&report), [3, 0, 2, 0], "{report}");
    let stored = stored(&deployment).await;
    let document = &stored[&(Role::ExternalUsers, "external_srie06".to_owned())];
    let cache = document.get_document("scan_cache").unwrap();
    let n = |name: &str| cache.get_document(name).unwrap().get_i64("n").unwrap();
    assert_eq!((n("profile"), n("rankings")), (1, 2));
    assert_eq!(cache.get("scores").unwrap(), None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_left_behind_and_fabricated_scores_are_marked(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let fields = doc! {
        "github_token": "gho_secret1", "session": { "refresh_token": "gho_secret2" }, "jwt": "gho_secret3",
        "scores": { "overallScore": 78.5, "a": 82, "b": 75, "c": 80, "d": 77 },
    };
    let source = Predecessor::with(vec![("fast_scan_cache", scan(fields))]).await;
    let deployment = source.deployment(backend);
    let report = import(&deployment, &[]);
    assert_eq!(report["secrets_dropped"], 3, "{report}");
    let stored = stored(&deployment).await;
    let document = &stored[&(Role::ExternalUsers, "external_srie06".to_owned())];
    let text = format!("{document:?}");
    assert!(!text.contains("gho_secret"), "{text}");
    let metadata = document.get_document("metadata").unwrap();
    assert!(metadata.get_bool("synthetic_scores").unwrap());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn hr_documents_become_one_record_each_in_both_hr_databases(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let id = ObjectId::parse_str("65a1b2c3d4e5f60718293a4b").unwrap();
    let source = Predecessor::with(vec![
        (
            "hr_candidates",
            doc! { "_id": id, "name": "Ada", "password": "gho_secret", "created_at": at(LONG_AGO) },
        ),
        (
            "hr_candidates",
            doc! { "_id": "c-2", "name": "Bo", "metadata": { "source": "form" } },
        ),
        (
            "hr_candidates",
            doc! { "_id": "not a record", "name": "Cy" },
        ),
        (
            "hr_users",
            doc! { "_id": 7, "email": "hr@example.org", "user_type": "hr" },
        ),
        ("hr_view", doc! { "_id": 8 }),
    ])
    .await;
    let deployment = source.deployment(backend);
    for _ in 0..2 {
        let report = import(&deployment, &[]);
        assert_eq!(outcomes(&report), [3, 0, 1, 1], "{report}");
        assert_eq!(report["secrets_dropped"], 1);
        assert!(report["refusals"].to_string().contains("not a record"));
    }
    let stored = stored(&deployment).await;
    for role in [Role::RaseenMainHr, Role::SrieMainHr] {
        let ada = &stored[&(role, id.to_hex())];
        assert_eq!(ada.get_str("name").unwrap(), "Ada");
        assert_eq!(ada.get_datetime("created_at").unwrap(), at(LONG_AGO));
        assert_eq!(ada.get("password").unwrap(), None);
        let metadata = ada.get_document("metadata").unwrap();
        assert_eq!(metadata.get_i64("version").unwrap(), 1);
        assert_eq!(metadata.get_str("backup_status").unwrap(), "completed");
        let bo = &stored[&(role, "c-2".to_owned())];
        assert_eq!(
            bo.get_document("legacy_metadata")
                .unwrap()
                .get_str("source")
                .unwrap(),
            "form"
        );
        assert!(stored.contains_key(&(role, "7".to_owned())));
    }
    assert_eq!(stored.len(), 6);
    let compared = deployment.json(&["verify", "--json"]);
    assert_eq!(compared["different"], 0, "{compared}");
}

#[rstest]
#[case(doc! { "scan_date": Bson::Null }, &[], 1_694_498_816)]
#[case(doc! { "scan_date": "2025-01-01T02:53:20", "scanDate": "2025-01-01T09:00:00" }, &[], LONG_AGO)]
#[case(doc! { "scan_date": LONG_AGO_TEXT, "scanDate": "2025-01-01T08:00:00" }, &["--local-zone", "Asia/Kolkata"], LONG_AGO - 1_400)]
#[case(doc! { "scan_date": "2025-01-01T08:23:20+05:30" }, &[], LONG_AGO)]
#[case(doc! { "scan_date": at(LONG_AGO) }, &[], LONG_AGO)]
#[tokio::test(flavor = "multi_thread")]
async fn created_at_is_the_first_date_of_the_record_whatever_the_zone_of_the_machine(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
    #[case] fields: Document,
    #[case] arguments: &[&str],
    #[case] seconds: i64,
) {
    let id = ObjectId::parse_str("65000000a2c3d4e5f6071829").unwrap();
    let mut document = scan(doc! { "_id": id });
    document.extend(fields);
    let source = Predecessor::with(vec![("external_users", document)]).await;
    let zones = match backend {
        Backend::Sqlite => &["UTC", "Asia/Kolkata", "America/Los_Angeles"][..],
        Backend::Mongo => &["Asia/Kolkata"],
    };
    for zone in zones {
        let deployment = source.deployment(backend).with("TZ", zone);
        assert_eq!(outcomes(&import(&deployment, arguments)), [1, 0, 0, 0]);
        let stored = stored(&deployment).await;
        let document = &stored[&(Role::ExternalUsers, "external_srie06".to_owned())];
        let created_at = document.get_datetime("created_at").unwrap();
        assert_eq!(created_at, at(seconds), "{zone}");
    }
}
