//! The breaker against a reference that keeps everything that ever happened and reads the state off it.

use proptest::prelude::*;

use super::*;

const CLASSES: [Class; 3] = [Class::Timeout, Class::Refused, Class::NoServer];

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Time passes.
    Wait(u64),
    /// A call is asked for; it may stay at work for a while.
    Call,
    /// The call at work that this names, modulo their number, ends.
    End(usize, Reach),
    /// Its caller gives it up.
    GiveUp(usize),
}

fn reach() -> impl Strategy<Value = Reach> {
    prop_oneof![
        2 => Just(Reach::Answered),
        4 => prop::sample::select(&CLASSES[..]).prop_map(Reach::Away),
        1 => Just(Reach::Unclear),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0_u64..3_000).prop_map(Event::Wait),
        4 => Just(Event::Call),
        4 => (any::<usize>(), reach()).prop_map(|(n, reach)| Event::End(n, reach)),
        1 => any::<usize>().prop_map(Event::GiveUp),
    ]
}

/// Everything that happened since the database was last known to be there.
#[derive(Default, Debug)]
struct Reference {
    /// What ended while calls went through, oldest first.
    ended: Vec<Reach>,
    /// Looks whether the database is back: when each may begin at the earliest, and what came of it.
    looks: Vec<(Duration, Option<Reach>)>,
    /// Whether the last of them is at work.
    looking: bool,
    /// Counts the times that the database was found again, and lost.
    epoch: u64,
}

/// How a call relates to the reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ordinary { epoch: u64 },
    Look,
}

impl Reference {
    fn is_open(&self, settings: &BreakerSettings) -> bool {
        let clear = self.ended.iter().filter(|reach| **reach != Reach::Unclear);
        let row = clear
            .rev()
            .take_while(|reach| matches!(reach, Reach::Away(_)));
        row.count() >= settings.failures as usize
    }

    fn state(&self, settings: &BreakerSettings) -> BreakerState {
        match (self.is_open(settings), self.looking) {
            (false, _) => BreakerState::Closed,
            (true, false) => BreakerState::Open,
            (true, true) => BreakerState::HalfOpen,
        }
    }

    /// The class of the last failure.
    fn class(&self) -> Option<Class> {
        let looked = self.looks.iter().filter_map(|(_, came)| *came);
        let all = self.ended.iter().copied().chain(looked);
        all.filter_map(|reach| match reach {
            Reach::Away(class) => Some(class),
            Reach::Answered | Reach::Unclear => None,
        })
        .next_back()
    }

    fn next_wait(&self, settings: &BreakerSettings, jitter: f64) -> Duration {
        let in_vain = |(_, came): &&(Duration, Option<Reach>)| matches!(came, Some(Reach::Away(_)));
        let mut longest = settings.first_wait;
        for _ in self.looks.iter().filter(in_vain) {
            longest = (longest * 2).min(settings.longest_wait);
        }
        longest.min(settings.longest_wait).mul_f64(jitter)
    }
}

struct World {
    settings: BreakerSettings,
    breaker: Breaker,
    reference: Reference,
    now: Duration,
    at_work: Vec<(Pass, Kind)>,
    jitter: f64,
}

impl World {
    fn call(&mut self) {
        let state = self.reference.state(&self.settings);
        let may_look = self
            .reference
            .looks
            .last()
            .is_some_and(|(at, _)| *at <= self.now);
        match self.breaker.admit(self.now) {
            Admitted::Through(pass) => {
                assert_eq!(state, BreakerState::Closed);
                let epoch = self.reference.epoch;
                self.at_work.push((pass, Kind::Ordinary { epoch }));
            }
            Admitted::Probe(pass) => {
                assert_eq!(state, BreakerState::Open);
                assert!(may_look, "a look before its time");
                self.reference.looking = true;
                self.at_work.push((pass, Kind::Look));
            }
            Admitted::Refused(class) => {
                assert_ne!(state, BreakerState::Closed);
                assert!(
                    state == BreakerState::HalfOpen || !may_look,
                    "no probe is due"
                );
                assert_eq!(Some(class), self.reference.class());
            }
        }
    }

