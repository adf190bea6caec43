//! The circuit breaker of a database: a state machine that says which calls go through.
//!
//! Pure: the time is how long it has been since some moment, and jitter comes in as a fraction. Only a database
//! that cannot be reached opens it ([`Reach::of`]); what a database answers, refusals included, closes it. While
//! it is open, one call at a time finds out whether the database is back, after waits that double, with full
//! jitter. What comes of calls that began in an earlier era counts for nothing.

use std::time::Duration;

use crate::store::Class;

/// When a breaker opens, and how long it waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BreakerSettings {
    /// This many calls in a row that did not reach the database open it; zero counts as one.
    pub failures: u32,
    /// The longest wait before the first look whether the database is back; doubles with each look in vain.
    pub first_wait: Duration,
    /// The longest wait of all.
    pub longest_wait: Duration,
}

impl Default for BreakerSettings {
    /// Three calls; from half a second to four, so that a return is noticed within ten whatever a look takes.
    fn default() -> Self {
        Self {
            failures: 3,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(4),
        }
    }
}

/// What a call says about whether its database can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// It answered, be it with a refusal.
    Answered,
    /// It cannot be reached.
    Away(Class),
    /// Unknown: the call was given up, or the database is about to recover by itself.
    Unclear,
}

impl Reach {
    /// What a failure of this class says.
    pub fn of(class: Class) -> Self {
        match class {
            Class::Timeout | Class::Refused | Class::NoServer => Self::Away(class),
            Class::Transition | Class::NotPrimary => Self::Unclear,
            Class::Auth
            | Class::Unauthorized
            | Class::DiskFull
            | Class::Busy
            | Class::Unacknowledged
            | Class::Corrupt
            | Class::Identity
            | Class::Other => Self::Answered,
        }
    }
}

/// What a breaker does with calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// Calls are refused at once.
    Open,
    /// One call finds out whether the database is back; others are refused at once.
    HalfOpen,
}

impl BreakerState {
    /// The state as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A call that may be made. What comes of it goes to [`Breaker::observe`].
#[derive(PartialEq, Eq, Debug)]
pub struct Pass {
    era: u64,
}

/// Whether a call may be made.
#[derive(PartialEq, Eq, Debug)]
pub enum Admitted {
    /// It may.
    Through(Pass),
    /// It may, to find out whether the database is back.
    Probe(Pass),
    /// It may not: the database could not be reached, with failures of this class at last.
    Refused(Class),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Closed {
        failures: u32,
    },
    /// `looks` in vain so far.
    Open {
        until: Duration,
        looks: u32,
        class: Class,
    },
    HalfOpen {
        looks: u32,
        class: Class,
    },
}

/// The breaker of one database.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: State,
    era: u64,
}

impl Breaker {
    /// A breaker that lets calls through.
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            state: State::Closed { failures: 0 },
            era: 0,
        }
    }

    /// What it does with calls.
    pub fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether a call may be made at `now`.
    pub fn admit(&mut self, now: Duration) -> Admitted {
        match self.state {
            State::Closed { .. } => Admitted::Through(Pass { era: self.era }),
            State::Open {
                until,
                looks,
                class,
            } if now >= until => {
                self.enter(State::HalfOpen { looks, class });
                Admitted::Probe(Pass { era: self.era })
            }
            State::Open { class, .. } | State::HalfOpen { class, .. } => Admitted::Refused(class),
        }
    }

    /// Takes what came of a call that ended at `now`; the state that begins with it, if one does. `jitter` is in
    /// `[0, 1)`.
    pub fn observe(
        &mut self,
        pass: &Pass,
        reach: Reach,
        now: Duration,
        jitter: f64,
    ) -> Option<BreakerState> {
        if pass.era != self.era {
            return None;
        }
        match (self.state, reach) {
            (State::Closed { .. }, Reach::Answered) => {
                self.state = State::Closed { failures: 0 };
                return None;
            }
            (State::Closed { .. }, Reach::Unclear) | (State::Open { .. }, _) => return None,
            (State::Closed { failures }, Reach::Away(class)) => {
                let failures = failures.saturating_add(1);
                if failures < self.settings.failures {
                    self.state = State::Closed { failures };
                    return None;
                }
                self.open(0, class, now, jitter);
            }
            (State::HalfOpen { .. }, Reach::Answered) => self.enter(State::Closed { failures: 0 }),
            (State::HalfOpen { looks, class }, Reach::Unclear) => {
                self.open(looks, class, now, jitter);
            }
            (State::HalfOpen { looks, .. }, Reach::Away(class)) => {
                self.open(looks.saturating_add(1), class, now, jitter);
            }
        }
        Some(self.state())
    }

    fn open(&mut self, looks: u32, class: Class, now: Duration, jitter: f64) {
        let doubled = 2_u32.saturating_pow(looks.min(16));
        let longest = self.settings.first_wait.saturating_mul(doubled);
        let longest = longest.min(self.settings.longest_wait);
        let seconds = longest.as_secs_f64() * jitter.clamp(0.0, 1.0);
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(longest);
        let until = now.saturating_add(wait);
        self.enter(State::Open {
            until,
            looks,
            class,
        });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.era += 1;
    }
}

#[cfg(test)]
mod tests;
