//! Commands that a server refuses, or performs without confirming them.

use bson::{Bson, Document, doc};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::store::Class;

use super::row::Row;
use super::{Clusters, clusters};
use crate::scale::is_full;

const COMMANDS: [&str; 6] = [
    "find",
    "insert",
    "update",
    "delete",
    "findAndModify",
    "aggregate",
];

/// The answer configured at a server, and the error that the run ends with, if it does not recover.
#[derive(Clone, Copy, Debug)]
struct Answer {
    code: i32,
    class: Class,
    /// Whether a step is repeated at once.
    retried: bool,
}

const ANSWERS: [Answer; 6] = [
    Answer {
        code: 91,
        class: Class::Transition,
        retried: true,
    },
    Answer {
        code: 112,
        class: Class::Busy,
        retried: true,
    },
    Answer {
        code: 11_602,
        class: Class::Transition,
        retried: true,
    },
    Answer {
        code: 50,
        class: Class::Other,
        retried: false,
    },
    Answer {
        code: 14_031,
        class: Class::DiskFull,
        retried: false,
    },
    Answer {
        code: 13_435,
        class: Class::NotPrimary,
        retried: true,
    },
];

/// Makes the server of `role` answer the next `times` of these commands of the row in this way.
async fn arm(clusters: &mut Clusters, role: Role, times: i32, answer: &Document) {
    let mut data = answer.clone();
    data.insert("appName", APP);
    let command = doc! {
        "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data,
    };
    clusters.of(role).command(command).await.unwrap();
}

/// Ends it; answers how often it struck.
async fn disarm(clusters: &mut Clusters, role: Role) -> i64 {
    let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
    let reply = clusters.of(role).command(off).await.unwrap();
    match reply.get("count") {
        Some(Bson::Int32(count)) => i64::from(*count),
        Some(Bson::Int64(count)) => *count,
        other => panic!("{other:?} is no count"),
    }
}

const APP: &str = "row";

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_refused_delays_a_move_and_costs_no_document_a_retry() {
    let mut clusters = clusters().await;
    let mut row = Row::of(clusters.world(&format!("appName={APP}")).await);
    row.plant(1).await;
    row.settle("without a fault").await;
    let mut struck = std::collections::BTreeMap::new();
    let mut gave_up = 0;
    let mut cell = 0_usize;
    for answer in ANSWERS {
        for command in COMMANDS {
            for times in [1, 2, 20] {
                for role in [Role::RaseenMainUser, Role::SrieMainUser] {
                    let (pair, tried) = (cell / 6, cell % 6);
                    cell += 1;
                    // One cell for each code and command, walking through the times and the clusters.
                    if !is_full() && tried != (pair + pair / 6) % 6 {
                        continue;
                    }
                    let at = format!("{} × {times} to {command} of {role}", answer.code);
                    row.plant(1).await;
                    let refusal = doc! { "errorCode": answer.code, "failCommands": [command] };
                    arm(&mut clusters, role, times, &refusal).await;
                    let run = row.world.migrate().await;
                    let count = disarm(&mut clusters, role).await;
                    *struck.entry(command).or_insert(0) += count;
                    match run {
                        Ok(run) => {
                            let (moved, left) = (run.moved, run.deferred);
                            assert_eq!((moved + left, run.failed), (3, 0), "{at}");
                            // An error that says nothing about the others leaves one document for later.
                            assert!(left == 0 || answer.class == Class::Other, "{at}");
                            assert!(left <= u64::try_from(count).unwrap(), "{at}");
                        }
                        Err(stopped) => {
                            gave_up += 1;
                            assert!(count > 0, "{at}: {stopped}");
                            let class = stopped.error.class;
                            assert!(
                                class == answer.class || class == Class::NoServer,
                                "{at}: {stopped}"
                            );
                            assert!(times > 3 || !answer.retried, "{at}: {stopped}");
                            assert_eq!(stopped.summary.failed, 0, "{at}");
                        }
                    }
                    row.settle(&at).await;
                }
            }
        }
    }
    assert!(gave_up > 0);
    for command in COMMANDS {
        assert!(
            struck[command] > 0,
            "{command} was never refused: {struck:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_no_majority_vouches_for_is_repeated_and_done_once() {
    let mut clusters = clusters().await;
    let mut row = Row::of(clusters.world(&format!("appName={APP}")).await);
    row.plant(1).await;
    row.settle("without a fault").await;
    for command in ["insert", "update", "delete", "findAndModify"] {
        let mut struck = 0;
        for times in [1, 2, 20] {
            for role in [Role::RaseenMainUser, Role::SrieMainUser] {
                let at = format!("write concern error × {times} to {command} of {role}");
                row.plant(1).await;
                let unvouched = doc! {
                    "failCommands": [command],
                    "writeConcernError": { "code": 64, "errmsg": "waiting timed out" },
                };
                arm(&mut clusters, role, times, &unvouched).await;
                let run = row.world.migrate().await;
                struck += disarm(&mut clusters, role).await;
                match run {
                    Ok(run) => assert_eq!(run.failed, 0, "{at}"),
                    Err(stopped) => {
                        assert_eq!(stopped.error.class, Class::Unacknowledged, "{at}");
                        assert!(times > 3, "{at}: {stopped}");
                    }
                }
                row.settle(&at).await;
            }
        }
        assert!(struck > 0, "{command} was never met");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_delay_a_move_and_cost_no_document_a_retry() {
    let mut clusters = clusters().await;
    let mut row = Row::of(clusters.world(&format!("appName={APP}")).await);
    row.plant(1).await;
    row.settle("without a fault").await;
    for command in COMMANDS {
        for (times, role) in [(1, Role::RaseenMainUser), (20, Role::SrieMainUser)] {
            let at = format!("closed × {times} at {command} of {role}");
            row.plant(1).await;
            let closed = doc! { "failCommands": [command], "closeConnection": true };
            arm(&mut clusters, role, times, &closed).await;
            let run = row.world.migrate().await;
            disarm(&mut clusters, role).await;
            if let Err(stopped) = run {
                assert!(times > 3, "{at}: {stopped}");
            }
            row.settle(&at).await;
        }
    }
}
