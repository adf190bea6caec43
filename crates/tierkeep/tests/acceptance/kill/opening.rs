//! The first opening of seven empty databases.

use rstest::rstest;

use super::super::program::{Backend, Deployment};
use super::{Trace, doom, full, killed, spare};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn databases_whose_first_opening_was_killed_open_the_next_time(
    #[values(Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let mut deployment = Deployment::new(backend);
    let trace = Trace::begin(&mut deployment);
    assert!(deployment.run(&["init"]).status.success());
    let calls = trace.end(&mut deployment);
    // The databases differ in nothing but their indexes.
    let tried = calls
        .iter()
        .filter(|call| call.writes() && (full() || call.name.starts_with("evaluation_audit ")));
    let points: Vec<String> = tried.flat_map(super::Call::points).collect();
    assert!(points.len() >= 3, "{calls:#?}");
    for point in points {
        let mut deployment = Deployment::new(backend);
        doom(&mut deployment, &point);
        killed(deployment.command(&["init"]), &point);
        spare(&mut deployment);
        for command in [&["init"][..], &["migrate", "run"], &["status"]] {
            let output = deployment.run(command);
            assert!(output.status.success(), "{point}: {command:?}: {output:?}");
        }
    }
}