    fn end(&mut self, n: usize, reach: Reach) {
        if self.at_work.is_empty() {
            return;
        }
        let (pass, kind) = self.at_work.remove(n % self.at_work.len());
        let before = self.breaker.state();
        let began = self.breaker.observe(&pass, reach, self.now, self.jitter);
        let open_before = self.reference.is_open(&self.settings);
        match kind {
            Kind::Ordinary { epoch } => {
                if epoch == self.reference.epoch && !open_before {
                    self.reference.ended.push(reach);
                    if self.reference.is_open(&self.settings) {
                        self.reference.epoch += 1;
                        let wait = self.reference.next_wait(&self.settings, self.jitter);
                        self.reference.looks.push((self.now + wait, None));
                    }
                }
            }
            Kind::Look => {
                self.reference.looking = false;
                if let Some(last) = self.reference.looks.last_mut() {
                    last.1 = Some(reach);
                }
                if reach == Reach::Answered {
                    let epoch = self.reference.epoch + 1;
                    self.reference = Reference {
                        epoch,
                        ..Reference::default()
                    };
                } else {
                    let wait = self.reference.next_wait(&self.settings, self.jitter);
                    self.reference.looks.push((self.now + wait, None));
                }
            }
        }
        let after = self.breaker.state();
        assert_eq!(began, (before != after).then_some(after));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_reference_reads_off_its_history(
        failures in 1_u32..5,
        jitter in 0.0..1.0_f64,
        events in prop::collection::vec(event(), 0..200),
    ) {
        let settings = BreakerSettings { failures, ..BreakerSettings::default() };
        let mut world = World {
            settings,
            breaker: Breaker::new(settings),
            reference: Reference::default(),
            now: Duration::ZERO,
            at_work: Vec::new(),
            jitter,
        };
        for event in events {
            match event {
                Event::Wait(milliseconds) => world.now += Duration::from_millis(milliseconds),
                Event::Call => world.call(),
                Event::End(n, reach) => world.end(n, reach),
                Event::GiveUp(n) => world.end(n, Reach::Unclear),
            }
            prop_assert_eq!(world.breaker.state(), world.reference.state(&settings));
            let looks = world.at_work.iter().filter(|(_, kind)| *kind == Kind::Look);
            prop_assert!(looks.count() <= 1, "two look at once");
        }
    }

    #[test]
    fn a_database_that_is_back_is_found_within_the_longest_wait(
        in_vain in 0_usize..40,
        jitter in 0.0..1.0_f64,
    ) {
        let settings = BreakerSettings::default();
        let mut breaker = Breaker::new(settings);
        let mut now = Duration::ZERO;
        for _ in 0..settings.failures {
            let Admitted::Through(pass) = breaker.admit(now) else { panic!("closed") };
            breaker.observe(&pass, Reach::Away(Class::Timeout), now, jitter);
        }
        for _ in 0..in_vain {
            now += settings.longest_wait;
            let Admitted::Probe(pass) = breaker.admit(now) else { panic!("no probe") };
            breaker.observe(&pass, Reach::Away(Class::Timeout), now, jitter);
        }
        now += settings.longest_wait;
        let Admitted::Probe(pass) = breaker.admit(now) else { panic!("no probe") };
        prop_assert_eq!(breaker.observe(&pass, Reach::Answered, now, jitter), Some(BreakerState::Closed));
    }
}

#[test]
fn only_databases_that_cannot_be_reached_open_it() {
    for (class, opens) in [
        (Class::Timeout, true),
        (Class::Refused, true),
        (Class::NoServer, true),
        (Class::Transition, false),
        (Class::NotPrimary, false),
        (Class::Auth, false),
        (Class::Unauthorized, false),
        (Class::DiskFull, false),
        (Class::Busy, false),
        (Class::Unacknowledged, false),
        (Class::Corrupt, false),
        (Class::Identity, false),
        (Class::Other, false),
    ] {
        let mut breaker = Breaker::new(BreakerSettings::default());
        for _ in 0..100 {
            if let Admitted::Through(pass) = breaker.admit(Duration::ZERO) {
                breaker.observe(&pass, Reach::of(class), Duration::ZERO, 0.5);
            }
        }
        let opened = breaker.state() != BreakerState::Closed;
        assert_eq!(opened, opens, "{class:?}");
    }
}

#[test]
fn waits_are_capped_and_never_overflow() {
    let settings = BreakerSettings {
        failures: 1,
        first_wait: Duration::MAX,
        longest_wait: Duration::MAX,
    };
    let mut breaker = Breaker::new(settings);
    for _ in 0..40 {
        match breaker.admit(Duration::MAX) {
            Admitted::Through(pass) | Admitted::Probe(pass) => {
                breaker.observe(&pass, Reach::Away(Class::Refused), Duration::MAX, 1.0);
            }
            Admitted::Refused(_) => panic!("the wait is over at the end of time"),
        }
    }
}
