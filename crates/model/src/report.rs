//! Exploring a scenario, and reporting what was seen.

use std::collections::BTreeMap;

use stateright::Model as _;

use crate::actor::Next;
use crate::check::Check;
use crate::moment::{Action, Moment};
use crate::scenario::Scenario;

/// How a check ended.
#[derive(Debug)]
pub struct Report {
    /// How many different moments were seen.
    pub moments: usize,
    /// The longest way to one.
    pub depth: usize,
    /// What did not hold: the invariant, who broke it, and the way there.
    pub broken: BTreeMap<&'static str, (String, Vec<String>)>,
}

/// Goes through every order, until all is seen, or as much as the scenario says, or something does not hold.
pub fn explore(scenario: Scenario) -> Report {
    use stateright::Checker as _;
    let most = scenario.most;
    let checker = Check::new(scenario)
        .checker()
        .threads(1)
        .finish_when(stateright::HasDiscoveries::AnyFailures);
    let checker = match most {
        Some(most) => checker.target_state_count(most),
        None => checker,
    };
    let checker = checker.spawn_bfs().join();
    let broken = checker.discoveries().into_iter().map(|(name, path)| {
        let why = path.last_state().broken.clone();
        let way = path.into_vec();
        let steps = way
            .iter()
            .map(|(moment, action)| describe(checker.model(), moment, *action));
        (
            name,
            (
                why.map_or_else(String::new, |broken| broken.why),
                steps.collect(),
            ),
        )
    });
    Report {
        moments: checker.unique_state_count(),
        depth: checker.max_depth(),
        broken: broken.collect(),
    }
}

/// One step as a line.
fn describe(check: &Check, moment: &Moment, action: Option<Action>) -> String {
    let Some(action) = action else {
        return "the end".to_owned();
    };
    let (Action::Step(at) | Action::Lose(at) | Action::Halve(at) | Action::Crash(at)) = action
    else {
        return format!("{action:?}");
    };
    let actor = &moment.actors[at];
    let call = match check.next(actor).as_ref() {
        Next::Call(call) => format!("{} {} {}", call.name(), call.role, call.collection),
        Next::Over(_) => "ends".to_owned(),
    };
    format!("{action:?} {:?} #{}: {call}", actor.program, actor.number)
}
