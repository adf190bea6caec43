//! The model: every order of the actors' calls, with crashes, lost answers and outages.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::DateTime;
use stateright::{Model, Property};
use tierkeep_core::bson;
use tierkeep_core::clock;
use tierkeep_core::db::{Role, collection};
use tierkeep_core::store::Class;
use tierkeep_core::version::Version;
use tierkeep_testkit::ManualClock;

use crate::actor::{Next, Outcome, Program, Rig, opened};
use crate::call::{Answer, Call, digest};
use crate::databases::Databases;
use crate::invariants::{self, Broken, Known, NAMES};
use crate::moment::{Action, Actor, Moment};
use crate::scenario::Scenario;
use crate::script::{Script, Turn};

/// When every scenario begins.
pub const START: DateTime = DateTime::from_millis(1_800_000_000_000);

/// An actor's name, its start and the answers since then.
type History = (usize, u8, i64, u64);

/// A scenario as a model for the checker.
pub struct Check {
    scenario: Scenario,
    number: u64,
    initial: Databases,
    nexts: Mutex<HashMap<History, Arc<Next>>>,
    rested: Mutex<HashMap<(u64, u64), Option<Broken>>>,
}

static CHECKS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static RIGS: RefCell<HashMap<u64, Rc<Rig>>> = RefCell::default();
}

impl Check {
    /// The scenario from its beginning.
    pub fn new(scenario: Scenario) -> Self {
        let stores = opened(START, scenario.is_erasing());
        for (role, document) in &scenario.planted {
            let store = stores
                .iter()
                .find(|store| tierkeep_core::store::Store::role(*store) == *role);
            let users = role.users().expect("a database of users");
            store
                .expect("a store for each role")
                .plant(users, document.clone());
        }
        Self {
            initial: Databases::of(stores),
            scenario,
            number: CHECKS.fetch_add(1, Ordering::Relaxed),
            nexts: Mutex::default(),
            rested: Mutex::default(),
        }
    }

    fn rig(&self) -> Rc<Rig> {
        RIGS.with_borrow_mut(|rigs| {
            let rig = rigs.entry(self.number).or_insert_with(|| {
                let clock = Arc::new(ManualClock::new(START));
                Rc::new(Rig::new(
                    self.initial.forked(&clock),
                    self.scenario.making(),
                ))
            });
            Rc::clone(rig)
        })
    }

    /// What an actor does next; found out once for each history.
    pub(crate) fn next(&self, actor: &Actor) -> Arc<Next> {
        let (name, crashes) = actor.name();
        let key = (name, crashes, actor.start.timestamp_millis(), actor.digest);
        let nexts = || self.nexts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = nexts().get(&key) {
            return Arc::clone(next);
        }
        let mark = format!("m{}x{crashes}", actor.number);
        let script = Script {
            turns: Arc::clone(&actor.turns),
            start: actor.start,
            seed: digest(&(name, crashes)),
        };
        let next = self
            .rig()
            .replay(actor.program, actor.number, &mark, script);
        let next = Arc::new(next);
        nexts().insert(key, Arc::clone(&next));
        next
    }

