//! The table of refusals.

use std::path::Path;

use axum::http::Method;
use axum::response::IntoResponse;
use tierkeep::http::{Code, Problem};
use tierkeep_core::adopt::Quarantine;
use tierkeep_core::content::{Damaged, InvalidBody};
use tierkeep_core::db::Role;
use tierkeep_core::identity::InvalidUsername;
use tierkeep_core::store::{Class, Fault, StoreError};
use tierkeep_core::user::{InvalidUser, UserId};
use tierkeep_core::version::Version;
use tierkeep_engine::{EraseError, HrError, UsersError};
use tierkeep_identity::RoleClaim;

fn of_the_engine() -> Vec<UsersError> {
    let away = StoreError {
        database: Role::RaseenTempUser,
        operation: "write",
        class: Class::Timeout,
        code: 50,
    };
    let fault = Fault {
        code: 121,
        reason: "a validator refuses it".into(),
    };
    let user = UserId::external("reader").unwrap();
    vec![
        UsersError::Unavailable(away),
        UsersError::Mismatch { current: None },
        UsersError::Mismatch {
            current: Version::new(7),
        },
        UsersError::NotFound,
        UsersError::TooLarge,
        UsersError::Rejected(fault),
        UsersError::Quarantined(Quarantine::SeveralClaims(user)),
        UsersError::Contended,
    ]
}

fn of_erasures() -> [EraseError; 2] {
    let away = StoreError {
        database: Role::EvaluationAudit,
        operation: "find",
        class: Class::Refused,
        code: 0,
    };
    let user = || UserId::external("reader").unwrap();
    [EraseError::Unavailable(away), EraseError::Contended(user())]
}

fn of_hr() -> [HrError; 8] {
    let away = StoreError {
        database: Role::RaseenMainHr,
        operation: "write",
        class: Class::Refused,
        code: 0,
    };
    let fault = Fault {
        code: 121,
        reason: "a validator refuses it".into(),
    };
    [
        HrError::Unavailable(away),
        HrError::Mismatch {
            current: Version::new(7),
        },
        HrError::NotFound,
        HrError::TooLarge,
        HrError::Rejected(fault),
        HrError::Unclear("its version is not an int64"),
        HrError::OutcomeUnknown,
        HrError::Contended,
    ]
}

fn every_problem() -> Vec<Problem> {
    let mut all: Vec<Problem> = of_the_engine().into_iter().map(Problem::from).collect();
    all.extend(of_erasures().map(Problem::from));
    all.extend(of_hr().map(Problem::from));
    all.extend([
        Problem::Body(InvalidBody::Malformed("unexpected end".into())),
        Problem::Body(InvalidBody::Content(
            "the key \"$set\" starts with $".into(),
        )),
        Problem::Malformed("If-Match and If-None-Match must be * or quoted ETags"),
        Problem::CredentialsRequired("the JWT is missing"),
        Problem::JwtRequired("the JWT is missing", RoleClaim::Admin),
        Problem::MoverPaused,
        Problem::Starting,
        Problem::IdentityUnavailable {
            retry_after_seconds: None,
        },
        Problem::IdentityUnavailable {
            retry_after_seconds: Some(120),
        },
        Problem::InvalidUsername(InvalidUsername::Repeated),
        Problem::InvalidUsername(InvalidUsername::Malformed(InvalidUser::Name("a.b".into()))),
        Problem::AmbiguousIdentity,
        Problem::RoleRequired(RoleClaim::Admin),
        Problem::UnknownSection("scan_cache, analysis_progress".into()),
        Problem::UnknownCollection("hr_candidates".into()),
        Problem::UnknownDatabase,
        Problem::SectionNotFound,
        Problem::PublicWritesOff,
        Problem::RateLimited {
            retry_after_seconds: 7,
        },
        Problem::UnknownPath,
        Problem::UnknownMethod(Method::POST),
        Problem::UnsupportedMediaType("application/json"),
        Problem::BodyTooLarge {
            limit_bytes: 1 << 20,
        },
        Problem::BodyTimeout,
        Problem::ReadTimeout,
        Problem::WriteTimeout,
        Problem::Damaged(Damaged),
        Problem::Internal,
    ]);
    all
}

async fn row(problem: Problem) -> String {
    let answer = problem.into_response();
    let status = answer.status();
    let mut headers: Vec<String> = answer
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
    let body = String::from_utf8(body.unwrap().into()).unwrap();
    format!("{} | {}\n{body}\n", status.as_u16(), headers.join(" | "))
}

#[tokio::test]
async fn the_table_of_refusals_is_as_it_was_agreed() {
    let mut table = String::new();
    for problem in every_problem() {
        table.push_str(&row(problem).await);
    }
    insta::assert_snapshot!(table);
}

#[test]
fn every_code_has_a_problem_that_leads_to_it() {
    let problems = every_problem();
    for code in Code::ALL {
        assert!(
            problems.iter().any(|problem| problem.code() == *code),
            "{code:?}"
        );
    }
}

#[test]
fn every_code_has_a_page() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    for code in Code::ALL {
        let name = format!("{}.md", code.as_str());
        assert!(code.page().ends_with(&format!("/docs/errors/{name}")));
        let page = std::fs::read_to_string(pages.join(&name)).unwrap();
        let heading = format!("# {} `{}`: ", code.status().as_u16(), code.as_str());
        assert!(page.starts_with(&heading), "{name}");
    }
}

#[tokio::test]
async fn a_refusal_quotes_no_more_than_a_few_words_of_a_body() {
    let long = InvalidBody::Content(format!("the key {:?} is duplicated", "ä".repeat(1 << 20)));
    let row = row(Problem::Body(long)).await;
    assert!(row.len() < 2_000, "{}", row.len());
}
