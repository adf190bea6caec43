//! Primaries that step down, die or are suspended while a mover and writers are running.

use std::time::Duration;

use tierkeep_core::db::Role;
use tierkeep_testkit::fault::{Fault, Moment};

use super::clusters;
use super::row::Row;
use crate::scale::is_full;

/// The calls at which a mover is held while the cluster changes, by phase.
const PHASES: [(&str, Role, &str); 8] = [
    ("claims", Role::RaseenTempUser, "find"),
    ("record", Role::EvaluationAudit, "insert"),
    ("backup", Role::SrieMainUser, "insert"),
    ("backup of a newer version", Role::SrieMainUser, "put_newer"),
    ("promote", Role::RaseenMainUser, "insert"),
    ("check", Role::RaseenMainUser, "find"),
    ("delete", Role::RaseenTempUser, "delete"),
    ("complete", Role::EvaluationAudit, "amend"),
];

/// These phases; all of them in a full run.
pub fn phases(usually: &[&str]) -> impl Iterator<Item = (&'static str, Role, &'static str)> {
    let tried = move |(phase, _, _): &(&str, Role, &str)| is_full() || usually.contains(phase);
    PHASES.into_iter().filter(tried)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_down_at_any_phase_loses_nothing_and_costs_no_document_a_retry() {
    let mut clusters = clusters().await;
    for (phase, role, operation) in phases(&["backup", "promote", "delete"]) {
        let mut row = Row::of(clusters.world("appName=row").await);
        row.plant(4).await;
        let users = row.users();
        let writers = row.writers(&users[..2]);
        let hold = row
            .world
            .faults
            .hold(Fault::nth(1, Moment::Before).to(role).of(operation));
        // Writers may run into the hold too, and are let go with the mover.
        let run = row.world.migrate_meanwhile();
        hold.reached().await;
        let set = clusters.of(role);
        set.step_down(1).await;
        hold.release();
        if let Ok(summary) = run.await.unwrap() {
            assert_eq!(summary.failed, 0, "{phase}");
        }
        clusters.heal().await;
        row.settle_with(writers, phase).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_or_a_secondary_that_is_killed_loses_nothing() {
    let mut clusters = clusters().await;
    for primary in [true, false] {
        if !is_full() && !primary {
            continue;
        }
        let at = if primary {
            "the primary"
        } else {
            "a secondary"
        };
        let mut row = Row::of(clusters.world("appName=row").await);
        row.plant(4).await;
        let users = row.users();
        let writers = row.writers(&users[..2]);
        let delete = Fault::nth(1, Moment::Before)
            .to(Role::RaseenTempUser)
            .of("delete");
        let hold = row.world.faults.hold(delete);
        let run = row.world.migrate_meanwhile();
        hold.reached().await;
        let victim = if primary {
            clusters.main.primary().await
        } else {
            clusters.main.secondary().await
        };
        clusters.main.kill(victim);
        hold.release();
        let ended = run.await.unwrap();
        // Two of three are a majority.
        assert!(primary || ended.is_ok(), "{at}: {ended:?}");
        clusters.heal().await;
        row.settle_with(writers, at).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_srie_is_away_nothing_leaves_temp_and_no_document_pays_for_it() {
    let mut clusters = clusters().await;
    let mut row = Row::of(clusters.world("serverSelectionTimeoutMS=1000").await);
    row.plant(2).await;
    clusters.srie.kill(0);
    for _ in 0..3 {
        let stopped = row.world.migrate().await.unwrap_err();
        assert_eq!(stopped.error.database, Role::SrieMainUser, "{stopped}");
        assert_eq!((stopped.summary.moved, stopped.summary.failed), (0, 0));
        assert_eq!(row.world.all(Role::RaseenTempUser).await.len(), 6);
        row.world.clock.advance(Duration::from_mins(20));
    }
    for user in row.users() {
        assert!(row.world.users.read(&user).await.unwrap().is_some());
    }
    clusters.heal().await;
    assert_eq!(row.settle("srie is back").await.moved, Row::due(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_holds_a_mover_up_for_a_bounded_time() {
    const BOUND: Duration = Duration::from_mins(2);
    let mut clusters = clusters().await;
    let mut row = Row::of(clusters.world("serverSelectionTimeoutMS=1000").await);
    row.plant(2).await;
    let delete = Fault::nth(1, Moment::Before)
        .to(Role::SrieMainUser)
        .of("insert");
    let hold = row.world.faults.hold(delete);
    let run = row.world.migrate_meanwhile();
    hold.reached().await;
    clusters.srie.freeze(0);
    hold.release();
    let stopped = tokio::time::timeout(BOUND, run)
        .await
        .expect("the mover hangs");
    let stopped = stopped.unwrap().unwrap_err();
    assert_eq!(stopped.error.database, Role::SrieMainUser, "{stopped}");
    clusters.srie.thaw(0);
    clusters.heal().await;
    assert_eq!(row.settle("srie goes on").await.moved, Row::due(2));
}
