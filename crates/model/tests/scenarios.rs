//! The engine as it is: whatever the order, and whatever goes wrong, the invariants hold.

use tierkeep_model::{Program, Scenario, Trouble};

use crate::world::{
    above_the_fence, due, holds, holds_usually, in_srie_alone, rolled_back, settled,
    written_elsewhere, written_under_its_user,
};

const MOVE: Program = Program::Move;
const PUT: Program = Program::Put { user: 1 };
const APPEND: Program = Program::Append { user: 1 };
const READ: Program = Program::Read { user: 1 };
const ERASE: Program = Program::Erase { user: 1 };

fn crashes(crashes: u8) -> Trouble {
    Trouble {
        crashes,
        ..Trouble::default()
    }
}

fn outages(outages: u8) -> Trouble {
    Trouble {
        outages,
        ..Trouble::default()
    }
}

#[test]
fn two_movers() {
    holds("two movers", due([MOVE, MOVE]), 800);
}

#[test]
fn two_movers_that_crash() {
    let scenario = Scenario {
        trouble: crashes(1),
        ..due([MOVE, MOVE])
    };
    holds("two movers, a crash", scenario, 6000);
}

#[test]
fn a_mover_and_two_writers() {
    holds("a mover, two writers", due([MOVE, PUT, APPEND]), 300);
}

#[test]
fn a_mover_and_a_late_creator() {
    holds(
        "a mover, two creators",
        Scenario::of([MOVE, PUT, APPEND]),
        1600,
    );
}

#[test]
fn srie_goes_and_comes() {
    let scenario = Scenario {
        trouble: outages(1),
        ..due([MOVE, PUT])
    };
    holds("a mover, a writer, srie goes and comes", scenario, 80);
}

#[test]
fn a_reader_beside_a_move_and_a_writer() {
    let scenario = due([MOVE, PUT, READ]);
    holds("a mover, a writer, a reader", scenario, 45);
}

#[test]
fn an_eraser_and_a_new_life() {
    let scenario = due([ERASE, PUT, Program::FinishErasures]);
    let name = "an eraser, who finishes it, a writer";
    holds(name, scenario, 25_000);
}

#[test]
fn who_was_told_to_be_erased_is_not_read() {
    let scenario = due([MOVE, ERASE, READ]);
    holds("a mover, an eraser, a reader", scenario, 1500);
}

#[test]
fn a_mover_an_eraser_and_a_new_life() {
    let scenario = due([MOVE, ERASE, PUT]);
    let name = "a mover, an eraser, a writer";
    holds_usually(name, scenario, 250_000, [100_000, 300_000]);
}

#[test]
fn a_mover_and_an_eraser_one_of_whom_crashes() {
    let scenario = Scenario {
        trouble: crashes(1),
        ..due([MOVE, ERASE])
    };
    holds("a mover, an eraser, a crash", scenario, 7000);
}

#[test]
fn a_mover_and_an_eraser_while_srie_goes_and_comes() {
    let scenario = Scenario {
        trouble: outages(1),
        ..due([MOVE, ERASE, Program::FinishErasures])
    };
    let name = "a mover, an eraser, who finishes it, srie goes and comes";
    holds(name, scenario, 60_000);
}

#[test]
fn a_mover_that_stands_still_for_longer_than_the_tombstones() {
    let scenario = Scenario {
        graceless: true,
        ..due([MOVE, ERASE, Program::RemoveTombstones])
    };
    holds(
        "a mover, an eraser, who removes the tombstones",
        scenario,
        8000,
    );
}

fn a_lost_answer() -> Trouble {
    Trouble {
        lost: 1,
        ..Trouble::default()
    }
}

#[test]
fn a_writer_whose_answer_is_lost() {
    let scenario = Scenario {
        trouble: a_lost_answer(),
        ..due([MOVE, APPEND])
    };
    holds("a mover, a writer, a lost answer", scenario, 150);
}

#[test]
fn two_writers_of_what_has_moved() {
    let scenario = settled([MOVE, PUT, APPEND]);
    holds("a mover, two writers of what has moved", scenario, 800);
}

#[test]
fn a_merge_that_crashes() {
    let scenario = Scenario {
        trouble: crashes(1),
        ..settled([MOVE, Program::Merge { user: 1 }])
    };
    holds("a mover, a merge, a crash", scenario, 150);
}

#[test]
fn an_eraser_that_crashes() {
    let scenario = Scenario {
        trouble: crashes(1),
        ..settled([ERASE, Program::FinishErasures])
    };
    holds("an eraser, who finishes it, a crash", scenario, 500);
}

#[test]
fn two_erasers() {
    holds("two erasers", settled([ERASE, ERASE]), 800);
}

#[test]
fn a_writer_beside_an_eraser() {
    let scenario = settled([PUT, ERASE]);
    holds("a writer of what has moved, an eraser", scenario, 700);
}

