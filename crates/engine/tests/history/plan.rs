//! The plan of a random history: the actions of each actor, how far each gets, and which faults occur in the meantime.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use tierkeep_core::db::Role;
use tierkeep_core::store::Class;
use tierkeep_testkit::fault::{Fault, Moment};

use super::reference::Deed;

/// How many users a history has.
pub const USERS: usize = 3;

pub const SECTIONS: [&str; 2] = ["scan_cache", "analysis_progress"];

const TIERS: [Role; 4] = [
    Role::RaseenTempUser,
    Role::RaseenMainUser,
    Role::SrieMainUser,
    Role::EvaluationAudit,
];

/// A history.
#[derive(Clone, Debug)]
pub struct History {
    /// Documents are due as soon as they are stored.
    pub at_once: bool,
    pub actions: Vec<Action>,
}

#[derive(Clone, Debug)]
pub enum Action {
    Act(Actor, Course),
    Read(usize),
    /// The clock advances by this many seconds.
    Clock(i64),
    /// One of the held actors continues.
    Resume(usize),
    /// One of the held actors is killed.
    Kill(usize),
    Fault(Trouble),
    Away(Role),
    /// Nothing fails any more.
    Heal,
    /// The process ends, with all that it was doing, and another begins.
    Restart,
}

#[derive(Clone, Debug)]
pub enum Actor {
    Writer {
        user: usize,
        section: &'static str,
        deed: Deed,
        asks: Asks,
    },
    Mover,
    Eraser(usize),
    Upkeep,
}

/// The condition of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asks {
    Nothing,
    /// The version that the client knows.
    Current,
    /// The one before it.
    Stale,
    Exists,
    Absent,
}

/// How far an actor gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course {
    Through,
    /// It is held before this call.
    Stops(Call),
    /// It is gone before this call.
    Dies(Call),
}

/// The `nth` call of an actor, or the `nth` of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    kind: Option<(&'static str, Role)>,
    nth: u64,
}

impl Call {
    pub fn hold(self) -> Fault {
        let fault = Fault::nth(self.nth, Moment::Before);
        match self.kind {
            Some((operation, role)) => fault.of(operation).to(role),
            None => fault,
        }
    }
}

/// One call that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trouble {
    operation: Option<&'static str>,
    role: Option<Role>,
    nth: u64,
    times: u64,
    moment: Moment,
    class: Option<Class>,
}

impl Trouble {
    pub fn fault(self) -> Fault {
        let mut fault = Fault::nth(self.nth, self.moment).times(self.times);
        fault.operation = self.operation;
        fault.database = self.role;
        match self.class {
            // An answer that says that nothing was done must be true.
            Some(class) if self.moment == Moment::Before => fault.class(class, 0),
            Some(_) | None => fault,
        }
    }
}

const OPERATIONS: [&str; 6] = ["insert", "put_newer", "write", "delete", "amend", "find"];

fn troubles() -> impl Strategy<Value = Trouble> {
    let class = select(vec![
        Class::NoServer,
        Class::Transition,
        Class::Busy,
        Class::DiskFull,
        Class::Unauthorized,
    ]);
    let moment = select(vec![
        Moment::Before,
        Moment::Midway,
        Moment::After,
        Moment::After,
    ]);
    (
        option::of(select(OPERATIONS.to_vec())),
        option::of(select(TIERS.to_vec())),
        1..6_u64,
        1..4_u64,
        moment,
        option::of(class),
    )
        .prop_map(|(operation, role, nth, times, moment, class)| Trouble {
            operation,
            role,
            nth,
            times,
            moment,
            class,
        })
}

fn courses(calls: u64, turning_points: Vec<(&'static str, Role)>) -> impl Strategy<Value = Course> {
    let any = (1..calls).prop_map(|nth| Call { kind: None, nth });
    let turning = (select(turning_points), 1..3_u64).prop_map(|(kind, nth)| Call {
        kind: Some(kind),
        nth,
    });
    let call = prop_oneof![any, turning];
    prop_oneof![
        4 => Just(Course::Through),
        2 => call.clone().prop_map(Course::Stops),
        1 => call.prop_map(Course::Dies),
    ]
}

fn writers() -> impl Strategy<Value = Action> {
    let deed = prop_oneof![3 => Just(Deed::Put), 3 => Just(Deed::Patch), 1 => Just(Deed::Remove)];
    let asks = prop_oneof![
        6 => Just(Asks::Nothing),
        2 => Just(Asks::Current),
        1 => Just(Asks::Stale),
        1 => Just(Asks::Exists),
        1 => Just(Asks::Absent),
    ];
    let turning_points = vec![
        ("write", Role::RaseenTempUser),
        ("insert", Role::RaseenTempUser),
        ("find", Role::RaseenMainUser),
    ];
    let course = courses(6, turning_points);
    (0..USERS, select(SECTIONS.to_vec()), deed, asks, course).prop_map(
        |(user, section, deed, asks, course)| {
            let writer = Actor::Writer {
                user,
                section,
                deed,
                asks,
            };
            Action::Act(writer, course)
        },
    )
}

fn movers() -> impl Strategy<Value = Action> {
    let turning_points = vec![
        ("insert", Role::SrieMainUser),
        ("insert", Role::RaseenMainUser),
        ("put_newer", Role::SrieMainUser),
        ("put_newer", Role::RaseenMainUser),
        ("find", Role::RaseenMainUser),
        ("delete", Role::RaseenTempUser),
        ("delete", Role::RaseenTempUser),
    ];
    let course = prop_oneof![2 => Just(Course::Through), 3 => courses(18, turning_points)];
    course.prop_map(|course| Action::Act(Actor::Mover, course))
}

fn erasers() -> impl Strategy<Value = Action> {
    let turning_points = vec![
        ("put_newer", Role::RaseenTempUser),
        ("put_newer", Role::RaseenMainUser),
        ("put_newer", Role::SrieMainUser),
        ("amend", Role::EvaluationAudit),
    ];
    (0..USERS, courses(10, turning_points))
        .prop_map(|(user, course)| Action::Act(Actor::Eraser(user), course))
}

fn actions() -> impl Strategy<Value = Action> {
    let upkeep = courses(6, vec![("write", Role::RaseenTempUser)]);
    // Seconds: less than an entry takes to count as abandoned, more, an hour and more, past the retention; back.
    let clock = select(vec![2_i64, 6, 3_700, 90_000, 90_000, 90_000, -2, -40]);
    prop_oneof![
        16 => writers(),
        12 => movers(),
        2 => erasers(),
        3 => upkeep.prop_map(|course| Action::Act(Actor::Upkeep, course)),
        6 => (0..USERS).prop_map(Action::Read),
        5 => clock.prop_map(Action::Clock),
        4 => (0..4_usize).prop_map(Action::Resume),
        1 => (0..4_usize).prop_map(Action::Kill),
        3 => troubles().prop_map(Action::Fault),
        1 => select(TIERS.to_vec()).prop_map(Action::Away),
        3 => Just(Action::Heal),
        1 => Just(Action::Restart),
    ]
}

/// Histories of up to `longest` actions.
pub fn histories(longest: usize) -> impl Strategy<Value = History> {
    (any::<bool>(), vec(actions(), 1..longest))
        .prop_map(|(at_once, actions)| History { at_once, actions })
}

/// The seconds of a step of the clock, and whether it goes back.
pub fn step(seconds: i64) -> (Duration, bool) {
    (Duration::from_secs(seconds.unsigned_abs()), seconds < 0)
}
