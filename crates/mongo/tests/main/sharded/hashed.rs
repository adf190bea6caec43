//! The laws of the conformance suite where collections are sharded by the hash of `_id`.

use tierkeep_testkit::conformance::Subject;

async fn subject() -> Subject {
    super::subject_of(super::HASHED).await
}

tierkeep_testkit::conformance_suite!(subject);
