//! A primary that dies with unreplicated writes: they are rolled back, and no acknowledged write is.

use std::time::Duration;

use tierkeep_testkit::fault::{Fault, Moment};

use super::clusters;
use super::failover::phases;
use super::row::Row;

/// How long the primary accepts writes that are not replicated.
const ALONE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_primary_alone_had_is_rolled_back_and_nothing_acknowledged_is() {
    let mut clusters = clusters().await;
    for (phase, role, operation) in phases(&["promote", "delete"]) {
        let mut row = Row::of(clusters.world("appName=row").await);
        row.plant(4).await;
        let users = row.users();
        let call = Fault::nth(1, Moment::Before).to(role).of(operation);
        let hold = row.world.faults.hold(call);
        let run = row.world.migrate_meanwhile();
        hold.reached().await;
        let writers = row.writers(&users[..2]);
        let primary = clusters.main.primary().await;
        let before = clusters.main.rollback_id(primary).await;
        clusters.main.follow(primary, false).await;
        hold.release();
        tokio::time::sleep(ALONE).await;
        clusters.main.kill(primary);
        clusters.main.follow(primary, true).await;
        if let Ok(summary) = run.await.unwrap() {
            assert_eq!(summary.failed, 0, "{phase}");
        }
        clusters.heal().await;
        clusters.main.until_rolled_back(primary, before).await;
        clusters.heal().await;
        row.settle_with(writers, phase).await;
    }
}