fn a_late_call() -> Trouble {
    Trouble {
        late: 1,
        ..Trouble::default()
    }
}

/// A given-up write arrives within its window or after more writes than the ring remembers.
#[test]
fn a_write_that_comes_late() {
    let scenario = Scenario {
        trouble: a_late_call(),
        ..due([Program::Rewrite { user: 1 }])
    };
    holds("a writer one of whose calls comes late", scenario, 100);
}

#[test]
fn a_write_that_comes_late_beside_another_writer() {
    let scenario = Scenario {
        trouble: a_late_call(),
        ..due([PUT, APPEND])
    };
    holds("two writers, a call that comes late", scenario, 100);
}

#[test]
fn a_write_that_comes_late_into_a_new_life() {
    let scenario = Scenario {
        trouble: a_late_call(),
        ..due([PUT, ERASE])
    };
    holds("a writer, an eraser, a call that comes late", scenario, 100);
}

#[test]
fn copies_above_and_on_the_fence_that_the_ledger_would_choose() {
    for version in [1 << 40, (1 << 40) + 3] {
        let scenario = above_the_fence(version, [ERASE, Program::FinishErasures]);
        holds("an eraser, copies at or above the fence", scenario, 20);
    }
}

#[test]
fn a_copy_that_cannot_be_read_when_the_fence_is_chosen() {
    let scenario = Scenario {
        trouble: outages(1),
        ..in_srie_alone([ERASE, Program::FinishErasures])
    };
    holds(
        "an eraser, a copy in srie, which goes and comes",
        scenario,
        40,
    );
}

#[test]
fn a_newer_life_beside_a_retried_erasure() {
    let scenario = Scenario {
        trouble: a_lost_answer(),
        ..settled([ERASE, PUT])
    };
    holds("an eraser, a writer, a lost answer", scenario, 1000);
}

#[test]
fn a_write_after_main_was_rolled_back() {
    holds(
        "main rolled back, a writer, a mover",
        rolled_back([PUT, MOVE]),
        30,
    );
}

const OTHER: Program = Program::OtherProgram {
    user: 1,
    relies: true,
};

#[test]
fn two_movers_of_what_another_program_wrote() {
    let scenario = written_elsewhere([MOVE, MOVE]);
    holds("two movers, unadopted", scenario, 2500);
}

#[test]
fn a_mover_of_what_another_program_wrote_crashes() {
    let scenario = Scenario {
        trouble: crashes(1),
        ..written_elsewhere([MOVE, MOVE])
    };
    holds("two movers, unadopted, a crash", scenario, 25_000);
}

#[test]
fn another_program_changes_what_moves_unadopted() {
    let scenario = written_elsewhere([MOVE, MOVE, OTHER]);
    holds("two movers, unadopted, the other program", scenario, 40_000);
}

#[test]
fn a_writer_beside_a_move_of_what_another_program_wrote() {
    let scenario = written_elsewhere([MOVE, PUT]);
    holds("a mover, unadopted, a writer", scenario, 1200);
}

#[test]
fn a_writer_and_another_program_beside_a_move() {
    let scenario = Scenario {
        quarantine: true,
        ..written_elsewhere([
            MOVE,
            PUT,
            Program::OtherProgram {
                user: 1,
                relies: false,
            },
        ])
    };
    holds(
        "a mover, unadopted, a writer, the other program",
        scenario,
        10_000,
    );
}

const REPLACES: Program = Program::ReplacesKeyed { user: 1 };

#[test]
fn a_writer_and_another_program_that_writes_under_the_users_own_id_beside_a_move() {
    let scenario = written_under_its_user([MOVE, PUT, REPLACES]);
    holds(
        "a mover, keyed, a writer, the other program",
        scenario,
        1000,
    );
}

#[test]
fn two_movers_and_another_program_that_writes_under_the_users_own_id() {
    let scenario = written_under_its_user([MOVE, MOVE, REPLACES]);
    holds("two movers, keyed, the other program", scenario, 1000);
}

#[test]
fn an_eraser_beside_a_move_of_what_another_program_wrote() {
    let scenario = written_elsewhere([MOVE, ERASE, Program::FinishErasures]);
    let name = "a mover, unadopted, an eraser, who finishes it";
    holds_usually(name, scenario, 120_000, [40_000, 150_000]);
}

/// What is inserted again byte for byte while a mover is about to delete it cannot be told from what was erased, and goes with it.
#[test]
fn an_eraser_and_the_same_document_once_more_beside_a_move() {
    let scenario = Scenario {
        graceless: true,
        ..written_elsewhere([MOVE, ERASE, Program::InsertAgain { user: 1 }])
    };
    holds(
        "a mover, unadopted, an eraser, the same again",
        scenario,
        10_000,
    );
}

#[test]
fn a_creator_and_the_janitor() {
    let scenario = Scenario::of([PUT, Program::Clear]);
    holds("a creator, the janitor", scenario, 25);
}