    fn known<'a>(&self, moment: &'a Moment) -> Known<'a> {
        Known {
            acks: &moment.acks,
            fences: &moment.fences,
            now: moment.now,
            retention: self.scenario.retention,
            quarantine: self.scenario.quarantine,
            graceless: self.scenario.graceless,
            most_erasures: self.scenario.most_erasures(),
            kept: self.scenario.kept,
        }
    }

    /// Carries out what an actor asks, and what it asks then that concerns no other actor.
    fn act(&self, moment: &mut Moment, at: usize, how: Action) -> Option<()> {
        let mut how = how;
        let mut first = true;
        loop {
            let next = self.next(&moment.actors[at]);
            let call = match next.as_ref() {
                Next::Call(call) => call,
                Next::Over(outcome) => {
                    self.end(moment, at, outcome);
                    return Some(());
                }
            };
            if !first && !self.concerns_no_other_actor(moment, at, call) {
                return Some(());
            }
            match self.told(moment, at, call, how) {
                Some(()) => {}
                None if first => return None,
                None => return Some(()),
            }
            if moment.broken.is_some() {
                return Some(());
            }
            (first, how) = (false, Action::Step(at));
        }
    }

    /// Whether the order of this call and those of other actors makes no difference to any actor, so that only one
    /// order is explored: what no other actor writes may be read at once, and what no other actor looks at may be
    /// written at once if nothing can go wrong with it.
    fn concerns_no_other_actor(&self, moment: &Moment, at: usize, call: &Call) -> bool {
        let (trouble, adopting) = (&moment.trouble, self.scenario.adopting);
        let others = |writing| {
            let all = moment.actors.iter().enumerate();
            let others = all.filter(|(other, actor)| *other != at && !actor.over);
            others.into_iter().any(|(_, actor)| {
                let collection = &call.collection;
                actor
                    .program
                    .touches(call.role, collection, writing, adopting)
            })
        };
        let collection = call.collection.as_str();
        let of_moves = [collection::MIGRATION_INTENTS, collection::MIGRATION_RECORDS];
        let of_moves = of_moves.contains(&collection);
        let shared = of_moves || collection == collection::ERASURES;
        if call.role == Role::EvaluationAudit && !shared {
            return true;
        }
        if trouble.waits > 0 && call.role == Role::RaseenTempUser {
            return false;
        }
        if trouble.late > 0 || !moment.late.is_empty() {
            return false;
        }
        if call.name() == "hello" {
            return true;
        }
        let srie_may_leave = trouble.outages > 0 || moment.srie_away;
        if call.role == Role::SrieMainUser && srie_may_leave {
            return false;
        }
        if call.is_write() {
            let safe = trouble.lost == 0 && trouble.crashes == 0;
            return safe && of_moves && !others(false);
        }
        !others(true)
    }

    /// `None` where the actor would go in circles.
    fn told(&self, moment: &mut Moment, at: usize, call: &Call, how: Action) -> Option<()> {
        let (answer, after) = answer(moment, call, how)?;
        let actor = &mut moment.actors[at];
        let turn = digest(&(call, &answer));
        if after == moment.engine && actor.is_in_a_circle(turn) {
            return None;
        }
        if actor.turns.is_empty() {
            actor.start = moment.now;
            if let Program::Read { user } = actor.program {
                let acks = moment.acks.iter().filter(|ack| ack.user == user);
                actor.floor = acks.map(|ack| ack.version).max();
                actor.erased = moment.erased.get(&user).copied();
            }
        }
        Arc::make_mut(&mut actor.trail).push(turn);
        Arc::make_mut(&mut actor.turns).push(Turn {
            asked: (call.role, call.name()),
            answer,
            now: moment.now,
        });
        actor.digest = digest(&(actor.digest, turn, moment.now));
        self.arrived(moment, after);
        Some(())
    }

    /// A call was carried out: the databases hold `after`.
    fn arrived(&self, moment: &mut Moment, after: Databases) {
        if after == moment.engine {
            return;
        }
        let before = std::mem::replace(&mut moment.engine, after);
        invariants::raise(&mut moment.fences, &moment.engine);
        moment.forget();
        let known = self.known(moment);
        let broken = invariants::after_a_step(&before, &moment.engine, known);
        moment.broken = moment.broken.take().or(broken);
        self.rest(moment);
    }

    fn end(&self, moment: &mut Moment, at: usize, outcome: &Outcome) {
        let actor = &mut moment.actors[at];
        let (floor, erased) = (actor.floor, actor.erased);
        *actor = Actor {
            over: true,
            ..Actor::fresh(actor.program, actor.number, 0, actor.named)
        };
        match outcome {
            Outcome::Written(ack) => {
                moment.acks.insert(ack.clone());
                moment.forget();
                let known = self.known(moment);
                let broken = invariants::after_a_step(&moment.engine, &moment.engine, known);
                moment.broken = moment.broken.take().or(broken);
                self.rest(moment);
            }
            Outcome::Read(who, seen) => {
                let fence = moment.fences.get(who).copied();
                let floor = floor.filter(|floor| fence.is_none_or(|fence| *floor > fence));
                let broken = invariants::read(*who, floor, erased, *seen);
                moment.broken = moment.broken.take().or(broken);
            }
            Outcome::Erased(who, epoch, everywhere) => {
                let fence = epoch << Version::COUNTER_BITS;
                let known = moment.erased.entry(*who).or_default();
                *known = fence.max(*known);
                if *everywhere && !self.scenario.inserts_again() {
                    let planted = &self.scenario.planted;
                    let broken = invariants::first_life_is_gone(&moment.engine, *who, planted);
                    moment.broken = moment.broken.take().or(broken);
                }
            }
            Outcome::Nothing => {}
        }
    }

    /// Every actor crashes here, the faults stop, and one mover goes to work: looked at once for what the databases
    /// hold.
    fn rest(&self, moment: &mut Moment) {
        if moment.broken.is_some() {
            return;
        }
        let key = (
            moment.engine.digest(),
            digest(&(&moment.acks, &moment.fences, &moment.erased)),
        );
        let rested = || self.rested.lock().unwrap_or_else(PoisonError::into_inner);
        let known = rested().get(&key).cloned();
        if let Some(broken) = known {
            moment.broken = broken;
            return;
        }
        let later = clock::after(
            moment.now,
            self.scenario.retention + Duration::from_hours(1),
        );
        let time = Arc::new(ManualClock::new(later));
        let stores = moment.engine.forked(&time);
        self.rig().settle(stores.clone(), later);
        let known = Known {
            now: later,
            ..self.known(moment)
        };
        let rest = Databases::of(stores);
        let planted = &self.scenario.planted;
        let told = moment.erased.keys();
        let mut erased = told.filter(|_| !self.scenario.inserts_again());
        let gone = erased.find_map(|who| invariants::first_life_is_gone(&rest, *who, planted));
        let broken = gone.or_else(|| invariants::at_rest(&rest, known));
        rested().insert(key, broken.clone());
        moment.broken = broken;
    }
}

