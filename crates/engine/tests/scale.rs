//! How much a test tries: a little in every run, more in `cargo xtask test --full`.

use std::iter::StepBy;
use std::ops::RangeFrom;

use tierkeep_testkit::fault::Call;

use crate::world::Backend;

/// How many times as much is tried in a full run; 1 in any other.
fn times() -> u32 {
    variable("TIERKEEP_TEST_FULL").map_or(1, |times| times.parse().unwrap())
}

/// Whether this is a full run.
pub fn is_full() -> bool {
    times() > 1
}

/// After which calls a run is cut off: after each one in memory and in a full run, after every fifth on a database
/// otherwise. Which calls there are does not depend on the backend.
pub fn calls(backend: Backend) -> StepBy<RangeFrom<u64>> {
    let each = is_full() || backend == Backend::Memory;
    (0..).step_by(if each { 1 } else { 5 })
}

/// Whether a run that makes `calls` is also cut off after `at` of them: after each one in memory, on SQLite and in a full
/// run; on MongoDB otherwise after every fifth, and just before and after the first of each kind.
pub fn is_cut(backend: Backend, calls: &[Call], at: u64) -> bool {
    if is_full() || backend != Backend::Mongo || at.is_multiple_of(5) {
        return true;
    }
    let is_first = |n: usize| {
        let kind = calls.get(n);
        kind.is_some() && calls.iter().position(|call| Some(call) == kind) == Some(n)
    };
    let at = usize::try_from(at).unwrap();
    is_first(at) || is_first(at - 1)
}

/// A variable of the environment; `None` where it is missing or empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the test command says this way how much to try"
)]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// How many cases of a property are tried: `usually`, more in a full run.
pub fn cases(usually: u32) -> u32 {
    usually * times()
}
