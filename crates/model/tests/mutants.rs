//! The engine without one of its guards: the check finds what goes wrong.

use tierkeep_core::clock;
use tierkeep_core::db::Role;
use tierkeep_engine::Mutant;
use tierkeep_model::invariants::NAMES;
use tierkeep_model::{Program, START, Scenario, Trouble};
use tierkeep_testkit::documents::native_user;

use crate::world::{
    above_the_fence, due, in_srie_alone, moved, report, rolled_back, settled, written_elsewhere,
};

const MOVE: Program = Program::Move;
const PUT: Program = Program::Put { user: 1 };
const ERASE: Program = Program::Erase { user: 1 };
const OTHER: Program = Program::OtherProgram {
    user: 1,
    relies: true,
};

/// The scenario without its guard breaks this invariant first.
fn falls(mutant: Mutant, mut scenario: Scenario, invariant: usize) {
    scenario.mutant = Some(mutant);
    let report = report(&format!("without a guard, {mutant:?}"), scenario);
    for (name, (why, way)) in &report.broken {
        println!("  {name}: {why}, in {} steps", way.len() - 1);
    }
    assert!(
        report.broken.contains_key(NAMES[invariant]),
        "{:#?}",
        report.broken
    );
}

#[test]
fn an_unguarded_delete_is_found() {
    falls(Mutant::UnguardedDelete, due([MOVE, PUT]), 2);
}

#[test]
fn an_unguarded_write_to_main_is_found() {
    falls(Mutant::UnguardedWriteToMain, due([MOVE, MOVE, PUT]), 7);
}

#[test]
fn an_unguarded_delete_of_what_another_program_wrote_is_found() {
    falls(Mutant::UnguardedDelete, written_elsewhere([MOVE, OTHER]), 2);
}

#[test]
fn copying_what_another_program_wrote_as_it_was_read_is_found() {
    let scenario = written_elsewhere([MOVE, MOVE, OTHER]);
    falls(Mutant::CopiedAsItWasRead, scenario, 15);
}

#[test]
fn adopting_beside_an_open_move_is_found() {
    let disturbs = Program::OtherProgram {
        user: 1,
        relies: false,
    };
    let scenario = Scenario {
        quarantine: true,
        ..written_elsewhere([MOVE, PUT, disturbs])
    };
    falls(Mutant::OpenMovesUnseen, scenario, 5);
}

#[test]
fn entering_in_one_step_is_found() {
    let scenario = Scenario::of([MOVE, PUT, PUT]);
    falls(Mutant::EnterInOneStep, scenario, 2);
}

#[test]
fn a_move_without_a_record_is_found() {
    falls(Mutant::MoveWithoutRecord, due([MOVE]), 10);
}

#[test]
fn an_intent_that_is_removed_before_its_moves_have_records_is_found() {
    let scenario = Scenario {
        trouble: Trouble {
            crashes: 1,
            ..Trouble::default()
        },
        ..due([MOVE])
    };
    falls(Mutant::IntentRemovedFirst, scenario, 20);
}

#[test]
fn an_erasure_without_tombstones_is_found() {
    falls(Mutant::ErasureWithoutTombstones, due([MOVE, ERASE]), 3);
}

#[test]
fn no_look_into_the_ledger_after_writing_is_found() {
    let scenario = Scenario {
        graceless: true,
        ..due([MOVE, ERASE, Program::RemoveTombstones])
    };
    falls(Mutant::NoLedgerAfterWriting, scenario, 16);
}

#[test]
fn an_unguarded_tombstone_is_found() {
    let scenario = due([ERASE, PUT, Program::FinishErasures]);
    falls(Mutant::UnguardedTombstones, scenario, 15);
}

#[test]
fn a_write_without_a_window_is_found() {
    let scenario = Scenario {
        trouble: Trouble {
            late: 1,
            ..Trouble::default()
        },
        ..due([Program::Rewrite { user: 1 }])
    };
    falls(Mutant::UnboundedWindow, scenario, 2);
}

#[test]
fn a_fence_from_the_ledger_alone_is_found() {
    let scenario = above_the_fence((1 << 40) + 3, [ERASE]);
    falls(Mutant::FenceFromTheLedger, scenario, 16);
}

#[test]
fn forgetting_what_could_not_be_read_is_found() {
    let scenario = Scenario {
        trouble: Trouble {
            outages: 1,
            ..Trouble::default()
        },
        ..in_srie_alone([ERASE, Program::FinishErasures])
    };
    falls(Mutant::UnreadIsForgotten, scenario, 15);
}

#[test]
fn a_fence_that_is_chosen_again_is_found() {
    let scenario = Scenario {
        trouble: Trouble {
            lost: 1,
            ..Trouble::default()
        },
        ..settled([ERASE, PUT])
    };
    falls(Mutant::FenceChosenAgain, scenario, 17);
}

#[test]
fn a_copy_up_from_main_alone_is_found() {
    let scenario = rolled_back([PUT]);
    falls(Mutant::CopyUpFromMainAlone, scenario, 18);
}

/// An entry was abandoned before its second look, and what moved since is above it.
#[test]
fn taking_over_by_confirming_is_found() {
    let mut scenario = settled([PUT]);
    let long_ago = clock::shifted(START, -60_000);
    let entry = native_user(1, 2).entering("abandoned", long_ago).build();
    scenario.planted.push((Role::RaseenTempUser, entry));
    falls(Mutant::ConfirmAbandoned, scenario, 4);
}

/// Main and srie hold a version that temp never had.
#[test]
fn taking_higher_for_proven_is_found() {
    let mut scenario = due([MOVE]);
    scenario.quarantine = true;
    scenario.planted.extend(moved(9));
    falls(Mutant::HigherIsFine, scenario, 4);
}
