//! Short constructors of scenarios, and assertions about their reports.

use std::time::Instant;

use bson::raw::RawDocumentBuf;
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_core::digest::Digest;
use tierkeep_core::mover::main_form;
use tierkeep_model::{Program, Report, START, Scenario, explore, foreign, keyed};
use tierkeep_testkit::documents::native_user;

/// The first user at `version`, staged long ago.
pub fn staged(version: i64) -> RawDocumentBuf {
    native_user(1, version).dated(START).build()
}

/// The first user's document is in temp and is due.
pub fn due(actors: impl IntoIterator<Item = Program>) -> Scenario {
    let mut scenario = Scenario::of(actors);
    scenario.planted.push((Role::RaseenTempUser, staged(3)));
    scenario
}

/// The first user's document is in temp as another program wrote it, and is due.
pub fn written_elsewhere(actors: impl IntoIterator<Item = Program>) -> Scenario {
    let mut scenario = Scenario::of(actors);
    scenario.planted.push((Role::RaseenTempUser, foreign(1)));
    scenario.adopting = true;
    scenario
}

/// As [`written_elsewhere`], under the user's own id.
pub fn written_under_its_user(actors: impl IntoIterator<Item = Program>) -> Scenario {
    let mut scenario = Scenario::of(actors);
    scenario.planted.push((Role::RaseenTempUser, keyed(1)));
    scenario.adopting = true;
    scenario
}

/// The first user's document at `version`, as main and srie hold it.
pub fn moved(version: i64) -> [(Role, RawDocumentBuf); 2] {
    let document = staged(version);
    let copy = main_form(&document, &Digest::of(&document));
    [Role::RaseenMainUser, Role::SrieMainUser].map(|role| (role, copy.clone()))
}

/// The first user at `version` in main and srie, with a section that only this version has.
pub fn moved_with(version: i64, section: &str) -> [(Role, RawDocumentBuf); 2] {
    let document = native_user(1, version)
        .set(section, tierkeep_core::bson::rawdoc! { "kept": true })
        .dated(START)
        .build();
    let copy = main_form(&document, &Digest::of(&document));
    [Role::RaseenMainUser, Role::SrieMainUser].map(|role| (role, copy.clone()))
}

/// Main was put back from a copy of version 1, and srie holds version 4.
pub fn rolled_back(actors: impl IntoIterator<Item = Program>) -> Scenario {
    let mut scenario = Scenario::of(actors);
    let [old, _] = moved(1);
    let [_, new] = moved_with(4, "kept");
    scenario.planted.extend([old, new]);
    scenario.kept = Some("kept");
    scenario
}

/// The first user's copies lie above or at the fence that the ledger alone would choose.
pub fn above_the_fence(version: i64, actors: impl IntoIterator<Item = Program>) -> Scenario {
    let mut scenario = Scenario::of(actors);
    scenario.planted.extend(moved(version));
    scenario
}

/// Only srie holds a copy, above every fence that is chosen without it.
pub fn in_srie_alone(actors: impl IntoIterator<Item = Program>) -> Scenario {
    let mut scenario = Scenario::of(actors);
    let [_, copy] = moved((5 << 40) + 1);
    scenario.planted.push(copy);
    scenario
}

/// The first user was moved.
pub fn settled(actors: impl IntoIterator<Item = Program>) -> Scenario {
    let mut scenario = Scenario::of(actors);
    scenario.planted.extend(moved(3));
    scenario
}

/// Goes through the scenario and prints how much there was.
pub fn report(name: &str, scenario: Scenario) -> Report {
    let begun = Instant::now();
    let report = explore(scenario);
    println!(
        "{name}: {} moments, at most {} steps, in {:.1} s",
        report.moments,
        report.depth,
        begun.elapsed().as_secs_f32()
    );
    report
}

/// As [`holds`] in a full run; in any other, the check ends after about `most` steps.
pub fn holds_usually(name: &str, mut scenario: Scenario, most: usize, at_least: [usize; 2]) {
    let [usually, fully] = at_least;
    if is_full() {
        holds(name, scenario, fully);
    } else {
        scenario.most = Some(most);
        holds(name, scenario, usually);
    }
}

/// Whether this is a full run.
#[expect(
    clippy::disallowed_methods,
    reason = "the test command says this way how much to try"
)]
fn is_full() -> bool {
    std::env::var("TIERKEEP_TEST_FULL").is_ok_and(|times| !times.is_empty())
}

/// Nothing breaks, and there was so much to see.
pub fn holds(name: &str, scenario: Scenario, at_least: usize) {
    let report = report(name, scenario);
    assert!(report.broken.is_empty(), "{:#?}", report.broken);
    assert!(
        report.moments >= at_least,
        "only {} moments: the model has lost something",
        report.moments
    );
}
