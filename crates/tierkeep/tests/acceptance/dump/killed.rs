//! `kill -9` of an import at, and halfway through, every call that changes a database.

use rstest::rstest;

use super::super::kill::{Call, Trace, doom, full, killed, spare};
use super::super::program::{Backend, Deployment};
use super::{populated, users};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_killed_ends_the_same_the_second_time(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let source = populated(Backend::Sqlite).await;
    source.json(&["export", "dump", "--json"]);
    let dump = source.dir.path().join("dump").display().to_string();
    let expected = users(&source).await;
    let import = ["import-dump", dump.as_str(), "--json"];
    let mut traced = Deployment::new(backend);
    traced.json(&["init", "--json"]);
    let trace = Trace::begin(&mut traced);
    traced.json(&import);
    let calls = trace.end(&mut traced);
    let steps = calls.iter().filter(|call| {
        call.writes() && (call.name.ends_with("_users") || call.name.ends_with(" erasures"))
    });
    // Confirming entries is one call each.
    let mut points: Vec<String> = steps.flat_map(Call::points).collect();
    points.retain(|point| !point.contains(" write ") || point.contains(" write internal_users 3 "));
    assert!(points.len() > 8, "{points:#?}");
    // Opening seven databases on a server takes its time.
    let step = if backend == Backend::Mongo && !full() {
        3
    } else {
        1
    };
    for point in points.into_iter().step_by(step) {
        let mut deployment = Deployment::new(backend);
        deployment.json(&["init", "--json"]);
        doom(&mut deployment, &point);
        killed(deployment.command(&import), &point);
        spare(&mut deployment);
        let second = deployment.json(&import);
        assert_eq!(second["refused"], 0, "{point}: {second}");
        let stored = users(&deployment).await;
        for (role, documents) in &expected {
            // Tombstones may have been put by the one run or the other.
            let live = |it: &&bson::raw::RawDocumentBuf| {
                tierkeep_core::document::state(it) != Some(tierkeep_core::document::State::Erased)
            };
            assert_eq!(stored[role].len(), documents.len(), "{point}: {role}");
            assert!(
                stored[role]
                    .iter()
                    .filter(live)
                    .eq(documents.iter().filter(live)),
                "{point}: {role}"
            );
        }
    }
}
