//! Random histories: writers, movers that are held half-way, erasers, the clock, faults and restarts, in any
//! order, against a reference model that knows only the answers to clients and what they have read.
//!
//! The clock of the runtime is paused, so that waits between retries take no time. Where to look: `plan` (what may
//! happen), `reference` (what may be true then), `play` (both at once), `sight` (the invariants).

mod actors;
mod ledger;
mod minute;
mod plan;
mod play;
mod reference;
mod sight;
mod stage;
mod tally;

use std::cell::{Cell, RefCell};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use rstest::rstest;
use tierkeep_engine::Mutant;
use tokio::runtime::Runtime;

use crate::bridge;
use crate::scale;
use crate::world::Backend;
use plan::{History, histories};
use play::Play;
use stage::{Process, Stage};
use tally::Tally;

/// The most actions of a history.
const LONGEST: usize = 40;

/// What was played, and the smallest history that broke anything, with what it broke.
struct Played {
    tally: Tally,
    broken: Option<(String, History)>,
}

/// Plays random histories on one backend, with a guard missing or not.
fn play(backend: Backend, mutant: Option<Mutant>, cases: u32, shrinks: u32) -> Played {
    let outside = Runtime::new().unwrap();
    let inside = bridge::stopped();
    let stage = Stage::new(backend, mutant, &outside);
    let process: RefCell<Option<Process>> = RefCell::default();
    let next = Cell::new(1_u32);
    let tally = Cell::new(Tally::default());
    let case = |history: History| {
        let first = next.get();
        next.set(first + 10);
        let open = process.take();
        inside.block_on(async {
            let open = match open {
                Some(open) => open,
                None => stage.process().await.unwrap(),
            };
            let mut play = Play::new(&stage, open, first, history.at_once);
            let mut outcome = Ok(());
            for action in &history.actions {
                outcome = play.act(action).await;
                if outcome.is_err() {
                    break;
                }
            }
            if outcome.is_ok() {
                outcome = play.drain().await;
            }
            tally.set(tally.get().and(play.tally));
            if outcome.is_ok() {
                process.replace(Some(play.into_process()));
            } else {
                play.clear_away().await;
            }
            outcome.map_err(TestCaseError::fail)
        })
    };
    let config = Config {
        cases,
        max_shrink_iters: shrinks,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = match mutant {
        // What is found must be found every time.
        Some(_) => {
            let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
            TestRunner::new_with_rng(config, rng)
        }
        None => TestRunner::new(config),
    };
    let broken = match runner.run(&histories(LONGEST), case) {
        Ok(()) => None,
        Err(TestError::Fail(why, history)) => Some((why.message().to_owned(), history)),
        Err(TestError::Abort(why)) => panic!("{why}"),
    };
    Played {
        tally: tally.get(),
        broken,
    }
}

fn cases(backend: Backend) -> u32 {
    match backend {
        Backend::Memory => scale::cases(256),
        Backend::Sqlite | Backend::Mongo => scale::cases(64),
    }
}

#[rstest]
fn whatever_happens_what_was_acknowledged_is_there_once_and_nothing_else(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let played = play(backend, None, cases(backend), 2_000);
    if let Some((why, history)) = played.broken {
        panic!("{why}\nin {history:#?}");
    }
    let tally = played.tally;
    println!("{backend:?}: {tally:?}");
    // The histories are about something.
    assert!(tally.skipped * 4 < tally.done, "{tally:?}");
    assert!(tally.stood_still * 20 > tally.done, "{tally:?}");
    assert!(tally.acknowledged * 20 > tally.done, "{tally:?}");
    assert!(tally.unknown * 2 < tally.acknowledged, "{tally:?}");
    assert!(tally.moved * 20 > u64::from(tally.done), "{tally:?}");
    assert!(tally.erased * 100 > tally.done, "{tally:?}");
}

#[rstest]
fn without_the_guard_of_the_delete_a_history_loses_what_was_acknowledged(
    #[values(Backend::Memory, Backend::Sqlite, Backend::Mongo)] backend: Backend,
) {
    let played = play(backend, Some(Mutant::UnguardedDelete), 2_000, 0);
    let (why, _) = played.broken.expect("nothing was lost");
    println!("{backend:?}: {why}, after {:?}", played.tally);
}

#[rstest]
fn without_another_guard_a_history_breaks_something_too(
    #[values(
        Mutant::EnterInOneStep,
        Mutant::ConfirmAbandoned,
        Mutant::MoveWithoutRecord,
        Mutant::ErasureWithoutTombstones,
        Mutant::UnguardedTombstones
    )]
    mutant: Mutant,
) {
    let played = play(Backend::Memory, Some(mutant), 2_000, 0);
    let (why, _) = played.broken.expect("nothing broke");
    println!("{mutant:?}: {why}, after {:?}", played.tally);
}
