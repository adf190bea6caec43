//! Several movers, one of which is suspended for a minute; and many writers to one document that is being moved.

use std::time::Duration;

use tierkeep_engine::{NoProgress, RunOptions};
use tierkeep_testkit::fault::{Fault, Moment};
use tokio_util::sync::CancellationToken;

use super::clusters;
use super::failover::phases;
use super::row::Row;

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_stands_still_while_another_works_does_no_harm_when_it_goes_on() {
    let mut clusters = clusters().await;
    for (phase, role, operation) in phases(&["backup", "promote", "delete"]) {
        let mut row = Row::of(clusters.world("appName=row").await);
        row.plant(4).await;
        let call = Fault::nth(1, Moment::Before).to(role).of(operation);
        let hold = row.world.faults.hold(call);
        let first = row.world.migrate_meanwhile();
        hold.reached().await;
        let users = row.users();
        let writers = row.writers(&users[..2]);
        let (_, second) = row.world.restarted().await;
        let stop = CancellationToken::new();
        let second = second.migrate_expired_data(RunOptions::default(), &NoProgress, &stop);
        assert_eq!(second.await.unwrap().failed, 0, "{phase}");
        row.world.clock.advance(Duration::from_mins(1));
        hold.release();
        assert_eq!(first.await.unwrap().unwrap().failed, 0, "{phase}");
        row.settle_with(writers, phase).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_writers_on_one_document_holds_no_mover_up_and_loses_no_write() {
    let mut clusters = clusters().await;
    let mut row = Row::of(clusters.world("appName=row").await);
    row.plant(1).await;
    let users = row.users();
    let writers = row.storm(&users, 4);
    // The others move; whether this one does is up to luck.
    let run = row.world.migrate().await.unwrap();
    assert_eq!(run.failed, 0, "{run:?}");
    assert_eq!(run.moved + run.deferred, Row::due(1), "{run:?}");
    row.settle_with(writers, "a storm").await;
}
