//! One moment of a world: the contents of the databases, the answers to each actor, and what may happen next.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bson::DateTime;
use tierkeep_core::bson;

use crate::actor::{Ack, Program};
use crate::call::{Call, digest};
use crate::check::START;
use crate::databases::Databases;
use crate::invariants::Broken;
use crate::scenario::Trouble;
use crate::script::Turn;

/// One actor, between two calls.
#[derive(Clone, Debug)]
pub struct Actor {
    /// What it does.
    pub program: Program,
    /// Its number in the scenario.
    pub number: usize,
    /// How often it has crashed.
    pub crashes: u8,
    /// It is at its end.
    pub over: bool,
    /// It is distinguished from others that do the same.
    pub(crate) named: bool,
    /// The answers since it began.
    pub(crate) turns: Arc<Vec<Turn>>,
    /// A number for each turn: what was asked and answered.
    pub(crate) trail: Arc<Vec<u64>>,
    /// A number that stands for all of them.
    pub(crate) digest: u64,
    pub(crate) start: DateTime,
    /// The highest version of its user that was acknowledged when it began.
    pub(crate) floor: Option<i64>,
    /// Below which version its user was told to be erased when it began.
    pub(crate) erased: Option<i64>,
}

impl Actor {
    pub(crate) fn fresh(program: Program, number: usize, crashes: u8, named: bool) -> Self {
        Self {
            program,
            number,
            crashes,
            over: false,
            named,
            turns: Arc::default(),
            trail: Arc::default(),
            digest: 0,
            start: START,
            floor: None,
            erased: None,
        }
    }

    /// Movers that adopt nothing draw nothing that must differ: which is which does not matter.
    pub(crate) fn name(&self) -> (usize, u8) {
        match self.program {
            Program::Move if !self.named => (usize::MAX, 0),
            Program::FinishErasures | Program::RemoveTombstones | Program::Clear => {
                (self.number, 0)
            }
            Program::Move
            | Program::Erase { .. }
            | Program::Put { .. }
            | Program::Rewrite { .. }
            | Program::Append { .. }
            | Program::Merge { .. }
            | Program::OtherProgram { .. }
            | Program::ReplacesKeyed { .. }
            | Program::InsertAgain { .. }
            | Program::Read { .. } => (self.number, self.crashes),
        }
    }

    /// Whether it went round in a circle twice and is about to begin a third time.
    pub(crate) fn is_in_a_circle(&self, next: u64) -> bool {
        let trail = &self.trail;
        (1..=trail.len() / 2).any(|round| {
            let last = &trail[trail.len() - round..];
            last[0] == next && *last == trail[trail.len() - 2 * round..trail.len() - round]
        })
    }
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Moment {
    /// What the databases hold.
    pub engine: Databases,
    /// The time.
    pub now: DateTime,
    /// srie cannot be reached.
    pub srie_away: bool,
    /// What may still go wrong.
    pub trouble: Trouble,
    /// The calls that were given up and have not arrived yet.
    pub late: Vec<Call>,
    /// The actors.
    pub actors: Vec<Actor>,
    /// What clients were told and was not erased since.
    pub acks: BTreeSet<Ack>,
    /// Below which version nothing of a user counts, by the ledger.
    pub fences: BTreeMap<u32, i64>,
    /// The same, of those who were told that they are erased.
    pub erased: BTreeMap<u32, i64>,
    /// The invariant that does not hold.
    pub broken: Option<Broken>,
}

impl Hash for Moment {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.engine.hash(hasher);
        self.now.hash(hasher);
        self.srie_away.hash(hasher);
        self.trouble.hash(hasher);
        digest(&self.late).hash(hasher);
        (&self.acks, &self.fences, &self.erased).hash(hasher);
        for actor in &self.actors {
            (
                actor.name(),
                actor.over,
                actor.digest,
                actor.floor,
                actor.erased,
            )
                .hash(hasher);
        }
        self.broken.as_ref().map(|broken| broken.which).hash(hasher);
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        let digest = |moment: &Self| {
            let mut hasher = std::hash::DefaultHasher::new();
            moment.hash(&mut hasher);
            hasher.finish()
        };
        digest(self) == digest(other)
    }
}

/// What happens next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// An actor's call is carried out and answered.
    Step(usize),
    /// An actor's call is carried out, and the answer is lost.
    Lose(usize),
    /// An actor's call is carried out by half, and the answer is lost.
    Halve(usize),
    /// An actor's call is held in flight, and the actor gets a timeout.
    Delay(usize),
    /// A call that was held arrives.
    Arrive(usize),
    /// An actor crashes and begins again.
    Crash(usize),
    /// srie goes away.
    Leave,
    /// srie comes back.
    Return,
    /// Time passes.
    Wait,
}

impl Moment {
    /// What was acknowledged of an earlier life, or came too late for it, is not promised any more.
    pub(crate) fn forget(&mut self) {
        let fences = &self.fences;
        self.acks.retain(|ack| {
            fences
                .get(&ack.user)
                .is_none_or(|fence| ack.version > *fence)
        });
    }
}