/// What comes of a call, and of its answer.
fn answer(moment: &Moment, call: &Call, how: Action) -> Option<(Answer, Databases)> {
    if call.role == Role::SrieMainUser && moment.srie_away {
        let error = call.unanswered(Class::NoServer);
        return matches!(how, Action::Step(_)).then(|| (Err(error), moment.engine.clone()));
    }
    let lost = || Err(call.unanswered(Class::Timeout));
    match how {
        Action::Lose(_) => {
            let (_, after) = moment.engine.after(call, moment.now);
            (after != moment.engine).then(|| (lost(), after))
        }
        Action::Halve(_) => {
            let (_, after) = moment.engine.after(&call.half()?, moment.now);
            (after != moment.engine).then(|| (lost(), after))
        }
        Action::Delay(_) => Some((lost(), moment.engine.clone())),
        Action::Step(_)
        | Action::Arrive(_)
        | Action::Crash(_)
        | Action::Leave
        | Action::Return
        | Action::Wait => Some(moment.engine.after(call, moment.now)),
    }
}

impl Model for Check {
    type State = Moment;
    type Action = Action;

    fn init_states(&self) -> Vec<Moment> {
        let actors = self.scenario.actors.iter().enumerate();
        vec![Moment {
            engine: self.initial.clone(),
            now: START,
            srie_away: false,
            trouble: self.scenario.trouble,
            late: Vec::new(),
            actors: actors
                .map(|(n, program)| Actor::fresh(*program, n, 0, self.scenario.adopting))
                .collect(),
            acks: self.scenario.acks.iter().cloned().collect(),
            fences: BTreeMap::new(),
            erased: BTreeMap::new(),
            broken: None,
        }]
    }

    fn actions(&self, moment: &Moment, actions: &mut Vec<Action>) {
        if moment.broken.is_some() {
            return;
        }
        let trouble = &moment.trouble;
        for (at, actor) in moment.actors.iter().enumerate() {
            let early = self.scenario.actors.len() - self.scenario.late;
            let too_early = trouble.waits > 0 && actor.number >= early;
            if actor.over || too_early {
                continue;
            }
            actions.push(Action::Step(at));
            if trouble.lost > 0
                && let Next::Call(call) = self.next(actor).as_ref()
                && call.is_write()
            {
                actions.extend([Action::Lose(at), Action::Halve(at)]);
            }
            if trouble.late > 0
                && let Next::Call(call) = self.next(actor).as_ref()
                && call.is_write()
            {
                actions.push(Action::Delay(at));
            }
            if trouble.crashes > 0 && !actor.turns.is_empty() {
                actions.push(Action::Crash(at));
            }
        }
        actions.extend((0..moment.late.len()).map(Action::Arrive));
        if moment.actors.iter().all(|actor| actor.over) {
            return;
        }
        if moment.srie_away {
            actions.push(Action::Return);
        } else if trouble.outages > 0 {
            actions.push(Action::Leave);
        }
        if trouble.waits > 0 {
            actions.push(Action::Wait);
        }
    }

    fn next_state(&self, last: &Moment, action: Action) -> Option<Moment> {
        let mut moment = last.clone();
        let trouble = &mut moment.trouble;
        match action {
            Action::Step(at) => self.act(&mut moment, at, action)?,
            Action::Lose(at) | Action::Halve(at) => {
                trouble.lost -= 1;
                self.act(&mut moment, at, action)?;
            }
            Action::Delay(at) => {
                trouble.late -= 1;
                if let Next::Call(call) = self.next(&moment.actors[at]).as_ref() {
                    moment.late.push(call.clone());
                }
                self.act(&mut moment, at, action)?;
            }
            Action::Arrive(at) => {
                let call = moment.late.remove(at);
                let (_, after) = moment.engine.after(&call, moment.now);
                self.arrived(&mut moment, after);
            }
            Action::Crash(at) => {
                trouble.crashes -= 1;
                let crashed = &moment.actors[at];
                let again = crashed.crashes + 1;
                moment.actors[at] =
                    Actor::fresh(crashed.program, crashed.number, again, crashed.named);
            }
            Action::Leave => {
                trouble.outages -= 1;
                moment.srie_away = true;
            }
            Action::Return => moment.srie_away = false,
            Action::Wait => {
                trouble.waits -= 1;
                moment.now = clock::after(moment.now, self.scenario.wait);
            }
        }
        // Movers are alike: only which of their histories there are counts.
        let key = |actor: &Actor| (actor.name(), actor.over, actor.digest);
        moment.actors.sort_by_key(key);
        Some(moment)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn holds<const WHICH: usize>(_: &Check, moment: &Moment) -> bool {
            moment
                .broken
                .as_ref()
                .is_none_or(|broken| broken.which != WHICH)
        }
        macro_rules! all {
            ($($n:literal)*) => { vec![$(Property::always(NAMES[$n], holds::<$n>)),*] };
        }
        let all: Vec<Property<Self>> = all!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20);
        assert_eq!(all.len(), NAMES.len(), "each invariant is a property");
        all
    }
}
